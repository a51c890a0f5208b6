//! What the status of a Deployment, StatefulSet, DaemonSet or Job says about its rollout, by kubectl's rules.

mod daemon_set;
mod deployment;
pub(crate) mod job;
mod kind;
mod live;
mod stateful_set;
pub(crate) mod template;
pub(crate) mod version;

use bp_artifact::config::WorkloadKind;

pub(crate) use kind::{Calls, Kind};
pub use kind::{RolloutStatus, Stage};
pub(crate) use live::{Condition, Live};

/// What there is to know of a kind. The one place that tells the kinds apart.
pub(crate) fn of(kind: WorkloadKind) -> &'static Kind {
    match kind {
        WorkloadKind::Deployment => &deployment::KIND,
        WorkloadKind::StatefulSet => &stateful_set::KIND,
        WorkloadKind::DaemonSet => &daemon_set::KIND,
        WorkloadKind::Job => &job::KIND,
    }
}
