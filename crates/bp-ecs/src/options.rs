//! Options of a deployment: deadline, polling interval, and policies for failures and concurrent deployments.

use std::{num::NonZeroU32, time::Duration};

use bp_artifact::{
    deploy::OnFailure,
    time::{Wait, WaitError},
};

/// What to do about a deployment that is already in progress and deploys something else.
///
/// One that deploys the same is adopted with every policy but [`Fail`](InFlight::Fail): a killed run left it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum InFlight {
    /// Return an error, whatever it deploys.
    Fail,
    /// Return an error, unless it deploys the same, in which case it is adopted.
    #[default]
    AdoptIfSameTarget,
    /// Replace it with ours.
    Supersede,
    /// Wait for its end, within the deadline, and then deploy.
    Wait,
}

/// Options of a deployment. A deadline is mandatory: without a circuit breaker ECS retries indefinitely.
///
/// ```
/// use std::time::Duration;
/// use bp_ecs::{InFlight, Options};
///
/// let options = Options::new(Duration::from_secs(900))?.in_flight(InFlight::Wait);
/// assert!(Options::new(Duration::ZERO).is_err());
/// # Ok::<(), bp_artifact::time::WaitError>(())
/// ```
#[derive(Debug, Clone)]
pub struct Options {
    pub(crate) deadline: Duration,
    pub(crate) wait: Wait,
    pub(crate) in_flight: InFlight,
    pub(crate) on_failure: OnFailure,
    pub(crate) fail_after: NonZeroU32,
    pub(crate) force: bool,
    pub(crate) stable_for: Duration,
    pub(crate) accept_unproven_rollback: bool,
}

/// The polling interval while the first tasks start.
const FAST: Duration = Duration::from_millis(1500);
/// How long a successful deployment is watched.
const STABLE_FOR: Duration = Duration::from_secs(10);
/// The factor of the polling interval once they run.
const SLOW_FACTOR: u32 = 3;

impl Options {
    /// Limits the deployment to `deadline`, and a rollback to the same time again.
    ///
    /// # Errors
    /// When it is zero.
    pub fn new(deadline: Duration) -> Result<Self, WaitError> {
        Ok(Options {
            deadline,
            wait: Wait::new(deadline, FAST)?,
            in_flight: InFlight::default(),
            on_failure: OnFailure::default(),
            fail_after: NonZeroU32::MIN.saturating_add(1),
            force: false,
            stable_for: STABLE_FOR,
            accept_unproven_rollback: false,
        })
    }

    /// Sets the polling interval: about `poll_interval` until tasks run, three times as long after that. Defaults to 1.5 s.
    ///
    /// # Errors
    /// When it is shorter than a millisecond.
    pub fn poll_interval(mut self, poll_interval: Duration) -> Result<Self, WaitError> {
        self.wait = Wait::new(self.deadline, poll_interval)?;
        Ok(self)
    }

    /// Sets the policy for another deployment in progress.
    pub fn in_flight(mut self, policy: InFlight) -> Self {
        self.in_flight = policy;
        self
    }

    /// Sets the policy for a failure that ECS does not roll back by itself.
    pub fn on_failure(mut self, policy: OnFailure) -> Self {
        self.on_failure = policy;
        self
    }

    /// Sets the number of tasks stopped for the same cause after which the deployment has failed. Defaults to two.
    pub fn fail_after(mut self, tasks: NonZeroU32) -> Self {
        self.fail_after = tasks;
        self
    }

    /// Replaces the tasks even if nothing changed.
    pub fn force(mut self, yes: bool) -> Self {
        self.force = yes;
        self
    }

    /// Sets how long the tasks are watched after ECS has reported success, in addition to the deadline. New failures of
    /// tasks fail the deployment; the replacement of fewer failed tasks is awaited for two minutes more. Defaults to 10 s;
    /// zero trusts the report.
    pub fn stable_for(mut self, time: Duration) -> Self {
        self.stable_for = time;
        self
    }

    /// Deploys even if the revision that a failure would return to cannot run any more: its definition is not active, an
    /// image is missing, archived or about to expire, or a secret is missing. By default that is
    /// [refused](crate::Error::UnprovenRollback).
    pub fn accept_unproven_rollback(mut self, yes: bool) -> Self {
        self.accept_unproven_rollback = yes;
        self
    }

    /// The pause until the next poll, with jitter; `slow` once tasks run.
    pub(crate) fn pause(&self, slow: bool) -> Duration {
        if slow { self.wait.pause().saturating_mul(SLOW_FACTOR) } else { self.wait.pause() }
    }
}
