//! A random schedule: a service and its past, what the new image does, the options of the deployment, what other clients
//! do meanwhile, and faults of the API. Data only, so that parts can be left out to find the smallest failing schedule.

use std::time::Duration;

use bp_sandbox::{Behaviour, aws::ecs::HookStatus};
use fastrand::Rng;
use serde_json::{Value, json};

/// The Lambda function of the hooks.
pub(crate) const FUNCTION: &str = "arn:aws:lambda:eu-central-1:111111111111:function:check";
/// The alarm that monitors deployments.
pub(crate) const ALARM: &str = "errors";

/// One schedule.
#[derive(Debug, Clone)]
pub(crate) struct Schedule {
    /// The seed of delays and ids.
    pub(crate) seed: u64,
    pub(crate) service: Service,
    pub(crate) past: Vec<Past>,
    /// What the new image does.
    pub(crate) program: Program,
    pub(crate) policy: Policy,
    /// What other clients do, and when, counted from the call of `deploy`.
    pub(crate) others: Vec<(Duration, Action)>,
    pub(crate) faults: Vec<Disturbance>,
}

/// The service before the deployment.
#[derive(Debug, Clone)]
pub(crate) struct Service {
    pub(crate) desired: u32,
    /// Whether the container has a health check.
    pub(crate) checked: bool,
    pub(crate) load_balancer: bool,
    pub(crate) configuration: Value,
    pub(crate) hook: HookStatus,
    pub(crate) sidecars: Vec<Sidecar>,
    /// Recorded delays instead of short ones.
    pub(crate) recorded_pace: bool,
    pub(crate) old_event: bool,
}

/// A container that AWS injects.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Sidecar {
    GuardDuty,
    FailingGuardDuty,
    ServiceConnect,
}

/// A deployment before ours, by another client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Past {
    Completed,
    RolledBack,
    /// Completed so recently that old tasks are still stopping.
    Draining,
    /// In progress, deploying another image.
    InProgress,
    /// In progress, deploying the same definition as ours.
    InProgressSame,
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
            Program::Unhealthy => Behaviour::Unhealthy("HTTP 503".to_owned()),
            Program::Missing => return None,
        })
    }
}

/// The options of the deployment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Policy {
    pub(crate) deadline: u64,
    pub(crate) stable_for: u64,
    pub(crate) fail_after: u32,
    pub(crate) leaves_failures: bool,
    pub(crate) in_flight: Other,
    pub(crate) force: bool,
    /// Whether the SDK retries, as by default.
    pub(crate) sdk_retries: bool,
}

/// The policy for another deployment in progress.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Other {
    Fail,
    AdoptIfSame,
    Supersede,
    Wait,
}

/// What another client does to the service.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Action {
    /// UpdateService with another definition, whose image does this.
    Deploy(Program),
    /// UpdateService with the current definition and `forceNewDeployment`.
    Force,
    /// StopServiceDeployment.
    Abort,
    RollBack,
    /// UpdateService with another desired count.
    Scale(u32),
    Delete,
    Alarm,
    /// Tasks are stopped by a user or a Spot interruption.
    StopTasks(usize, &'static str),
    /// RegisterTaskDefinition, in the family of the service.
    Register,
    /// From now on, new tasks of our image do this.
    Change(Program),
    /// From now on, new tasks of the previous image fail.
    BreakPrevious,
}

impl Action {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Action::Deploy(_) => "another deployment",
            Action::Force => "a forced deployment of the same definition",
            Action::Abort => "stopped by another client",
            Action::RollBack => "rolled back by another client",
            Action::Scale(_) => "desired count changed",
            Action::Delete => "deleted",
            Action::Alarm => "alarm",
            Action::StopTasks(..) => "tasks stopped by others",
            Action::Register => "another registration",
            Action::Change(_) => "the program changes",
            Action::BreakPrevious => "the previous image breaks",
        }
    }
}

/// A fault of the API.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Disturbance {
    pub(crate) kind: Kind,
    /// The operation; any if `None`.
    pub(crate) operation: Option<&'static str>,
    /// The number of matching requests before it.
    pub(crate) after: u32,
    pub(crate) times: u32,
}

/// The kinds of faults.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
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

