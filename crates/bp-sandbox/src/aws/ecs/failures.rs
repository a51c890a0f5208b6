//! Failures of a deployment: failed tasks are counted, and the circuit breaker or an alarm ends or rolls back the
//! deployment.

use std::time::Duration;

use jiff::Timestamp;

use super::{
    rollout::{Phase, Rollback, RolloutState},
    service::Service,
};

/// The maximum delay before a failed task is replaced.
const LONGEST_RETRY: Duration = Duration::from_secs(300);

impl Service {
    /// Counts failed tasks of each deployment, until one of its tasks is healthy.
    pub(super) fn count_failures(&mut self, now: Timestamp) {
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
                rollout.streak = 0;
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
}
