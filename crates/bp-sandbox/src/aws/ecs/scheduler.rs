//! Service scheduler: a discrete-event simulation that advances to the clock's time on each access.
//!
//! The state is a function of the API calls and of the tasks' transitions up to the clock's time. Nothing changes
//! between two transitions, so nothing runs in the background.

use std::time::Duration;

use jiff::Timestamp;

use super::{
    rollout::{Phase, Rollback, RolloutState},
    service::{Service, Status},
    stages::Course,
    task::Task,
    world::World,
};

/// From the request of a rollback or stop to its beginning.
const REQUEST: Duration = Duration::from_secs(2);
/// From the start of a deployment until it is `IN_PROGRESS`.
const PENDING: Duration = Duration::from_secs(1);
/// From the success of a rolling deployment until the scheduler stops the last tasks of the previous revision. Until
/// then they are listed as running, and the rollout state is `IN_PROGRESS`.
const DRAINING: Duration = Duration::from_secs(38);
/// The age of a service that is created in a steady state.
const AGE: Duration = Duration::from_secs(24 * 3600);
/// The maximum delay before a failed task is replaced.
const LONGEST_RETRY: Duration = Duration::from_secs(300);

impl Service {
    /// Performs all transitions up to `until`.
    pub(super) fn advance(&mut self, world: &World<'_>, until: Timestamp) {
        loop {
            self.act(world);
            match self.next_turn().filter(|turn| *turn <= until) {
                Some(turn) => self.clock = turn,
                None => break,
            }
        }
        self.clock = self.clock.max(until);
    }

    fn next_turn(&self) -> Option<Timestamp> {
        let tasks = self.tasks.iter().flat_map(Task::turns);
        let retries = self.rollout(self.primary).map(|rollout| rollout.retry_at);
        let deployment = self.deployments.last().filter(|d| !d.phase.is_over());
        let stages = deployment.and_then(|d| d.stages.as_ref()).into_iter().flat_map(|stages| stages.turns());
        let phases = deployment.into_iter().flat_map(|d| [d.updated + PENDING, d.updated + REQUEST]);
        tasks.chain(retries).chain(stages).chain(phases).filter(|turn| *turn > self.clock).min()
    }

    /// Performs the scheduler's actions at the current time. Idempotent.
    fn act(&mut self, world: &World<'_>) {
        let now = self.clock;
        self.tasks.retain(|task| !task.is_forgotten(now));
        match self.status {
            Status::Inactive => return,
            Status::Draining => return self.drain(now),
            Status::Active => {}
        }
        self.turn_phase(now);
        self.count_failures(now);
        self.note_images(now);
        self.break_circuit(now);
        if self.is_staged() {
            self.pass_stages(world, now);
        } else {
            self.roll(world, now);
        }
    }

    fn drain(&mut self, now: Timestamp) {
        self.stop_tasks(now, |_| true, "Scaling activity initiated by service deletion");
        if self.tasks.iter().all(|task| task.is_stopped(now)) {
            self.status = Status::Inactive;
        }
    }

    /// Starts requested stops and rollbacks, and pending deployments.
    fn turn_phase(&mut self, now: Timestamp) {
        let Some(deployment) = self.under_way() else { return };
        match deployment.phase {
            Phase::Pending if deployment.updated + PENDING <= now => {
                deployment.enter(Phase::InProgress, None, now);
            }
            Phase::StopRequested if deployment.updated + REQUEST <= now => {
                deployment.enter(
                    Phase::Stopped,
                    Some("Service deployment was stopped by the user.".into()),
                    now,
                );
            }
            Phase::RollbackRequested if deployment.updated + REQUEST <= now => {
                let reason = "Service deployment rolled back because of a user request.";
                self.roll_back(reason, "Rollback requested by the user:", now);
            }
            _ => {}
        }
    }

