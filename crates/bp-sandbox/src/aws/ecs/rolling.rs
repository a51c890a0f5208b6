//! The order in which a deployment replaces tasks: as a rolling update, or stage by stage.

use std::time::Duration;

use jiff::Timestamp;

use super::{
    rollout::{Phase, RolloutState},
    service::Service,
    stages::Course,
    world::World,
};

/// From the success of a rolling deployment until the scheduler stops the last tasks of the previous revision. Until
/// then they are listed as running, and the rollout state is `IN_PROGRESS`.
const DRAINING: Duration = Duration::from_secs(38);

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
        let reason = format!("Scaling activity initiated by (deployment ecs-svc/{primary})");
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
        let rolling_back = self.deployments.last().is_some_and(|d| d.phase == Phase::RollbackInProgress);
        // Once all tasks of the primary revision are healthy, the old ones drain.
        let all_healthy = !rolling_back && self.healthy(now, ours) >= desired;
        while !all_healthy && !self.has_succeeded() {
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
        // A rollback is complete when no task of the rolled back revision is left.
        let cleared = !rolling_back || self.tasks.iter().all(|t| ours(t.deployment) || t.is_stopped(now));
        if !cleared || self.healthy(now, ours) != desired || self.alive(now, ours) != desired {
            return;
        }
        if self.alive(now, |n| !ours(n)) == 0 {
            self.complete(now);
        } else if !self.has_succeeded() {
            self.succeed(now);
            for task in self.tasks.iter_mut().filter(|t| !ours(t.deployment) && !t.is_stopping(now)) {
                task.stop_at(now + DRAINING, "ServiceSchedulerInitiated", reason.clone());
            }
        }
    }

    /// Whether the service deployment has succeeded; old tasks may still drain.
    fn has_succeeded(&self) -> bool {
        self.deployments.last().is_some_and(|d| d.phase == Phase::Successful && d.target == self.primary)
    }

    /// Blue/green, linear, canary: runs the new revision next to the old one until traffic has shifted.
    pub(super) fn pass_stages(&mut self, world: &World<'_>, now: Timestamp) {
        let (primary, desired) = (self.primary, self.desired as usize);
        let ours = move |number| number == primary;
        let scaled = self.healthy(now, ours) >= desired;
        let Some(stages) = self.under_way().and_then(|d| d.stages.as_mut()) else { return };
        let course = stages.advance(now, scaled);
        let keep = stages.is_scaled();
        if keep {
            let missing = desired.saturating_sub(self.alive(now, ours));
            self.launch(world, missing, now);
        }
        match course {
            Course::ScaleUp | Course::Going => {}
            Course::RollBack => {
                let reason = "Service deployment rolled back because a lifecycle hook timed out.";
                self.roll_back(reason, "Lifecycle hook:", now);
            }
            Course::CleanUp => {
                let reason = format!("Scaling activity initiated by (deployment ecs-svc/{primary})");
                self.stop_tasks(now, |t| !ours(t.deployment), &reason);
                if scaled && self.alive(now, |n| !ours(n)) == 0 {
                    self.complete(now);
                }
            }
        }
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

    /// Whether no task of an earlier revision is left.
    fn complete(&mut self, now: Timestamp) {
        let primary = self.primary;
        if self.rollout(primary).is_none_or(|rollout| rollout.state != RolloutState::InProgress) {
            return;
        }
        self.succeed(now);
        if let Some(rollout) = self.rollout_mut(primary) {
            rollout.complete(now);
        }
        self.say(now, format_args!("(deployment ecs-svc/{primary}) deployment completed."));
        self.say(now, "has reached a steady state.");
    }
}
