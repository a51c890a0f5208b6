//! Tasks: the outcome of a task is determined when it starts, and becomes visible as time passes.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use serde_json::Value;

use super::{
    definition::Definition,
    injected::{Injected, InjectedContainer},
    names::hex_id,
    pace::Delays,
    platform::Platform,
    world::World,
};
use crate::aws::wire::text;

/// From the beginning of a stop until the task has stopped.
const STOPPING: Duration = Duration::from_secs(3);
/// How long a stopped task is still described.
const REMEMBERED: Duration = Duration::from_secs(3600);

/// The time and reason of a task's stop.
#[derive(Debug, Clone)]
pub(super) struct Stop {
    /// When stopping begins.
    pub(super) at: Timestamp,
    /// When it has stopped.
    pub(super) done: Timestamp,
    pub(super) code: &'static str,
    pub(super) reason: String,
}

/// How a task failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Failure {
    /// It did not start.
    NotStarted,
    /// An essential container exited.
    Exited,
    /// A container's health check failed.
    Unhealthy,
    /// The health check of the load balancer failed, for this reason.
    Unreachable(String),
}

/// The target of a load balancer: a port of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    /// The ARN of the target group.
    pub(super) group: String,
    pub(super) container: String,
    pub(super) port: u64,
}

/// What determines the tasks of a deployment.
#[derive(Debug, Clone, Copy)]
pub(super) struct Launch<'a> {
    pub(super) cluster: &'a str,
    pub(super) deployment: u64,
    pub(super) definition: &'a Arc<Definition>,
    pub(super) platform: Platform,
    pub(super) target: Option<&'a Target>,
    pub(super) injected: &'a [InjectedContainer],
    pub(super) delays: Delays,
}

/// One container of a task.
#[derive(Debug, Clone)]
pub(super) struct Container {
    pub(super) name: String,
    pub(super) image: String,
    pub(super) digest: Option<String>,
    pub(super) checked: bool,
    /// Exit code and reason once the task has stopped.
    pub(super) exit: Option<i32>,
    pub(super) reason: Option<String>,
    /// The log lines that it writes before it ends.
    pub(super) log: Vec<String>,
}

/// One task.
#[derive(Debug, Clone)]
pub(super) struct Task {
    pub(super) id: String,
    pub(super) arn: String,
    /// The deployment that started it.
    pub(super) deployment: u64,
    pub(super) definition: Arc<Definition>,
    pub(super) created: Timestamp,
    /// When the pull of its images begins.
    pub(super) pulling: Timestamp,
    /// The time when it is running, unless it stops before.
    pub(super) started: Timestamp,
    /// The time when the scheduler considers it healthy, if ever.
    pub(super) healthy: Option<Timestamp>,
    /// The time and reason of its stop, if determined.
    pub(super) stop: Option<Stop>,
    /// How it fails, unless it is stopped before.
    pub(super) failure: Option<Failure>,
    /// Whether the scheduler has seen its failure.
    pub(super) reported: bool,
    /// When its failure is counted.
    pub(super) counts_at: Option<Timestamp>,
    /// Whether it was registered with the load balancer.
    pub(super) registered: bool,
    pub(super) containers: Vec<Container>,
    /// Containers that AWS added.
    pub(super) injected: Vec<Injected>,
}

impl Task {
    /// Starts a task: pulls images, reads secrets and determines the outcome.
    pub(super) fn start(world: &World<'_>, launch: Launch<'_>, now: Timestamp) -> Task {
        let id = hex_id();
        let pulling = now + launch.delays.provisioning;
        let mut task = Task {
            arn: world.place.arn(&format!("task/{}/{id}", launch.cluster)),
            id,
            deployment: launch.deployment,
            definition: Arc::clone(launch.definition),
            created: now,
            pulling,
            started: pulling + launch.delays.pulling,
            healthy: None,
            stop: None,
            failure: None,
            reported: false,
            counts_at: None,
            registered: false,
            containers: launch.definition.containers().iter().map(Container::of).collect(),
            injected: launch.injected.iter().map(InjectedContainer::add).collect(),
        };
        task.plan(world, launch);
        task
    }

    /// A task that has been running for a while.
    pub(super) fn steady(mut self, now: Timestamp) -> Task {
        if self.failure.is_none() {
            (self.started, self.healthy) = (now, Some(now));
        }
        self
    }

