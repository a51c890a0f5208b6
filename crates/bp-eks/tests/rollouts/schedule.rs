//! A random schedule: a workload and its past, what the new image does, the options of the rollout, what other clients
//! and the cluster do meanwhile, and faults of the API. Data only, so that parts can be left out to find the smallest
//! failing schedule.

use std::time::Duration;

use bp_sandbox::Behaviour;
use fastrand::Rng;
use serde_json::{Value, json};

/// One schedule.
#[derive(Debug, Clone)]
pub(crate) struct Schedule {
    /// The seed of delays and ids.
    pub(crate) seed: u64,
    pub(crate) workload: Workload,
    pub(crate) past: Vec<Past>,
    /// What the new image does.
    pub(crate) program: Program,
    pub(crate) policy: Policy,
    /// What others do, and when, counted from the call of `deploy`.
    pub(crate) others: Vec<(Duration, Action)>,
    pub(crate) faults: Vec<Disturbance>,
}

/// The kind of the workload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Deployment,
    StatefulSet,
    DaemonSet,
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::Deployment => "Deployment",
            Kind::StatefulSet => "StatefulSet",
            Kind::DaemonSet => "DaemonSet",
        }
    }

    pub(crate) fn plural(self) -> &'static str {
        match self {
            Kind::Deployment => "deployments",
            Kind::StatefulSet => "statefulsets",
            Kind::DaemonSet => "daemonsets",
        }
    }

    /// The plural of its revisions.
    pub(crate) fn versions(self) -> &'static str {
        if self == Kind::Deployment { "replicasets" } else { "controllerrevisions" }
    }
}

/// The workload before the rollout.
#[derive(Debug, Clone)]
pub(crate) struct Workload {
    pub(crate) kind: Kind,
    pub(crate) replicas: u32,
    pub(crate) nodes: usize,
    /// Whether the container has a readiness probe, and a liveness probe.
    pub(crate) readiness: bool,
    pub(crate) liveness: bool,
    /// The fields of `spec` about the strategy.
    pub(crate) spec: Value,
    /// Whether the template of the new revision refers to a Secret, and whether that exists.
    pub(crate) secret: Option<bool>,
}

/// What happened before our rollout, by another client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Past {
    Completed,
    /// Rolled out while pods were refused, whose events are kept.
    Refused,
    /// In progress: another image, which is slow or fails.
    InProgress,
    Failing,
    /// In progress: the same image as ours.
    InProgressSame,
    /// A pod of the previous image was evicted.
    Evicted,
}

/// What a container does.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Program {
    Healthy(u64),
    Exits {
        after: u64,
        code: i32,
    },
    HealthyThenExits {
        healthy: u64,
        exits: u64,
        code: i32,
    },
    OutOfMemory(u64),
    Unhealthy,
    /// The image does not exist.
    Missing,
}

impl Program {
    /// `None` when there is no image.
    pub(crate) fn behaviour(self) -> Option<Behaviour> {
        let seconds = Duration::from_secs;
        let log = vec!["the last line".to_owned()];
        Some(match self {
            Program::Healthy(after) => Behaviour::Healthy(seconds(after)),
            Program::Exits { after, code } => Behaviour::Exits { after: seconds(after), code, log },
            Program::HealthyThenExits { healthy, exits, code } => {
                Behaviour::HealthyThenExits { healthy: seconds(healthy), exits: seconds(exits), code, log }
            }
            Program::OutOfMemory(after) => Behaviour::OutOfMemory(seconds(after)),
            Program::Unhealthy => Behaviour::Unhealthy("HTTP probe failed with statuscode: 503".to_owned()),
            Program::Missing => return None,
        })
    }
}

/// The options of the rollout.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Policy {
    pub(crate) deadline: u64,
    pub(crate) grace: u64,
    pub(crate) fail_after: Option<u32>,
    pub(crate) restarts: u32,
    pub(crate) leaves_failures: bool,
    pub(crate) take_over: bool,
    pub(crate) allow_no_replicas: bool,
    pub(crate) live_logs: bool,
}