const OPERATIONS: [&str; 9] = [
    "ecs:DescribeServices",
    "ecs:DescribeTaskDefinition",
    "ecs:RegisterTaskDefinition",
    "ecs:UpdateService",
    "ecs:ListServiceDeployments",
    "ecs:DescribeServiceDeployments",
    "ecs:StopServiceDeployment",
    "ecs:ListTasks",
    "ecs:DescribeTasks",
];
/// The operations that change something.
pub(crate) const CHANGES: [&str; 3] =
    ["ecs:RegisterTaskDefinition", "ecs:UpdateService", "ecs:StopServiceDeployment"];

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
        let service = Service::random(random);
        let policy = Policy::random(random);
        let past = (0..pick(random, &[0, 0, 0, 1, 2])).map(|_| Past::random(random)).collect();
        let program = Program::random(random);
        let others = (0..pick(random, &[0, 0, 0, 1, 1, 2, 3])).map(|_| {
            let latest = pick(random, &[5_000, 30_000, 80_000]);
            (Duration::from_millis(random.u64(1..latest)), Action::random(random))
        });
        let mut others: Vec<(Duration, Action)> = others.collect();
        others.sort_by_key(|(at, _)| *at);
        let faults = (0..pick(random, &[0, 0, 1, 1, 2, 3, 5])).map(|_| Disturbance::random(random)).collect();
        Schedule { seed, service, past, program, policy, others, faults }
    }
}

impl Service {
    fn random(random: &mut Rng) -> Service {
        let strategy = pick(
            random,
            &["ROLLING", "ROLLING", "ROLLING", "ROLLING", "ROLLING", "BLUE_GREEN", "LINEAR", "CANARY"],
        );
        let mut configuration = json!({ "strategy": strategy });
        if strategy == "ROLLING" {
            let (minimum, maximum) =
                pick(random, &[(100, 200), (100, 200), (50, 200), (0, 100), (50, 100), (100, 150)]);
            configuration["minimumHealthyPercent"] = json!(minimum);
            configuration["maximumPercent"] = json!(maximum);
            if one_in(random, 8) {
                configuration["earlySuccessCriteria"] = json!({
                    "enable": true,
                    "healthyPercent": pick(random, &[100, 100.max(minimum), 60.max(minimum)]),
                    "sourceServiceRevisionCleanup": pick(random, &["BLOCKING", "DEFERRED"]),
                });
            }
        } else {
            configuration["bakeTimeInMinutes"] = json!(random.u8(0..2));
        }
        match strategy {
            "LINEAR" => {
                configuration["linearConfiguration"] =
                    json!({ "stepPercent": 50.0, "stepBakeTimeInMinutes": 1 });
            }
            "CANARY" => {
                configuration["canaryConfiguration"] =
                    json!({ "canaryPercent": 10.0, "canaryBakeTimeInMinutes": 1 });
            }
            _ => {}
        }
        if random.bool() {
            configuration["deploymentCircuitBreaker"] =
                json!({ "enable": true, "rollback": !one_in(random, 3) });
            if one_in(random, 3) {
                configuration["deploymentCircuitBreaker"]["thresholdConfiguration"] =
                    json!({ "type": "COUNT", "value": random.u8(1..6) });
            }
        }
        if one_in(random, 4) {
            configuration["alarms"] =
                json!({ "enable": true, "rollback": random.bool(), "alarmNames": [ALARM] });
        }
        if one_in(random, 8) {
            let stage = pick(
                random,
                if strategy == "ROLLING" {
                    &["PRE_SCALE_UP", "RECONCILE_SERVICE"]
                } else {
                    &["PRE_SCALE_UP", "POST_TEST_TRAFFIC_SHIFT"]
                },
            );
            let mut hook = json!({ "lifecycleStages": [stage], "timeoutConfiguration": {
                "timeoutInMinutes": random.u8(1..10), "action": pick(random, &["CONTINUE", "ROLLBACK"]),
            } });
            if random.bool() {
                hook["targetType"] = json!("PAUSE");
            } else {
                hook["hookTargetArn"] = json!(FUNCTION);
            }
            configuration["lifecycleHooks"] = json!([hook]);
        }
        let sidecars = [Sidecar::GuardDuty, Sidecar::FailingGuardDuty, Sidecar::ServiceConnect];
        Service {
            desired: pick(random, &[0, 1, 1, 2, 2, 2, 3, 4, 7]),
            checked: !one_in(random, 3),
            load_balancer: one_in(random, 5),
            configuration,
            hook: pick(random, &[HookStatus::Succeeded, HookStatus::Failed, HookStatus::InProgress]),
            sidecars: (0..pick(random, &[0, 0, 1, 2])).map(|_| pick(random, &sidecars)).collect(),
            recorded_pace: one_in(random, 10),
            old_event: random.bool(),
        }
    }
}

