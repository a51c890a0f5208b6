//! Failures of a deployment: failed tasks are counted, and the circuit breaker or an alarm ends or rolls back the
//! deployment.

use std::time::Duration;

use jiff::Timestamp;

use super::{
    rollout::{Phase, Rollback, RolloutState},
    service::Service,
    task::{Failure, Task},
};

/// The maximum delay before a failed task is replaced.
const LONGEST_RETRY: Duration = Duration::from_secs(300);

impl Service {
    /// Reports failed tasks, and counts them some time later: until one of the deployment's tasks is healthy.
    pub(super) fn count_failures(&mut self, now: Timestamp) {
        let unseen = |task: &&mut Task| task.failure.is_some() && !task.reported && task.is_stopping(now);
        let mark = |task: &mut Task| {
            task.reported = true;
            task.clone()
        };
        let failed: Vec<Task> = self.tasks.iter_mut().filter(unseen).map(mark).collect();
        for task in failed {
            self.report_failure(now, &task);
            self.schedule_replacement(&task, now);
        }
        let resets = self.settings.breaker.as_ref().is_none_or(|breaker| breaker.resets);
        let due = |task: &mut Task| task.counts_at.take_if(|at| *at <= now).map(|_| task.deployment);
        let due: Vec<u64> = self.tasks.iter_mut().filter_map(due).collect();
        for number in due {
            let healthy = resets && self.tasks.iter().any(|t| t.deployment == number && t.is_healthy(now));
            let Some(rollout) = self.rollout_mut(number) else { continue };
            if healthy || rollout.state == RolloutState::Completed {
                continue;
            }
            rollout.failed += 1;
            rollout.updated = now;
            let failed = rollout.failed;
            if let Some(deployment) = self.under_way().filter(|d| d.target == number) {
                deployment.failures = failed;
            }
        }
    }

    /// Determines when a failed task is replaced and counted. Only tasks that did not start are delayed increasingly; a
    /// task that was healthy is not counted.
    fn schedule_replacement(&mut self, failed: &Task, now: Timestamp) {
        let delays = self.pace.delays();
        let Some(rollout) = self.rollout_mut(failed.deployment) else { return };
        rollout.retry_at = now + delays.replacement;
        let mut throttled = false;
        if failed.failure == Some(Failure::NotStarted) {
            rollout.streak += 1;
            if rollout.streak >= 4 {
                let pause = Duration::from_secs(5 << rollout.streak.min(8));
                rollout.retry_at = now + pause.min(LONGEST_RETRY).max(delays.replacement);
            }
            throttled = rollout.streak == 4;
        }
        if !failed.was_healthy() {
            let counts_at = now + delays.counting(rollout.failures);
            rollout.failures += 1;
            let task = self.tasks.iter_mut().find(|task| task.arn == failed.arn);
            task.into_iter().for_each(|task| task.counts_at = Some(counts_at));
        }
        if throttled {
            self.say(
                now,
                "is unable to consistently start tasks successfully. For more information, see the Troubleshooting \
                 section of the Amazon ECS Developer Guide.",
            );
        }
    }

    /// Records the images that the tasks of each revision pulled, and resets failures once one is healthy.
    pub(super) fn note_images(&mut self, now: Timestamp) {
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
                (rollout.streak, rollout.failures) = (0, 0);
                if self.settings.breaker.as_ref().is_none_or(|breaker| breaker.resets) {
                    rollout.failed = 0;
                }
            }
        }
    }

    /// Evaluates the circuit breaker and the alarms.
    pub(super) fn break_circuit(&mut self, now: Timestamp) {
        let (threshold, primary) = (self.settings.threshold(self.desired), self.primary);
        let breaker = self.settings.breaker.clone();
        let alarm_rollback = self.settings.alarm_rollback;
        let decision = self.pace.delays().decision;
        let Some(rollout) = self.rollout_mut(primary) else { return };
        let exceeded = breaker.is_some() && rollout.failed >= threshold;
        rollout.exceeded = exceeded.then(|| rollout.exceeded.unwrap_or(now));
        let tripped = rollout.exceeded.is_some_and(|at| at + decision <= now);
        let Some(deployment) = self.under_way() else { return };
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
    pub(super) fn roll_back(&mut self, reason: &str, who: &str, now: Timestamp) {
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
        // The reason of the circuit breaker or the alarm stays.
        if self.rollout(from).is_some_and(|rollout| rollout.state != RolloutState::Failed) {
            self.fail_rollout(from, &format!("{who} deployment failed."), now);
        }
        if let Some(rollout) = self.rollout_mut(to) {
            rollout.state = RolloutState::InProgress;
            rollout.reason = format!("{who} rolling back to deploymentId ecs-svc/{to}.");
            rollout.updated = now;
            (rollout.failed, rollout.failures, rollout.exceeded) = (0, 0, None);
        }
        self.primary = to;
        self.say(now, format_args!("rolling back to deployment ecs-svc/{to}."));
    }
}
