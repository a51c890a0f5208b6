//! Service scheduler: a discrete-event simulation that advances to the clock's time on each access.
//!
//! The state is a function of the API calls and of the tasks' transitions up to the clock's time. Nothing changes
//! between two transitions, so nothing runs in the background.

use std::time::Duration;

use jiff::Timestamp;

use super::{
    rollout::{Phase, RolloutState},
    service::{Service, Status},
    task::Task,
    world::World,
};

/// From the request of a rollback or stop to its beginning.
const REQUEST: Duration = Duration::from_secs(2);
/// From the start of a deployment until it is `IN_PROGRESS`.
const PENDING: Duration = Duration::from_secs(1);
/// The age of a service that is created in a steady state.
const AGE: Duration = Duration::from_secs(24 * 3600);

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

    fn is_staged(&self) -> bool {
        let going = |phase| matches!(phase, Phase::Pending | Phase::InProgress);
        self.deployments.last().is_some_and(|d| d.stages.is_some() && going(d.phase))
    }

    pub(super) fn alive(&self, now: Timestamp, of: impl Fn(u64) -> bool) -> usize {
        self.tasks.iter().filter(|t| of(t.deployment) && !t.is_stopping(now)).count()
    }

    pub(super) fn healthy(&self, now: Timestamp, of: impl Fn(u64) -> bool) -> usize {
        self.tasks.iter().filter(|t| of(t.deployment) && t.is_healthy(now)).count()
    }

    /// Starts up to `wanted` tasks of the primary revision.
    pub(super) fn launch(&mut self, world: &World<'_>, wanted: usize, now: Timestamp) {
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

    pub(super) fn stop_tasks(&mut self, now: Timestamp, which: impl Fn(&Task) -> bool, reason: &str) {
        for task in self.tasks.iter_mut().filter(|t| !t.is_stopping(now) && which(t)) {
            task.stop_now(now, "ServiceSchedulerInitiated", reason.to_owned());
        }
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
