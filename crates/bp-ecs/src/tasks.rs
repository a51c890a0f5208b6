//! One-off tasks of a service: run alone, and before and after its deployments.

use bp_artifact::{ResolvedImage, text::SingleLine};
use tracing::{field::Empty, info_span};

use crate::{
    one_off::OneOff,
    target::{Deployment, EcsTarget},
};

impl EcsTarget {
    /// Runs a one-off task before each deployment that changes the service, after those that were added before. If it
    /// fails, the service is not changed, and the verdict is [`RolledBack`](bp_artifact::Verdict::RolledBack).
    ///
    /// Only [`deploy`](Self::deploy) runs it, not [`resume`](Self::resume), a restore or a rollback. A rerun of a killed
    /// run adopts the task if it still runs; if it has ended, it runs again: it must be repeatable.
    pub fn before(self, name: impl Into<String>, task: OneOff) -> Self {
        self.change(|rollout| rollout.steps.before.push((name.into(), task)))
    }

    /// Runs a one-off task after each deployment that succeeded, after those that were added before; also when the image
    /// was already deployed, because a killed run may not have run it. If it fails, the deployment has failed, and
    /// [`Options::on_failure`](crate::Options::on_failure) applies.
    ///
    /// Only [`deploy`](Self::deploy) runs it, not [`resume`](Self::resume), a restore or a rollback. It must be
    /// repeatable.
    pub fn after(self, name: impl Into<String>, task: OneOff) -> Self {
        self.change(|rollout| rollout.steps.after.push((name.into(), task)))
    }

    /// Runs a one-off task, such as a database migration, with the settings of the service, and waits until it has
    /// ended: takes the service's definition with our image in our containers, registers it or reuses an identical one
    /// as [`deploy`](Self::deploy) does, and calls RunTask with the service's network configuration, capacity provider
    /// strategy or launch type, platform version, placement, ECS managed tags, propagated tags and ECS Exec. The task is
    /// not registered with load balancers or Service Connect.
    ///
    /// The verdict is [`Deployed`](bp_artifact::Verdict::Deployed) if the container exits with code 0 and the running
    /// digest is proven. Any other exit code is [`FailedInPlace`](bp_artifact::Verdict::FailedInPlace), with the cause;
    /// [`Outcome::exit_code`](bp_artifact::Outcome::exit_code) has the code. At the deadline the task is stopped:
    /// [`DeadlineExceeded`](bp_artifact::Verdict::DeadlineExceeded). If RunTask cannot place the task and that can
    /// resolve, it is retried until the deadline.
    ///
    /// A rerun adopts a task that an earlier run started and that still runs, and does not start a second one: both
    /// have the same `startedBy`, `bp/` and a hash of cluster, service, definition (with the image), container, command,
    /// variables and sizes. RunTask is called with a `clientToken`, a hash of the request and of the previous task with
    /// the same `startedBy`, so that a lost response does not start a second task either. A task that has ended is not
    /// adopted: the next call runs it again.
    ///
    /// # Errors
    /// When the input is invalid, or AWS rejects a call or cannot be reached before a task was started. A failed task is
    /// a verdict, and so is one that was or may have been started and can no longer be observed:
    /// [`Unobserved`](bp_artifact::Verdict::Unobserved).
    ///
    /// # Permissions
    /// `ecs:DescribeServices`, `ecs:DescribeTaskDefinition`, `ecs:RegisterTaskDefinition` (`ecs:TagResource` when the
    /// definition has tags, or the service propagates its own), `iam:PassRole` on its roles, `ecs:RunTask`, `ecs:ListTasks`, `ecs:DescribeTasks`,
    /// `ecs:StopTask`; to show the log, `logs:GetLogEvents`.
    ///
    /// # Cancel safety
    /// Dropping or cancelling the operation stops the task with StopTask;
    /// [`TaskInterrupted`](crate::Error::TaskInterrupted) states whether that succeeded. A killed process stops nothing;
    /// the next call adopts the task.
    pub fn run_task(&self, image: &ResolvedImage, task: &OneOff) -> Deployment {
        let span = info_span!(
            "ecs_run_task",
            target_id = %SingleLine(&self.0.id),
            image = %image.reference,
            verdict = Empty,
        );
        span.in_scope(|| self.0.spawn_task("task", task.clone(), image.clone()))
    }
}
