//! Rollout status of Deployments, StatefulSets, DaemonSets, Jobs and CronJobs, by the rules of `kubectl rollout status`.

pub(crate) mod cron_job;
mod daemon_set;
mod deployment;
pub(crate) mod job;
mod kind;
mod live;
pub(crate) mod references;
mod stateful_set;
pub(crate) mod template;
pub(crate) mod version;

use bp_artifact::config::WorkloadKind;

pub(crate) use kind::{Calls, Kind};
pub use kind::{RolloutStatus, Stage};
pub(crate) use live::{Condition, Live};

/// The implementation of a kind; the only place that distinguishes the kinds.
pub(crate) fn of(kind: WorkloadKind) -> &'static Kind {
    match kind {
        WorkloadKind::Deployment => &deployment::KIND,
        WorkloadKind::StatefulSet => &stateful_set::KIND,
        WorkloadKind::DaemonSet => &daemon_set::KIND,
        WorkloadKind::Job => &job::KIND,
        WorkloadKind::CronJob => &cron_job::KIND,
    }
}
