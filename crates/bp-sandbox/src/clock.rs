//! The sandbox's clock: follows tokio, accelerated, or manual.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use tokio::{sync::watch, time::Instant};

/// The sandbox's wall clock. Cheap to clone; all clones share one clock.
///
/// It follows tokio's clock, also when a test pauses and advances that. It can run faster, or stop until
/// [advanced](Clock::advance).
#[derive(Debug, Clone)]
pub struct Clock(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    epoch: Timestamp,
    start: Instant,
    rate: u32,
    /// The sum of all `advance` calls.
    advanced: watch::Sender<Duration>,
}

impl Clock {
    /// A clock that starts now and runs at tokio's rate.
    pub fn tokio() -> Self {
        Self::accelerated(1)
    }

    /// A clock that starts now and runs `rate` times as fast as tokio's.
    pub fn accelerated(rate: u32) -> Self {
        #[allow(
            clippy::disallowed_methods,
            reason = "the epoch of the clock: real clients compare it with their own"
        )]
        let epoch = Timestamp::now();
        Clock(Arc::new(Inner {
            epoch,
            start: Instant::now(),
            rate,
            advanced: watch::Sender::new(Duration::ZERO),
        }))
    }

    /// A clock that changes only when [advanced](Clock::advance), for tests over sockets.
    pub fn manual() -> Self {
        Self::accelerated(0)
    }

    /// The sandbox's current time.
    pub fn now(&self) -> Timestamp {
        self.0.epoch + self.elapsed()
    }

    /// The current time of clients that sign requests. It differs from [`now`](Self::now) when this clock is
    /// accelerated: the clock of a real client is not.
    #[cfg_attr(not(feature = "kube"), allow(dead_code))]
    pub(crate) fn client_now(&self) -> Timestamp {
        match self.0.rate {
            0 | 1 => self.now(),
            _ => self.0.epoch + self.0.start.elapsed(),
        }
    }

    /// The time elapsed since the start, by this clock.
    pub fn elapsed(&self) -> Duration {
        self.0.start.elapsed() * self.0.rate + *self.0.advanced.borrow()
    }

    /// Moves the clock forward and wakes all sleepers.
    pub fn advance(&self, by: Duration) {
        self.0.advanced.send_modify(|advanced| *advanced += by);
    }

    /// Waits until the clock reaches `until`.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn sleep_until(&self, until: Timestamp) {
        let mut advanced = self.0.advanced.subscribe();
        loop {
            let left = Duration::try_from(until.duration_since(self.now())).unwrap_or(Duration::ZERO);
            if left.is_zero() {
                return;
            }
            let pause = async {
                match self.0.rate {
                    0 => std::future::pending().await,
                    // One nanosecond more: rounding down could cause a busy loop.
                    rate => tokio::time::sleep(left / rate + Duration::from_nanos(1)).await,
                }
            };
            tokio::select! {
                () = pause => {}
                _ = advanced.changed() => {}
            }
        }
    }

    /// Waits for `duration` by this clock.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn sleep(&self, duration: Duration) {
        self.sleep_until(self.now() + duration).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn runs_at_its_rate_of_tokios_clock() {
        let clock = Clock::accelerated(10);
        let start = Instant::now();
        clock.sleep(Duration::from_secs(60)).await;
        assert_eq!(start.elapsed().as_secs(), 6);
        assert!(clock.elapsed() >= Duration::from_secs(60));
    }

    #[tokio::test(start_paused = true)]
    async fn the_clients_time_is_not_accelerated() {
        let clock = Clock::accelerated(10);
        clock.advance(Duration::from_secs(600));
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(clock.now().duration_since(clock.client_now()).as_secs(), 600 + 9 * 60);
        let clock = Clock::tokio();
        clock.advance(Duration::from_secs(600));
        assert_eq!(clock.now(), clock.client_now());
    }

    #[tokio::test(start_paused = true)]
    async fn a_manual_clock_changes_only_when_advanced() {
        let clock = Clock::manual();
        let sleeper = tokio::spawn({
            let clock = clock.clone();
            async move { clock.sleep(Duration::from_secs(2)).await }
        });
        tokio::time::sleep(Duration::from_secs(3600)).await;
        assert!(!sleeper.is_finished());
        clock.advance(Duration::from_secs(1));
        clock.advance(Duration::from_secs(1));
        sleeper.await.unwrap();
    }
}
