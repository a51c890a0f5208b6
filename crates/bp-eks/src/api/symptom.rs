//! What keeps a pod from coming up, and whether that can pass.

use std::time::Duration;

use bp_artifact::deploy::Cause;

/// The quota controller counts pods that have ended within a few seconds, and the controllers retry within twice that.
const SOON: Duration = Duration::from_secs(10);

/// What keeps a pod from coming up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Symptom {
    pub(crate) cause: Cause,
    /// In the platform's words.
    pub(crate) message: String,
    pub(crate) container: Option<String>,
    pub(crate) exit_code: Option<i32>,
    pub(crate) recovery: Recovery,
}

/// Whether what keeps pods from coming up can pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Recovery {
    /// No: the rollout has failed as soon as it is seen.
    Never,
    /// Within seconds, when the quota controller has counted what has ended; else no.
    Soon,
    /// The controller tries the same again: the rollout has failed when it lasts for the grace period.
    Retried,
    /// At a time that nobody knows: it is the reason when the deadline passes.
    Sometime,
}

impl Symptom {
    pub(crate) fn new(cause: Cause, recovery: Recovery, message: impl Into<String>) -> Self {
        Symptom { cause, message: message.into(), container: None, exit_code: None, recovery }
    }

    /// How long it may last where `grace` is given to what the controllers retry; `None` for as long as the rollout may
    /// take.
    pub(crate) fn may_last(&self, grace: Option<Duration>) -> Option<Duration> {
        match self.recovery {
            Recovery::Never => Some(Duration::ZERO),
            Recovery::Soon => grace.map(|grace| grace.min(SOON)),
            Recovery::Retried => grace,
            Recovery::Sometime => None,
        }
    }

    /// Whether waiting does not help.
    pub(crate) fn is_final(&self) -> bool {
        self.recovery == Recovery::Never
    }

    /// The progress deadline has passed, and nothing tells why.
    pub(crate) fn stalled(message: &str) -> Self {
        Symptom::new(Cause::NoProgress, Recovery::Never, message)
    }

    /// A Job has failed, or the circuit breaker went off, and no pod tells why.
    pub(crate) fn failed(message: &str) -> Self {
        Symptom::new(Cause::ContainerExited, Recovery::Never, message)
    }

    pub(crate) fn of_container(self, name: &str) -> Self {
        Symptom { container: Some(name.to_owned()), ..self }
    }
}
