//! One container on its node: pulled, started, probed, ended, backed off.

use std::{collections::VecDeque, time::Duration};

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    kubelet::Told,
    store::{Key, seconds},
    world::World,
};
use crate::runtime::{Behaviour, PullError, Pulled};

const PULL: Duration = Duration::from_secs(1);
const FIRST_BACK_OFF: Duration = Duration::from_secs(10);
const LONGEST_BACK_OFF: Duration = Duration::from_secs(300);

/// Where a container is in its life, and when it moves on.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Phase {
    /// It may not begin yet: an init container is not done.
    Held,
    /// About to be pulled.
    Creating(Timestamp),
    /// On its way from the registry.
    Pulling(Timestamp),
    /// It cannot be pulled or started, and is tried again.
    Waiting { reason: &'static str, message: String, again: Timestamp },
    /// It runs; `next` is when its script or a probe does something.
    Running { since: Timestamp, next: Option<Timestamp> },
    /// It ended and is started again.
    Ended { code: i32, reason: &'static str, since: Timestamp, at: Timestamp, again: Option<Timestamp> },
    /// It ended too often.
    BackOff { message: String, again: Timestamp },
}

/// A line of a log, and when it was written.
#[derive(Debug, Clone)]
pub(super) struct Line {
    pub(super) at: Timestamp,
    pub(super) text: String,
}

/// A container of a pod.
#[derive(Debug)]
pub(super) struct ContainerRun {
    spec: Value,
    pub(super) init: bool,
    pub(super) phase: Phase,
    pub(super) ready: bool,
    pulled: Option<Pulled>,
    restarts: u32,
    /// The state of the run before this one.
    last: Value,
    /// What this run wrote, and what the run before it wrote.
    log: Vec<Line>,
    previous_log: Option<Vec<Line>>,
    failed_pulls: u32,
    failed_probes: u32,
}

impl ContainerRun {
    pub(super) fn new(spec: Value, init: bool) -> Self {
        ContainerRun {
            spec,
            init,
            phase: Phase::Held,
            ready: false,
            pulled: None,
            restarts: 0,
            last: json!({}),
            log: Vec::new(),
            previous_log: None,
            failed_pulls: 0,
            failed_probes: 0,
        }
    }

    pub(super) fn name(&self) -> &str {
        self.spec["name"].as_str().unwrap_or_default()
    }

    fn image(&self) -> &str {
        self.spec["image"].as_str().unwrap_or_default()
    }

    pub(super) fn due(&self) -> Option<Timestamp> {
        match &self.phase {
            Phase::Held => None,
            Phase::Creating(at) | Phase::Pulling(at) => Some(*at),
            Phase::Waiting { again, .. } | Phase::BackOff { again, .. } => Some(*again),
            Phase::Running { next, .. } => *next,
            Phase::Ended { again, .. } => *again,
        }
    }

    /// Lets it begin.
    pub(super) fn begin(&mut self, now: Timestamp) {
        if self.phase == Phase::Held {
            self.phase = Phase::Creating(now);
        }
    }

    /// Whether the containers behind this init container may begin: it has ended well, or it is a side-car that runs.
    pub(super) fn lets_pass(&self) -> bool {
        match self.phase {
            Phase::Ended { code, .. } => code == 0,
            Phase::Running { .. } => self.is_sidecar(),
            _ => false,
        }
    }

    fn is_sidecar(&self) -> bool {
        self.init && self.spec["restartPolicy"] == "Always"
    }

    pub(super) fn has_started(&self) -> bool {
        self.restarts > 0
            || !matches!(
                self.phase,
                Phase::Held | Phase::Creating(_) | Phase::Pulling(_) | Phase::Waiting { .. }
            )
    }

    /// Lets what is due happen.
    pub(super) fn step(&mut self, world: &World, pod: &Value, told: &mut VecDeque<Told>) {
        let now = world.now;
        match self.phase.clone() {
            Phase::Held => {}
            Phase::Creating(_) => {
                told.push_back(Told::normal("Pulling", format!("Pulling image {:?}", self.image())));
                self.phase = Phase::Pulling(now + PULL);
            }
            Phase::Pulling(_) => self.pull(world, pod, told),
            Phase::Waiting { reason: reason @ ("ErrImagePull" | "ImagePullBackOff"), message, .. } => {
                self.retry_pull(reason, &message, now, told);
            }
            Phase::Waiting { .. } | Phase::BackOff { .. } => self.start(world, pod, told),
            Phase::Running { since, .. } => self.run(since, pod, now, told),
            Phase::Ended { .. } => self.restart(pod, world, told),
        }
    }

    fn pull(&mut self, world: &World, pod: &Value, told: &mut VecDeque<Told>) {
        let (image, now) = (self.image().to_owned(), world.now);
        let host = image.split('/').next().unwrap_or_default();
        let pulled = match world.denied_pulls.contains(host) {
            true => Err(denied(&image)),
            false => world.runtime.pull(&image, "linux", &world.architecture).map_err(|e| refusal(&image, e)),
        };
        match pulled {
            Ok(pulled) => {
                let message = format!("Successfully pulled image {image:?} in 1s (1s including waiting).");
                told.push_back(Told::normal("Pulled", message));
                self.pulled = Some(pulled);
                self.start(world, pod, told);
            }
            Err((reason @ "InvalidImageName", message)) => {
                told.push_back(Told::warning("InspectFailed", message.clone()));
                told.push_back(Told::warning("Failed", format!("Error: {reason}")));
                self.phase = Phase::Waiting { reason, message, again: now + FIRST_BACK_OFF };
            }
            Err((reason, message)) => {
                told.push_back(Told::warning("Failed", format!("Failed to pull image {image:?}: {message}")));
                told.push_back(Told::warning("Failed", format!("Error: {reason}")));
                self.failed_pulls += 1;
                self.phase = Phase::Waiting { reason, message, again: now + PULL };
            }
        }
    }

    /// `ErrImagePull` becomes `ImagePullBackOff`, which is followed by the next attempt.
    fn retry_pull(&mut self, reason: &str, message: &str, now: Timestamp, told: &mut VecDeque<Told>) {
        let image = self.image();
        if reason == "ImagePullBackOff" {
            self.phase = Phase::Creating(now);
            return;
        }
        told.push_back(Told::normal("BackOff", format!("Back-off pulling image {image:?}")));
        told.push_back(Told::warning("Failed", "Error: ImagePullBackOff"));
        self.phase = Phase::Waiting {
            reason: "ImagePullBackOff",
            message: format!("Back-off pulling image {image:?}: ErrImagePull: {message}"),
            again: now + back_off(self.failed_pulls),
        };
    }

    fn start(&mut self, world: &World, pod: &Value, told: &mut VecDeque<Told>) {
        let now = world.now;
        if self.pulled.is_none() {
            self.phase = Phase::Creating(now);
            return;
        }
        if let Some(message) = self.missing_configuration(world, pod) {
            told.push_back(Told::warning("Failed", format!("Error: {message}")));
            let again = now + FIRST_BACK_OFF;
            self.phase = Phase::Waiting { reason: "CreateContainerConfigError", message, again };
            return;
        }
        told.push_back(Told::normal("Created", format!("Container created: {}", self.name())));
        told.push_back(Told::normal("Started", format!("Container started: {}", self.name())));
        self.failed_probes = 0;
        self.log = Vec::new();
        self.ready = !self.init && self.spec["readinessProbe"].is_null();
        let next = match self.behaviour() {
            Behaviour::Healthy(after) | Behaviour::OutOfMemory(after) | Behaviour::Exits { after, .. } => {
                Some(now + after)
            }
            Behaviour::Unhealthy(_) => self.probe_period().map(|period| now + period),
        };
        self.phase = Phase::Running { since: now, next };
    }

    fn behaviour(&self) -> Behaviour {
        self.pulled.as_ref().map(|p| p.behaviour.clone()).unwrap_or_default()
    }

    /// How often a probe looks, if there is one.
    fn probe_period(&self) -> Option<Duration> {
        let probe = ["livenessProbe", "readinessProbe"].into_iter().map(|p| &self.spec[p]);
        let probe = probe.into_iter().find(|probe| !probe.is_null())?;
        Some(Duration::from_secs(probe["periodSeconds"].as_u64().unwrap_or(10).max(1)))
    }

    /// The script or a probe of a running container does something.
    fn run(&mut self, since: Timestamp, pod: &Value, now: Timestamp, told: &mut VecDeque<Told>) {
        match self.behaviour() {
            Behaviour::Healthy(_) if self.init && !self.is_sidecar() => {
                self.end(0, "Completed", since, pod, now, told);
            }
            Behaviour::Healthy(_) => {
                self.ready = true;
                self.phase = Phase::Running { since, next: None };
            }
            Behaviour::Exits { code, log, .. } => {
                log.into_iter().for_each(|line| self.write(now, line));
                let reason = if code == 0 { "Completed" } else { "Error" };
                self.end(code, reason, since, pod, now, told);
            }
            Behaviour::OutOfMemory(_) => self.end(137, "OOMKilled", since, pod, now, told),
            Behaviour::Unhealthy(message) => self.probe(&message, since, pod, now, told),
        }
    }

    fn probe(
        &mut self,
        message: &str,
        since: Timestamp,
        pod: &Value,
        now: Timestamp,
        told: &mut VecDeque<Told>,
    ) {
        self.failed_probes += 1;
        if !self.spec["readinessProbe"].is_null() {
            told.push_back(Told::warning("Unhealthy", format!("Readiness probe failed: {message}")));
        }
        let liveness = &self.spec["livenessProbe"];
        if !liveness.is_null() {
            told.push_back(Told::warning("Unhealthy", format!("Liveness probe failed: {message}")));
            if u64::from(self.failed_probes) >= liveness["failureThreshold"].as_u64().unwrap_or(3) {
                let message = format!("Container {} failed liveness probe, will be restarted", self.name());
                told.push_back(Told::normal("Killing", message));
                self.end(137, "Error", since, pod, now, told);
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
        told: &mut VecDeque<Told>,
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
            told.push_back(Told::warning("BackOff", message));
        }
        self.phase = Phase::Ended { code, reason, since, at: now, again };
    }

    /// The first restart is at once; from the second on it backs off.
    fn restart(&mut self, pod: &Value, world: &World, told: &mut VecDeque<Told>) {
        self.last = json!({ "terminated": self.terminated() });
        self.previous_log = Some(std::mem::take(&mut self.log));
        self.restarts += 1;
        if self.restarts == 1 {
            self.start(world, pod, told);
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

    /// The first secret, config map or key that the environment refers to and that is not there.
    fn missing_configuration(&self, world: &World, pod: &Value) -> Option<String> {
        let namespace = pod["metadata"]["namespace"].as_str().unwrap_or_default();
        let look = |plural: &'static str, word: &str, reference: &Value| {
            if reference["optional"] == true {
                return None;
            }
            let name = reference["name"].as_str()?;
            match (world.store.get(&Key::new(plural, namespace, name)), reference["key"].as_str()) {
                (None, _) => Some(format!("{} {name:?} not found", word.to_lowercase())),
                (Some(object), Some(key)) if object["data"][key].is_null() => {
                    Some(format!("couldn't find key {key} in {word} {namespace}/{name}"))
                }
                _ => None,
            }
        };
        let env = self.spec["env"].as_array().into_iter().flatten().map(|e| {
            let from = &e["valueFrom"];
            look("secrets", "Secret", &from["secretKeyRef"])
                .or_else(|| look("configmaps", "ConfigMap", &from["configMapKeyRef"]))
        });
        let all = self.spec["envFrom"].as_array().into_iter().flatten().map(|e| {
            look("secrets", "Secret", &e["secretRef"])
                .or_else(|| look("configmaps", "ConfigMap", &e["configMapRef"]))
        });
        env.chain(all).flatten().next()
    }

    /// Writes a line to its log.
    pub(super) fn write(&mut self, at: Timestamp, text: String) {
        self.log.push(Line { at, text });
    }

    /// The number of the run that its log is of: of one that waits to be started again, the run before.
    pub(super) fn run_of_log(&self) -> u32 {
        match self.phase {
            Phase::BackOff { .. } => self.restarts.saturating_sub(1),
            _ => self.restarts,
        }
    }

    /// The number of the run before, if there was one.
    pub(super) fn last_run(&self) -> Option<u32> {
        self.previous_log.as_ref()?;
        self.restarts.checked_sub(1)
    }

    /// What this run wrote, as far as it is kept: of the run that goes on and of the one before.
    pub(super) fn log_of(&self, run: u32) -> Option<&[Line]> {
        match self.restarts.checked_sub(run)? {
            0 => Some(&self.log),
            1 => self.previous_log.as_deref(),
            _ => None,
        }
    }

    /// Whether this run goes on.
    pub(super) fn runs(&self, run: u32) -> bool {
        self.restarts == run && matches!(self.phase, Phase::Running { .. })
    }

    /// As the container runtime names a run.
    fn id(&self, run: u32) -> String {
        format!("containerd://{:064x}", u128::from(run) + 1)
    }

    fn terminated(&self) -> Value {
        match &self.phase {
            Phase::Ended { code, reason, since, at, .. } => json!({
                "exitCode": code,
                "reason": reason,
                "startedAt": seconds(*since),
                "finishedAt": seconds(*at),
                "containerID": self.id(self.restarts),
            }),
            _ => Value::Null,
        }
    }

    /// The entry of `containerStatuses`.
    pub(super) fn status(&self) -> Value {
        let state = match &self.phase {
            Phase::Held => json!({ "waiting": { "reason": "PodInitializing" } }),
            Phase::Creating(_) | Phase::Pulling(_) => {
                json!({ "waiting": { "reason": "ContainerCreating" } })
            }
            Phase::Waiting { reason, message, .. } => {
                json!({ "waiting": { "reason": reason, "message": message } })
            }
            Phase::BackOff { message, .. } => {
                json!({ "waiting": { "reason": "CrashLoopBackOff", "message": message } })
            }
            Phase::Running { since, .. } => json!({ "running": { "startedAt": seconds(*since) } }),
            Phase::Ended { .. } => json!({ "terminated": self.terminated() }),
        };
        let done = self.init && self.lets_pass();
        let mut status = json!({
            "name": self.name(),
            "image": self.image(),
            "imageID": self.pulled.as_ref().map_or(String::new(), |p| image_id(self.image(), &p.digest)),
            "ready": self.ready || done,
            "started": matches!(self.phase, Phase::Running { .. }),
            "restartCount": self.restarts,
            "state": state,
            "lastState": self.last,
        });
        if self.has_started() {
            status["containerID"] = json!(self.id(self.run_of_log()));
        }
        status
    }
}

/// `host/path@sha256:…`, as containerd reports what it pulled.
fn image_id(image: &str, digest: &str) -> String {
    let name = image.split('@').next().unwrap_or_default();
    let repository = match name.rsplit_once(':') {
        Some((repository, tag)) if !tag.contains('/') => repository,
        _ => name,
    };
    format!("{repository}@{digest}")
}

/// containerd's words for a pull that failed, with the kubelet's reason.
fn refusal(image: &str, error: PullError) -> (&'static str, String) {
    let resolving = format!(
        "rpc error: code = NotFound desc = failed to pull and unpack image {image:?}: \
         failed to resolve reference {image:?}: {image}: not found"
    );
    #[allow(unreachable_patterns, reason = "the registry's side may learn further reasons")]
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

/// `10s`, `1m20s`: how Go writes a duration.
fn go_duration(time: Duration) -> String {
    match (time.as_secs() / 60, time.as_secs() % 60) {
        (0, seconds) => format!("{seconds}s"),
        (minutes, seconds) => format!("{minutes}m{seconds}s"),
    }
}

/// `web-abc_shop(<uid>)`, as the kubelet names a pod.
fn pod_id(pod: &Value) -> String {
    let text = |field: &str| pod["metadata"][field].as_str().unwrap_or_default().to_owned();
    format!("{}_{}({})", text("name"), text("namespace"), text("uid"))
}
