//! What a saga tells while it goes on.

use std::{fmt, path::PathBuf};

use serde::{Deserialize, Serialize};

use crate::{
    deploy::{DeployEvent, GateName, GateReceipt, Revision, TargetId, Verdict},
    operation::Event,
    reference::DigestRef,
};

/// What a [`Saga`](super::Saga) tells while it goes on: its own steps, and what its targets tell.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case", rename_all_fields = "camelCase")]
#[non_exhaustive]
pub enum SagaEvent {
    /// The way back is noted. From here on targets change.
    Noted {
        /// The receipt.
        receipt: PathBuf,
        /// The image.
        image: DigestRef,
        /// Each target and the revision that it can go back to.
        previous: Vec<(TargetId, Revision)>,
        /// Whether an earlier run is gone on with.
        resumed: bool,
    },
    /// The check of a gate begins: the targets before it are deployed and proven.
    Checking {
        /// The gate.
        gate: GateName,
        /// What is checked.
        check: String,
    },
    /// A gate was decided, or awaits approval.
    Gate(GateReceipt),
    /// The targets are being put back.
    Compensating {
        /// The target whose failure is the reason. `None` when a rollback was asked for or is gone on with.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        failed: Option<TargetId>,
        /// The targets that are put back.
        targets: Vec<TargetId>,
    },
    /// A step could not be written down. The work goes on: the way back is noted already.
    NotNoted {
        /// Why.
        message: String,
    },
    /// It ended.
    Ended {
        /// How all targets together ended.
        verdict: Verdict,
    },
    /// What a target tells, in its own form.
    #[serde(untagged)]
    Target(DeployEvent),
}

impl Event for SagaEvent {
    fn supersedes(&self, earlier: &Self) -> bool {
        match (self, earlier) {
            (SagaEvent::Target(event), SagaEvent::Target(earlier)) => event.supersedes(earlier),
            _ => false,
        }
    }

    fn may_be_dropped(&self) -> bool {
        matches!(self, SagaEvent::Target(event) if event.may_be_dropped())
    }
}

impl From<DeployEvent> for SagaEvent {
    fn from(event: DeployEvent) -> Self {
        SagaEvent::Target(event)
    }
}

/// One entry of a log, as [`DeployEvent`]'s is.
impl fmt::Display for SagaEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SagaEvent::Noted { receipt, resumed, .. } => {
                let how = if *resumed { "resuming from" } else { "the previous revisions are noted in" };
                write!(f, "{how} {}", receipt.display())
            }
            SagaEvent::Checking { gate, check } => write!(f, "gate {gate}: checking {check}"),
            SagaEvent::Gate(gate) => gate.fmt(f),
            SagaEvent::Compensating { failed: Some(target), .. } => {
                write!(f, "{target} failed: rolling back every target")
            }
            SagaEvent::Compensating { failed: None, .. } => f.write_str("rolling back every target"),
            SagaEvent::NotNoted { message } => write!(f, "warning: a step could not be noted: {message}"),
            SagaEvent::Ended { verdict } => write!(f, "all targets: {verdict}"),
            SagaEvent::Target(event) => event.fmt(f),
        }
    }
}
