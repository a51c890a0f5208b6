//! The order in which a deployment replaces tasks: as a rolling update, or stage by stage.

use std::time::Duration;

use jiff::Timestamp;

use super::{
    events::DEREGISTRATION,
    hooks::Refusal,
    rollout::{Phase, RolloutState},
    service::Service,
    settings::Cleanup,
    stages::Course,
    task::Stop,
    world::World,
};

/// From the success of a rolling deployment until its rollout state is `COMPLETED`, if tasks of the previous revision
/// are left then. Until they are stopped, they are listed as running.
pub(super) const DRAINING: Duration = Duration::from_secs(38);
/// From a rollback until the rollout state is `COMPLETED`, if no task of the refused revision was started.
const SETTLING: Duration = Duration::from_secs(17);

impl Service {
    /// Rolling update: starts new tasks up to the maximum percent, stops old ones down to the minimum healthy percent.
    pub(super) fn roll(&mut self, world: &World<'_>, now: Timestamp) {
        let (primary, desired) = (self.primary, self.desired as usize);
        let ours = move |number| number == primary;
        if self.rollout(primary).is_some_and(|rollout| rollout.state == RolloutState::Failed) {
            return;
        }
        let maximum = (desired * self.settings.maximum_percent as usize / 100).max(1);
        let minimum = (desired * self.settings.minimum_healthy_percent as usize).div_ceil(100);
        let reason = self.scaling_reason();
        // Surplus tasks of the primary revision after the desired count decreased.
        let excess = self.alive(now, ours).saturating_sub(desired);
        let mut ours_first: Vec<String> = self
            .tasks
            .iter()
            .filter(|t| ours(t.deployment) && !t.is_stopping(now))
            .map(|t| t.arn.clone())
            .collect();
        ours_first.truncate(excess);
        self.stop_tasks(now, |t| ours_first.contains(&t.arn), &reason);
        // Unhealthy old tasks are stopped first; healthy ones within the minimum healthy percent.
        self.stop_tasks(now, |t| !ours(t.deployment) && !t.is_healthy(now), &reason);
        let rolling_back = self.is_rolling_back();
        // Once all tasks of the primary revision are healthy, the old ones drain.
        let all_healthy = !rolling_back && self.healthy(now, ours) >= desired;
        while !all_healthy && !self.has_ended() {
            let (alive, old) = (self.alive(now, |_| true), self.alive(now, |n| !ours(n)));
            let crowded = alive > desired && self.healthy(now, ours) + old > desired;
            let blocked = self.alive(now, ours) < desired && alive >= maximum;
            let spare = self.healthy(now, |_| true) > minimum;
            if old == 0 || !spare || !(crowded || blocked) {
                break;
            }
            let oldest = self
                .tasks
                .iter()
                .filter(|t| !ours(t.deployment) && !t.is_stopping(now))
                .map(|t| t.arn.clone())
                .next();
            self.stop_tasks(now, |t| Some(&t.arn) == oldest.as_ref(), &reason);
        }
        let room = maximum.saturating_sub(self.alive(now, |_| true));
        let missing = desired.saturating_sub(self.alive(now, ours));
        self.launch(world, missing.min(room), now);
        self.end_rolling_update(now);
    }

    /// Ends a rolling update whose tasks are healthy, and stops the last tasks of the previous revision.
    fn end_rolling_update(&mut self, now: Timestamp) {
        let (primary, desired) = (self.primary, self.desired as usize);
        let ours = move |number| number == primary;
        let steady = self.healthy(now, ours) == desired && self.alive(now, ours) == desired;
        // A rollback is complete when no task of the rolled back revision is left.
        let cleared = self.tasks.iter().all(|t| ours(t.deployment) || t.is_stopped(now));
        if !self.has_ended() {
            let done = if self.is_rolling_back() {
                steady && cleared
            } else if let Some(criteria) = &self.settings.early_success {
                let (goal, blocking) = (criteria.goal(self.desired), criteria.cleanup == Cleanup::Blocking);
                let ready = self.is_ready(now, self.healthy(now, ours) >= goal as usize);
                if ready && blocking {
                    self.stop_tasks(now, |t| !ours(t.deployment), &self.scaling_reason());
                }
                ready && (!blocking || self.tasks.iter().all(|t| ours(t.deployment) || t.is_stopped(now)))
            } else {
                steady
            };
            if !done {
                return;
            }
            self.succeed(now);
        }
        let finished = self.deployments.last().and_then(|deployment| deployment.finished);
        let since = |delay: Duration| finished.is_none_or(|finished| finished + delay <= now);
        let deregistration = if self.target().is_some() { DEREGISTRATION } else { Duration::ZERO };
        if self.alive(now, |n| !ours(n)) > 0 && since(DRAINING - deregistration) {
            self.stop_tasks(now, |t| !ours(t.deployment), &self.scaling_reason());
        }
        let rolled_back = self.deployments.last().is_some_and(|d| d.phase == Phase::RollbackSuccessful);
        let settled = if rolled_back { since(self.settling()) } else { !self.is_deregistering(now) };
        if settled && steady && self.alive(now, |n| !ours(n)) == 0 {
            self.complete(now);
        }
    }

