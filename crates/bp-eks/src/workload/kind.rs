//! Workload kinds: resource, verbs, revisions and status rules. [`of`](super::of) returns the implementations.

use std::fmt;

use jiff::Timestamp;
use kube::core::ApiResource;
use serde_json::Value;

/// A kind of workload. The rest of the crate is independent of the kind.
pub(crate) struct Kind {
    /// The API resource.
    pub(crate) resource: fn() -> ApiResource,
    /// The names of its API calls, for error messages.
    pub(crate) calls: Calls,
    /// Where its controller stores revisions of the pod template.
    pub(crate) versions: Versions,
    /// Where the pod template is, below the specification.
    pub(crate) template: &'static [&'static str],
    /// The verbs of changes, and whether a rollout requires them.
    pub(crate) writes: &'static [(&'static str, bool)],
    /// Whether it runs to completion, as a Job: its template is immutable, each image is a separate object, and it
    /// cannot be rolled back.
    pub(crate) runs_to_completion: bool,
    /// Whether it only creates Jobs at the times of its schedule: there is no rollout to follow, and it selects no pods.
    pub(crate) is_scheduled: bool,
    /// Whether failing pods may have to be deleted to be replaced.
    pub(crate) deletes_pods: bool,
    /// Parses an object of this kind.
    pub(crate) read: fn(Value) -> Result<Box<dyn State>, serde_json::Error>,
}

impl fmt::Debug for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str((self.resource)().kind.as_str())
    }
}

/// The names of API calls for a kind of object, for error messages: `get deployments`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Calls {
    pub(crate) get: &'static str,
    pub(crate) list: &'static str,
    pub(crate) watch: &'static str,
    pub(crate) create: &'static str,
    pub(crate) patch: &'static str,
    pub(crate) update: &'static str,
}

/// The call names of a resource, from its plural.
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

/// How a controller stores revisions of a pod template.
#[derive(Debug)]
pub(crate) enum Versions {
    /// As ReplicaSets, which own the pods.
    ReplicaSets {
        /// The annotation with the revision number, also on the workload.
        number: &'static str,
        /// The annotation with the earlier numbers of a revision that runs again, separated by commas.
        history: &'static str,
        /// The label that the controller adds to its copies of the template.
        hash: &'static str,
    },
    /// As ControllerRevisions; the pods have a label with the revision.
    ControllerRevisions,
    /// Not stored.
    None,
}

/// The status of one workload, by the rules of its kind.
pub(crate) trait State: fmt::Debug + Send + Sync {
    /// The rollout status of `generation`.
    fn status(&self, generation: i64) -> RolloutStatus;

    /// The pod counts.
    fn counts(&self) -> Counts;

    /// Whether the rollout is paused.
    fn is_paused(&self) -> bool {
        false
    }

    /// The controller's message when the progress deadline has passed, and the time of that condition.
    fn stalled(&self) -> Option<(String, Option<Timestamp>)> {
        None
    }

    /// Whether pods are replaced in order, each after the previous one is ready: a failing pod blocks its own
    /// replacement.
    fn is_ordered(&self) -> bool {
        false
    }

    /// Whether a new pod is created only after its predecessor has ended.
    fn replaces_pods_in_place(&self) -> bool {
        false
    }

    /// The partition: pods with a lower ordinal keep the earlier template.
    fn partition(&self) -> i32 {
        0
    }

    /// Whether several old pods are removed before new ones are ready. Most kinds replace one pod at a time.
    fn removes_pods_first(&self) -> bool {
        false
    }
}

/// The pod counts of a workload.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) desired: i32,
    /// All existing pods; `updated` counts those of the new template.
    pub(crate) total: i32,
    pub(crate) updated: i32,
}

/// The rollout status of a workload, by the rules of `kubectl rollout status`.
///
/// Each rule requires the generation that the apply returned, not the generation of the observed object.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum RolloutStatus {
    /// The controller has not observed this generation yet: the status is about an earlier one.
    NotObserved,
    /// In progress, in this stage.
    Progressing(Stage),
    /// A Deployment made no progress for `progressDeadlineSeconds`.
    Stalled(String),
    /// A Job has failed: its backoff limit or its deadline was exceeded.
    Failed(String),
    /// The pods are replaced only when they are deleted (`OnDelete`): there is no rollout to follow.
    OnDelete,
    /// Every pod to update is updated and available, and no old pod is left. A Job has completed.
    Complete,
}

/// The stages of a rollout, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Stage {
    /// New pods are being created.
    Updating,
    /// Old pods are terminating.
    EndingOld,
    /// New pods are becoming available.
    BecomingAvailable,
    /// The pods of a Job are running.
    Working,
}

impl std::fmt::Display for Stage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Stage::Updating => "new pods are being created",
            Stage::EndingOld => "old pods are terminating",
            Stage::BecomingAvailable => "new pods are becoming available",
            Stage::Working => "the pods are running",
        })
    }
}

/// The desired number of replicas; defaults to one.
pub(super) fn wanted(replicas: Option<i32>) -> i32 {
    replicas.unwrap_or(1)
}
