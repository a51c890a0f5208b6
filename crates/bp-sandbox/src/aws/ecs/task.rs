//! Tasks: the outcome of a task is determined when it starts, and becomes visible as time passes.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    definition::Definition,
    names::{Place, epoch, hex_id},
    secret,
    world::World,
};
use crate::{
    aws::wire::text,
    runtime::{Behaviour, PullError, Pulled},
};

/// Delays of the platform.
const PROVISIONING: Duration = Duration::from_secs(4);
const PULLING: Duration = Duration::from_secs(3);
const STOPPING: Duration = Duration::from_secs(3);
/// The time until failing health checks make a task unhealthy.
const UNHEALTHY: Duration = Duration::from_secs(10);
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
struct Container {
    name: String,
    image: String,
    digest: Option<String>,
    checked: bool,
    /// Exit code and reason once the task has stopped.
    exit: Option<i32>,
    reason: Option<String>,
    /// The log lines that it writes before it ends.
    log: Vec<String>,
}

/// One task.
#[derive(Debug, Clone)]
pub(super) struct Task {
    id: String,
    pub(super) arn: String,
    /// The deployment that started it.
    pub(super) deployment: u64,
    definition: Arc<Definition>,
    created: Timestamp,
    /// The time when it is running, unless it stops before.
    started: Timestamp,
    /// The time when the scheduler considers it healthy, if ever.
    healthy: Option<Timestamp>,
    /// The time and reason of its stop, if determined.
    pub(super) stop: Option<Stop>,
    /// Whether the stop counts as a failure.
    pub(super) fails: bool,
    /// Whether the scheduler has counted its failure.
    pub(super) counted: bool,
    containers: Vec<Container>,
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

    fn plan(&mut self, world: &World<'_>, target_group: Option<&str>) {
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

    fn fail(&mut self, at: Timestamp, code: &'static str, reason: String) {
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

    fn status(&self, now: Timestamp) -> &'static str {
        match now {
            now if self.is_stopped(now) => "STOPPED",
            now if self.is_stopping(now) => "DEPROVISIONING",
            now if now >= self.started => "RUNNING",
            now if now >= self.created + PROVISIONING => "PENDING",
            _ => "PROVISIONING",
        }
    }

    fn health(&self, now: Timestamp, checked: bool) -> &'static str {
        match checked {
            true if self.is_healthy(now) => "HEALTHY",
            true if self.is_stopping(now) && self.fails => "UNHEALTHY",
            _ => "UNKNOWN",
        }
    }

    /// The API's view.
    pub(super) fn view(&self, place: &Place, cluster: &str, service: &str, now: Timestamp) -> Value {
        let status = self.status(now);
        let stopped = self.is_stopped(now);
        let container_status = match status {
            "STOPPED" | "RUNNING" => status,
            "DEPROVISIONING" => "STOPPED",
            _ => "PENDING",
        };
        let containers: Vec<Value> = self
            .containers
            .iter()
            .map(|container| {
                let mut view = json!({
                    "containerArn": place.arn(&format!("container/{cluster}/{}/{}", self.id, container.name)),
                    "taskArn": self.arn,
                    "name": container.name,
                    "image": container.image,
                    "lastStatus": container_status,
                    "networkInterfaces": [],
                    "healthStatus": self.health(now, container.checked),
                    "cpu": "0",
                });
                if now >= self.started
                    && let Some(digest) = &container.digest
                {
                    view["imageDigest"] = json!(digest);
                    view["runtimeId"] = json!(format!("{}-{}", self.id, container.name));
                }
                if self.is_stopping(now) {
                    view["exitCode"] = json!(container.exit);
                    view["reason"] = json!(container.reason);
                    prune(&mut view);
                }
                view
            })
            .collect();
        let checked = self.containers.iter().any(|c| c.checked);
        let mut view = json!({
            "taskArn": self.arn,
            "clusterArn": place.arn(&format!("cluster/{cluster}")),
            "taskDefinitionArn": self.definition.arn,
            "containers": containers,
            "attachments": [],
            "attributes": [],
            "overrides": { "containerOverrides": [], "inferenceAcceleratorOverrides": [] },
            "tags": [],
            "cpu": self.definition.view["cpu"],
            "memory": self.definition.view["memory"],
            "createdAt": epoch(self.created),
            "pullStartedAt": (now >= self.created + PROVISIONING).then(|| epoch(self.created + PROVISIONING)),
            "startedAt": (now >= self.started && self.exited_after_start()).then(|| epoch(self.started)),
            "startedBy": format!("ecs-svc/{}", self.deployment),
            "group": format!("service:{service}"),
            "launchType": "FARGATE",
            "platformVersion": "1.4.0",
            "platformFamily": "Linux",
            "availabilityZone": format!("{}a", place.region),
            "connectivity": "CONNECTED",
            "enableExecuteCommand": false,
            "healthStatus": self.health(now, checked),
            "desiredStatus": if self.is_stopping(now) { "STOPPED" } else { "RUNNING" },
            "lastStatus": status,
            "version": 1 + self.turns().filter(|at| *at <= now).count(),
        });
        if let Some(stop) = self.stop.as_ref().filter(|stop| stop.at <= now) {
            view["stopCode"] = json!(stop.code);
            view["stoppedReason"] = json!(stop.reason);
            view["stoppingAt"] = epoch(stop.at);
            view["executionStoppedAt"] = epoch(stop.at);
            view["stoppedAt"] = json!(stopped.then(|| epoch(stop.done)));
        }
        prune(&mut view);
        view
    }

    fn exited_after_start(&self) -> bool {
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

/// Removes members without a value, which the API omits.
pub(super) fn prune(view: &mut Value) {
    if let Some(map) = view.as_object_mut() {
        map.retain(|_, value| !value.is_null());
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
