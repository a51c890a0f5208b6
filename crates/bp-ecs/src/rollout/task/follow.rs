//! Follow a one-off task by polling until it has stopped, and stop it at the deadline or when the caller cancels.

use std::{pin::pin, time::Duration};

use aws_sdk_ecs::types::Task;
use bp_artifact::{
    deploy::{Progress, run::Run},
    error::Classified,
    text::SingleLine,
};
use futures_util::future::{Either, select};
use tokio::time::Instant;

#[cfg(feature = "logs")]
use super::logs::Tail;
use super::{
    judge::{finished, is_stopped, is_stopping},
    plan::TaskPlan,
};
use crate::{
    error::Error,
    names::name_of,
    rollout::{ServiceRollout, retry::RetryBudget},
};

/// How long ECS may take to describe a new task.
const LISTING: Duration = Duration::from_secs(30);
/// How long a task may take to stop: the longest `stopTimeout` is 120 s.
const STOP: Duration = Duration::from_secs(180);
/// How long a cancelled run waits for the response of StopTask.
const RESPONSE: Duration = Duration::from_secs(10);

/// Why we stop a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Stopping {
    /// At the deadline, with the reason.
    Deadline(String),
    /// The container that counts has exited, and it is not essential.
    Finished,
}

/// The end of a followed task.
#[derive(Debug)]
pub(super) enum TaskEnd {
    Stopped {
        task: Box<Task>,
        stopping: Option<Stopping>,
    },
    /// ECS does not know it.
    Gone,
    /// It can no longer be observed; with the explanation.
    Unobserved(String),
    /// The deadline has passed, and it could not be stopped; with the explanation.
    NotStopped(String),
}

/// Follows one task.
pub(super) struct Follower<'a> {
    rollout: &'a ServiceRollout,
    plan: &'a TaskPlan,
    run: &'a mut Run,
    arn: String,
    began: Instant,
    deadline: Instant,
    stopping: Option<Stopping>,
    /// The status that was reported last.
    reported: Option<String>,
    #[cfg(feature = "logs")]
    tail: Option<Tail>,
}

impl<'a> Follower<'a> {
    pub(super) fn new(
        rollout: &'a ServiceRollout,
        plan: &'a TaskPlan,
        run: &'a mut Run,
        arn: &str,
        deadline: Instant,
    ) -> Self {
        Follower {
            #[cfg(feature = "logs")]
            tail: Tail::of(rollout, &plan.definition, &plan.container, name_of(arn)),
            rollout,
            plan,
            run,
            arn: arn.to_owned(),
            began: Instant::now(),
            deadline,
            stopping: None,
            reported: None,
        }
    }

    fn id(&self) -> &str {
        name_of(&self.arn)
    }

    /// Polls until the task has stopped or can no longer be observed.
    ///
    /// # Errors
    /// When the caller cancels: the task is stopped.
    pub(super) async fn run(mut self) -> Result<TaskEnd, Error> {
        let reporter = bp_artifact::deploy::Reporter::clone(self.run);
        let ended = match select(pin!(self.follow()), pin!(reporter.cancelled())).await {
            Either::Left((end, _)) => Some(end),
            Either::Right(_) => None,
        };
        match ended {
            Some(end) => Ok(end),
            None => Err(self.cancel().await),
        }
    }

    async fn follow(&mut self) -> TaskEnd {
        let mut retries = RetryBudget::default();
        loop {
            match self.rollout.api.task(&self.arn).await {
                Ok(Some(task)) => {
                    retries.succeeded();
                    self.report(&task);
                    #[cfg(feature = "logs")]
                    if let Some(tail) = &mut self.tail {
                        tail.read(self.run, is_stopped(&task)).await;
                    }
                    if is_stopped(&task) {
                        return TaskEnd::Stopped { task: Box::new(task), stopping: self.stopping.take() };
                    }
                    if let Some(end) = self.stop_rest(&task).await {
                        return end;
                    }
                }
                Ok(None) if self.began.elapsed() >= LISTING => return TaskEnd::Gone,
                Ok(None) => {}
                Err(error) if retries.is_exhausted(&error, self.until()) => return self.unobserved(&error),
                Err(error) => {
                    tracing::warn!(error = %SingleLine(&error), "failed to poll the task, retrying");
                }
            }
            if let Some(end) = self.deadline_passed().await {
                return end;
            }
            let slow = self.reported.as_deref() == Some("RUNNING");
            let next = bp_artifact::time::deadline(self.rollout.options.pause(slow));
            let at = if Instant::now() < self.deadline { next.min(self.deadline) } else { next };
            tokio::time::sleep_until(at).await;
        }
    }

