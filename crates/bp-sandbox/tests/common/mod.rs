//! Fixture of the ECS tests: a sandbox with one registry, whose images behave as scripted.

#![allow(dead_code, reason = "each test file uses a part of it")]

use std::time::Duration;

use bp_sandbox::{
    Behaviour, Clock, ImageBuilder, Sandbox,
    aws::ecs::{EcsHandle, NewService, ServiceHandle},
    registry::RegistryOptions,
};
use serde_json::{Value, json};

pub(crate) const HOST: &str = "registry.example.com";

pub(crate) struct World {
    pub(crate) sandbox: Sandbox,
    pub(crate) ecs: EcsHandle,
}

pub(crate) fn world(clock: Clock) -> World {
    let sandbox = Sandbox::builder().clock(clock).registry(HOST, RegistryOptions::default()).build();
    let ecs = sandbox.aws().ecs("111111111111", "eu-central-1");
    World { sandbox, ecs }
}

impl World {
    /// A task definition whose image has this behaviour.
    pub(crate) fn definition(&self, name: &str, behaviour: Behaviour) -> Value {
        let image = ImageBuilder::new().layer([("name", name)]).build();
        self.sandbox.registry(HOST).push(&image, "web", name);
        self.sandbox.script(image.digest(), behaviour);
        json!({
            "family": "web",
            "memory": "512",
            "containerDefinitions": [{ "name": "web", "image": format!("{HOST}/web:{name}") }],
        })
    }

    pub(crate) fn service(&self) -> NewService {
        let good = self.definition("good", Behaviour::default());
        self.ecs.new_service("shop", "web").task_definition(good)
    }

    pub(crate) fn update(&self, service: &ServiceHandle, definition: Value) {
        let arn = self.ecs.register(definition);
        service.update(json!({ "taskDefinition": arn }));
    }
}

pub(crate) fn crashes() -> Behaviour {
    Behaviour::Exits { after: Duration::from_secs(1), code: 1, log: vec![] }
}

/// The definition with a health check in its container.
pub(crate) fn checked(mut definition: Value) -> Value {
    definition["containerDefinitions"][0]["healthCheck"] = json!({ "command": ["CMD", "true"] });
    definition
}

/// Sleeps until `condition`, and returns the time that it took, in seconds.
pub(crate) async fn until(limit: u64, mut condition: impl FnMut() -> bool) -> u64 {
    for seconds in 0..limit {
        if condition() {
            return seconds;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    panic!("not within {limit} s");
}

/// The messages of a service's events since `after`, oldest first, with their times.
pub(crate) fn events(service: &ServiceHandle, after: jiff::Timestamp) -> Vec<(f64, String)> {
    let after = after.as_millisecond() as f64 / 1000.0;
    let view = service.view();
    let events = view["events"].as_array().unwrap().iter().rev();
    events
        .map(|e| (e["createdAt"].as_f64().unwrap() - after, e["message"].as_str().unwrap().to_owned()))
        .filter(|(at, _)| *at >= 0.0)
        .collect()
}

/// A message with ids, ARNs and numbers replaced, and without the reason of a task that did not start.
pub(crate) fn shape(message: &str) -> String {
    let message = message.split_once(" Reason: ").map_or(message, |(message, _)| message);
    let word = |word: &str| {
        let core = word.trim_matches(|c: char| !c.is_ascii_alphanumeric());
        let is_id = core.len() >= 3 && core.bytes().all(|b| b.is_ascii_hexdigit());
        let replaced = if core.is_empty() {
            return word.to_owned();
        } else if core.starts_with("arn:") {
            "<arn>"
        } else if core.starts_with("ecs-svc/") {
            "<deployment>"
        } else if core.bytes().all(|b| b.is_ascii_digit())
            || (is_id && core.bytes().any(|b| b.is_ascii_digit()))
        {
            "<n>"
        } else {
            return word.to_owned();
        };
        word.replacen(core, replaced, 1)
    };
    message.split(' ').map(word).collect::<Vec<_>>().join(" ")
}
