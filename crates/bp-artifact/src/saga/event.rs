//! Events of a saga in progress.

use std::{fmt, path::PathBuf};

use serde::{Deserialize, Serialize};

use crate::{
    deploy::{DeployEvent, GateName, GateReceipt, Revision, TargetId, Verdict},
    operation::Event,
    reference::DigestRef,
};

/// An event of a [`Saga`](super::Saga): its own steps, and the events of its targets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "event", rename_all = "kebab-case", rename_all_fields = "camelCase")]
#[non_exhaustive]
pub enum SagaEvent {
    /// The rollback revisions are recorded. From here on targets change.
    Noted {
        /// The receipt.
        receipt: PathBuf,
        /// The image.
        image: DigestRef,
        /// Each target with its rollback revision.
        previous: Vec<(TargetId, Revision)>,
        /// Whether an earlier run is resumed.
        resumed: bool,
    },
    /// The check of a gate starts: the targets before it are deployed and proven.
    Checking {
        /// The gate.
        gate: GateName,
        /// What is checked.
        check: String,
    },
    /// A gate was decided, or awaits approval.
    Gate(GateReceipt),
    /// The targets are being rolled back.
    Compensating {
        /// The target whose failure is the reason. `None` when a rollback was requested or is resumed.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        failed: Option<TargetId>,
        /// The targets that are rolled back.
        targets: Vec<TargetId>,
    },
    /// A step could not be written to the receipt. The deployment continues, because the rollback revisions are
    /// recorded.
    NotNoted {
        /// The error.
        message: String,
    },
    /// The saga ended.
    Ended {
        /// The joint verdict of all targets.
        verdict: Verdict,
    },
    /// An event of a target, in its own format.
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

/// One log entry, as for [`DeployEvent`].
impl fmt::Display for SagaEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SagaEvent::Noted { receipt, resumed, .. } => {
                let how = if *resumed { "resuming from" } else { "rollback revisions recorded in" };
                write!(f, "{how} {}", receipt.display())
            }
            SagaEvent::Checking { gate, check } => write!(f, "gate {gate}: checking {check}"),
            SagaEvent::Gate(gate) => gate.fmt(f),
            SagaEvent::Compensating { failed: Some(target), .. } => {
                write!(f, "{target} failed: rolling back every target")
            }
            SagaEvent::Compensating { failed: None, .. } => f.write_str("rolling back every target"),
            SagaEvent::NotNoted { message } => write!(f, "warning: cannot update the receipt: {message}"),
            SagaEvent::Ended { verdict } => write!(f, "all targets: {verdict}"),
            SagaEvent::Target(event) => event.fmt(f),
        }
    }
}
