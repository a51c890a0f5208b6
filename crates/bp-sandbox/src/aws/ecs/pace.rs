//! How fast ECS starts, replaces and counts the tasks of a service.

use std::time::Duration;

/// How fast ECS starts, replaces and counts the tasks of a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Pace {
    /// Seconds instead of minutes, in the recorded order.
    #[default]
    Quick,
    /// As recorded on Fargate: a task runs after 40 s, and with an image that does not exist, the circuit breaker of a
    /// service of one task rolls back after twelve minutes.
    Recorded,
}

/// The delays of the platform and of the scheduler.
#[derive(Debug, Clone, Copy)]
pub(super) struct Delays {
    pub(super) provisioning: Duration,
    pub(super) pulling: Duration,
    /// Until a pull that fails is no longer retried.
    pub(super) failing_pull: Duration,
    /// From the failure of a task until its replacement starts.
    pub(super) replacement: Duration,
    /// From the failure of the first, the second and any later task until `failedTasks` counts it.
    counting: [Duration; 3],
    /// From reaching the threshold until the circuit breaker acts.
    pub(super) decision: Duration,
    /// From the rollback of a revision that had tasks until its rollout state is `COMPLETED`.
    pub(super) settling: Duration,
}

impl Pace {
    pub(super) fn delays(self) -> Delays {
        let seconds = Duration::from_secs;
        match self {
            Pace::Quick => Delays {
                provisioning: seconds(4),
                pulling: seconds(3),
                failing_pull: seconds(3),
                replacement: Duration::ZERO,
                counting: [seconds(2); 3],
                decision: Duration::ZERO,
                settling: seconds(17),
            },
            Pace::Recorded => Delays {
                provisioning: seconds(15),
                pulling: seconds(25),
                failing_pull: seconds(72),
                replacement: seconds(31),
                counting: [seconds(60), seconds(66), seconds(330)],
                decision: seconds(40),
                settling: seconds(120),
            },
        }
    }
}

impl Delays {
    /// The delay until the task that failed after `earlier` others is counted.
    pub(super) fn counting(&self, earlier: u32) -> Duration {
        self.counting[(earlier as usize).min(self.counting.len() - 1)]
    }
}
