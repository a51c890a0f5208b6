//! Standalone tasks: no service replaces them, and they may end with success.

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::{task::Task, world::World};
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

    /// The API's view.
    pub(super) fn view(&self, world: &World<'_>, cluster: &str, now: Timestamp) -> Value {
        let mut view = self.task.view(&world.place, cluster, "", now);
        let family = text(&self.task.definition().view, "family");
        let group = match text(&self.request, "group") {
            "" => format!("family:{family}"),
            group => group.to_owned(),
        };
        view["group"] = json!(group);
        let shown = view.as_object_mut().expect("a task is an object");
        shown.remove("startedBy");
        let copied = ["startedBy", "launchType", "platformVersion"];
        let given = copied.iter().filter_map(|field| Some((*field, self.request.get(*field)?)));
        let given: Map<String, Value> = given
            .filter(|(field, value)| *field != "platformVersion" || *value != "LATEST")
            .map(|(field, value)| (field.to_owned(), value.clone()))
            .collect();
        shown.extend(given);
        for (field, value) in self.request["overrides"].as_object().into_iter().flatten() {
            view["overrides"][field] = value.clone();
        }
        if let Some(provider) = self.request["capacityProviderStrategy"][0].as_object() {
            view["capacityProviderName"] = provider["capacityProvider"].clone();
        }
        view
    }
}