/// What another client, the cluster or its administrator does.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Action {
    /// `kubectl set image` with another image, which does this.
    Deploy(Program),
    /// `kubectl set image` with our image.
    Same,
    /// `kubectl rollout restart`.
    Restart,
    Scale(u32),
    Pause,
    Resume,
    Delete,
    DeletePods(usize),
    /// Pods are ended by the kubelet: for the node's memory, or for their own limit.
    EvictPods(usize, bool),
    /// From now on, pods are refused; until they are admitted again.
    Refuse(Refusal),
    Admit,
    Quota(u32),
    DenyPulls,
    /// The Secret is created, or deleted.
    Secret(bool),
    /// From now on, new containers of our image do this.
    Change(Program),
    /// From now on, new containers of the previous image fail.
    BreakPrevious,
    /// The API server restarts: it closes every watch and answers no request for a while.
    RestartServer(u32),
    /// etcd is compacted, and the watches end: their resource versions have expired.
    Compact,
}

/// Why pods are refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// A webhook that is down.
    Webhook,
    /// The API server's own failure.
    Timeout,
    /// A policy: final.
    Denied,
}

impl Refusal {
    pub(crate) fn answer(self) -> (u16, &'static str) {
        match self {
            Refusal::Webhook => (
                500,
                "Internal error occurred: failed calling webhook \"mpod.example.com\": failed to call webhook: Post \
                 \"https://webhook.kube-system.svc:443/mutate?timeout=10s\": no endpoints available for service \"webhook\"",
            ),
            Refusal::Timeout => (504, "Timeout: request did not complete within requested timeout"),
            Refusal::Denied => {
                (403, "admission webhook \"policy.example.com\" denied the request: images must be signed")
            }
        }
    }
}

impl Action {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Action::Deploy(_) => "another image",
            Action::Same => "the same image by another client",
            Action::Restart => "restarted by another client",
            Action::Scale(_) => "replicas changed",
            Action::Pause => "paused",
            Action::Resume => "resumed",
            Action::Delete => "deleted",
            Action::DeletePods(_) => "pods deleted",
            Action::EvictPods(..) => "pods evicted",
            Action::Refuse(Refusal::Denied) => "pods denied by a policy",
            Action::Refuse(Refusal::Webhook | Refusal::Timeout) => "pods refused for a while",
            Action::Admit => "pods admitted again",
            Action::Quota(_) => "a quota",
            Action::DenyPulls => "pulls denied",
            Action::Secret(true) => "the Secret is created",
            Action::Secret(false) => "the Secret is deleted",
            Action::Change(_) => "the program changes",
            Action::BreakPrevious => "the previous image breaks",
            Action::RestartServer(_) => "API server restart",
            Action::Compact => "expired watches (410)",
        }
    }
}

/// A fault of the API.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Disturbance {
    pub(crate) kind: Fault,
    /// The verb and its object; any request if `None`.
    pub(crate) operation: Option<(&'static str, Object)>,
    /// The number of matching requests before it.
    pub(crate) after: u32,
    pub(crate) times: u32,
    /// Whether open watches end when the rollout has begun for this long, so that they meet the fault.
    pub(crate) ends_watches: Option<Duration>,
}

/// The object of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Object {
    Workload,
    Versions,
    Pods,
    Events,
}

/// The kinds of faults.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    Denied,
    Throttled,
    Expired,
    /// The response is lost after the request was processed.
    Lost,
    Status(u16),
    Reset,
    /// The response ends after this number of bytes.
    Cut(u64),
}

/// The requests that change something.
pub(crate) const CHANGES: [&str; 3] = ["patch", "update", "delete"];
/// The requests that read, with their objects.
const READS: [(&str, Object); 9] = [
    ("get", Object::Workload),
    ("list", Object::Workload),
    ("watch", Object::Workload),
    ("list", Object::Versions),
    ("watch", Object::Versions),
    ("list", Object::Pods),
    ("watch", Object::Pods),
    ("list", Object::Events),
    ("watch", Object::Events),
];