    /// Counts failed tasks of each deployment, until one of its tasks is healthy.
    fn count_failures(&mut self, now: Timestamp) {
        let failed: Vec<(u64, String)> = self
            .tasks
            .iter_mut()
            .filter(|task| task.fails && !task.counted && task.is_stopping(now))
            .map(|task| {
                task.counted = true;
                (task.deployment, task.stop.as_ref().map(|s| s.reason.clone()).unwrap_or_default())
            })
            .collect();
        let resets = self.settings.breaker.as_ref().is_none_or(|breaker| breaker.resets);
        for (number, reason) in failed {
            let healthy = resets && self.tasks.iter().any(|t| t.deployment == number && t.is_healthy(now));
            if reason.contains("health checks") {
                self.say(now, format_args!("({}) failed: {reason}.", "task"));
            }
            let Some(rollout) = self.rollout_mut(number) else { continue };
            rollout.streak += 1;
            let pause = Duration::from_secs(5 << rollout.streak.min(8));
            rollout.retry_at =
                now + if rollout.streak < 4 { Duration::ZERO } else { pause.min(LONGEST_RETRY) };
            rollout.updated = now;
            if healthy || rollout.state == RolloutState::Completed {
                continue;
            }
            rollout.failed += 1;
            let (failures, streak) = (rollout.failed, rollout.streak);
            if let Some(deployment) = self.under_way().filter(|d| d.target == number) {
                deployment.failures = failures;
            }
            if streak == 4 {
                self.say(
                    now,
                    "is unable to consistently start tasks successfully. For more information, see the \
                     Troubleshooting section of the Amazon ECS Developer Guide.",
                );
            }
        }
    }

    /// Records the images that the tasks of each revision pulled, and resets failures once one is healthy.
    fn note_images(&mut self, now: Timestamp) {
        for at in 0..self.rollouts.len() {
            let number = self.rollouts[at].number;
            let running = self.tasks.iter().find(|t| t.deployment == number && t.is_running(now));
            if let Some(task) = running.filter(|_| self.rollouts[at].images.is_empty()) {
                let pulled =
                    task.images().filter_map(|(n, i, d)| Some((n.to_owned(), i.to_owned(), d?.to_owned())));
                self.rollouts[at].images = pulled.collect();
            }
            if self.tasks.iter().any(|t| t.deployment == number && t.is_healthy(now)) {
                let rollout = &mut self.rollouts[at];
                rollout.streak = 0;
                if self.settings.breaker.as_ref().is_none_or(|breaker| breaker.resets) {
                    rollout.failed = 0;
                }
            }
        }
    }

    /// Evaluates the circuit breaker and the alarms.
    fn break_circuit(&mut self, now: Timestamp) {
        let (threshold, primary) = (self.settings.threshold(self.desired), self.primary);
        let breaker = self.settings.breaker.clone();
        let alarm_rollback = self.settings.alarm_rollback;
        let failed = self.rollout(primary).map_or(0, |rollout| rollout.failed);
        let Some(deployment) = self.under_way() else { return };
        let tripped = breaker.is_some() && failed >= threshold;
        if deployment.phase == Phase::RollbackInProgress {
            if tripped {
                let reason = "The rollback failed: tasks of the previous revision failed to start.";
                deployment.enter(Phase::RollbackFailed, Some(reason.into()), now);
                self.fail_rollout(primary, "ECS deployment circuit breaker: tasks failed to start.", now);
            }
            return;
        }
        if deployment.phase != Phase::InProgress && deployment.phase != Phase::Pending {
            return;
        }
        let (who, reason, rollback) = if tripped {
            deployment.triggered = true;
            let rollback = breaker.is_some_and(|breaker| breaker.rollback);
            ("ECS deployment circuit breaker:", "the circuit breaker threshold was exceeded", rollback)
        } else if !deployment.alarms.is_empty() {
            ("ECS deployment alarm:", "an alarm was triggered", alarm_rollback)
        } else {
            return;
        };
        let what = if tripped { "tasks failed to start." } else { "alarm detected." };
        self.say(now, format_args!("(deployment ecs-svc/{primary}) deployment failed: {what}"));
        self.fail_rollout(primary, &format!("{who} {what}"), now);
        if rollback {
            self.roll_back(&format!("Service deployment rolled back because {reason}."), who, now);
        } else if let Some(deployment) = self.under_way() {
            let reason = format!("Service deployment stopped because {reason}.");
            deployment.enter(Phase::Stopped, Some(reason), now);
        }
    }

