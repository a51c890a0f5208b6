//! Simulated container lifecycle: image pull, start, probes, termination, restarts and back-off.

use std::{collections::VecDeque, time::Duration};

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    run::{ContainerRun, Phase},
    store::Key,
    world::World,
};
use crate::runtime::{Behaviour, PullError};

const PULL: Duration = Duration::from_secs(1);
const FIRST_BACK_OFF: Duration = Duration::from_secs(10);
const LONGEST_BACK_OFF: Duration = Duration::from_secs(300);

/// A Kubernetes event about the pod of a container.
pub(super) struct PodEvent {
    pub(super) kind: &'static str,
    pub(super) reason: &'static str,
    pub(super) message: String,
}

impl PodEvent {
    pub(super) fn normal(reason: &'static str, message: impl Into<String>) -> Self {
        PodEvent { kind: "Normal", reason, message: message.into() }
    }

    pub(super) fn warning(reason: &'static str, message: impl Into<String>) -> Self {
        PodEvent { kind: "Warning", reason, message: message.into() }
    }
}

impl ContainerRun {
    /// Performs the due transition.
    pub(super) fn step(&mut self, world: &World, pod: &Value, events: &mut VecDeque<PodEvent>) {
        let now = world.now;
        match self.phase.clone() {
            Phase::Blocked => {}
            Phase::Creating(_) => {
                events.push_back(PodEvent::normal("Pulling", format!("Pulling image {:?}", self.image())));
                self.phase = Phase::Pulling(now + PULL);
            }
            Phase::Pulling(_) => self.pull(world, pod, events),
            Phase::Waiting { reason: reason @ ("ErrImagePull" | "ImagePullBackOff"), message, .. } => {
                self.retry_pull(reason, &message, now, events);
            }
            Phase::Waiting { .. } | Phase::BackOff { .. } => self.start(world, pod, events),
            Phase::Running { since, .. } => self.run(since, pod, now, events),
            Phase::Ended { .. } => self.restart(pod, world, events),
        }
    }

    fn pull(&mut self, world: &World, pod: &Value, events: &mut VecDeque<PodEvent>) {
        let (image, now) = (self.image().to_owned(), world.now);
        let host = image.split('/').next().unwrap_or_default();
        let pulled = if world.denied_pulls.contains(host) {
            Err(denied(&image))
        } else {
            world.runtime.pull(&image, "linux", &world.architecture).map_err(|e| refusal(&image, e))
        };
        match pulled {
            Ok(pulled) => {
                let message = format!("Successfully pulled image {image:?} in 1s (1s including waiting).");
                events.push_back(PodEvent::normal("Pulled", message));
                self.pulled = Some(pulled);
                self.start(world, pod, events);
            }
            Err((reason @ "InvalidImageName", message)) => {
                events.push_back(PodEvent::warning("InspectFailed", message.clone()));
                events.push_back(PodEvent::warning("Failed", format!("Error: {reason}")));
                self.phase = Phase::Waiting { reason, message, again: now + FIRST_BACK_OFF };
            }
            Err((reason, message)) => {
                events.push_back(PodEvent::warning(
                    "Failed",
                    format!("Failed to pull image {image:?}: {message}"),
                ));
                events.push_back(PodEvent::warning("Failed", format!("Error: {reason}")));
                self.failed_pulls += 1;
                self.phase = Phase::Waiting { reason, message, again: now + PULL };
            }
        }
    }

    /// `ErrImagePull` becomes `ImagePullBackOff`, which is followed by the next attempt.
    fn retry_pull(&mut self, reason: &str, message: &str, now: Timestamp, events: &mut VecDeque<PodEvent>) {
        let image = self.image();
        if reason == "ImagePullBackOff" {
            self.phase = Phase::Creating(now);
            return;
        }
        events.push_back(PodEvent::normal("BackOff", format!("Back-off pulling image {image:?}")));
        events.push_back(PodEvent::warning("Failed", "Error: ImagePullBackOff"));
        self.phase = Phase::Waiting {
            reason: "ImagePullBackOff",
            message: format!("Back-off pulling image {image:?}: ErrImagePull: {message}"),
            again: now + back_off(self.failed_pulls),
        };
    }

