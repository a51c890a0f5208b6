//! The outcome of a task, determined when it starts: from its secrets, its images and their behaviours.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use serde_json::Value;

use super::{
    secret,
    task::{PROVISIONING, Task},
    world::World,
};
use crate::{
    aws::wire::text,
    runtime::{Behaviour, PullError, Pulled},
};

/// The time until failing health checks make a task unhealthy.
const UNHEALTHY: Duration = Duration::from_secs(10);

impl Task {
    pub(super) fn plan(&mut self, world: &World<'_>, target_group: Option<&str>) {
        if let Some(reason) = secret::failure(world, &self.definition) {
            return self.fail(self.created + PROVISIONING, "TaskFailedToStart", reason);
        }
        let definition = Arc::clone(&self.definition);
        let mut pulls = Vec::new();
        for (at, spec) in definition.containers().iter().enumerate() {
            match world.runtime.pull(text(spec, "image"), "linux", definition.architecture()) {
                Ok(pulled) => {
                    self.containers[at].digest = Some(pulled.digest.clone());
                    pulls.push((at, pulled));
                }
                Err(error) => {
                    let reason = cannot_pull(text(spec, "image"), error, definition.architecture());
                    self.containers[at].reason = Some(reason.clone());
                    return self.fail(self.started, "TaskFailedToStart", reason);
                }
            }
        }
        let mut healthy = self.started;
        for (at, pulled) in pulls {
            self.run(at, &pulled, target_group, &mut healthy);
        }
        if !self.fails {
            self.healthy = Some(healthy);
        }
    }

    /// The outcome of container `at` after its start. Of several that fail, the first stops the task.
    fn run(&mut self, at: usize, pulled: &Pulled, target_group: Option<&str>, healthy: &mut Timestamp) {
        let spec = self.definition.containers()[at].clone();
        if spec["essential"] == false {
            return;
        }
        let exits = |task: &mut Task, after: Duration, code: i32, reason: Option<&str>| {
            let ends = task.started + after;
            if task.stop.as_ref().is_none_or(|stop| ends < stop.at) {
                task.containers.iter_mut().for_each(|c| (c.exit, c.reason) = (Some(143), None));
                task.containers[at].exit = Some(code);
                task.containers[at].reason = reason.map(str::to_owned);
                let reason = "Essential container in task exited".to_owned();
                task.fail(ends, "EssentialContainerExited", reason);
            }
        };
        match &pulled.behaviour {
            Behaviour::Healthy(after) => *healthy = (*healthy).max(self.started + *after),
            Behaviour::Exits { after, code, log } => {
                self.containers[at].log.clone_from(log);
                exits(self, *after, *code, None);
            }
            Behaviour::HealthyThenExits { healthy: after, exits: ends, code, log } => {
                self.containers[at].log.clone_from(log);
                exits(self, *ends, *code, None);
                self.healthy = Some(self.started + *after);
            }
            Behaviour::OutOfMemory(after) => {
                let reason = "OutOfMemoryError: Container killed due to memory usage";
                exits(self, *after, 137, Some(reason));
            }
            Behaviour::Unhealthy(_) => {
                let reason = match (target_group, self.containers[at].checked) {
                    (_, true) => "Task failed container health checks".to_owned(),
                    (Some(group), _) => format!("Task failed ELB health checks in (target-group {group})"),
                    // Without a health check the scheduler considers it healthy.
                    (None, false) => return,
                };
                if self.stop.is_none() {
                    self.containers.iter_mut().for_each(|c| c.exit = Some(143));
                    self.fail(self.started + UNHEALTHY, "ServiceSchedulerInitiated", reason);
                }
            }
        }
    }
}

/// Fargate's message for a failed pull.
fn cannot_pull(image: &str, error: PullError, architecture: &str) -> String {
    match error {
        PullError::NotFound => format!(
            "CannotPullContainerError: pull image manifest has been retried 7 time(s): failed to resolve ref \
             {image}: {image}: not found"
        ),
        PullError::NoPlatform => format!(
            "CannotPullContainerError: pull image manifest has been retried 7 time(s): image Manifest does not \
             contain descriptor matching platform 'linux/{architecture}'"
        ),
        PullError::Malformed => format!("CannotPullContainerError: invalid reference format: {image}"),
    }
}
