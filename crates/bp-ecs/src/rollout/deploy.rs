//! Deployment workflow: survey, plan, register, update, follow, verify.

use std::pin::pin;

use aws_sdk_ecs::types::Service;
use bp_artifact::{
    DigestRef, Outcome, ResolvedImage,
    deploy::{
        OnFailure, Reporter, Revision, RollbackCheck,
        run::{Ended, Intent, Run},
    },
};
use futures_util::future::{Either, select};
use tokio::time::Instant;

use super::{
    ServiceRollout,
    apply::{Applied, Replaced},
    follow::{End, Follower},
    proof::{Scope, Success},
    service::Followed,
    strategy,
    survey::Survey,
};
use crate::{definition::TaskDefinition, error::Error, names::name_of, options::InFlight, preflight::limits};

/// The state that a deployment starts from, once no other deployment conflicts with it.
struct Start {
    survey: Survey,
    /// The definition of the primary deployment.
    current: TaskDefinition,
    /// A deployment in progress of the same definition.
    adopted: Option<Followed>,
    /// The definition of the revision to return to; `None` when no deployment has succeeded yet.
    stable: Option<TaskDefinition>,
    previous: Revision,
}

/// Who checks the rollback revision before the first change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RollbackChecked {
    /// The deployment.
    Here,
    /// A caller that checks it before it changes anything.
    ByCaller,
}

/// A planned deployment; nothing was changed yet.
pub(super) struct Plan {
    start: Start,
    wanted: TaskDefinition,
    unchanged: bool,
    /// The check of the rollback revision, if the plan includes it and changes something.
    rollback: Option<RollbackCheck>,
}

impl Plan {
    /// Whether the service will be changed: it does not run the definition, and no deployment of it is in progress.
    pub(super) fn changes(&self) -> bool {
        !self.unchanged && self.start.adopted.is_none()
    }

    /// The rollback revision.
    pub(super) fn previous(&self) -> &Revision {
        &self.start.previous
    }

    /// The service before the change.
    #[cfg(feature = "schedules")]
    pub(super) fn service(&self) -> &Service {
        &self.start.survey.service
    }

    /// The definition that the service runs, the rollback revision, and the planned definition or its family.
    #[cfg(feature = "schedules")]
    pub(super) fn definitions(&self) -> [&str; 3] {
        [&self.start.survey.definition, &self.start.previous.id, self.wanted.family()]
    }

    /// Starts the run of this plan.
    fn run(&self, image: &ResolvedImage, reporter: &Reporter) -> Run {
        self.run_from(self.start.previous.clone(), image, reporter)
    }

    /// As [`run`](Self::run), with the rollback revision as the caller records it.
    pub(super) fn run_from(&self, previous: Revision, image: &ResolvedImage, reporter: &Reporter) -> Run {
        let previous = Some(previous);
        let intent = Intent::deploy(image).current(previous.clone()).previous(previous);
        let mut run = Run::planned(reporter, intent.changes(self.changes()));
        if let Some(check) = self.rollback.clone() {
            run.rollback_checked(check);
        }
        run
    }
}

impl ServiceRollout {
    /// Reads the current state, handles a deployment in progress according to the policy, determines the change, and
    /// refuses it if the rollback revision cannot run.
    pub(super) async fn plan(
        &self,
        image: &ResolvedImage,
        checked: RollbackChecked,
        reporter: &Reporter,
    ) -> Result<Plan, Error> {
        let start = self.start(&image.reference, reporter).await?;
        let Start { survey, current, .. } = &start;
        let wanted = self.wanted(current, &image.reference)?;
        limits::check(&survey.service, &wanted)?;
        if !wanted.is_same(current) {
            wanted.check_known()?;
        }
        let unchanged = wanted.is_same(current) && survey.is_settled() && !self.options.force;
        let mut plan = Plan { start, wanted, unchanged, rollback: None };
        if plan.changes() && checked == RollbackChecked::Here {
            let check = self.check_rollback(plan.start.stable.as_ref(), &self.lookups).await?;
            if check.is_refused() {
                let service = self.api.service.clone();
                return Err(Error::UnprovenRollback { service, check: Box::new(check) });
            }
            plan.rollback = Some(check);
        }
        Ok(plan)
    }

