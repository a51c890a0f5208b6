//! The workload as it is in the cluster, whatever its kind.

use std::sync::Arc;

use bp_artifact::WorkloadKind;
use jiff::Timestamp;
use k8s_openapi::{
    api::{
        apps::v1::{DaemonSet, Deployment, StatefulSet},
        batch::v1::Job,
    },
    apimachinery::pkg::apis::meta::v1::LabelSelector,
};
use kube::core::{DynamicObject, ObjectMeta, Selector};
use serde_json::Value;

use super::{
    api::is_ours,
    status::{self, RolloutStatus},
    template::{self, Slot},
    text::Text,
};

/// A workload as the API answered. Its JSON is kept whole: what we do not know is written back as it was.
#[derive(Debug, Clone)]
pub(super) struct Live {
    pub(super) object: Arc<DynamicObject>,
    kind: Kind,
}

#[derive(Debug, Clone)]
enum Kind {
    Deployment(Box<Deployment>),
    StatefulSet(Box<StatefulSet>),
    DaemonSet(Box<DaemonSet>),
    Job(Box<Job>),
}

/// How many pods of a workload are in which state.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) desired: i32,
    /// All that exist, and those of the new template among them.
    pub(super) total: i32,
    pub(super) updated: i32,
}

/// A condition of a workload that says that something is wrong.
pub(super) struct Condition {
    pub(super) text: String,
    pub(super) at: Option<Timestamp>,
}

impl Live {
    pub(super) fn read(kind: WorkloadKind, object: Arc<DynamicObject>) -> Result<Self, serde_json::Error> {
        let json = serde_json::to_value(&*object)?;
        let kind = match kind {
            WorkloadKind::StatefulSet => Kind::StatefulSet(serde_json::from_value(json)?),
            WorkloadKind::DaemonSet => Kind::DaemonSet(serde_json::from_value(json)?),
            WorkloadKind::Job => Kind::Job(serde_json::from_value(json)?),
            _ => Kind::Deployment(serde_json::from_value(json)?),
        };
        Ok(Live { object, kind })
    }

    pub(super) fn metadata(&self) -> &ObjectMeta {
        &self.object.metadata
    }

    pub(super) fn uid(&self) -> &str {
        self.metadata().uid.text()
    }

    pub(super) fn generation(&self) -> i64 {
        self.metadata().generation.unwrap_or_default()
    }

    pub(super) fn spec(&self) -> &Value {
        &self.object.data["spec"]
    }

    pub(super) fn template(&self) -> &Value {
        &self.spec()["template"]
    }

    /// The image of a container in the template.
    pub(super) fn image(&self, container: &str) -> &str {
        template::image(self.template(), container).unwrap_or_default()
    }

    /// Whether the template has this image and these variables.
    pub(super) fn has(&self, slot: &Slot, image: &str, environment: &[(String, String)]) -> bool {
        self.image(&slot.name) == image && template::has_environment(self.template(), slot, environment)
    }

    /// The selector as the API takes it in a query.
    pub(super) fn selector(&self) -> String {
        let selector = self.spec()["selector"].clone();
        let selector: LabelSelector = serde_json::from_value(selector).unwrap_or_default();
        // A selector is validated by the API; one that cannot be read selects by its labels at least.
        let labels = selector.match_labels.clone().unwrap_or_default();
        Selector::try_from(selector).unwrap_or_else(|_| Selector::from_iter(labels)).to_string()
    }

    /// How far the roll-out of `generation` is.
    pub(super) fn status(&self, generation: i64) -> RolloutStatus {
        match &self.kind {
            Kind::Deployment(it) => RolloutStatus::of_deployment(it, generation),
            Kind::StatefulSet(it) => RolloutStatus::of_stateful_set(it, generation),
            Kind::DaemonSet(it) => RolloutStatus::of_daemon_set(it, generation),
            Kind::Job(it) => RolloutStatus::of_job(it),
        }
    }

    /// Whether the template in place is rolled out.
    pub(super) fn is_settled(&self) -> bool {
        self.status(self.generation()) == RolloutStatus::Complete
    }