impl Past {
    fn random(random: &mut Rng) -> Past {
        pick(
            random,
            &[
                Past::Completed,
                Past::Completed,
                Past::RolledBack,
                Past::RolledBack,
                Past::Draining,
                Past::InProgress,
                Past::InProgressSame,
            ],
        )
    }
}

impl Program {
    fn random(random: &mut Rng) -> Program {
        match random.u8(..16) {
            0..7 => Program::Healthy(random.u64(0..20)),
            7 => Program::Healthy(random.u64(30..2_000)),
            8 | 9 => Program::failing(random),
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

    fn failing(random: &mut Rng) -> Program {
        Program::Exits { after: random.u64(0..15), code: pick(random, &[0, 1, 3, 139]) }
    }
}

impl Policy {
    fn random(random: &mut Rng) -> Policy {
        Policy {
            deadline: pick(random, &[40, 60, 60, 120, 120, 300]),
            stable_for: pick(random, &[0, 10, 10, 10, 30]),
            fail_after: pick(random, &[1, 2, 2, 2, 3]),
            leaves_failures: one_in(random, 4),
            in_flight: pick(
                random,
                &[Other::AdoptIfSame, Other::AdoptIfSame, Other::Fail, Other::Supersede, Other::Wait],
            ),
            force: one_in(random, 8),
            sdk_retries: one_in(random, 3),
        }
    }
}

impl Action {
    fn random(random: &mut Rng) -> Action {
        match random.u8(..16) {
            0..3 => Action::Deploy(Program::random(random)),
            3 | 4 => Action::Force,
            5 => Action::Abort,
            6 => Action::RollBack,
            7 | 8 => Action::Scale(random.u32(0..6)),
            9 => Action::Delete,
            10 => Action::Alarm,
            11 | 12 => {
                Action::StopTasks(random.usize(1..4), pick(random, &["SpotInterruption", "UserInitiated"]))
            }
            13 => Action::Register,
            14 => Action::Change(Program::random(random)),
            _ => Action::BreakPrevious,
        }
    }
}

impl Disturbance {
    fn random(random: &mut Rng) -> Disturbance {
        let kind = match random.u8(..10) {
            0 | 1 => Kind::Denied,
            2 | 3 => Kind::Throttled,
            4 => Kind::Expired,
            5 | 6 => Kind::Lost,
            7 => Kind::Status(pick(random, &[500, 502, 503, 504])),
            8 => Kind::Reset,
            _ => Kind::Cut(random.u64(0..40)),
        };
        let operation = match (kind, random.u8(..4)) {
            (Kind::Lost, 0..3) => Some(pick(random, &CHANGES)),
            (Kind::Denied, _) | (_, 0..3) => Some(pick(random, &OPERATIONS)),
            _ => None,
        };
        let is_change = operation.is_some_and(|operation| CHANGES.contains(&operation));
        let latest = if is_change { 2 } else { pick(random, &[2, 20, 60]) };
        Disturbance {
            kind,
            operation,
            after: random.u32(..latest),
            times: match kind {
                // A permission is usually missing until the end.
                Kind::Denied => pick(random, &[2, u32::MAX, u32::MAX]),
                Kind::Expired => pick(random, &[3, 12, u32::MAX]),
                Kind::Throttled => pick(random, &[1, 10, 60, u32::MAX]),
                Kind::Lost => pick(random, &[1, 1, 2]),
                Kind::Status(_) | Kind::Reset | Kind::Cut(_) => pick(random, &[1, 3, 20]),
            },
        }
    }
}