    pub(super) fn fail(&mut self, at: Timestamp, failure: Failure, code: &'static str, reason: String) {
        self.failure = Some(failure);
        self.stop = Some(Stop { at, done: at + STOPPING, code, reason });
    }

    /// Stops it, on behalf of the scheduler or a caller.
    pub(super) fn stop_now(&mut self, now: Timestamp, code: &'static str, reason: String) {
        if self.stop.as_ref().is_some_and(|stop| stop.at <= now) {
            return;
        }
        self.failure = None;
        for container in &mut self.containers {
            container.exit = (self.started <= now).then_some(143);
            container.reason = None;
        }
        self.stop = Some(Stop { at: now, done: now + STOPPING, code, reason });
    }

    pub(super) fn is_running(&self, now: Timestamp) -> bool {
        self.started <= now && !self.is_stopping(now)
    }

    pub(super) fn is_pending(&self, now: Timestamp) -> bool {
        self.started > now && !self.is_stopping(now)
    }

    pub(super) fn is_healthy(&self, now: Timestamp) -> bool {
        self.is_running(now) && self.healthy.is_some_and(|at| at <= now)
    }

    /// Whether it was healthy before it stopped.
    pub(super) fn was_healthy(&self) -> bool {
        let stop = self.stop.as_ref().map(|stop| stop.at);
        self.healthy.is_some_and(|healthy| stop.is_none_or(|stop| healthy < stop))
    }

    pub(super) fn is_stopping(&self, now: Timestamp) -> bool {
        self.stop.as_ref().is_some_and(|stop| stop.at <= now)
    }

    pub(super) fn is_stopped(&self, now: Timestamp) -> bool {
        self.stop.as_ref().is_some_and(|stop| stop.done <= now)
    }

    pub(super) fn is_forgotten(&self, now: Timestamp) -> bool {
        self.stop.as_ref().is_some_and(|stop| stop.done + REMEMBERED <= now)
    }

    /// The times of its transitions.
    pub(super) fn turns(&self) -> impl Iterator<Item = Timestamp> {
        let stop = self.stop.iter().flat_map(|stop| [stop.at, stop.done]);
        [Some(self.started), self.healthy, self.counts_at].into_iter().flatten().chain(stop)
    }

    pub(super) fn id(&self) -> &str {
        &self.id
    }

    pub(super) fn definition(&self) -> &Definition {
        &self.definition
    }

    /// The names, images and digests of its containers.
    pub(super) fn images(&self) -> impl Iterator<Item = (&str, &str, Option<&str>)> {
        self.containers.iter().map(|c| (c.name.as_str(), c.image.as_str(), c.digest.as_deref()))
    }

    /// The lines that a container has written to this log stream, as sent by the `awslogs` driver: empty before it
    /// runs, `None` when no container logs to it.
    pub(super) fn log(&self, group: &str, stream: &str, now: Timestamp) -> Option<Vec<(Timestamp, String)>> {
        let logs_there = |spec: &&Value| {
            let logs = &spec["logConfiguration"];
            let options = &logs["options"];
            let (name, prefix) = (text(spec, "name"), text(options, "awslogs-stream-prefix"));
            logs["logDriver"] == "awslogs"
                && options["awslogs-group"] == group
                && stream == format!("{prefix}/{name}/{}", self.id)
        };
        let spec = self.definition.containers().iter().find(logs_there)?;
        let container = self.containers.iter().find(|c| c.name == text(spec, "name"))?;
        let written = self.exited_after_start() && self.is_stopping(now);
        let at = self.stop.as_ref().map_or(now, |stop| stop.at);
        Some(container.log.iter().filter(|_| written).map(|line| (at, line.clone())).collect())
    }

    pub(super) fn exited_after_start(&self) -> bool {
        self.stop.as_ref().is_none_or(|stop| stop.code != "TaskFailedToStart" && stop.at >= self.started)
    }
}

impl Container {
    fn of(spec: &Value) -> Container {
        Container {
            name: text(spec, "name").to_owned(),
            image: text(spec, "image").to_owned(),
            digest: None,
            checked: spec["healthCheck"].is_object(),
            exit: None,
            reason: None,
            log: Vec::new(),
        }
    }
}
