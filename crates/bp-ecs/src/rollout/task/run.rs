//! Workflow of a one-off task: plan, start or adopt, follow, judge.

use std::sync::Arc;

use aws_sdk_ecs::types::{Task, TaskStopCode};
use bp_artifact::{
    Digest, Operation, Outcome, ResolvedImage,
    deploy::{
        Cause, DeployEvent, FailureReport, Observation, Proof, Reporter, Revision, TargetId,
        run::{Ended, Intent, Run},
    },
};

use super::{
    follow::{Follower, Stopping, TaskEnd},
    judge::{self, Judgement, judge},
    plan::TaskPlan,
    start::{self, Started},
};
use crate::{
    error::Error,
    names::name_of,
    one_off::OneOff,
    rollout::{ServiceRollout, deploy::until_cancelled},
};

/// The error of a run that was cancelled before RunTask was called.
fn not_started(error: Error) -> Error {
    if matches!(error, Error::Interrupted { .. }) { start::interrupted(false) } else { error }
}

impl ServiceRollout {
    /// Runs a task on its own tokio task. `name` is the last part of its target id.
    pub(crate) fn spawn_task(
        self: &Arc<Self>,
        name: &str,
        task: OneOff,
        image: ResolvedImage,
    ) -> Operation<DeployEvent, Result<Outcome, Error>> {
        let rollout = Arc::clone(self);
        let id = TargetId::new(format!("{}/{name}", self.id));
        Operation::spawn(move |events| async move {
            let _active = rollout.api.cluster.start_operation();
            let reporter = Reporter::new(&events, id);
            let ours = until_cancelled(rollout.with_containers(), &reporter).await.map_err(not_started)?;
            ours.run_task(&task, &image, &reporter).await.map_err(not_started)
        })
    }

    /// Runs a task to its end.
    async fn run_task(
        &self,
        task: &OneOff,
        image: &ResolvedImage,
        reporter: &Reporter,
    ) -> Result<Outcome, Error> {
        let deadline = bp_artifact::time::deadline(task.timeout.unwrap_or(self.options.deadline));
        let plan = until_cancelled(self.plan_task(task, image), reporter).await?;
        let intent = Intent::deploy(image).current(Some(plan.current.clone()));
        let mut run = Run::planned(reporter, intent);
        run.unchanged();
        let revision = Revision::new(plan.arn(), &image.reference);
        run.in_place(Some(revision.clone()));
        let (arn, adopted) = match self.start_task(&plan, task, deadline, &run).await? {
            Started::Task { arn, adopted } => (arn, adopted),
            Started::NotPlaced(failure) => {
                let detail = format!("the task was not started: {}", failure.message);
                run.failing(*failure);
                return Ok(run.ended(Ended::FailedInPlace, detail));
            }
            Started::Unknown(why) => {
                run.changed();
                return Ok(run.ended(
                    Ended::Unobserved,
                    format!("{why}; run the same command again to follow the task"),
                ));
            }
        };
        run.changed();
        run.applied(revision, format!("task {}", name_of(&arn)), adopted);
        let end = Follower::new(self, &plan, &mut run, &arn, deadline).run().await?;
        Ok(self.conclude_task(run, &plan, &arn, end).await)
    }

    /// The outcome of a task that was started.
    async fn conclude_task(&self, mut run: Run, plan: &TaskPlan, arn: &str, end: TaskEnd) -> Outcome {
        let id = name_of(arn);
        let (task, stopping) = match end {
            TaskEnd::Stopped { task, stopping } => (task, stopping),
            TaskEnd::Gone => return run.ended(Ended::Gone, format!("ECS does not know task {id}")),
            TaskEnd::Unobserved(why) => return run.ended(Ended::Unobserved, why),
            TaskEnd::NotStopped(why) => return run.ended(Ended::DeadlineExceeded, why),
        };
        let proof = self.task_proof(&task);
        let code = judge::exit_code(&task, &plan.container);
        if let Some(code) = code {
            run.exited(code);
        }
        let mut detail = format!("task {id}");
        if let (Some(Stopping::Deadline(reason)), Some(TaskStopCode::UserInitiated)) =
            (&stopping, &task.stop_code)
        {
            let failure = FailureReport::new(Cause::NoProgress, reason);
            run.failing(failure.in_container(Some(plan.container.clone()), code));
            run.observed(proof);
            return run.ended(Ended::DeadlineExceeded, format!("{detail}: {reason}"));
        }
        match judge(&task, &plan.container, matches!(stopping, Some(Stopping::Finished))) {
            Judgement::Completed(note) => {
                if let Some(note) = note {
                    detail = format!("{detail}; {note}");
                }
                if proof.observations.iter().any(|seen| seen.digest.is_none()) {
                    detail = format!("{detail}; a container reports no digest");
                }
                run.detail(detail);
                run.proven(proof)
            }
            Judgement::Stopped(reason) => {
                run.observed(proof);
                run.ended(Ended::Stopped, format!("{detail}: {reason}"))
            }
            Judgement::Failed(stopped) => {
                let mut failure = stopped.report();
                self.add_log(&mut failure, &plan.definition, Some(stopped.as_ref())).await;
                detail = format!("{detail}: {failure}");
                run.failing(failure);
                run.observed(proof);
                run.ended(Ended::FailedInPlace, detail)
            }
        }
    }

    /// The digests of our containers in a task.
    fn task_proof(&self, task: &Task) -> Proof {
        let unit = format!("task/{}", name_of(task.task_arn.as_deref().unwrap_or_default()));
        let ours = task.containers().iter().filter_map(|container| {
            let name = container.name.clone().filter(|name| self.containers.contains(name))?;
            let digest = container.image_digest.as_deref().and_then(|digest| digest.parse::<Digest>().ok());
            Some(Observation::new(unit.clone(), name, digest))
        });
        Proof::of(ours)
    }
}
