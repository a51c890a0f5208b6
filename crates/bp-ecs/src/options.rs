//! How a deployment is to go.

use std::{num::NonZeroU32, time::Duration};

use bp_artifact::{
    deploy::OnFailure,
    time::{Wait, WaitError},
};

/// What to do about a deployment that is under way already and brings something else.
///
/// One that brings what we bring is adopted in every case but [`Fail`](InFlight::Fail): it is what a killed run left.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum InFlight {
    /// Refuse, whatever it brings.
    Fail,
    /// Refuse, unless it brings what we bring.
    #[default]
    AdoptIfSameTarget,
    /// Put ours in its place.
    Supersede,
    /// Wait for its end, within the deadline, and then begin.
    Wait,
}

/// How a deployment is to go. A deadline is mandatory: without a circuit breaker ECS tries for ever.
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
}

/// About how often to look while the first tasks start.
const BRISK: Duration = Duration::from_millis(1500);
/// How much slower once they run.
const CALM: u32 = 3;

impl Options {
    /// Gives the deployment at most `deadline`, and a rollback as much again.
    ///
    /// # Errors
    /// When it is zero.
    pub fn new(deadline: Duration) -> Result<Self, WaitError> {
        Ok(Options {
            deadline,
            wait: Wait::new(deadline, BRISK)?,
            in_flight: InFlight::default(),
            on_failure: OnFailure::default(),
            fail_after: NonZeroU32::MIN.saturating_add(1),
            force: false,
        })
    }

    /// Looks about this often at first, and a third as often later. About 1.5 s if not said.
    ///
    /// # Errors
    /// When it is shorter than a millisecond.
    pub fn cadence(mut self, cadence: Duration) -> Result<Self, WaitError> {
        self.wait = Wait::new(self.deadline, cadence)?;
        Ok(self)
    }

    /// What to do about another deployment under way.
    pub fn in_flight(mut self, policy: InFlight) -> Self {
        self.in_flight = policy;
        self
    }

    /// What to do on failure when ECS does not go back by itself.
    pub fn on_failure(mut self, policy: OnFailure) -> Self {
        self.on_failure = policy;
        self
    }

    /// Takes the deployment for failed after this many stopped tasks of the same class; two if not said.
    pub fn fail_after(mut self, tasks: NonZeroU32) -> Self {
        self.fail_after = tasks;
        self
    }

    /// Replaces the tasks even when nothing changed.
    pub fn force(mut self, yes: bool) -> Self {
        self.force = yes;
        self
    }

    /// The next pause: brisk until something runs or fails, calm then.
    pub(crate) fn pause(&self, calm: bool) -> Duration {
        if calm { self.wait.pause().saturating_mul(CALM) } else { self.wait.pause() }
    }
}
