//! The pods and containers that run on the nodes: phases, logs and container statuses.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::store::seconds;
use crate::runtime::Pulled;

/// The delay until the scheduler and the kubelet react to a pod.
pub(super) const NOTICE: Duration = Duration::from_millis(100);
/// The time that a deleted pod takes to terminate.
const GRACE: Duration = Duration::from_secs(1);

/// A pod on its node.
#[derive(Debug)]
pub(super) struct PodRun {
    /// The time of the next scheduling attempt, while the pod is unscheduled.
    pub(super) scheduling: Option<Timestamp>,
    /// The time of removal, once the pod is deleted.
    pub(super) ends: Option<Timestamp>,
    /// Whether the kubelet has ended it: its status no longer changes.
    pub(super) failed: bool,
    /// Init containers first, in order.
    pub(super) containers: Vec<ContainerRun>,
}

impl PodRun {
    pub(super) fn new(pod: &Value, now: Timestamp) -> Self {
        let list = |field: &str, init: bool| {
            let specs = pod["spec"][field].as_array().cloned().unwrap_or_default();
            specs.into_iter().map(move |spec| ContainerRun::new(spec, init)).collect::<Vec<_>>()
        };
        let mut containers = list("initContainers", true);
        containers.extend(list("containers", false));
        PodRun { scheduling: Some(now + NOTICE), ends: None, failed: false, containers }
    }

    /// The time of the next transition.
    pub(super) fn due(&self) -> Option<Timestamp> {
        match (self.ends, self.scheduling) {
            (Some(ends), _) => Some(ends),
            (None, _) if self.failed => None,
            (None, Some(at)) => Some(at),
            (None, None) => self.containers.iter().filter_map(ContainerRun::due).min(),
        }
    }

    /// Schedules its removal after the grace period.
    pub(super) fn end(&mut self, now: Timestamp) {
        self.ends.get_or_insert(now + GRACE);
    }
}

/// The phase of a container, and the time of its next transition.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Phase {
    /// Waits for an init container to complete.
    Blocked,
    /// The image pull has not started.
    Creating(Timestamp),
    /// The image is being pulled.
    Pulling(Timestamp),
    /// The pull or start failed; it is retried.
    Waiting { reason: &'static str, message: String, again: Timestamp },
    /// Running; `next` is the time of the next event of its script or of a probe.
    Running { since: Timestamp, next: Option<Timestamp> },
    /// Terminated; restarted at `again`, if set.
    Ended { code: i32, reason: &'static str, since: Timestamp, at: Timestamp, again: Option<Timestamp> },
    /// In CrashLoopBackOff until `again`.
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
    pub(super) spec: Value,
    pub(super) init: bool,
    pub(super) phase: Phase,
    pub(super) ready: bool,
    pub(super) pulled: Option<Pulled>,
    pub(super) restarts: u32,
    /// The state of the run before this one.
    pub(super) last: Value,
    /// The log lines of this run and of the previous run.
    pub(super) log: Vec<Line>,
    pub(super) previous_log: Option<Vec<Line>>,
    pub(super) failed_pulls: u32,
    pub(super) failed_probes: u32,
}

impl ContainerRun {
    pub(super) fn new(spec: Value, init: bool) -> Self {
        ContainerRun {
            spec,
            init,
            phase: Phase::Blocked,
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

    pub(super) fn image(&self) -> &str {
        self.spec["image"].as_str().unwrap_or_default()
    }

    pub(super) fn due(&self) -> Option<Timestamp> {
        match &self.phase {
            Phase::Blocked => None,
            Phase::Creating(at) | Phase::Pulling(at) => Some(*at),
            Phase::Waiting { again, .. } | Phase::BackOff { again, .. } => Some(*again),
            Phase::Running { next, .. } => *next,
            Phase::Ended { again, .. } => *again,
        }
    }

    /// Unblocks the container.
    pub(super) fn begin(&mut self, now: Timestamp) {
        if self.phase == Phase::Blocked {
            self.phase = Phase::Creating(now);
        }
    }

    /// Whether the containers after this init container may start: it has completed successfully, or is a running
    /// sidecar.
    pub(super) fn allows_next(&self) -> bool {
        match self.phase {
            Phase::Ended { code, .. } => code == 0,
            Phase::Running { .. } => self.is_sidecar(),
            _ => false,
        }
    }

    pub(super) fn is_sidecar(&self) -> bool {
        self.init && self.spec["restartPolicy"] == "Always"
    }

    pub(super) fn has_started(&self) -> bool {
        self.restarts > 0
            || !matches!(
                self.phase,
                Phase::Blocked | Phase::Creating(_) | Phase::Pulling(_) | Phase::Waiting { .. }
            )
    }

    /// Writes a line to its log.
    pub(super) fn write(&mut self, at: Timestamp, text: String) {
        self.log.push(Line { at, text });
    }

    /// The number of the run whose log is read: in back-off, the previous run.
    pub(super) fn run_of_log(&self) -> u32 {
        match self.phase {
            Phase::BackOff { .. } => self.restarts.saturating_sub(1),
            _ => self.restarts,
        }
    }

    /// The number of the previous run, if any.
    pub(super) fn last_run(&self) -> Option<u32> {
        self.previous_log.as_ref()?;
        self.restarts.checked_sub(1)
    }

    /// The log lines of a run; only the current and the previous run are kept.
    pub(super) fn log_of(&self, run: u32) -> Option<&[Line]> {
        match self.restarts.checked_sub(run)? {
            0 => Some(&self.log),
            1 => self.previous_log.as_deref(),
            _ => None,
        }
    }

    /// Whether this run is in progress.
    pub(super) fn runs(&self, run: u32) -> bool {
        self.restarts == run && matches!(self.phase, Phase::Running { .. })
    }

    /// The container id of a run.
    fn id(&self, run: u32) -> String {
        format!("containerd://{:064x}", u128::from(run) + 1)
    }

    pub(super) fn terminated(&self) -> Value {
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
            Phase::Blocked => json!({ "waiting": { "reason": "PodInitializing" } }),
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
        let done = self.init && self.allows_next();
        let mut status = json!({
            "name": self.name(),
            "image": self.image(),
            "imageID": self.pulled.as_ref().map_or(String::new(), |p| image_id(self.image(), &p.digest)),
            "ready": self.ready || done,
            "started": matches!(self.phase, Phase::Running { .. }),
            // Counted when the container is started again, not while it waits for that.
            "restartCount": self.run_of_log(),
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
