//! Roll out one workload: read the state, apply the change, follow and judge it, diagnose failures, roll back, and
//! verify the running digests. bp-ecs has the same file structure.

pub(crate) mod api;
mod apply;
mod blocked;
mod circuit;
mod conclude;
mod deploy;
pub(crate) mod diagnose;
mod drift;
mod evidence;
mod follow;
mod job;
mod judge;
mod logs;
pub(crate) mod plan;
mod progress;
pub(crate) mod proof;
mod quota;
#[cfg(test)]
mod recorded;
mod restart;
mod restore;
mod schedule;
mod standstill;
mod status;
pub(crate) mod survey;
mod threshold;
mod unanswered;
mod undo;
mod watch;
mod watches;

use std::fmt;

use bp_artifact::{ResolvedImage, deploy::TargetId};

use crate::{options::Options, rollout::api::WorkloadApi};

/// One or more containers of one workload, and their rollout options.
#[derive(Clone)]
pub(crate) struct WorkloadRollout {
    pub(crate) api: WorkloadApi,
    pub(crate) id: TargetId,
    pub(crate) container: Option<String>,
    /// Other containers that get the same image.
    pub(crate) also: Vec<String>,
    /// Images whose platforms are known.
    pub(crate) images: Vec<ResolvedImage>,
    pub(crate) options: Options,
}

impl fmt::Debug for WorkloadRollout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let WorkloadRollout { id, container, also, options, .. } = self;
        f.debug_struct("EksTarget")
            .field("id", id)
            .field("container", container)
            .field("also", also)
            .field("options", options)
            .finish_non_exhaustive()
    }
}
