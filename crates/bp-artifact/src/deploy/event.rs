//! What a deployment tells while it goes on.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{FailureReport, Outcome, Revision, TargetId};
use crate::{operation::Event, reference::DigestRef};

/// What a deployment to one target tells while it goes on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case", rename_all_fields = "camelCase")]
#[non_exhaustive]
pub enum DeployEvent {
    /// The target was read; this is what is going to happen.
    Planned {
        /// Where.
        target: TargetId,
        /// The image asked for.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        image: Option<DigestRef>,
        /// What is in place now.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        current: Option<Revision>,
        /// Whether anything has to change.
        changes: bool,
    },
    /// The change was made: the platform is at work.
    Applied {
        /// Where.
        target: TargetId,
        /// The new revision.
        revision: Revision,
        /// The platform's own id of the deployment that we watch.
        deployment: String,
        /// Whether a deployment that was under way already is followed instead of a new one.
        adopted: bool,
    },
    /// How far it is. Merged when nobody reads.
    Progress {
        /// Where.
        target: TargetId,
        /// The counts.
        progress: Progress,
    },
    /// Something that the platform said: a service event, a pod's event, a stage.
    Notice {
        /// Where.
        target: TargetId,
        /// In the platform's words.
        message: String,
    },
    /// A line that a container of the new revision wrote, or what the platform did with one of its pods. Of many that
    /// nobody reads the oldest are dropped.
    Log {
        /// Where.
        target: TargetId,
        /// The container, such as `pod/web-6d4cf56db6-x2x9z/web`, or the pod alone.
        source: String,
        /// The line, shortened if it is long, without control characters.
        line: String,
        /// When it was written, if that is known.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        at: Option<Timestamp>,
        /// How many lines before it were left out, because there were too many at once.
        #[serde(default, skip_serializing_if = "is_zero")]
        left_out: u32,
    },
    /// The deployment is failing. Told as soon as it is known, before anything is torn down.
    Failing {
        /// Where.
        target: TargetId,
        /// Why.
        failure: FailureReport,
    },
    /// The previous revision is being restored, by the platform or by us.
    RollingBack {
        /// Where.
        target: TargetId,
        /// What is restored, when it is known.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        to: Option<Revision>,
    },
    /// It ended.
    Finished {
        /// How.
        outcome: Box<Outcome>,
    },
}

/// Counts of tasks or pods.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Progress {
    /// How many are wanted.
    pub desired: u32,
    /// How many of the new revision run (for Kubernetes: are available).
    pub running: u32,
    /// How many of the new revision are starting.
    pub pending: u32,
    /// How many of the new revision have failed so far.
    pub failed: u32,
    /// How many of earlier revisions still run.
    pub old: u32,
    /// The platform's word for the stage.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub stage: String,
}

impl DeployEvent {
    /// Where it happened.
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
