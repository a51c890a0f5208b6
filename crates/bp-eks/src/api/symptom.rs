//! Symptoms: why a pod does not become ready, and whether it can recover.

use std::{cmp::Reverse, fmt, time::Duration};

use bp_artifact::deploy::Cause;

/// The quota controller releases the quota of ended pods within seconds, and controllers retry soon after.
const SOON: Duration = Duration::from_secs(10);

/// The number of restarts after which a container in a crash loop has failed: 30 s of back-off after its first exit.
pub(crate) const RESTARTS: u32 = 3;

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

/// The container and the message.
impl fmt::Display for Symptom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.container {
            Some(container) => write!(f, "container {container}: {}", self.message),
            None => f.write_str(&self.message),
        }
    }
}

/// Whether and when a symptom can recover.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Recovery {
    /// Never: the rollout fails immediately.
    Never,
    /// Within seconds, once the quota controller has released the quota of ended pods; otherwise never.
    Soon,
    /// The controller or the kubelet retries: the rollout fails when the symptom lasts for the grace period.
    Retried,
    /// The kubelet restarts the container; the number of restarts so far: a program may wait for its dependency.
    Restarted(u32),
    /// At an unknown time: the symptom is the cause when the deadline passes.
    Sometime,
    /// Nothing has failed: the pod is not ready yet. At the deadline, the rollout continues.
    Starting,
}

impl Symptom {
    pub(crate) fn new(cause: Cause, recovery: Recovery, message: impl Into<String>) -> Self {
        Symptom { cause, message: message.into(), container: None, exit_code: None, recovery }
    }

    /// How long the symptom may last, with `grace` for retries; `None` until the rollout's deadline.
    pub(crate) fn may_last(&self, grace: Option<Duration>) -> Option<Duration> {
        match self.recovery {
            Recovery::Never => Some(Duration::ZERO),
            Recovery::Soon => grace.map(|grace| grace.min(SOON)),
            Recovery::Retried => grace,
            Recovery::Restarted(_) | Recovery::Sometime | Recovery::Starting => None,
        }
    }

    /// Whether the symptom cannot recover, if a container may be restarted [`RESTARTS`] times.
    pub(crate) fn is_final(&self) -> bool {
        self.is_final_after(RESTARTS)
    }

    /// Whether the symptom cannot recover, if a container may be restarted fewer than `restarts` times.
    pub(crate) fn is_final_after(&self, restarts: u32) -> bool {
        match self.recovery {
            Recovery::Never => true,
            Recovery::Restarted(times) => times >= restarts,
            Recovery::Soon | Recovery::Retried | Recovery::Sometime | Recovery::Starting => false,
        }
    }

    /// Whether a container has failed, even if it may recover.
    pub(crate) fn is_failure(&self) -> bool {
        match self.recovery {
            Recovery::Never | Recovery::Retried | Recovery::Restarted(_) => true,
            Recovery::Soon | Recovery::Sometime | Recovery::Starting => false,
        }
    }

    /// The order in which symptoms explain why a pod is not ready: the greatest is the cause.
    pub(crate) fn rank(&self) -> (bool, Reverse<bool>) {
        (self.is_final(), Reverse(self.recovery == Recovery::Starting))
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
