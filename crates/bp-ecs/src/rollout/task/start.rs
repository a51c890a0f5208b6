//! Start a one-off task, or adopt one that an earlier run of the same task started.

use std::{pin::pin, time::Duration};

use aws_sdk_ecs::{
    operation::run_task::builders::RunTaskFluentBuilder,
    types::{ContainerOverride, DesiredStatus, KeyValuePair, PropagateTags, Task, TaskOverride},
};
use bp_artifact::{
    Digest,
    deploy::{FailureReport, run::Run},
    error::Classified,
    text::SingleLine,
};
use futures_util::future::{Either, select};
use serde_json::json;
use tokio::time::Instant;

use super::{
    judge::{is_stopped, is_stopping},
    placement,
    plan::TaskPlan,
};
use crate::{
    error::Error,
    names::name_of,
    one_off::OneOff,
    rollout::{ServiceRollout, deploy::until_cancelled, retry::RetryBudget},
};

/// The prefix of `startedBy`. With the hash it has 35 of the 36 characters that old versions of the API accept.
const PREFIX: &str = "bp/";
const HASH: usize = 32;
/// How long a cancelled run waits for the response of RunTask.
const RESPONSE: Duration = Duration::from_secs(10);

/// The result of starting a task.
pub(super) enum Started {
    Task {
        arn: String,
        adopted: bool,
    },
    /// RunTask did not place it.
    NotPlaced(Box<FailureReport>),
    /// RunTask was sent, and its result is unknown.
    Unknown(String),
}

/// What RunTask returned.
enum Answer {
    Task(String),
    Failed(FailureReport),
}

impl ServiceRollout {
    /// Adopts the running task of the same key, or starts one. On an error nothing was started.
    pub(super) async fn start_task(
        &self,
        plan: &TaskPlan,
        task: &OneOff,
        deadline: Instant,
        run: &Run,
    ) -> Result<Started, Error> {
        let key = self.key(plan, task);
        let mut reported = None;
        let mut attempt = 0;
        let mut previous = match until_cancelled(self.earlier(&key, deadline, run), run).await? {
            Earlier::Running(arn) => return Ok(Started::Task { arn, adopted: true }),
            Earlier::Ended(task) => task,
        };
        loop {
            let call = self.request(plan, task, &key);
            let token = token(&call, &key, previous.as_deref(), attempt);
            match self.send(call.client_token(token), deadline, run).await? {
                Ok(Answer::Task(arn)) => {
                    // The token of a task that ECS no longer lists may return that task.
                    let is_old = matches!(self.api.task(&arn).await, Ok(Some(task)) if is_stopped(&task));
                    if !is_old || previous.as_ref() == Some(&arn) {
                        return Ok(Started::Task { arn, adopted: false });
                    }
                    previous = Some(arn);
                }
                Ok(Answer::Failed(failure)) => {
                    if !failure.cause.is_recoverable() || Instant::now() >= deadline {
                        return Ok(Started::NotPlaced(Box::new(failure)));
                    }
                    if reported.as_ref() != Some(&failure.message) {
                        run.notice(format!(
                            "the task is not placed yet, retrying until the deadline: {failure}"
                        ));
                        reported = Some(failure.message);
                    }
                    attempt += 1;
                    pause(bp_artifact::time::deadline(self.options.pause(true)).min(deadline), run).await?;
                }
                Err(why) => return Ok(Started::Unknown(why)),
            }
        }
    }

    /// The `startedBy` of a task: the same for each run of the same task.
    fn key(&self, plan: &TaskPlan, task: &OneOff) -> String {
        let identity = json!([
            name_of(&self.api.cluster.name),
            name_of(&self.api.service),
            plan.definition.fingerprint(),
            plan.container,
            task.command,
            task.variables,
            task.cpu,
            task.memory,
        ]);
        format!("{PREFIX}{}", &Digest::sha256(identity.to_string()).hex()[..HASH])
    }

    /// Finds the task of an earlier run. One that is stopping is waited for.
    async fn earlier(&self, key: &str, deadline: Instant, run: &Run) -> Result<Earlier, Error> {
        let mut reported = false;
        loop {
            let running = self.api.tasks_started_by(key, DesiredStatus::Running).await?;
            if let Some(arn) = newest(running.iter().filter(|task| !is_stopping(task))) {
                return Ok(Earlier::Running(arn));
            }
            let stopped = self.api.tasks_started_by(key, DesiredStatus::Stopped).await?;
            let Some(stopping) = newest(stopped.iter().chain(&running).filter(|task| !is_stopped(task)))
            else {
                return Ok(Earlier::Ended(newest(stopped.iter())));
            };
            if Instant::now() >= deadline {
                return Ok(Earlier::Running(stopping));
            }
            if !reported {
                run.notice(format!("waiting for the earlier task {} to stop", name_of(&stopping)));
                reported = true;
            }
            tokio::time::sleep(self.options.pause(false)).await;
        }
    }

