//! Blue/green, linear and canary: the lifecycle stages of a service deployment, with traffic weights and hooks.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    hooks::{Functions, Hook, Refusal},
    settings::{Settings, Strategy},
};
use crate::aws::wire::texts;

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

/// The progress of the stages.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Course {
    /// The stage waits for the new revision's tasks to start.
    ScaleUp,
    /// A stage is in progress.
    Going,
    /// The old revision's tasks must stop.
    CleanUp,
    /// A hook of this stage failed, or timed out to a rollback.
    RollBack { stage: &'static str, refusal: Refusal },
}

/// The current stage and its hooks.
#[derive(Debug)]
pub(super) struct Stages {
    plan: Vec<Stage>,
    at: usize,
    /// When the current stage began.
    since: Timestamp,
    configured: Vec<Value>,
    /// The hooks of the current stage.
    hooks: Vec<Hook>,
}

impl Stages {
    /// The stages of the strategy; `None` for rolling deployments without a hook before the first task.
    pub(super) fn of(settings: &Settings, now: Timestamp) -> Option<Stages> {
        let stage = |name, test, production, takes| Stage { name, weights: (test, production), takes };
        let shift =
            |percent, minutes| stage("PRODUCTION_TRAFFIC_SHIFT", 100.0, percent, MINUTE * minutes as u32);
        let shifts = match settings.strategy {
            Strategy::Rolling => return Stages::before_scale_up(settings, now),
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
        Some(Stages::start(plan, settings, now))
    }

    /// The stages of a rolling update in which it was recorded to call hooks.
    fn before_scale_up(settings: &Settings, now: Timestamp) -> Option<Stages> {
        let has_hook =
            |name: &&str| settings.hooks.iter().any(|h| texts(h, "lifecycleStages").contains(name));
        let names = ["RECONCILE_SERVICE", "PRE_SCALE_UP"].into_iter().filter(has_hook);
        let stage = |name| Stage { name, weights: (0.0, 0.0), takes: Duration::ZERO };
        let mut plan: Vec<Stage> = names.map(stage).collect();
        if plan.is_empty() {
            return None;
        }
        plan.push(stage("SCALE_UP"));
        Some(Stages::start(plan, settings, now))
    }

    fn start(plan: Vec<Stage>, settings: &Settings, now: Timestamp) -> Stages {
        let configured = settings.hooks.clone();
        let mut stages = Stages { plan, at: 0, since: now, configured, hooks: Vec::new() };
        stages.enter(0, now);
        stages
    }

    fn stage(&self) -> Stage {
        self.plan[self.at]
    }

    fn enter(&mut self, at: usize, now: Timestamp) {
        let repeated = at > 0 && self.plan[at].name == self.plan[at - 1].name;
        (self.at, self.since) = (at, now);
        self.hooks.clear();
        if repeated {
            return;
        }
        let name = self.stage().name;
        let configured = self.configured.iter().filter(|hook| texts(hook, "lifecycleStages").contains(&name));
        self.hooks = configured.map(|hook| Hook::start(hook, now)).collect();
    }

    /// Advances to `now`. `scaled` is whether the new revision's tasks are all healthy.
    pub(super) fn advance(&mut self, functions: &Functions, now: Timestamp, scaled: bool) -> Course {
        loop {
            let stage = self.stage();
            for hook in &mut self.hooks {
                if let Err(refusal) = hook.advance(functions, now) {
                    return Course::RollBack { stage: stage.name, refusal };
                }
            }
            if stage.name == "CLEAN_UP" {
                return Course::CleanUp;
            }
            let scaling = stage.name == "SCALE_UP";
            let waiting = self.hooks.iter().any(Hook::is_waiting);
            if waiting || (scaling && !scaled) || self.since + stage.takes > now {
                return if scaling { Course::ScaleUp } else { Course::Going };
            }
            self.enter(self.at + 1, now);
        }
    }

    /// Answers a pause. `false` when no such pause is waiting.
    pub(super) fn answer(&mut self, id: &str) -> bool {
        self.hooks.iter_mut().any(|hook| hook.answer(id))
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
        self.hooks.clear();
        self.plan[self.at].weights = (0.0, 0.0);
    }

    /// The times of the next transitions.
    pub(super) fn turns(&self) -> impl Iterator<Item = Timestamp> {
        self.hooks.iter().flat_map(Hook::turns).chain([self.since + self.stage().takes])
    }

    /// Adds the stage and its hooks to the API's view.
    pub(super) fn show(&self, view: &mut Value) {
        view["lifecycleStage"] = json!(self.stage().name);
        if !self.hooks.is_empty() {
            view["lifecycleHookDetails"] = self.hooks.iter().map(Hook::view).collect();
        }
    }
}