fn pick<T: Copy>(random: &mut Rng, of: &[T]) -> T {
    of[random.usize(..of.len())]
}

/// True once in `n` times.
fn one_in(random: &mut Rng, n: u32) -> bool {
    random.u32(..n) == 0
}

impl Schedule {
    pub(crate) fn random(seed: u64) -> Schedule {
        let random = &mut Rng::with_seed(seed);
        let workload = Workload::random(random);
        let policy = Policy::random(random);
        let past = (0..pick(random, &[0, 0, 0, 1, 2])).map(|_| Past::random(random)).collect();
        let program = Program::random(random);
        let mut others: Vec<(Duration, Action)> = Vec::new();
        for _ in 0..pick(random, &[0, 0, 0, 1, 1, 2, 3]) {
            let latest = pick(random, &[5_000, 30_000, 80_000]);
            let at = Duration::from_millis(random.u64(1..latest));
            let action = Action::random(random, workload.kind);
            let later = Duration::from_millis(random.u64(1_000..60_000));
            others.push((at, action));
            // What begins often ends.
            match action {
                Action::Refuse(_) if !one_in(random, 3) => others.push((at + later, Action::Admit)),
                Action::Pause if !one_in(random, 3) => others.push((at + later, Action::Resume)),
                _ => {}
            }
        }
        others.sort_by_key(|(at, _)| *at);
        let faults = (0..pick(random, &[0, 0, 1, 1, 2, 3, 5])).map(|_| Disturbance::random(random)).collect();
        Schedule { seed, workload, past, program, policy, others, faults }
    }
}

impl Workload {
    fn random(random: &mut Rng) -> Workload {
        let deployment = Kind::Deployment;
        let kind = pick(random, &[deployment, deployment, deployment, Kind::StatefulSet, Kind::DaemonSet]);
        let mut spec = json!({});
        match kind {
            Kind::Deployment => {
                spec["progressDeadlineSeconds"] = json!(pick(random, &[20, 60, 120, 600]));
                if one_in(random, 6) {
                    spec["minReadySeconds"] = json!(random.u8(1..10));
                }
                let (surge, unavailable) = pick(random, &[(1, 0), (1, 1), (0, 1), (3, 2)]);
                match random.u8(..6) {
                    0 => spec["strategy"] = json!({ "type": "Recreate" }),
                    1 | 2 => {
                        spec["strategy"] = json!({ "type": "RollingUpdate", "rollingUpdate": {
                            "maxSurge": surge, "maxUnavailable": unavailable,
                        } });
                    }
                    _ => {}
                }
            }
            Kind::StatefulSet => {
                spec["serviceName"] = json!("web");
                if one_in(random, 3) {
                    spec["podManagementPolicy"] = json!("Parallel");
                }
                if one_in(random, 5) {
                    spec["updateStrategy"] = json!({ "rollingUpdate": { "partition": 1 } });
                }
            }
            Kind::DaemonSet => {
                spec["updateStrategy"] =
                    json!({ "rollingUpdate": { "maxUnavailable": pick(random, &[1, 1, 2]) } });
            }
        }
        Workload {
            kind,
            replicas: pick(random, &[0, 1, 1, 2, 2, 3, 3, 4, 7]),
            nodes: pick(random, &[1, 2, 2, 3, 5]),
            readiness: !one_in(random, 3),
            liveness: one_in(random, 4),
            spec,
            secret: one_in(random, 6).then(|| random.bool()),
        }
    }
}

impl Past {
    fn random(random: &mut Rng) -> Past {
        let completed = [Past::Completed, Past::Completed, Past::Refused, Past::Evicted];
        if random.bool() {
            return pick(random, &completed);
        }
        pick(random, &[Past::InProgress, Past::Failing, Past::InProgressSame])
    }
}

