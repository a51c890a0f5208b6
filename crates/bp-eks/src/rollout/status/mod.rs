//! How far a roll-out is: kubectl's rules, as pure functions.

mod daemon_set;
mod deployment;
mod job;
mod stateful_set;

use k8s_openapi::api::{
    apps::v1::{DaemonSet, Deployment, StatefulSet},
    batch::v1::Job,
};

pub(super) use deployment::stalled;

/// How far the roll-out of a workload is, by the rules of `kubectl rollout status`.
///
/// Each rule takes the generation that is meant: the one that our own apply was answered with, never the one that happens
/// to be there.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum RolloutStatus {
    /// The controller has not looked at this generation yet: whatever the status says is about an earlier one.
    NotObserved,
    /// Under way, in this stage.
    Progressing(Stage),
    /// `progressDeadlineSeconds` of a Deployment have passed without progress.
    Stalled(String),
    /// A Job has failed: too many tries, or out of time.
    Failed(String),
    /// The pods are replaced only when somebody deletes them (`OnDelete`): there is no roll-out to follow.
    OnDelete,
    /// Every pod that is to be updated is, and is there to be used; no old one is left. A Job has done its work.
    Complete,
}

/// The stages of a roll-out, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Stage {
    /// New pods are being made.
    Updating,
    /// Old pods are ending.
    EndingOld,
    /// New pods are becoming available.
    BecomingAvailable,
    /// A Job's pods are at work.
    Working,
}

impl std::fmt::Display for Stage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Stage::Updating => "new pods are being made",
            Stage::EndingOld => "old pods are ending",
            Stage::BecomingAvailable => "new pods are becoming available",
            Stage::Working => "the pods are at work",
        })
    }
}

impl RolloutStatus {
    /// How far the roll-out of `generation` of a Deployment is.
    pub fn of_deployment(deployment: &Deployment, generation: i64) -> Self {
        deployment::status(deployment, generation)
    }

    /// How far the roll-out of `generation` of a StatefulSet is; with a partition, that of the pods above it.
    pub fn of_stateful_set(set: &StatefulSet, generation: i64) -> Self {
        stateful_set::status(set, generation)
    }

    /// How far the roll-out of `generation` of a DaemonSet is.
    pub fn of_daemon_set(set: &DaemonSet, generation: i64) -> Self {
        daemon_set::status(set, generation)
    }

    /// How far a Job is. Its template never changes, so there are no generations to tell apart.
    pub fn of_job(job: &Job) -> Self {
        job::status(job)
    }
}

/// How many replicas are wanted: one where nothing is said.
pub(super) fn wanted(replicas: Option<i32>) -> i32 {
    replicas.unwrap_or(1)
}
