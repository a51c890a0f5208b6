//! A workload read from the cluster: its JSON, with status and template accessors for every kind.

use std::{fmt, ops::Deref, sync::Arc};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::core::{DynamicObject, ObjectMeta, Selector};
use serde_json::Value;

use super::{
    kind::{Kind, RolloutStatus, State},
    template::{self, Slot},
};
use crate::api::{manager, text::Text};

/// A workload read from the API server. Its JSON is kept complete, so that unknown fields are written back unchanged.
#[derive(Clone)]
pub(crate) struct Live {
    pub(crate) object: Arc<DynamicObject>,
    pub(crate) kind: &'static Kind,
    state: Arc<dyn State>,
}

/// The status, by the rules of its kind.
impl Deref for Live {
    type Target = dyn State;

    fn deref(&self) -> &Self::Target {
        &*self.state
    }
}

impl fmt::Debug for Live {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.state.fmt(f)
    }
}

/// A condition of a workload that reports a problem.
pub(crate) struct Condition {
    pub(crate) text: String,
    pub(crate) at: Option<Timestamp>,
}

impl Live {
    pub(crate) fn read(kind: &'static Kind, object: Arc<DynamicObject>) -> Result<Self, serde_json::Error> {
        let state = (kind.read)(serde_json::to_value(&*object)?)?;
        Ok(Live { object, kind, state: state.into() })
    }

    pub(crate) fn metadata(&self) -> &ObjectMeta {
        &self.object.metadata
    }

    pub(crate) fn uid(&self) -> &str {
        self.metadata().uid.text()
    }

    /// Kind and name of the controller that owns the workload.
    pub(crate) fn owner(&self) -> Option<String> {
        let mut owners = self.metadata().owner_references.iter().flatten();
        let owner = owners.find(|owner| owner.controller == Some(true))?;
        Some(format!("{}/{}", owner.kind, owner.name))
    }

    pub(crate) fn generation(&self) -> i64 {
        self.metadata().generation.unwrap_or_default()
    }

    pub(crate) fn spec(&self) -> &Value {
        &self.object.data["spec"]
    }

    pub(crate) fn template(&self) -> &Value {
        self.kind.template.iter().fold(self.spec(), |value, field| &value[*field])
    }

    /// The image of a container in the template.
    pub(crate) fn image(&self, container: &str) -> &str {
        template::image(self.template(), container).unwrap_or_default()
    }

    /// Whether the template has this image and these variables.
    pub(crate) fn has(&self, slot: &Slot, image: &str, environment: &[(String, String)]) -> bool {
        slot.all().all(|slot| self.image(&slot.name) == image) && self.has_environment(slot, environment)
    }

    /// Whether the template has these variables.
    pub(crate) fn has_environment(&self, slot: &Slot, environment: &[(String, String)]) -> bool {
        template::has_environment(self.template(), slot, environment)
    }

    /// The selector as a label selector query.
    pub(crate) fn selector(&self) -> String {
        let selector = self.spec()["selector"].clone();
        let selector: LabelSelector = serde_json::from_value(selector).unwrap_or_default();
        // The API server validates selectors; fall back to the labels if parsing fails.
        let labels = selector.match_labels.clone().unwrap_or_default();
        Selector::try_from(selector).unwrap_or_else(|_| Selector::from_iter(labels)).to_string()
    }

    /// The template without the fields that the controller adds to its copies.
    pub(crate) fn plain_template(&self) -> Value {
        template::plain(self.template(), self.kind)
    }

    /// Whether the current template is fully rolled out.
    pub(crate) fn is_settled(&self) -> bool {
        self.status(self.generation()) == RolloutStatus::Complete
    }

    pub(crate) fn runs_to_completion(&self) -> bool {
        self.kind.runs_to_completion
    }

    /// The conditions that report a problem.
    pub(crate) fn bad_conditions(&self) -> Vec<Condition> {
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

    /// The time of the last change by bp-eks, by the API server's clock.
    pub(crate) fn written_by_us(&self) -> Option<Timestamp> {
        let entries = self.metadata().managed_fields.iter().flatten();
        let ours = entries.filter(|entry| entry.manager.as_deref().is_some_and(manager::is_ours));
        ours.filter_map(|entry| entry.time.as_ref().map(|time| time.0)).max()
    }
}