    pub(crate) async fn deploy(
        &self,
        image: &ResolvedImage,
        checked: RollbackChecked,
        reporter: &Reporter,
    ) -> Result<Outcome, Error> {
        let plan = self.plan(image, checked, reporter).await?;
        let deadline = self.deadline();
        let mut run = plan.run(image, reporter);
        let Plan { start, wanted, unchanged, .. } = plan;
        let Start { survey, current, adopted, previous, .. } = &start;
        let revision = |definition: &str| Some(Revision::new(definition, &image.reference));
        let previous = Some(previous.clone());
        run.in_place(revision(&survey.definition));
        if unchanged {
            run.detail("already deployed");
            return Ok(self.prove_end(run, Some(&survey.service), deadline).await);
        }
        not_cancelled(reporter)?;
        run.notice(format!(
            "deployment configuration of the service: {}",
            strategy::summary(&survey.service)
        ));
        current.changes(&wanted).iter().for_each(|change| run.notice(change.to_string()));
        let (ours, service, adopted) = match adopted.clone() {
            Some(followed) => (followed, survey.service.clone(), true),
            None => match self.start_deployment(&wanted, &start, deadline, reporter).await? {
                (_, Applied::Started(ours, service)) => (ours, *service, false),
                (registered, Applied::Unknown(why)) => {
                    run.in_place(revision(&registered));
                    return Ok(unobserved(run, &why));
                }
                (registered, Applied::Replaced(replaced)) => {
                    return self.superseded(run, &registered, replaced);
                }
                (registered, Applied::Gone(status)) => return Ok(deleted(run, &registered, &status)),
            },
        };
        run.changed();
        run.applied(Revision::new(&ours.definition, &image.reference), &ours.id, adopted);
        let rollback_to = previous.clone().filter(|_| self.options.on_failure == OnFailure::RollBack);
        let end = Follower::of(self, &mut run, ours, &service, rollback_to).adopted(adopted).run().await?;
        if end.ended == Some(Ended::RolledBack) {
            run.in_place(previous);
        }
        Ok(self.conclude(run, end).await)
    }

    /// The deadline of work that starts now.
    pub(super) fn deadline(&self) -> Instant {
        bp_artifact::time::deadline(self.options.deadline)
    }

    /// Reads the current state, and handles a deployment in progress according to the policy.
    async fn start(&self, image: &DigestRef, reporter: &Reporter) -> Result<Start, Error> {
        let deadline = self.deadline();
        loop {
            let survey = self.survey().await?;
            let current = self.api.definition(&survey.definition).await?;
            let stable = self.rollback_definition(&survey, &current).await?;
            let previous = self.as_revision(stable.as_ref().unwrap_or(&current))?;
            let Some(followed) = survey.in_flight.clone() else {
                return Ok(Start { survey, current, adopted: None, stable, previous });
            };
            let deployed = if followed.definition == survey.definition {
                current.clone()
            } else {
                self.api.definition(&followed.definition).await?
            };
            let same = deployed.is_same(&self.wanted(&current, image)?);
            match self.options.in_flight {
                InFlight::AdoptIfSameTarget | InFlight::Supersede | InFlight::Wait if same => {
                    return Ok(Start { survey, current, adopted: Some(followed), stable, previous });
                }
                InFlight::Supersede => {
                    return Ok(Start { survey, current, adopted: None, stable, previous });
                }
                // Nothing was changed yet, so errors are returned as they are.
                InFlight::Wait if Instant::now() < deadline => {
                    let others = Follower::of_others(self, reporter, followed, &survey.service);
                    others.until(deadline).wait().await?;
                    // The APIs may show its end at different times.
                    tokio::time::sleep(self.options.pause(false)).await;
                }
                InFlight::Wait | InFlight::Fail | InFlight::AdoptIfSameTarget => {
                    return Err(Error::InFlight {
                        service: self.api.service.clone(),
                        deployment: followed.id,
                        definition: followed.definition,
                    });
                }
            }
        }
    }