    fn start(&mut self, world: &World, pod: &Value, events: &mut VecDeque<PodEvent>) {
        let now = world.now;
        if self.pulled.is_none() {
            self.phase = Phase::Creating(now);
            return;
        }
        if let Some(message) = self.missing_configuration(world, pod) {
            events.push_back(PodEvent::warning("Failed", format!("Error: {message}")));
            let again = now + FIRST_BACK_OFF;
            self.phase = Phase::Waiting { reason: "CreateContainerConfigError", message, again };
            return;
        }
        events.push_back(PodEvent::normal("Created", format!("Container created: {}", self.name())));
        events.push_back(PodEvent::normal("Started", format!("Container started: {}", self.name())));
        self.failed_probes = 0;
        self.log = Vec::new();
        self.ready = !self.init && self.spec["readinessProbe"].is_null();
        let next = match self.behaviour() {
            Behaviour::Healthy(after)
            | Behaviour::OutOfMemory(after)
            | Behaviour::Exits { after, .. }
            | Behaviour::HealthyThenExits { healthy: after, .. } => Some(now + after),
            Behaviour::Unhealthy(_) => self.probe_period().map(|period| now + period),
        };
        self.phase = Phase::Running { since: now, next };
    }

    fn behaviour(&self) -> Behaviour {
        self.pulled.as_ref().map(|p| p.behaviour.clone()).unwrap_or_default()
    }

    /// The period of the first probe, if any.
    fn probe_period(&self) -> Option<Duration> {
        let probe = ["livenessProbe", "readinessProbe"].into_iter().map(|p| &self.spec[p]);
        let probe = probe.into_iter().find(|probe| !probe.is_null())?;
        Some(Duration::from_secs(probe["periodSeconds"].as_u64().unwrap_or(10).max(1)))
    }

    /// Performs the next event of a running container's script or probe.
    fn run(&mut self, since: Timestamp, pod: &Value, now: Timestamp, events: &mut VecDeque<PodEvent>) {
        match self.behaviour() {
            Behaviour::Healthy(_) if self.init && !self.is_sidecar() => {
                self.end(0, "Completed", since, pod, now, events);
            }
            Behaviour::Healthy(_) => {
                self.ready = true;
                self.phase = Phase::Running { since, next: None };
            }
            Behaviour::HealthyThenExits { exits, .. } if now < since + exits => {
                self.ready = true;
                self.phase = Phase::Running { since, next: Some(since + exits) };
            }
            Behaviour::Exits { code, log, .. } | Behaviour::HealthyThenExits { code, log, .. } => {
                log.into_iter().for_each(|line| self.write(now, line));
                let reason = if code == 0 { "Completed" } else { "Error" };
                self.end(code, reason, since, pod, now, events);
            }
            Behaviour::OutOfMemory(_) => self.end(137, "OOMKilled", since, pod, now, events),
            Behaviour::Unhealthy(message) => self.probe(&message, since, pod, now, events),
        }
    }

    fn probe(
        &mut self,
        message: &str,
        since: Timestamp,
        pod: &Value,
        now: Timestamp,
        events: &mut VecDeque<PodEvent>,
    ) {
        self.failed_probes += 1;
        if !self.spec["readinessProbe"].is_null() {
            events.push_back(PodEvent::warning("Unhealthy", format!("Readiness probe failed: {message}")));
        }
        let liveness = &self.spec["livenessProbe"];
        if !liveness.is_null() {
            events.push_back(PodEvent::warning("Unhealthy", format!("Liveness probe failed: {message}")));
            if u64::from(self.failed_probes) >= liveness["failureThreshold"].as_u64().unwrap_or(3) {
                let message = format!("Container {} failed liveness probe, will be restarted", self.name());
                events.push_back(PodEvent::normal("Killing", message));
                self.end(137, "Error", since, pod, now, events);
                return;
            }
        }
        self.phase = Phase::Running { since, next: self.probe_period().map(|period| now + period) };
    }

    fn end(
        &mut self,
        code: i32,
        reason: &'static str,
        since: Timestamp,
        pod: &Value,
        now: Timestamp,
        events: &mut VecDeque<PodEvent>,
    ) {
        self.ready = false;
        let policy = pod["spec"]["restartPolicy"].as_str().unwrap_or("Always");
        let restarts = match (policy, code) {
            _ if self.init && !self.is_sidecar() => code != 0 && policy != "Never",
            ("Always", _) => true,
            ("OnFailure", code) => code != 0,
            _ => false,
        };
        let again = restarts.then(|| now + Duration::from_secs(1));
        if restarts && self.restarts > 0 {
            let message =
                format!("Back-off restarting failed container {} in pod {}", self.name(), pod_id(pod));
            events.push_back(PodEvent::warning("BackOff", message));
        }
        self.phase = Phase::Ended { code, reason, since, at: now, again };
    }

