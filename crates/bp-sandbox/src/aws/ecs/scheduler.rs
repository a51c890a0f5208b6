//! Service scheduler: a discrete-event simulation that advances to the clock's time on each access.
//!
//! The state is a function of the API calls and of the tasks' transitions up to the clock's time. Nothing changes
//! between two transitions, so nothing runs in the background.

use std::time::Duration;

use jiff::Timestamp;

use super::{
    events::DEREGISTRATION,
    rolling::DRAINING,
    rollout::{Phase, RolloutState},
    service::{Service, Status},
    stages::Stages,
    task::{Launch, Task},
    world::World,
};

/// From the request of a rollback or stop to its beginning.
const REQUEST: Duration = Duration::from_secs(2);
/// From the start of a deployment until it is `IN_PROGRESS`.
const PENDING: Duration = Duration::from_secs(1);

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
        let delays = self.pace.delays();
        let primary = self.rollout(self.primary);
        let retries = primary.map(|rollout| rollout.retry_at);
        let decision = primary.and_then(|rollout| Some(rollout.exceeded? + delays.decision));
        let deployment = self.deployments.last().filter(|d| !d.phase.is_over());
        let bake = deployment.and_then(|d| Some(d.ready? + self.settings.bake_time()));
        let ends = self.deployments.last().and_then(|d| d.finished).into_iter();
        let ends = ends.flat_map(|at| [at + DRAINING - DEREGISTRATION, at + DRAINING, at + self.settling()]);
        let stages = deployment.and_then(|d| d.stages.as_ref()).into_iter().flat_map(|stages| stages.turns());
        let phases = deployment.into_iter().flat_map(|d| [d.updated + PENDING, d.updated + REQUEST]);
        let events = self.events.iter().map(|event| event.at);
        let phases = phases.chain(retries).chain(decision).chain(bake).chain(ends);
        tasks.chain(stages).chain(phases).chain(events).filter(|turn| *turn > self.clock).min()
    }

    /// Performs the scheduler's actions at the current time. Idempotent.
    pub(super) fn act(&mut self, world: &World<'_>) {
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
        self.report_registered(now);
        if self.is_pending() {
            return;
        }
        if self.is_staged() {
            self.pass_stages(world, now);
        }
        if !self.is_staged() || self.is_scaled_rolling_update() {
            self.roll(world, now);
        }
        self.note_desired_counts(now);
    }

    /// Records how many tasks the scheduler wants of each revision.
    fn note_desired_counts(&mut self, now: Timestamp) {
        for at in 0..self.rollouts.len() {
            let number = self.rollouts[at].number;
            self.rollouts[at].desired = if number == self.primary {
                self.desired
            } else {
                self.alive(now, |other| other == number) as u32
            };
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

    /// Whether this is a rolling update whose hooks have all been passed.
    fn is_scaled_rolling_update(&self) -> bool {
        let stages = self.deployments.last().and_then(|d| d.stages.as_ref());
        self.settings.is_rolling() && stages.is_some_and(Stages::is_scaled)
    }

    pub(super) fn alive(&self, now: Timestamp, of: impl Fn(u64) -> bool) -> usize {
        self.tasks.iter().filter(|t| of(t.deployment) && !t.is_stopping(now)).count()
    }

    pub(super) fn healthy(&self, now: Timestamp, of: impl Fn(u64) -> bool) -> usize {
        self.tasks.iter().filter(|t| of(t.deployment) && t.is_healthy(now)).count()
    }

    /// Starts up to `wanted` tasks of the primary revision.
    pub(super) fn launch(&mut self, world: &World<'_>, wanted: usize, now: Timestamp) {
        let target = self.target();
        let Some(rollout) = self.rollout(self.primary) else { return };
        if rollout.state == RolloutState::Failed || rollout.retry_at > now {
            return;
        }
        let launch = Launch {
            cluster: &self.cluster,
            deployment: rollout.number,
            definition: &rollout.definition,
            platform: self.platform(),
            target: target.as_ref(),
            injected: &self.injected,
            delays: self.pace.delays(),
        };
        let tasks: Vec<Task> = (0..wanted).map(|_| Task::start(world, launch, now)).collect();
        let ids: Vec<String> = tasks.iter().map(|task| task.id().to_owned()).collect();
        self.report_started(now, &ids);
        self.tasks.extend(tasks);
    }

    pub(super) fn stop_tasks(&mut self, now: Timestamp, which: impl Fn(&Task) -> bool, reason: &str) {
        let mut stopped = Vec::new();
        for task in self.tasks.iter_mut().filter(|t| !t.is_stopping(now) && which(t)) {
            if task.is_running(now) {
                stopped.push((task.deployment, task.id().to_owned()));
            }
            task.stop_now(now, "ServiceSchedulerInitiated", reason.to_owned());
        }
        self.report_stopped(now, &stopped);
    }
}