impl Program {
    fn random(random: &mut Rng) -> Program {
        match random.u8(..16) {
            0..7 => Program::Healthy(random.u64(0..20)),
            7 => Program::Healthy(random.u64(30..2_000)),
            8 | 9 => Program::Exits { after: random.u64(0..15), code: pick(random, &[0, 1, 3, 139]) },
            10 => Program::Unhealthy,
            11 => Program::Missing,
            12 => Program::OutOfMemory(random.u64(0..10)),
            _ => {
                let healthy = random.u64(0..10);
                let exits = healthy + random.u64(1..60);
                Program::HealthyThenExits { healthy, exits, code: pick(random, &[0, 1, 3]) }
            }
        }
    }
}

impl Policy {
    fn random(random: &mut Rng) -> Policy {
        Policy {
            deadline: pick(random, &[40, 60, 120, 120, 300]),
            grace: pick(random, &[5, 20, 90]),
            fail_after: pick(random, &[None, None, Some(1), Some(3)]),
            restarts: pick(random, &[1, 3, 3, 3, 5]),
            leaves_failures: one_in(random, 4),
            take_over: !one_in(random, 12),
            allow_no_replicas: random.bool(),
            live_logs: one_in(random, 8),
        }
    }
}

impl Action {
    fn random(random: &mut Rng, kind: Kind) -> Action {
        let refusal = [Refusal::Webhook, Refusal::Webhook, Refusal::Timeout, Refusal::Denied];
        let action = match random.u8(..27) {
            0..3 => Action::Deploy(Program::random(random)),
            3 => Action::Same,
            4 => Action::Restart,
            5 | 6 => Action::Scale(random.u32(0..6)),
            7 => Action::Pause,
            8 => Action::Delete,
            9 | 10 => Action::DeletePods(random.usize(1..4)),
            11..14 => Action::EvictPods(random.usize(1..4), random.bool()),
            14 | 15 => Action::Refuse(pick(random, &refusal)),
            16 => Action::Quota(random.u32(0..6)),
            17 => Action::DenyPulls,
            18 => Action::Secret(random.bool()),
            19 => Action::Change(Program::random(random)),
            20 | 21 => Action::BreakPrevious,
            22 | 23 => Action::RestartServer(pick(random, &[3, 10, 40])),
            _ => Action::Compact,
        };
        match action {
            Action::Pause if kind != Kind::Deployment => Action::Compact,
            Action::Scale(_) if kind == Kind::DaemonSet => Action::Restart,
            action => action,
        }
    }
}

impl Disturbance {
    fn random(random: &mut Rng) -> Disturbance {
        let kind = match random.u8(..10) {
            0 | 1 => Fault::Denied,
            2 | 3 => Fault::Throttled,
            4 => Fault::Expired,
            5 | 6 => Fault::Lost,
            7 => Fault::Status(pick(random, &[500, 502, 503, 504])),
            8 => Fault::Reset,
            _ => Fault::Cut(random.u64(0..4_000)),
        };
        let operation = match (kind, random.u8(..4)) {
            (Fault::Lost, 0..3) => Some((pick(random, &["patch", "patch", "update"]), Object::Workload)),
            (Fault::Denied, _) | (_, 0..3) => {
                let changes = [("patch", Object::Workload), ("update", Object::Workload)];
                Some(if one_in(random, 3) { pick(random, &changes) } else { pick(random, &READS) })
            }
            _ => None,
        };
        let is_change = operation.is_some_and(|(verb, _)| CHANGES.contains(&verb));
        let latest = if is_change { 5 } else { pick(random, &[2, 5, 20]) };
        Disturbance {
            kind,
            operation,
            after: random.u32(..latest),
            times: match kind {
                // A permission is usually missing until the end.
                Fault::Denied => pick(random, &[2, u32::MAX, u32::MAX]),
                Fault::Expired => pick(random, &[3, 12, u32::MAX]),
                Fault::Throttled => pick(random, &[1, 10, 60, u32::MAX]),
                Fault::Lost => pick(random, &[1, 1, 2]),
                Fault::Status(_) | Fault::Reset | Fault::Cut(_) => pick(random, &[1, 3, 20]),
            },
            ends_watches: random.bool().then(|| Duration::from_millis(random.u64(100..30_000))),
        }
    }
}