    /// Restarts the container: immediately the first time, with back-off afterwards.
    fn restart(&mut self, pod: &Value, world: &World, events: &mut VecDeque<PodEvent>) {
        self.last = json!({ "terminated": self.terminated() });
        self.previous_log = Some(std::mem::take(&mut self.log));
        self.restarts += 1;
        if self.restarts == 1 {
            self.start(world, pod, events);
            return;
        }
        let pause = back_off(self.restarts - 1);
        let message = format!(
            "back-off {} restarting failed container={} pod={}",
            go_duration(pause),
            self.name(),
            pod_id(pod)
        );
        self.phase = Phase::BackOff { message, again: world.now + pause };
    }

    /// The message for the first missing Secret, ConfigMap or key that the environment refers to.
    fn missing_configuration(&self, world: &World, pod: &Value) -> Option<String> {
        let namespace = pod["metadata"]["namespace"].as_str().unwrap_or_default();
        let missing = |plural: &'static str, kind: &str, reference: &Value| {
            if reference["optional"] == true {
                return None;
            }
            let name = reference["name"].as_str()?;
            match (world.store.get(&Key::new(plural, namespace, name)), reference["key"].as_str()) {
                (None, _) => Some(format!("{} {name:?} not found", kind.to_lowercase())),
                (Some(object), Some(key)) if object["data"][key].is_null() => {
                    Some(format!("couldn't find key {key} in {kind} {namespace}/{name}"))
                }
                _ => None,
            }
        };
        let env = self.spec["env"].as_array().into_iter().flatten().map(|e| {
            let from = &e["valueFrom"];
            missing("secrets", "Secret", &from["secretKeyRef"])
                .or_else(|| missing("configmaps", "ConfigMap", &from["configMapKeyRef"]))
        });
        let all = self.spec["envFrom"].as_array().into_iter().flatten().map(|e| {
            missing("secrets", "Secret", &e["secretRef"])
                .or_else(|| missing("configmaps", "ConfigMap", &e["configMapRef"]))
        });
        env.chain(all).flatten().next()
    }
}

/// The kubelet's reason and containerd's message for a failed pull.
fn refusal(image: &str, error: PullError) -> (&'static str, String) {
    let resolving = format!(
        "rpc error: code = NotFound desc = failed to pull and unpack image {image:?}: \
         failed to resolve reference {image:?}: {image}: not found"
    );
    #[allow(unreachable_patterns, reason = "for kinds of errors that are added later")]
    match error {
        PullError::NotFound => ("ErrImagePull", resolving),
        PullError::NoPlatform => (
            "ErrImagePull",
            format!(
                "rpc error: code = NotFound desc = failed to pull and unpack image {image:?}: \
                 no match for platform in manifest: not found"
            ),
        ),
        PullError::Malformed => (
            "InvalidImageName",
            format!(
                "Failed to apply default image tag {image:?}: couldn't parse image name {image:?}: \
                 invalid reference format"
            ),
        ),
        _ => ("ErrImagePull", resolving),
    }
}

fn denied(image: &str) -> (&'static str, String) {
    let host = image.split('/').next().unwrap_or_default();
    let message = format!(
        "rpc error: code = Unknown desc = failed to pull and unpack image {image:?}: failed to resolve reference \
         {image:?}: unexpected status from HEAD request to https://{host}/v2/: 403 Forbidden"
    );
    ("ErrImagePull", message)
}

/// 10 s, 20 s, 40 s, … up to five minutes.
fn back_off(failures: u32) -> Duration {
    FIRST_BACK_OFF.saturating_mul(1 << failures.saturating_sub(1).min(8)).min(LONGEST_BACK_OFF)
}

/// A duration in Go format: `10s`, `1m20s`.
fn go_duration(time: Duration) -> String {
    match (time.as_secs() / 60, time.as_secs() % 60) {
        (0, seconds) => format!("{seconds}s"),
        (minutes, seconds) => format!("{minutes}m{seconds}s"),
    }
}

/// A pod in the kubelet's format: `web-abc_shop(<uid>)`.
fn pod_id(pod: &Value) -> String {
    let text = |field: &str| pod["metadata"][field].as_str().unwrap_or_default().to_owned();
    format!("{}_{}({})", text("name"), text("namespace"), text("uid"))
}
