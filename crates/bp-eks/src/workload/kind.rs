//! What a kind of workload has to say of itself. [`of`](super::of) has the kinds themselves, each in a file of its own.

use std::fmt;

use jiff::Timestamp;
use kube::core::ApiResource;
use serde_json::Value;

/// One kind of workload. Nothing else in this crate depends on which one it is.
pub(crate) struct Kind {
    /// The resource in the API.
    pub(crate) resource: fn() -> ApiResource,
    /// The calls about it, as errors name them.
    pub(crate) calls: Calls,
    /// Where its controller keeps the versions of its pod template.
    pub(crate) versions: Versions,
    /// The verbs by which it is changed, and whether a rollout cannot do without.
    pub(crate) writes: &'static [(&'static str, bool)],
    /// Whether it runs to completion, as a Job does: its template never changes, each image is an object of its own, and
    /// what it has done cannot be undone.
    pub(crate) runs_to_completion: bool,
    /// Whether its pods may have to be deleted to be replaced.
    pub(crate) deletes_pods: bool,
    /// Reads an object of this kind.
    pub(crate) read: fn(Value) -> Result<Box<dyn State>, serde_json::Error>,
}

impl fmt::Debug for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str((self.resource)().kind.as_str())
    }
}

/// The calls about a kind of object, as errors name them: `get deployments`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Calls {
    pub(crate) get: &'static str,
    pub(crate) list: &'static str,
    pub(crate) watch: &'static str,
    pub(crate) create: &'static str,
    pub(crate) patch: &'static str,
    pub(crate) update: &'static str,
}

/// The calls about a resource, by its plural.
macro_rules! calls {
    ($plural:literal) => {
        $crate::workload::kind::Calls {
            get: concat!("get ", $plural),
            list: concat!("list ", $plural),
            watch: concat!("watch ", $plural),
            create: concat!("create ", $plural),
            patch: concat!("patch ", $plural),
            update: concat!("update ", $plural),
        }
    };
}
pub(super) use calls;

/// How a controller keeps the versions of a pod template.
#[derive(Debug)]
pub(crate) enum Versions {
    /// As ReplicaSets, which have made the pods.
    ReplicaSets {
        /// The annotation with the version's number, of the workload as well.
        number: &'static str,
        /// The label that the controller adds to its copies of the template.
        hash: &'static str,
    },
    /// As ControllerRevisions, of which the pods carry a label.
    ControllerRevisions,
    /// Not at all.
    None,
}

/// What one workload of a kind shows.
pub(crate) trait State: fmt::Debug + Send + Sync {
    /// How far the rollout of `generation` is.
    fn status(&self, generation: i64) -> RolloutStatus;

    /// How many pods it has.
    fn counts(&self) -> Counts;

    /// Whether somebody holds it up.
    fn is_paused(&self) -> bool {
        false
    }

    /// What the controller says when the progress deadline has passed, and since when it says so.
    fn stalled(&self) -> Option<(String, Option<Timestamp>)> {
        None
    }

    /// Whether its pods are replaced one after the other, the next when the one before is ready: a broken one is in the
    /// way of its own replacement.
    fn is_ordered(&self) -> bool {
        false
    }

    /// Up to which ordinal the pods are to keep the earlier template.
    fn partition(&self) -> i32 {
        0
    }

    /// Whether old pods are taken away before the new ones are ready. Most kinds replace a pod in its own room, and take
    /// no second one away while that one is missing.
    fn takes_pods_away_first(&self) -> bool {
        false
    }
}

/// How many pods of a workload are in which state.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) desired: i32,
    /// All that exist, and those of the new template among them.
    pub(crate) total: i32,
    pub(crate) updated: i32,
}

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

/// How many replicas are wanted: one where nothing is said.
pub(super) fn wanted(replicas: Option<i32>) -> i32 {
    replicas.unwrap_or(1)
}
