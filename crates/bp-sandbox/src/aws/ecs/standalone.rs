//! Standalone tasks: no service replaces them, and they may end with success.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{platform::Platform, task::Task, task_view::Frame, world::World};
use crate::aws::wire::text;

/// A task that RunTask has started.
#[derive(Debug)]
pub(super) struct Standalone {
    pub(super) task: Task,
    /// The request.
    pub(super) request: Value,
}

impl Standalone {
    /// The client token of the request.
    pub(super) fn token(&self) -> &str {
        text(&self.request, "clientToken")
    }

    /// Whether ListTasks lists it with these filters.
    pub(super) fn matches(&self, now: Timestamp, stopped: bool, by: &str, family: &str) -> bool {
        self.task.is_stopping(now) == stopped
            && (by.is_empty() || text(&self.request, "startedBy") == by)
            && (family.is_empty() || self.task.definition().view["family"] == family)
    }

    /// Its tags: those of the request, of the task definition if it propagates them, and those that ECS manages.
    pub(super) fn tags(&self, cluster: &str) -> Vec<Value> {
        let request = &self.request;
        let mut tags = request["tags"].as_array().cloned().unwrap_or_default();
        if request["propagateTags"] == "TASK_DEFINITION" {
            let own = self.task.definition().tags.iter();
            let is_new = |tag: &&Value| tags.iter().all(|other| other["key"] != tag["key"]);
            let more: Vec<Value> = own.filter(is_new).cloned().collect();
            tags.extend(more);
        }
        if request["enableECSManagedTags"] == true {
            tags.push(json!({ "key": "aws:ecs:clusterName", "value": cluster }));
        }
        tags
    }

    /// Where the task of this request runs.
    pub(super) fn platform(request: &Value) -> Platform {
        request.as_object().map_or(Platform::Fargate, Platform::of)
    }

    /// The API's view.
    pub(super) fn view(&self, world: &World<'_>, cluster: &str, now: Timestamp) -> Value {
        let request = &self.request;
        let platform = Standalone::platform(request);
        let family = text(&self.task.definition().view, "family");
        let group = match text(request, "group") {
            "" => format!("family:{family}"),
            group => group.to_owned(),
        };
        let frame = Frame {
            cluster,
            now,
            platform,
            launch_type: request.as_object().map(|request| platform.launch_type(request)).unwrap_or_default(),
            started_by: request["startedBy"].clone(),
            group,
        };
        let mut view = self.task.view_in(&world.place, &frame);
        if !matches!(text(request, "platformVersion"), "" | "LATEST") {
            view["platformVersion"] = request["platformVersion"].clone();
        }
        for (field, value) in request["overrides"].as_object().into_iter().flatten() {
            view["overrides"][field] = value.clone();
        }
        view["enableExecuteCommand"] = json!(request["enableExecuteCommand"] == true);
        view["tags"] = json!(self.tags(cluster));
        if let Some(provider) = request["capacityProviderStrategy"][0].as_object() {
            view["capacityProviderName"] = provider["capacityProvider"].clone();
        }
        view
    }
}