    /// Registers the definition or reuses an identical one, and updates the service. Returns the deployed definition.
    async fn start_deployment(
        &self,
        wanted: &TaskDefinition,
        start: &Start,
        deadline: Instant,
        reporter: &Reporter,
    ) -> Result<(String, Applied), Error> {
        let began = Instant::now();
        let registered = if wanted.is_same(&start.current) {
            start.survey.definition.clone()
        } else {
            self.api.register(wanted).await?.arn().unwrap_or_default().to_owned()
        };
        not_cancelled(reporter)?;
        let mut service = start.survey.service.clone();
        let replaces_others = self.options.in_flight == InFlight::Supersede;
        // A throttled registration is retried for minutes.
        if began.elapsed() >= self.options.pause(false)
            && !replaces_others
            && let Some(replaced) = self.replaced_since(&service, &registered).await?
        {
            return Ok((registered, Applied::Replaced(replaced)));
        }
        // Without force, an update to the same definition would keep the id of the failed deployment.
        let force = self.options.force || (start.survey.failed && registered == start.survey.definition);
        loop {
            match self.apply(&service, &registered, force, deadline).await? {
                Applied::Replaced(replaced) if replaces_others => service = *replaced.service,
                applied @ (Applied::Started(..)
                | Applied::Replaced(_)
                | Applied::Unknown(_)
                | Applied::Gone(_)) => {
                    return Ok((registered, applied));
                }
            }
        }
    }

    /// Follows the deployment in progress, or judges the last one.
    pub(crate) async fn watch(&self, on_failure: OnFailure, reporter: &Reporter) -> Result<Outcome, Error> {
        let survey = self.survey().await?;
        let stable = self.revision(&self.stable(&survey).await?).await?;
        let followed = self.latest(&survey).await?;
        let deployed = match &followed {
            Some(followed) => self.revision(&followed.definition).await?,
            None => stable.clone(),
        };
        let previous = (deployed != stable).then(|| stable.clone());
        let intent = Intent::restore(&deployed).platforms_of(&self.images);
        let intent = intent.current(Some(deployed.clone())).previous(previous);
        let mut run = Run::planned(reporter, intent.changes(false));
        let Some(followed) = followed else {
            run.detail("no deployment is in progress");
            return Ok(self.prove_end(run, Some(&survey.service), self.deadline()).await);
        };
        if survey.in_flight.is_none() {
            run.notice("no deployment is in progress; this is the result of the last one");
        }
        let rolls_back = [on_failure, self.options.on_failure] == [OnFailure::RollBack; 2];
        let rollback_to = Some(stable.clone()).filter(|_| rolls_back);
        let follower = Follower::of(self, &mut run, followed, &survey.service, rollback_to);
        let end = follower.adopted(true).observing(on_failure == OnFailure::Leave).run().await?;
        if end.ended == Some(Ended::RolledBack) {
            run.in_place(Some(stable));
        }
        Ok(self.conclude(run, end).await)
    }

    /// Ends the run: after a success the proof determines the verdict; after a rollback it is only reported.
    pub(super) async fn conclude(&self, mut run: Run, end: End) -> Outcome {
        let End { ended, detail, service, deadline, success } = end;
        let Some(ended) = ended else {
            run.detail(detail);
            return self.prove_success(run, service.as_ref(), deadline, success).await;
        };
        if let Some(service) = service.filter(|_| ended == Ended::RolledBack)
            && let Ok(running) = self.running(&service, Scope::Primary).await
        {
            run.observed(running.proof);
        }
        run.ended(ended, detail)
    }

