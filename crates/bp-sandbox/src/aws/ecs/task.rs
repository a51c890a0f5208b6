//! Tasks: the outcome of a task is determined when it starts, and becomes visible as time passes.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use serde_json::Value;

use super::{definition::Definition, names::hex_id, world::World};
use crate::aws::wire::text;

/// Delays of the platform.
pub(super) const PROVISIONING: Duration = Duration::from_secs(4);
const PULLING: Duration = Duration::from_secs(3);
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
    /// The time when it is running, unless it stops before.
    pub(super) started: Timestamp,
    /// The time when the scheduler considers it healthy, if ever.
    pub(super) healthy: Option<Timestamp>,
    /// The time and reason of its stop, if determined.
    pub(super) stop: Option<Stop>,
    /// Whether the stop counts as a failure.
    pub(super) fails: bool,
    /// Whether the scheduler has counted its failure.
    pub(super) counted: bool,
    pub(super) containers: Vec<Container>,
}

impl Task {
    /// Starts a task: pulls images, reads secrets and determines the outcome.
    pub(super) fn start(
        world: &World<'_>,
        cluster: &str,
        deployment: u64,
        definition: &Arc<Definition>,
        target_group: Option<&str>,
        now: Timestamp,
    ) -> Task {
        let id = hex_id();
        let mut task = Task {
            arn: world.place.arn(&format!("task/{cluster}/{id}")),
            id,
            deployment,
            definition: Arc::clone(definition),
            created: now,
            started: now + PROVISIONING + PULLING,
            healthy: None,
            stop: None,
            fails: false,
            counted: false,
            containers: definition.containers().iter().map(Container::of).collect(),
        };
        task.plan(world, target_group);
        task
    }

    /// A task that has been running for a while.
    pub(super) fn steady(mut self, now: Timestamp) -> Task {
        if !self.fails {
            (self.started, self.healthy) = (now, Some(now));
        }
        self
    }

    pub(super) fn fail(&mut self, at: Timestamp, code: &'static str, reason: String) {
        self.fails = true;
        self.stop = Some(Stop { at, done: at + STOPPING, code, reason });
    }

    /// Stops it, on behalf of the scheduler or a caller.
    pub(super) fn stop_now(&mut self, now: Timestamp, code: &'static str, reason: String) {
        if self.stop.as_ref().is_some_and(|stop| stop.at <= now) {
            return;
        }
        self.fails = false;
        for container in &mut self.containers {
            container.exit = (self.started <= now).then_some(143);
            container.reason = None;
        }
        self.stop = Some(Stop { at: now, done: now + STOPPING, code, reason });
    }

    /// Schedules a stop by the scheduler, unless it stops before.
    pub(super) fn stop_at(&mut self, at: Timestamp, code: &'static str, reason: String) {
        if self.stop.as_ref().is_none_or(|stop| stop.at > at) {
            self.fails = false;
            self.containers.iter_mut().for_each(|c| (c.exit, c.reason) = (Some(143), None));
            self.stop = Some(Stop { at, done: at + STOPPING, code, reason });
        }
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
        [Some(self.started), self.healthy].into_iter().flatten().chain(stop)
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