    /// The call, with the network, capacity, placement, tags and access of the service.
    fn request(&self, plan: &TaskPlan, task: &OneOff, key: &str) -> RunTaskFluentBuilder {
        let service = &plan.service;
        let network = service.network_configuration.clone().filter(|_| plan.definition.is_awsvpc());
        let call = self.api.client().run_task().cluster(&self.api.cluster.name).task_definition(plan.arn());
        let call = call
            .started_by(key)
            .set_network_configuration(network)
            .set_platform_version(service.platform_version.clone())
            .set_placement_constraints(given(service.placement_constraints()))
            .set_placement_strategy(given(service.placement_strategy()))
            .enable_ecs_managed_tags(service.enable_ecs_managed_tags)
            .enable_execute_command(service.enable_execute_command)
            .set_propagate_tags(plan.tags.of_definition.then_some(PropagateTags::TaskDefinition))
            .set_tags(given(&plan.tags.own))
            .set_overrides(overrides(task, &plan.container));
        // RunTask accepts only one of the two. Without both, it uses the cluster's default.
        match given(service.capacity_provider_strategy()) {
            Some(strategy) => call.set_capacity_provider_strategy(Some(strategy)),
            None => call.set_launch_type(service.launch_type.clone()),
        }
    }

    /// Sends the call, and again while the API is overloaded or unreachable: the client token makes that safe. The inner
    /// error states that the result is unknown.
    async fn send(
        &self,
        call: RunTaskFluentBuilder,
        deadline: Instant,
        run: &Run,
    ) -> Result<Result<Answer, String>, Error> {
        let mut retries = RetryBudget::default();
        let mut maybe_started = false;
        loop {
            if run.is_cancelled() {
                return Err(interrupted(maybe_started));
            }
            let sent = match select(pin!(call.clone().send()), pin!(late(run))).await {
                Either::Left((sent, _)) => sent,
                Either::Right(_) => return Err(interrupted(true)),
            };
            let error = match sent {
                Ok(response) => {
                    let started = response.tasks().first().and_then(|task| task.task_arn.clone());
                    let answer = started.map(Answer::Task);
                    return Ok(Ok(
                        answer.unwrap_or_else(|| Answer::Failed(placement::report(response.failures())))
                    ));
                }
                Err(error) => self.api.error("ecs:RunTask", error),
            };
            if let Some(failure) = placement::report_of_error(&error) {
                return Ok(Ok(Answer::Failed(failure)));
            }
            maybe_started |= error.may_have_been_handled();
            let is_over = !error.is_retryable() || retries.is_exhausted(&error, deadline);
            if is_over && maybe_started {
                let reason = error.in_one_line();
                return Ok(Err(format!(
                    "ecs:RunTask was sent, and whether it started a task could not be observed: {reason}"
                )));
            }
            if is_over {
                return Err(error);
            }
            tracing::warn!(error = %SingleLine(&error), "failed to run the task, retrying");
            let until = bp_artifact::time::deadline(self.options.pause(false));
            pause(until, run).await.map_err(|_| interrupted(maybe_started))?;
        }
    }
}

/// Waits until this time, unless the run is cancelled before.
async fn pause(until: Instant, run: &Run) -> Result<(), Error> {
    let wait = async {
        tokio::time::sleep_until(until).await;
        Ok(())
    };
    until_cancelled(wait, run).await
}

/// The error of a run that was cancelled before it followed a task.
pub(super) fn interrupted(maybe_started: bool) -> Error {
    let state = if maybe_started {
        "whether the task was started is unknown: run the same command again to follow it"
    } else {
        "no task was started"
    };
    Error::TaskInterrupted { task: None, state: state.to_owned() }
}

/// The task of an earlier run.
enum Earlier {
    Running(String),
    /// None runs; the newest one that has ended, while ECS lists it.
    Ended(Option<String>),
}

/// Completes some time after the run was cancelled.
async fn late(run: &Run) {
    run.cancelled().await;
    tokio::time::sleep(RESPONSE).await;
}

/// A token that is the same for a repeated call, and another one once the task of the previous call has ended.
fn token(call: &RunTaskFluentBuilder, key: &str, previous: Option<&str>, attempt: u32) -> String {
    let request = format!("{:?}", call.as_input());
    Digest::sha256(json!([request, key, previous, attempt]).to_string()).hex().to_owned()
}

fn newest<'a>(tasks: impl Iterator<Item = &'a Task>) -> Option<String> {
    tasks.max_by_key(|task| task.created_at.map(|at| (at.secs(), at.subsec_nanos())))?.task_arn.clone()
}

fn given<T: Clone>(items: &[T]) -> Option<Vec<T>> {
    (!items.is_empty()).then(|| items.to_vec())
}

fn overrides(task: &OneOff, container: &str) -> Option<TaskOverride> {
    let variables =
        task.variables.iter().map(|(name, value)| KeyValuePair::builder().name(name).value(value).build());
    let variables: Vec<KeyValuePair> = variables.collect();
    let has_own = !task.command.is_empty() || !variables.is_empty();
    let own = has_own.then(|| {
        ContainerOverride::builder()
            .name(container)
            .set_command(given(&task.command))
            .set_environment(given(&variables))
            .build()
    });
    (own.is_some() || task.cpu.is_some() || task.memory.is_some()).then(|| {
        TaskOverride::builder()
            .set_container_overrides(own.map(|own| vec![own]))
            .set_cpu(task.cpu.clone())
            .set_memory(task.memory.clone())
            .build()
    })
}