    /// Whether targets of stopped tasks of earlier revisions are still registered.
    fn is_deregistering(&self, now: Timestamp) -> bool {
        let recent = |stop: &Stop| stop.at <= now && now < stop.at + DEREGISTRATION;
        let mut old = self.tasks.iter().filter(|task| task.registered && task.deployment != self.primary);
        old.any(|task| task.stop.as_ref().is_some_and(recent))
    }

    /// Whether the early success criteria have been met for the bake time.
    fn is_ready(&mut self, now: Timestamp, met: bool) -> bool {
        let bake = self.settings.bake_time();
        let Some(deployment) = self.under_way() else { return false };
        deployment.ready = met.then(|| deployment.ready.unwrap_or(now));
        deployment.ready.is_some_and(|ready| ready + bake <= now)
    }

    /// From the end of a rollback until its rollout state is `COMPLETED`.
    pub(super) fn settling(&self) -> Duration {
        let target = self.deployments.last().map(|deployment| deployment.target);
        let had_tasks = self.tasks.iter().any(|task| Some(task.deployment) == target);
        if had_tasks { self.pace.delays().settling } else { SETTLING }
    }

    fn scaling_reason(&self) -> String {
        format!("Scaling activity initiated by (deployment ecs-svc/{})", self.primary)
    }

    fn is_rolling_back(&self) -> bool {
        self.deployments.last().is_some_and(|d| d.phase == Phase::RollbackInProgress)
    }

    /// Whether the service deployment has succeeded; old tasks may still drain.
    fn has_ended(&self) -> bool {
        let last = self.deployments.last();
        last.is_some_and(|d| matches!(d.phase, Phase::Successful | Phase::RollbackSuccessful))
    }

    /// Blue/green, linear, canary: runs the new revision next to the old one until traffic has shifted. A rolling update
    /// has only the stages before its first task.
    pub(super) fn pass_stages(&mut self, world: &World<'_>, now: Timestamp) {
        let (primary, desired) = (self.primary, self.desired as usize);
        let ours = move |number| number == primary;
        let rolling = self.settings.is_rolling();
        let scaled = !rolling && self.healthy(now, ours) >= desired;
        let Some(stages) = self.under_way().and_then(|d| d.stages.as_mut()) else { return };
        let course = stages.advance(world.functions, now, scaled);
        let keep = !rolling && stages.is_scaled();
        if keep {
            let missing = desired.saturating_sub(self.alive(now, ours));
            self.launch(world, missing, now);
        }
        match course {
            Course::ScaleUp | Course::Going => {}
            Course::RollBack { stage, refusal } => self.refuse(stage, &refusal, now),
            Course::CleanUp => {
                self.stop_tasks(now, |t| !ours(t.deployment), &self.scaling_reason());
                if scaled && self.alive(now, |n| !ours(n)) == 0 {
                    self.succeed(now);
                    self.complete(now);
                }
            }
        }
    }

    /// Rolls back because a lifecycle hook failed or timed out.
    fn refuse(&mut self, stage: &str, refusal: &Refusal, now: Timestamp) {
        let reason = match refusal {
            Refusal::Failed(arn) => format!(
                "Service deployment rolled back because {stage} lifecycle hook(s) failed. Lifecycle hook target {arn} \
                 returned FAILED status."
            ),
            Refusal::TimedOut => {
                "Service deployment rolled back because a lifecycle hook timed out.".to_owned()
            }
        };
        self.say(now, format_args!("deployment failed: {reason}"));
        self.roll_back(&reason, "Lifecycle hook:", now);
    }

    /// Marks the primary revision as completed: its deployment ends, and a rollback may return to it.
    fn succeed(&mut self, now: Timestamp) {
        if let Some(rollout) = self.rollout_mut(self.primary) {
            rollout.completed = true;
            rollout.failed = 0;
        }
        if let Some(deployment) = self.under_way() {
            let end = if deployment.phase.is_rolling_back() {
                Phase::RollbackSuccessful
            } else {
                Phase::Successful
            };
            deployment.enter(end, None, now);
        }
    }

    /// The service is steady: no task of an earlier revision is left.
    fn complete(&mut self, now: Timestamp) {
        let primary = self.primary;
        if self.rollout(primary).is_none_or(|rollout| rollout.state != RolloutState::InProgress) {
            return;
        }
        if let Some(rollout) = self.rollout_mut(primary) {
            rollout.complete(now);
        }
        self.say(now, format_args!("(deployment ecs-svc/{primary}) deployment completed."));
        self.say(now, "has reached a steady state.");
    }
}
