//! A deployment with one-off tasks before and after it, and with scheduled tasks.

use std::sync::Arc;

use bp_artifact::{
    Operation, Outcome, ResolvedImage, Verdict,
    deploy::{
        DeployEvent, OnFailure, Reporter, Revision,
        run::{Ended, Run},
    },
};

#[cfg(feature = "schedules")]
use crate::schedules::Entry;
use crate::{
    error::Error,
    one_off::OneOff,
    rollout::{RollbackChecked, ServiceRollout, step::StepFailed, until_cancelled},
};

impl ServiceRollout {
    /// Deploys `image`, with the tasks before and after it and the scheduled tasks.
    pub(crate) fn spawn_with_steps(
        self: &Arc<Self>,
        image: ResolvedImage,
        checked: RollbackChecked,
    ) -> Operation<DeployEvent, Result<Outcome, Error>> {
        let rollout = Arc::clone(self);
        Operation::spawn(move |events| async move {
            let reporter = Reporter::new(&events, rollout.id.clone());
            let ours = until_cancelled(rollout.with_containers(), &reporter).await?;
            ours.deploy_with_steps(&image, checked, &reporter).await
        })
    }

    async fn deploy_with_steps(
        self: &Arc<Self>,
        image: &ResolvedImage,
        checked: RollbackChecked,
        reporter: &Reporter,
    ) -> Result<Outcome, Error> {
        let plan = until_cancelled(self.plan(image, checked, reporter), reporter).await?;
        let previous = plan.previous().clone();
        #[cfg(feature = "schedules")]
        let entries = until_cancelled(self.movable(plan.service(), &plan.definitions()), reporter).await?;
        #[cfg(feature = "schedules")]
        let previous = previous.with_schedules(entries.iter().map(Entry::recorded).collect());
        let mut run = plan.run_from(previous.clone(), image, reporter);
        if plan.changes() {
            for (name, task) in &self.steps.before {
                let why = match self.step(&mut run, "before", name, task, image).await? {
                    None => continue,
                    Some(why) => why,
                };
                run.unchanged();
                run.in_place(Some(previous));
                let unchanged = |why: String| format!("{why}; the service was not changed");
                return Ok(match why {
                    StepFailed::Unobserved(why) => run.ended(Ended::Unobserved, unchanged(why)),
                    StepFailed::Failed(why) => run.ended(Ended::RolledBack, unchanged(why)),
                });
            }
        }
        let deployed = run.nested_with(self.spawn_deploy(image.clone()), Some).await?;
        if deployed.changed {
            run.changed()
        } else {
            run.unchanged()
        }
        run.in_place(deployed.revision.clone());
        run.observed(deployed.proof.clone());
        if let Some(failure) = deployed.failure.clone() {
            run.failing(failure);
        }
        if let Some(ended) = Ended::of(deployed.verdict()) {
            #[cfg(feature = "schedules")]
            if !entries.is_empty() {
                run.notice("the scheduled tasks were not changed");
            }
            return Ok(run.ended(ended, deployed.detail));
        }
        for (name, task) in &self.steps.after {
            match self.step(&mut run, "after", name, task, image).await? {
                None => {}
                Some(StepFailed::Unobserved(why)) => return Ok(run.ended(Ended::Unobserved, why)),
                Some(StepFailed::Failed(why)) => return self.after_failed(run, previous, why).await,
            }
        }
        #[cfg(feature = "schedules")]
        if let Some(revision) = &deployed.revision {
            let moving = async { Ok(self.move_schedules(&mut run, &entries, &revision.id).await) };
            match until_cancelled(moving, reporter).await? {
                Ok(schedules) => run.in_place(Some(revision.clone().with_schedules(schedules))),
                Err(StepFailed::Unobserved(why)) => return Ok(run.ended(Ended::Unobserved, why)),
                Err(StepFailed::Failed(why)) => return self.after_failed(run, previous, why).await,
            }
        }
        run.detail(deployed.detail);
        Ok(run.proven(deployed.proof))
    }

    fn spawn_deploy(
        self: &Arc<Self>,
        image: ResolvedImage,
    ) -> Operation<DeployEvent, Result<Outcome, Error>> {
        let (rollout, id) = (Arc::clone(self), self.id.clone());
        Operation::spawn(move |events| async move {
            let _active = rollout.api.cluster.start_operation();
            let reporter = Reporter::new(&events, id);
            // The plan checked the rollback revision, before the tasks.
            let work = rollout.deploy(&image, RollbackChecked::ByCaller, &reporter);
            until_cancelled(work, &reporter).await
        })
    }

    /// Runs a task as a part of the deployment.
    async fn step(
        self: &Arc<Self>,
        run: &mut Run,
        when: &str,
        name: &str,
        task: &OneOff,
        image: &ResolvedImage,
    ) -> Result<Option<StepFailed>, Error> {
        run.notice(format!("running the task {name} {when} the deployment"));
        let id = format!("{when}/{name}");
        let outcome = run.nested(self.spawn_task(&id, task.clone(), image.clone())).await?;
        let why =
            format!("the task {name} {when} the deployment: {} ({})", outcome.summary(), outcome.detail);
        let failure = outcome.failure.clone();
        let (verdict, code) = (outcome.verdict(), outcome.exit_code);
        run.ran(outcome);
        if verdict.is_success() || (verdict == Verdict::Unproven && code == Some(0)) {
            run.notice(format!("the task {name} {when} the deployment has completed"));
            return Ok(None);
        }
        if let Some(failure) = failure {
            run.failing(failure);
        }
        let is_unobserved = verdict == Verdict::Unobserved;
        Ok(Some(if is_unobserved { StepFailed::Unobserved(why) } else { StepFailed::Failed(why) }))
    }

    /// Handles a failed step after the deployment according to the policy for failures.
    async fn after_failed(
        self: &Arc<Self>,
        mut run: Run,
        previous: Revision,
        why: String,
    ) -> Result<Outcome, Error> {
        let is_same = run.outcome().revision.as_ref().is_some_and(|revision| revision.id == previous.id);
        if is_same || self.options.on_failure != OnFailure::RollBack {
            return Ok(run.ended(Ended::FailedInPlace, why));
        }
        run.rolling_back(Some(previous.clone()));
        let (rollout, id, to) = (Arc::clone(self), self.id.clone(), previous.clone());
        let restore = Operation::spawn(move |events| async move {
            let reporter = Reporter::new(&events, id);
            until_cancelled(rollout.restore(&to, &reporter), &reporter).await
        });
        let restored: Result<Outcome, Error> = run.nested(restore).await;
        let restored = match restored {
            Err(error @ (Error::Interrupted { .. } | Error::TaskInterrupted { .. })) => return Err(error),
            Err(error) => {
                return Ok(run.ended(Ended::RollbackFailed, format!("{why}; {}", error.in_one_line())));
            }
            Ok(restored) => restored,
        };
        let verdict = restored.verdict();
        let ended = if matches!(verdict, Verdict::Deployed | Verdict::Unproven) {
            run.in_place(Some(previous));
            Ended::RolledBack
        } else if matches!(verdict, Verdict::Unobserved | Verdict::DeadlineExceeded) {
            Ended::Unobserved
        } else {
            Ended::RollbackFailed
        };
        run.observed(restored.proof);
        Ok(run.ended(ended, format!("{why}; rollback: {}", restored.detail)))
    }
}