    /// Ends a run that changed nothing, according to the running digests: `Unproven` if they cannot be read.
    pub(super) async fn prove_end(&self, run: Run, service: Option<&Service>, deadline: Instant) -> Outcome {
        self.prove_success(run, service, deadline, None).await
    }

    /// As [`prove_end`](Self::prove_end), after a `success`: also `Unproven` if tasks have failed since and fewer run than
    /// required.
    async fn prove_success(
        &self,
        mut run: Run,
        service: Option<&Service>,
        deadline: Instant,
        success: Option<Success>,
    ) -> Outcome {
        let mut detail = run.outcome().detail.clone();
        let mut add = |text: &str| detail = format!("{detail}; {text}");
        let proven = match service {
            Some(service) => self.proven(service, deadline).await,
            None => Err(self.api.not_found()),
        };
        let running = match proven {
            Ok(running) => running,
            Err(error) => {
                add(&format!("the running digest could not be observed: {}", error.in_one_line()));
                return run.ended(Ended::Unproven, detail);
            }
        };
        if let Some(note) = running.note() {
            add(&note);
            run.notice(note);
        }
        let lost = match service.zip(success) {
            Some((service, success)) => self.lost(service, &running, success).await,
            None => None,
        };
        if let Some(lost) = lost {
            add(&lost);
            run.observed(running.proof);
            return run.ended(Ended::Unproven, detail);
        }
        for note in running.missing.iter().chain(&running.continues) {
            add(note);
        }
        run.detail(detail);
        run.proven(running.proof)
    }
}

impl ServiceRollout {
    /// The end of a run that did not update the service because another client did: an error if nothing was changed.
    pub(super) fn superseded(
        &self,
        mut run: Run,
        definition: &str,
        replaced: Replaced,
    ) -> Result<Outcome, Error> {
        let Replaced { by, maybe_applied, .. } = replaced;
        if !maybe_applied {
            let service = self.api.service.clone();
            return Err(Error::InFlight { service, deployment: by.id, definition: by.definition });
        }
        run.changed();
        let detail = format!(
            "ecs:UpdateService to {} was sent without a response, and then {}, which deploys {}, replaced it",
            name_of(definition),
            by.id,
            name_of(&by.definition)
        );
        Ok(run.ended(Ended::Superseded, detail))
    }
}

/// Returns an error if the run was cancelled. Called before every change.
pub(super) fn not_cancelled(reporter: &Reporter) -> Result<(), Error> {
    if reporter.is_cancelled() { Err(Error::Interrupted { deployment: None }) } else { Ok(()) }
}

/// Stops the work when it is cancelled, also during a call without a response. Every call of it may be abandoned: the
/// next run reuses a completed registration and adopts a started deployment.
pub(crate) async fn until_cancelled<T>(
    work: impl Future<Output = Result<T, Error>>,
    reporter: &Reporter,
) -> Result<T, Error> {
    // The work is polled first: its own `Interrupted` error states the deployment that continues.
    match select(pin!(work), pin!(reporter.cancelled())).await {
        Either::Left((result, _)) => result,
        Either::Right(_) => Err(Error::Interrupted { deployment: None }),
    }
}

/// The outcome of a change that may have been applied and could not be observed.
pub(super) fn unobserved(mut run: Run, why: &str) -> Outcome {
    run.changed();
    run.ended(Ended::Unobserved, format!("{why}; run the same command again to resume"))
}

/// The outcome of a change that may have been applied before the service was deleted.
pub(super) fn deleted(mut run: Run, definition: &str, status: &str) -> Outcome {
    run.changed();
    run.ended(
        Ended::Gone,
        format!(
            "ecs:UpdateService to {} was sent without a response, and then the service was deleted: it is {status}",
            name_of(definition)
        ),
    )
}
