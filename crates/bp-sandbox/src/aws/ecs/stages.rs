//! Blue/green, linear and canary: the lifecycle stages of a service deployment, with traffic weights and pauses.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    names::{epoch, word_id},
    settings::{Settings, Strategy},
};
use crate::aws::wire::{text, texts};

const MINUTE: Duration = Duration::from_secs(60);
/// The duration of a stage without a wait.
const BRISK: Duration = Duration::from_secs(3);

/// One stage, with its traffic weights and its duration.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Stage {
    name: &'static str,
    /// Percent of test and of production traffic on the new revision.
    weights: (f64, f64),
    takes: Duration,
}

/// A pause that waits for an answer.
#[derive(Debug)]
struct Pause {
    id: String,
    expires: Timestamp,
    /// What happens then: `CONTINUE` or `ROLLBACK`.
    otherwise: String,
    status: &'static str,
}

/// The progress of the stages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Course {
    /// The stage waits for the new revision's tasks to start.
    ScaleUp,
    /// A stage is in progress.
    Going,
    /// The old revision's tasks must stop.
    CleanUp,
    /// A pause was answered with, or timed out to, a rollback.
    RollBack,
}

/// The current stage and its pauses.
#[derive(Debug)]
pub(super) struct Stages {
    plan: Vec<Stage>,
    at: usize,
    /// When the current stage began.
    since: Timestamp,
    hooks: Vec<Value>,
    /// The pauses of the current stage.
    pauses: Vec<Pause>,
}

impl Stages {
    /// The stages of the strategy; `None` for rolling deployments, which have none.
    pub(super) fn of(settings: &Settings, now: Timestamp) -> Option<Stages> {
        let stage = |name, test, production, takes| Stage { name, weights: (test, production), takes };
        let shift =
            |percent, minutes| stage("PRODUCTION_TRAFFIC_SHIFT", 100.0, percent, MINUTE * minutes as u32);
        let shifts = match settings.strategy {
            Strategy::Rolling => return None,
            Strategy::BlueGreen => vec![],
            Strategy::Canary { percent, bake } => vec![shift(percent, bake)],
            Strategy::Linear { step, bake } => {
                let steps = (1..).map(|n| f64::from(n) * step).take_while(|percent| *percent < 100.0);
                steps.map(|percent| shift(percent, bake)).collect()
            }
        };
        let mut plan = vec![
            stage("RECONCILE_SERVICE", 0.0, 0.0, BRISK),
            stage("PRE_SCALE_UP", 0.0, 0.0, BRISK),
            stage("SCALE_UP", 0.0, 0.0, BRISK),
            stage("POST_SCALE_UP", 0.0, 0.0, BRISK),
            stage("TEST_TRAFFIC_SHIFT", 100.0, 0.0, BRISK),
            stage("POST_TEST_TRAFFIC_SHIFT", 100.0, 0.0, BRISK),
        ];
        plan.extend(shifts);
        plan.push(stage("PRODUCTION_TRAFFIC_SHIFT", 100.0, 100.0, BRISK));
        plan.push(stage("POST_PRODUCTION_TRAFFIC_SHIFT", 100.0, 100.0, BRISK));
        plan.push(stage("BAKE_TIME", 100.0, 100.0, MINUTE * settings.bake as u32));
        plan.push(stage("CLEAN_UP", 100.0, 100.0, BRISK));
        let mut stages = Stages { plan, at: 0, since: now, hooks: settings.hooks.clone(), pauses: vec![] };
        stages.enter(0, now);
        Some(stages)
    }

    fn stage(&self) -> Stage {
        self.plan[self.at]
    }

    fn enter(&mut self, at: usize, now: Timestamp) {
        let repeated = at > 0 && self.plan[at].name == self.plan[at - 1].name;
        (self.at, self.since) = (at, now);
        self.pauses.clear();
        if repeated {
            return;
        }
        let name = self.stage().name;
        let paused = |hook: &&Value| {
            text(hook, "targetType") == "PAUSE" && texts(hook, "lifecycleStages").contains(&name)
        };
        for hook in self.hooks.iter().filter(paused) {
            let limit = &hook["timeoutConfiguration"];
            self.pauses.push(Pause {
                id: word_id(),
                expires: now + MINUTE * limit["timeoutInMinutes"].as_u64().unwrap_or(1440) as u32,
                otherwise: limit["action"].as_str().unwrap_or("ROLLBACK").to_owned(),
                status: "AWAITING_ACTION",
            });
        }
    }

    fn waiting(&self) -> bool {
        self.pauses.iter().any(|pause| pause.status == "AWAITING_ACTION")
    }

    /// Advances to `now`. `scaled` is whether the new revision's tasks are all healthy.
    pub(super) fn advance(&mut self, now: Timestamp, scaled: bool) -> Course {
        for pause in self.pauses.iter_mut().filter(|p| p.status == "AWAITING_ACTION" && p.expires <= now) {
            pause.status = "TIMED_OUT";
            if pause.otherwise == "ROLLBACK" {
                return Course::RollBack;
            }
        }
        loop {
            let stage = self.stage();
            if stage.name == "CLEAN_UP" {
                return Course::CleanUp;
            }
            let scaling = stage.name == "SCALE_UP";
            if self.waiting() || (scaling && !scaled) || self.since + stage.takes > now {
                return if scaling { Course::ScaleUp } else { Course::Going };
            }
            self.enter(self.at + 1, now);
        }
    }

    /// Answers a pause. `false` when no such pause is waiting.
    pub(super) fn answer(&mut self, id: &str) -> bool {
        let paused = self.pauses.iter_mut().find(|p| p.id == id && p.status == "AWAITING_ACTION");
        paused.map(|pause| pause.status = "SUCCEEDED").is_some()
    }

    /// Whether the number of the new revision's tasks must be maintained.
    pub(super) fn is_scaled(&self) -> bool {
        self.plan[..=self.at].iter().any(|stage| stage.name == "SCALE_UP")
    }

    /// Percent of test and production traffic on the new revision.
    pub(super) fn weights(&self) -> (f64, f64) {
        self.stage().weights
    }

    /// Shifts production traffic back.
    pub(super) fn revert(&mut self) {
        self.pauses.clear();
        self.plan[self.at].weights = (0.0, 0.0);
    }

    /// The time of the next transition.
    pub(super) fn turns(&self) -> impl Iterator<Item = Timestamp> {
        let pauses = self.pauses.iter().filter(|p| p.status == "AWAITING_ACTION").map(|p| p.expires);
        pauses.chain([self.since + self.stage().takes])
    }

    /// Adds the stage and the pauses to the API's view.
    pub(super) fn show(&self, view: &mut Value, _now: Timestamp) {
        view["lifecycleStage"] = json!(self.stage().name);
        if !self.pauses.is_empty() {
            let pause = |p: &Pause| {
                json!({
                    "hookId": p.id,
                    "targetType": "PAUSE",
                    "status": p.status,
                    "expiresAt": epoch(p.expires),
                    "timeoutAction": p.otherwise,
                })
            };
            view["lifecycleHookDetails"] = self.pauses.iter().map(pause).collect();
        }
    }
}
