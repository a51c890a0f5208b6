//! The model's time.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use tokio::{sync::watch, time::Instant};

/// The model's time of day. Cheap to clone; all clones are the same clock.
///
/// It follows tokio's clock, so it stands still and runs ahead with it when a test pauses that; it can run faster, or
/// stand still until [advanced](Clock::advance).
#[derive(Debug, Clone)]
pub struct Clock(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    epoch: Timestamp,
    start: Instant,
    rate: u32,
    /// What `advance` has added.
    advanced: watch::Sender<Duration>,
}

impl Clock {
    /// A clock that starts now and goes as tokio's does.
    pub fn tokio() -> Self {
        Self::accelerated(1)
    }

    /// A clock that starts now and goes `rate` times as fast as tokio's.
    pub fn accelerated(rate: u32) -> Self {
        #[allow(
            clippy::disallowed_methods,
            reason = "the model's epoch: real clients compare it with their own clock"
        )]
        let epoch = Timestamp::now();
        Clock(Arc::new(Inner {
            epoch,
            start: Instant::now(),
            rate,
            advanced: watch::Sender::new(Duration::ZERO),
        }))
    }

    /// A clock that moves only when [advanced](Clock::advance): for tests over sockets.
    pub fn manual() -> Self {
        Self::accelerated(0)
    }

    /// The time of day in the model.
    pub fn now(&self) -> Timestamp {
        self.0.epoch + self.elapsed()
    }

    /// The time of day of those who sign requests: where the model runs ahead of the clock on the wall, real clients do
    /// not run with it. Else the model's.
    #[cfg_attr(not(feature = "kube"), allow(dead_code))]
    pub(crate) fn clients(&self) -> Timestamp {
        match self.0.rate {
            0 | 1 => self.now(),
            _ => self.0.epoch + self.0.start.elapsed(),
        }
    }

    /// How long the model has been running, in its own time.
    pub fn elapsed(&self) -> Duration {
        self.0.start.elapsed() * self.0.rate + *self.0.advanced.borrow()
    }

    /// Moves the clock forward and wakes who waits for it.
    pub fn advance(&self, by: Duration) {
        self.0.advanced.send_modify(|advanced| *advanced += by);
    }

    /// Waits until the model's time is `until`.
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
                    // A nanosecond more, so that rounding down never makes this a busy loop.
                    rate => tokio::time::sleep(left / rate + Duration::from_nanos(1)).await,
                }
            };
            tokio::select! {
                () = pause => {}
                _ = advanced.changed() => {}
            }
        }
    }

    /// Waits for `duration` of the model's time.
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
    async fn follows_tokio_at_its_rate() {
        let clock = Clock::accelerated(10);
        let start = Instant::now();
        clock.sleep(Duration::from_secs(60)).await;
        assert_eq!(start.elapsed().as_secs(), 6);
        assert!(clock.elapsed() >= Duration::from_secs(60));
    }

    #[tokio::test(start_paused = true)]
    async fn clients_do_not_run_ahead_with_the_model() {
        let clock = Clock::accelerated(10);
        clock.advance(Duration::from_secs(600));
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(clock.now().duration_since(clock.clients()).as_secs(), 600 + 9 * 60);
        let clock = Clock::tokio();
        clock.advance(Duration::from_secs(600));
        assert_eq!(clock.now(), clock.clients());
    }

    #[tokio::test(start_paused = true)]
    async fn a_manual_clock_waits_to_be_advanced() {
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
