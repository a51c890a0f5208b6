//! How long new pods have been refused, or unable to start: the grace period counts from the first time that a cause was
//! seen, and starts again only after progress, or after the cause was absent for a while.

use std::time::Duration;

use bp_artifact::deploy::Cause;
use tokio::time::Instant;

use crate::api::symptom::Recovery;

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

/// A cause, and how it can recover: the same cause may last longer when somebody retries.
pub(super) type Blocked = (Cause, Recovery);

#[derive(Debug)]
struct Seen {
    blocked: Blocked,
    first: Instant,
    /// Since when it is absent.
    absent: Option<Instant>,
}

impl Seen {
    /// Whether it has passed.
    fn has_passed(&self, now: Instant, grace: Duration) -> bool {
        // What passes within seconds is absent only when it has passed.
        let limit = if self.blocked.1 == Recovery::Retried { ABSENT.min(grace) } else { Duration::ZERO };
        self.absent.is_some_and(|since| now.duration_since(since) >= limit)
    }
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
        blocked: Option<Blocked>,
        mark: Mark,
        grace: Duration,
    ) -> Instant {
        let best = self.best.unwrap_or(mark);
        if mark.is_beyond(&best) {
            self.seen.clear();
        }
        self.best = Some(mark.best(&best));
        for seen in self.seen.iter_mut().filter(|seen| Some(seen.blocked) != blocked) {
            seen.absent.get_or_insert(now);
        }
        self.seen.retain(|seen| !seen.has_passed(now, grace));
        let Some(blocked) = blocked else { return now };
        if let Some(seen) = self.seen.iter_mut().find(|seen| seen.blocked == blocked) {
            seen.absent = None;
            return seen.first;
        }
        self.seen.push(Seen { blocked, first: now, absent: None });
        now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRACE: Duration = Duration::from_secs(90);

    /// How long the last state has lasted, of these: seconds, what blocks, and ready pods.
    fn lasted(observed: &[(u64, Option<Blocked>, u32)], grace: Duration) -> u64 {
        let (start, mut standstill) = (Instant::now(), Standstill::default());
        let mut lasted = 0;
        for (seconds, blocked, ready) in observed {
            let now = start + Duration::from_secs(*seconds);
            let since = standstill.observe(now, *blocked, Mark { ready: *ready, created: 3, old: 3 }, grace);
            lasted = (now - since).as_secs();
        }
        lasted
    }

    #[test]
    fn a_brief_absence_does_not_restart_the_grace_period() {
        let secret = Some((Cause::SecretMissing, Recovery::Retried));
        let runtime = Some((Cause::ResourceInitialization, Recovery::Retried));
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

    #[test]
    fn a_quota_that_is_freed_meanwhile_has_its_own_time() {
        let quota = |recovery| Some((Cause::QuotaExceeded, recovery));
        let (soon, retried) = (quota(Recovery::Soon), quota(Recovery::Retried));
        // A pod is ending, so the quota will be freed; then it is not known whether it will.
        assert_eq!(lasted(&[(0, retried, 0), (40, soon, 0)], GRACE), 0);
        assert_eq!(lasted(&[(0, soon, 0), (5, retried, 0), (12, soon, 0)], GRACE), 0);
        assert_eq!(lasted(&[(0, soon, 0), (9, soon, 0)], GRACE), 9);
    }
}