    pub(super) fn is_paused(&self) -> bool {
        let field = if matches!(self.kind, Kind::Job(_)) { "suspend" } else { "paused" };
        self.spec()[field] == true
    }

    pub(super) fn is_deployment(&self) -> bool {
        matches!(self.kind, Kind::Deployment(_))
    }

    pub(super) fn is_job(&self) -> bool {
        matches!(self.kind, Kind::Job(_))
    }

    /// Whether its pods are replaced one after the other, the next when the one before is ready: a broken one is in the
    /// way of its own replacement.
    pub(super) fn is_ordered(&self) -> bool {
        matches!(self.kind, Kind::StatefulSet(_)) && self.spec()["podManagementPolicy"] != "Parallel"
    }

    /// Up to which ordinal the pods of a StatefulSet are to keep the earlier template.
    pub(super) fn partition(&self) -> i32 {
        let partition = &self.spec()["updateStrategy"]["rollingUpdate"]["partition"];
        partition.as_i64().and_then(|n| i32::try_from(n).ok()).unwrap_or_default()
    }

    pub(super) fn counts(&self) -> Counts {
        match &self.kind {
            Kind::Deployment(it) => {
                let status = it.status.clone().unwrap_or_default();
                Counts {
                    desired: status::wanted(it.spec.as_ref().and_then(|spec| spec.replicas)),
                    total: status.replicas.unwrap_or_default(),
                    updated: status.updated_replicas.unwrap_or_default(),
                }
            }
            Kind::StatefulSet(it) => {
                let status = it.status.clone().unwrap_or_default();
                Counts {
                    desired: status::wanted(it.spec.as_ref().and_then(|spec| spec.replicas)),
                    total: status.replicas,
                    updated: status.updated_replicas.unwrap_or_default(),
                }
            }
            Kind::DaemonSet(it) => {
                let status = it.status.clone().unwrap_or_default();
                Counts {
                    desired: status.desired_number_scheduled,
                    total: status.current_number_scheduled,
                    updated: status.updated_number_scheduled.unwrap_or_default(),
                }
            }
            Kind::Job(it) => {
                let spec = it.spec.clone().unwrap_or_default();
                let active = it.status.as_ref().and_then(|status| status.active).unwrap_or_default();
                let desired = spec.completions.or(spec.parallelism).unwrap_or(1);
                Counts { desired, total: active, updated: active }
            }
        }
    }

    /// What a Deployment's controller says when the progress deadline has passed, and since when it says so.
    pub(super) fn stalled(&self) -> Option<(String, Option<Timestamp>)> {
        match &self.kind {
            Kind::Deployment(it) => status::stalled(it),
            _ => None,
        }
    }

    /// The conditions that say that something is wrong.
    pub(super) fn bad_conditions(&self) -> Vec<Condition> {
        let conditions = self.object.data["status"]["conditions"].as_array().into_iter().flatten();
        let bad = |condition: &&Value| {
            let is_bad_when_true =
                matches!(condition["type"].as_str(), Some("ReplicaFailure" | "Failed" | "FailureTarget"));
            is_bad_when_true == (condition["status"] == "True") && condition["type"] != "Suspended"
        };
        let read = |condition: &Value| {
            let text = |field: &str| condition[field].as_str().unwrap_or_default();
            let (kind, status) = (text("type"), text("status"));
            Condition {
                text: format!("{kind} is {status}: {}: {}", text("reason"), text("message")),
                at: text("lastTransitionTime").parse().ok(),
            }
        };
        conditions.filter(bad).map(read).collect()
    }

    /// When we last wrote to it, by the API server's clock.
    pub(super) fn written_by_us(&self) -> Option<Timestamp> {
        let entries = self.metadata().managed_fields.iter().flatten();
        let ours = entries.filter(|entry| entry.manager.as_deref().is_some_and(is_ours));
        ours.filter_map(|entry| entry.time.as_ref().map(|time| time.0)).max()
    }
}
