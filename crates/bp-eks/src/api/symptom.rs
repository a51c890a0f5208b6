//! Symptoms: why a pod does not become ready, and whether it can recover.

use std::time::Duration;

use bp_artifact::deploy::Cause;

/// The quota controller releases the quota of ended pods within seconds, and controllers retry soon after.
const SOON: Duration = Duration::from_secs(10);

/// Why a pod does not become ready.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Symptom {
    pub(crate) cause: Cause,
    /// The platform's message.
    pub(crate) message: String,
    pub(crate) container: Option<String>,
    pub(crate) exit_code: Option<i32>,
    pub(crate) recovery: Recovery,
}

/// Whether and when a symptom can recover.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Recovery {
    /// Never: the rollout fails immediately.
    Never,
    /// Within seconds, once the quota controller has released the quota of ended pods; otherwise never.
    Soon,
    /// The controller retries: the rollout fails when the symptom lasts for the grace period.
    Retried,
    /// At an unknown time: the symptom is the cause when the deadline passes.
    Sometime,
}

impl Symptom {
    pub(crate) fn new(cause: Cause, recovery: Recovery, message: impl Into<String>) -> Self {
        Symptom { cause, message: message.into(), container: None, exit_code: None, recovery }
    }

    /// How long the symptom may last, with `grace` for retries of the controllers; `None` until the rollout's deadline.
    pub(crate) fn may_last(&self, grace: Option<Duration>) -> Option<Duration> {
        match self.recovery {
            Recovery::Never => Some(Duration::ZERO),
            Recovery::Soon => grace.map(|grace| grace.min(SOON)),
            Recovery::Retried => grace,
            Recovery::Sometime => None,
        }
    }

    /// Whether the symptom cannot recover.
    pub(crate) fn is_final(&self) -> bool {
        self.recovery == Recovery::Never
    }

    /// The progress deadline has passed without a known cause.
    pub(crate) fn stalled(message: &str) -> Self {
        Symptom::new(Cause::NoProgress, Recovery::Never, message)
    }

    /// A Job has failed, or the backoff limit was reached, without a known cause.
    pub(crate) fn failed(message: &str) -> Self {
        Symptom::new(Cause::ContainerExited, Recovery::Never, message)
    }

    pub(crate) fn of_container(self, name: &str) -> Self {
        Symptom { container: Some(name.to_owned()), ..self }
    }
}