    /// When to give up.
    fn until(&self) -> Instant {
        bp_artifact::time::after(self.deadline, STOP)
    }

    /// Reports a changed status.
    fn report(&mut self, task: &Task) {
        let status = task.last_status.clone().unwrap_or_default();
        if self.reported.as_ref() == Some(&status) {
            return;
        }
        let mut progress = Progress::default();
        progress.desired = 1;
        match status.as_str() {
            "RUNNING" => progress.running = 1,
            _ if is_stopping(task) => {}
            _ => progress.pending = 1,
        }
        progress.stage.clone_from(&status);
        self.run.progress(progress);
        self.reported = Some(status);
    }

    /// Stops the other containers when ours has exited and is not essential.
    async fn stop_rest(&mut self, task: &Task) -> Option<TaskEnd> {
        if self.stopping.is_some() || self.plan.is_essential() {
            return None;
        }
        let container = &self.plan.container;
        let code = finished(task, container)?;
        let reason = format!("container {container} has exited with code {code}");
        match self.rollout.api.stop_task(&self.arn, &reason).await {
            Ok(()) => self.stopping = Some(Stopping::Finished),
            Err(error) if error.is_retryable() => {}
            Err(error) => return Some(self.not_stopped(&reason, &error)),
        }
        None
    }

    /// Stops the task at the deadline.
    async fn deadline_passed(&mut self) -> Option<TaskEnd> {
        let now = Instant::now();
        if now < self.deadline {
            return None;
        }
        let seconds = self.deadline.duration_since(self.began).as_secs();
        let reason = format!("stopped because it had not ended after {seconds} s");
        if now >= self.until() {
            return Some(TaskEnd::NotStopped(format!(
                "task {}: {reason}, but it did not stop within {} s",
                self.id(),
                STOP.as_secs()
            )));
        }
        if self.stopping.is_none() {
            match self.rollout.api.stop_task(&self.arn, &reason).await {
                Ok(()) => {
                    self.run.notice(format!("task {} is being {reason}", self.id()));
                    self.stopping = Some(Stopping::Deadline(reason));
                }
                Err(error) if error.is_retryable() => {
                    tracing::warn!(error = %SingleLine(&error), "failed to stop the task, retrying");
                }
                Err(error) => return Some(self.not_stopped(&format!("not ended after {seconds} s"), &error)),
            }
        }
        None
    }

    fn not_stopped(&self, reason: &str, error: &Error) -> TaskEnd {
        let error = error.in_one_line();
        TaskEnd::NotStopped(format!(
            "task {}: {reason}; it could not be stopped and continues: {error}",
            self.id()
        ))
    }

    fn unobserved(&self, error: &Error) -> TaskEnd {
        let reason = error.in_one_line();
        TaskEnd::Unobserved(format!(
            "task {} ({}) continues in ECS; it could not be observed any longer: {reason}; run the same command again \
             to follow it",
            self.id(),
            name_of(self.plan.arn())
        ))
    }

    /// Stops the task of a cancelled run, and returns the error that reports it.
    async fn cancel(&self) -> Error {
        let id = self.id();
        let stop = self.rollout.api.stop_task(&self.arn, "interrupted by the caller");
        let failed = match tokio::time::timeout(RESPONSE, stop).await {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error.in_one_line()),
            Err(_) => Some(format!("no response within {} s", RESPONSE.as_secs())),
        };
        let state = match failed {
            None => format!("task {id} is being stopped"),
            Some(reason) => format!(
                "task {id} could not be stopped and continues: {reason}; run the same command again to follow it"
            ),
        };
        Error::TaskInterrupted { task: Some(id.to_owned()), state }
    }
}
