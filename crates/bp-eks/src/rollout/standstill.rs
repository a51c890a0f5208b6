//! How long new pods have been refused, or unable to start: the grace period counts from the first time that a cause was
//! seen, and starts again only after progress, or after the cause was absent for a while.

use std::time::Duration;

use bp_artifact::deploy::Cause;
use tokio::time::Instant;

/// How long a cause may be absent without having passed: the kubelet tries again after its back-off, and the state of the
/// container changes for that time.
const ABSENT: Duration = Duration::from_secs(30);

/// What counts as progress: more new pods that are ready, or that exist, or fewer old ones than ever before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) ready: u32,
    pub(super) created: usize,
    pub(super) old: usize,
}

impl Mark {
    fn is_beyond(&self, best: &Mark) -> bool {
        self.ready > best.ready || self.created > best.created || self.old < best.old
    }

    fn best(&self, other: &Mark) -> Mark {
        Mark {
            ready: self.ready.max(other.ready),
            created: self.created.max(other.created),
            old: self.old.min(other.old),
        }
    }
}

#[derive(Debug)]
struct Seen {
    cause: Cause,
    first: Instant,
    /// Since when it is absent.
    absent: Option<Instant>,
}

/// The causes for which new pods are refused or cannot start, each since when.
#[derive(Debug, Default)]
pub(super) struct Standstill {
    seen: Vec<Seen>,
    best: Option<Mark>,
}

impl Standstill {
    /// Records the state at `now`: the cause, if new pods are refused or cannot start. Returns since when it lasts.
    pub(super) fn observe(
        &mut self,
        now: Instant,
        cause: Option<Cause>,
        mark: Mark,
        grace: Duration,
    ) -> Instant {
        let best = self.best.unwrap_or(mark);
        if mark.is_beyond(&best) {
            self.seen.clear();
        }
        self.best = Some(mark.best(&best));
        let limit = ABSENT.min(grace);
        self.seen.retain(|seen| seen.absent.is_none_or(|since| now.duration_since(since) < limit));
        for seen in &mut self.seen {
            if Some(seen.cause) == cause {
                seen.absent = None;
            } else {
                seen.absent.get_or_insert(now);
            }
        }
        let Some(cause) = cause else { return now };
        if let Some(seen) = self.seen.iter().find(|seen| seen.cause == cause) {
            return seen.first;
        }
        self.seen.push(Seen { cause, first: now, absent: None });
        now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRACE: Duration = Duration::from_secs(90);

    /// How long the cause has lasted at the end of these observations, given as seconds, cause and ready pods.
    fn lasted(observed: &[(u64, Option<Cause>, u32)], grace: Duration) -> u64 {
        let (start, mut standstill) = (Instant::now(), Standstill::default());
        let mut lasted = 0;
        for (seconds, cause, ready) in observed {
            let now = start + Duration::from_secs(*seconds);
            let since = standstill.observe(now, *cause, Mark { ready: *ready, created: 3, old: 3 }, grace);
            lasted = (now - since).as_secs();
        }
        lasted
    }

    #[test]
    fn a_brief_absence_does_not_restart_the_grace_period() {
        let (secret, runtime) = (Some(Cause::SecretMissing), Some(Cause::ResourceInitialization));
        for (observed, expected) in [
            (vec![(0, secret, 0), (80, secret, 0)], 80),
            // Absent while the kubelet tries again.
            (vec![(0, secret, 0), (20, None, 0), (40, secret, 0), (60, None, 0), (89, secret, 0)], 89),
            // Two causes in turn.
            (vec![(0, secret, 0), (20, runtime, 0), (40, secret, 0), (60, runtime, 0)], 40),
            // Passed.
            (vec![(0, secret, 0), (20, None, 0), (50, secret, 0), (60, secret, 0)], 10),
            (vec![(0, secret, 0), (20, runtime, 0), (50, secret, 0), (60, secret, 0)], 10),
            // Progress: one more pod is ready.
            (vec![(0, secret, 0), (20, secret, 1), (60, secret, 1)], 40),
            // A pod that was ready before is no progress.
            (vec![(0, secret, 2), (20, secret, 1), (40, secret, 2), (60, secret, 2)], 60),
        ] {
            assert_eq!(lasted(&observed, GRACE), expected, "{observed:?}");
        }
        let short = [(0, secret, 0), (4, None, 0), (10, secret, 0)];
        assert_eq!(lasted(&short, Duration::from_secs(5)), 0, "as long as the grace period itself");
    }
}