    fn fail_rollout(&mut self, number: u64, reason: &str, now: Timestamp) {
        if let Some(rollout) = self.rollout_mut(number) {
            rollout.state = RolloutState::Failed;
            rollout.reason = reason.to_owned();
            rollout.updated = now;
        }
    }

    /// Rolls back to the last completed revision, which keeps its deployment id.
    fn roll_back(&mut self, reason: &str, who: &str, now: Timestamp) {
        let from = self.primary;
        let candidate = self.rollouts.iter().rev().find(|r| r.completed && r.number != from);
        let Some(to) = candidate.map(|rollout| rollout.number) else {
            let reason = "No rollback candidate was found to run the rollback.".to_owned();
            if let Some(deployment) = self.under_way() {
                deployment.enter(Phase::RollbackFailed, Some(reason), now);
            }
            return;
        };
        if let Some(deployment) = self.under_way() {
            deployment.enter(Phase::RollbackInProgress, Some(reason.to_owned()), now);
            deployment.rollback = Some(Rollback { reason: reason.to_owned(), at: now, to });
            if let Some(stages) = &mut deployment.stages {
                stages.revert();
            }
        }
        self.fail_rollout(from, &format!("{who} deployment failed."), now);
        if let Some(rollout) = self.rollout_mut(to) {
            rollout.state = RolloutState::InProgress;
            rollout.reason = format!("{who} rolling back to deploymentId ecs-svc/{to}.");
            rollout.updated = now;
            rollout.failed = 0;
        }
        self.primary = to;
        self.say(now, format_args!("rolling back to deployment ecs-svc/{to}."));
    }

    fn is_staged(&self) -> bool {
        let going = |phase| matches!(phase, Phase::Pending | Phase::InProgress);
        self.deployments.last().is_some_and(|d| d.stages.is_some() && going(d.phase))
    }

    fn alive(&self, now: Timestamp, of: impl Fn(u64) -> bool) -> usize {
        self.tasks.iter().filter(|t| of(t.deployment) && !t.is_stopping(now)).count()
    }

    fn healthy(&self, now: Timestamp, of: impl Fn(u64) -> bool) -> usize {
        self.tasks.iter().filter(|t| of(t.deployment) && t.is_healthy(now)).count()
    }

    /// Starts up to `wanted` tasks of the primary revision.
    fn launch(&mut self, world: &World<'_>, wanted: usize, now: Timestamp) {
        let target_group = self.target_group();
        let Some(rollout) = self.rollout(self.primary) else { return };
        if rollout.state == RolloutState::Failed || rollout.retry_at > now {
            return;
        }
        let start = |_| {
            Task::start(
                world,
                &self.cluster,
                rollout.number,
                &rollout.definition,
                target_group.as_deref(),
                now,
            )
        };
        let tasks: Vec<Task> = (0..wanted).map(start).collect();
        if !tasks.is_empty() {
            let ids: Vec<String> = tasks.iter().map(|t| format!("(task {})", t.id())).collect();
            self.say(now, format_args!("has started {} tasks: {}.", tasks.len(), ids.join(" ")));
        }
        self.tasks.extend(tasks);
    }

    fn stop_tasks(&mut self, now: Timestamp, which: impl Fn(&Task) -> bool, reason: &str) {
        for task in self.tasks.iter_mut().filter(|t| !t.is_stopping(now) && which(t)) {
            task.stop_now(now, "ServiceSchedulerInitiated", reason.to_owned());
        }
    }

    /// Rolling update: starts new tasks up to the maximum percent, stops old ones down to the minimum healthy percent.
    fn roll(&mut self, world: &World<'_>, now: Timestamp) {
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
    fn pass_stages(&mut self, world: &World<'_>, now: Timestamp) {
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

    /// Skips the start of the first tasks, for a service that is created in a steady state.
    pub(super) fn settle(&mut self, world: &World<'_>) {
        let now = self.clock;
        self.act(world);
        self.tasks = std::mem::take(&mut self.tasks).into_iter().map(|task| task.steady(now)).collect();
        self.act(world);
        self.backdate(AGE);
    }
}
