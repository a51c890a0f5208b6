//! The outcome of a task, determined when it starts: from its secrets, its images and their behaviours.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;

use super::{
    secret,
    task::{Failure, Launch, Target, Task},
    world::World,
};
use crate::{
    aws::wire::text,
    runtime::{Behaviour, Pulled},
};

/// The time until failing health checks make a task unhealthy.
const UNHEALTHY: Duration = Duration::from_secs(10);

impl Task {
    pub(super) fn plan(&mut self, world: &World<'_>, launch: Launch<'_>) {
        let never = |task: &mut Task, at: Timestamp, reason: String| {
            task.started = at;
            task.fail(at, Failure::NotStarted, "TaskFailedToStart", reason);
        };
        if let Some(reason) = secret::failure(world, &self.definition, launch.platform) {
            return never(self, self.pulling, reason);
        }
        let definition = Arc::clone(&self.definition);
        let mut pulls = Vec::new();
        for (at, spec) in definition.containers().iter().enumerate() {
            let image = text(spec, "image");
            match world.runtime.pull(image, "linux", definition.architecture()) {
                Ok(pulled) => {
                    self.containers[at].digest = Some(pulled.digest.clone());
                    pulls.push((at, pulled));
                }
                Err(error) => {
                    let failure = launch.platform.cannot_pull(image, error, definition.architecture());
                    self.containers[at].reason = Some(failure.container);
                    return never(self, self.pulling + launch.delays.failing_pull, failure.task);
                }
            }
        }
        let mut healthy = Some(self.started);
        for (at, pulled) in pulls {
            self.run(at, &pulled, launch.target, &mut healthy);
        }
        self.healthy = healthy;
    }

    /// The outcome of container `at` after its start. Of several that fail, the first stops the task.
    ///
    /// `healthy` is when the task is healthy. A container without a health check, by itself or by the load balancer, is
    /// healthy as soon as it runs, also if it exits seconds later.
    fn run(&mut self, at: usize, pulled: &Pulled, target: Option<&Target>, healthy: &mut Option<Timestamp>) {
        let spec = self.definition.containers()[at].clone();
        if spec["essential"] == false {
            return;
        }
        let target = target.filter(|target| target.container == text(&spec, "name"));
        let checked = self.containers[at].checked;
        let mut healthy_after = |started: Timestamp, after: Option<Duration>| {
            if checked || target.is_some() {
                let time = after.map(|after| started + after);
                *healthy = healthy.zip(time).map(|(others, this)| others.max(this));
            }
        };
        match &pulled.behaviour {
            Behaviour::Healthy(after) => healthy_after(self.started, Some(*after)),
            Behaviour::Exits { after, code, log } => {
                healthy_after(self.started, None);
                self.containers[at].log.clone_from(log);
                self.exit(at, *after, *code, None);
            }
            Behaviour::HealthyThenExits { healthy, exits, code, log } => {
                healthy_after(self.started, Some(*healthy));
                self.containers[at].log.clone_from(log);
                self.exit(at, *exits, *code, None);
            }
            Behaviour::OutOfMemory(after) => {
                healthy_after(self.started, None);
                let reason = "OutOfMemoryError: Container killed due to memory usage";
                self.exit(at, *after, 137, Some(reason));
            }
            Behaviour::Unhealthy(message) => {
                healthy_after(self.started, None);
                let (failure, reason) = match (target, checked) {
                    (_, true) => (Failure::Unhealthy, "Task failed container health checks".to_owned()),
                    (Some(target), false) => (
                        Failure::Unreachable(health_checks_failed(message)),
                        format!("Task failed ELB health checks in (target-group {})", target.group),
                    ),
                    (None, false) => return,
                };
                if self.stop.is_none() {
                    self.containers.iter_mut().for_each(|c| c.exit = Some(143));
                    self.fail(self.started + UNHEALTHY, failure, "ServiceSchedulerInitiated", reason);
                }
            }
        }
    }

    /// Container `at` exits this long after its start, unless the task stops before.
    fn exit(&mut self, at: usize, after: Duration, code: i32, reason: Option<&str>) {
        let ends = self.started + after;
        if self.stop.as_ref().is_none_or(|stop| ends < stop.at) {
            self.containers.iter_mut().for_each(|c| (c.exit, c.reason) = (Some(143), None));
            self.containers[at].exit = Some(code);
            self.containers[at].reason = reason.map(str::to_owned);
            let reason = "Essential container in task exited".to_owned();
            self.fail(ends, Failure::Exited, "EssentialContainerExited", reason);
        }
    }
}

/// The load balancer's reason, with the HTTP status if the message of the health check has one.
fn health_checks_failed(message: &str) -> String {
    let status = message.split_whitespace().find(|word| word.len() == 3 && word.parse::<u16>().is_ok());
    match status {
        Some(status) => format!("Health checks failed with these codes: [{status}]"),
        None => "Health checks failed".to_owned(),
    }
}
