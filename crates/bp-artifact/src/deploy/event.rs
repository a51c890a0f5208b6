//! Events of a deployment in progress.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{FailureReport, Outcome, Revision, TargetId};
use crate::{operation::Event, reference::DigestRef};

/// An event of a deployment to one target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "event", rename_all = "kebab-case", rename_all_fields = "camelCase")]
#[non_exhaustive]
pub enum DeployEvent {
    /// The target was read and the change planned.
    Planned {
        /// The target.
        target: TargetId,
        /// The requested image.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        image: Option<DigestRef>,
        /// The current revision.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        current: Option<Revision>,
        /// Whether a change is required.
        changes: bool,
    },
    /// The change was applied; the platform is deploying it.
    Applied {
        /// The target.
        target: TargetId,
        /// The new revision.
        revision: Revision,
        /// The platform's ID of the deployment that is followed.
        deployment: String,
        /// Whether a deployment that was already in progress is followed instead of a new one.
        adopted: bool,
    },
    /// Progress. Unread progress events are merged.
    Progress {
        /// The target.
        target: TargetId,
        /// The counts.
        progress: Progress,
    },
    /// A message of the platform: a service event, a pod event, a stage.
    Notice {
        /// The target.
        target: TargetId,
        /// The platform's message.
        message: String,
    },
    /// A log line of a container of the new revision, or an event of one of its pods. If too many are unread, the
    /// oldest are dropped.
    Log {
        /// The target.
        target: TargetId,
        /// The container, such as `pod/web-6d4cf56db6-x2x9z/web`, or the pod alone.
        source: String,
        /// The line, truncated if it is long, without control characters.
        line: String,
        /// When it was written, if known.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        at: Option<Timestamp>,
        /// The number of lines omitted before this one, because there were too many at once.
        #[serde(default, skip_serializing_if = "is_zero")]
        left_out: u32,
    },
    /// The deployment is failing. Emitted as soon as the failure is detected, before any rollback or cleanup.
    Failing {
        /// The target.
        target: TargetId,
        /// The failure.
        failure: FailureReport,
    },
    /// The previous revision is being restored, by the platform or by this program.
    RollingBack {
        /// The target.
        target: TargetId,
        /// The revision being restored, if known.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        to: Option<Revision>,
    },
    /// The deployment ended.
    Finished {
        /// The outcome.
        outcome: Box<Outcome>,
    },
}

/// Counts of tasks or pods.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct Progress {
    /// The desired number.
    pub desired: u32,
    /// The number of the new revision that are running (for Kubernetes: available).
    pub running: u32,
    /// The number of the new revision that are starting.
    pub pending: u32,
    /// The number of the new revision that have failed so far.
    pub failed: u32,
    /// The number of earlier revisions that are still running.
    pub old: u32,
    /// The platform's name for the stage.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub stage: String,
}

impl DeployEvent {
    /// The target of the event.
    pub fn target(&self) -> &TargetId {
        match self {
            DeployEvent::Planned { target, .. }
            | DeployEvent::Applied { target, .. }
            | DeployEvent::Progress { target, .. }
            | DeployEvent::Notice { target, .. }
            | DeployEvent::Log { target, .. }
            | DeployEvent::Failing { target, .. }
            | DeployEvent::RollingBack { target, .. } => target,
            DeployEvent::Finished { outcome } => &outcome.target,
        }
    }
}

impl Event for DeployEvent {
    fn supersedes(&self, earlier: &Self) -> bool {
        let progress = |event: &Self| matches!(event, DeployEvent::Progress { .. });
        progress(self) && progress(earlier) && self.target() == earlier.target()
    }

    fn may_be_dropped(&self) -> bool {
        matches!(self, DeployEvent::Log { .. })
    }
}

fn is_zero(count: &u32) -> bool {
    *count == 0
}
