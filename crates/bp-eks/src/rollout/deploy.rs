//! The order of things: survey, plan, apply, follow, prove; and back when it fails.

use std::collections::HashSet;

use bp_artifact::{
    Classified, DeployEvent, Emitter, OnFailure, Outcome, Proof, ResolvedImage, Revision, Verdict,
};

use super::{
    api::{Manner, is_ours},
    causes::Recovery,
    error::Error,
    evidence,
    follow::End,
    judge::{Ours, Picture},
    live::Live,
    retry::{Patience, retried},
    survey::{Start, revision_in_place},
    target::Inner,
    template::Slot,
};

/// What to do about an undo that was not seen through.
const ROLL_BACK: &str = "run the rollback again to resume";

/// What people are told of a change that cannot be seen any more.
pub(crate) fn unobserved(what: &str, error: &Error) -> String {
    let why = error.without_advice();
    format!("{what} and continues; it can no longer be observed: {why}; run the same command to resume")
}

/// What people are told of a change that was sent and not answered.
///
/// # Errors
/// When it was answered: nothing was changed.
pub(crate) fn may_be_applied(object: &impl std::fmt::Display, error: Error) -> Result<String, Error> {
    let Error::Unreachable { .. } = &error else { return Err(error) };
    let why = error.without_advice();
    Ok(format!(
        "the change of {object} may have been applied, and no answer came back: {why}; run the same command to resume"
    ))
}

pub(super) type Events = Emitter<DeployEvent>;

impl Inner {
    pub(super) async fn deploy(&self, image: &ResolvedImage, events: &Events) -> Result<Outcome, Error> {
        let deadline = bp_artifact::time::deadline(self.options.deadline);
        let mut start = self.start(events, deadline).await?;
        if start.live.is_job() {
            drop(start);
            return self.run_job(image, events, deadline).await;
        }
        let in_place = start.in_place();
        let same_image = in_place.image.is(&image.reference);
        let same =
            same_image && start.live.has(&start.slot, in_place.image.as_str(), &self.options.environment);
        events.emit(DeployEvent::Planned {
            target: self.id.clone(),
            image: Some(image.reference.clone()),
            current: start.previous.clone().or_else(|| Some(in_place.clone())),
            changes: !same,
        });
        let base = Outcome {
            image: Some(image.reference.clone()),
            previous: start.previous.clone(),
            ..self.outcome(in_place.clone(), !same)
        };
        if same && start.settled {
            let picture = start.follower.picture()?;
            return Ok(self.finish(base, &picture, Some(image), &start.slot, events).await);
        }
        self.check(&start.live)?;
        let (revision, ours) = match same {
            true => (in_place, self.ours(&start.live, &start.live, &start.slot)),
            false if self.options.adopt_only => {
                let (verdict, detail) = (Verdict::Superseded, "another image is in its place".to_owned());
                return Ok(self.ended(Outcome { verdict, detail, ..base }, events));
            }
            false => {
                self.not_cancelled(events)?;
                let wanted = image.reference.to_string();
                self.tell_changes(&mut start, &wanted).await;
                let patience = Patience::until(deadline.min(bp_artifact::time::deadline(self.options.grace)));
                let apply = || self.apply(&start.live, &start.slot, &wanted);
                let applied = retried(patience, events, &self.id, apply).await;
                self.not_cancelled(events)?;
                let revision = Revision::new(start.next_number(), &image.reference);
                match applied {
                    Ok(applied) => (revision, self.ours(&start.live, &applied, &start.slot)),
                    Err(error) => {
                        let base = Outcome { revision: Some(revision), ..base };
                        return Ok(self.ended(self.may_be_applied(base, error)?, events));
                    }
                }
            }
        };
        start.follower.is_patient(self.options.grace);
        self.tell_applied(&revision, &ours, same, events);
        self.unblock(&mut start).await;
        let end = start.follower.follow(&ours, deadline, self.options.live_logs).await?;
        let base = Outcome { revision: Some(revision), detail: String::new(), ..base };
        let Some((mut outcome, picture)) = self.conclude(base.clone(), end, &mut start, events).await? else {
            let picture = start.follower.picture()?;
            let done =
                picture.live.as_ref().map(|live| revision_in_place(live, &picture.versions, &start.slot));
            let revision = done.or_else(|| base.revision.clone());
            let base = Outcome { revision, ..self.partitioned(base, &picture) };
            return Ok(self.finish(base, &picture, Some(image), &start.slot, events).await);
        };
        if outcome.verdict == Verdict::FailedInPlace {
            outcome = self.undo(outcome, &mut start, &picture, events).await?;
        }
        Ok(self.ended(outcome, events))
    }

    /// Says which pods were not to be updated.
    fn partitioned(&self, outcome: Outcome, picture: &Picture) -> Outcome {
        match picture.live.as_ref().map(Live::partition) {
            Some(partition) if partition > 0 => {
                let detail = format!("partition {partition}: the pods below that ordinal keep what they run");
                Outcome { detail, ..outcome }
            }
            _ => outcome,
        }
    }

    /// Applies the image. Fields are taken from their owners if those are us under our other name (an undo writes the
    /// whole template), or if it was allowed.
    pub(super) async fn apply(&self, live: &Live, slot: &Slot, image: &str) -> Result<Live, Error> {
        let environment = &self.options.environment;
        let apply =
            |force| self.cluster.apply(live, slot, image, environment, Manner { force, ..Manner::default() });
        match apply(false).await {
            Err(Error::Conflict { conflicts, .. })
                if self.options.take_over || conflicts.iter().all(|c| is_ours(&c.manager)) =>
            {
                apply(true).await
            }
            other => other,
        }
    }

    /// The roll-out that `applied` began, on what was there `before`.
    pub(super) fn ours(&self, before: &Live, applied: &Live, slot: &Slot) -> Ours {
        Ours {
            uid: applied.uid().to_owned(),
            generation: applied.generation(),
            slot: slot.clone(),
            image: applied.image(&slot.name).to_owned(),
            since: applied.written_by_us(),
            stalled_before: before.stalled().and_then(|(_, since)| since),
            fail_after: self.options.fail_after.get() as usize,
            circuit_breaker: self.options.circuit_breaker,
            grace: Some(self.options.grace),
            known: HashSet::new(),
        }
    }

    pub(super) fn tell_applied(&self, revision: &Revision, ours: &Ours, adopted: bool, events: &Events) {
        events.emit(DeployEvent::Applied {
            target: self.id.clone(),
            revision: revision.clone(),
            deployment: format!("generation {}", ours.generation),
            adopted,
        });
    }

    pub(super) fn not_cancelled(&self, events: &Events) -> Result<(), Error> {
        match events.is_cancelled() {
            true => Err(Error::Interrupted { workload: self.cluster.workload.clone() }),
            false => Ok(()),
        }
    }

    /// Reads an end other than success; a failure with its evidence, and told at once. At the deadline, one with a visible
    /// reason has failed, and one without goes on.
    pub(super) async fn conclude(
        &self,
        base: Outcome,
        end: End,
        start: &mut Start<'_>,
        events: &Events,
    ) -> Result<Option<(Outcome, Picture)>, Error> {
        let workload = &self.cluster.workload;
        let (verdict, symptom, detail) = match end {
            End::Complete => return Ok(None),
            End::Unobserved(error) => {
                let what = match &base.revision {
                    Some(job) if start.live.is_job() => format!("{}/{} was created", workload.kind, job.id),
                    Some(revision) => format!("revision {revision} was applied to {workload}"),
                    None => format!("a change was applied to {workload}"),
                };
                (Verdict::Unobserved, None, unobserved(&what, &error))
            }
            End::Failed(symptom) => {
                (Verdict::FailedInPlace, Some(symptom), "the new pods do not come up".to_owned())
            }
            End::OutOfTime(Some(symptom)) => {
                (Verdict::FailedInPlace, Some(symptom), "the new pods are not up by the deadline".to_owned())
            }
            End::OutOfTime(None) => (Verdict::DeadlineExceeded, None, "it goes on".to_owned()),
            End::Paused => (Verdict::Stopped, None, "it was paused".to_owned()),
            End::Superseded(image) => {
                (Verdict::Superseded, None, format!("somebody put {image} in its place"))
            }
            End::Gone => (Verdict::Gone, None, "it was deleted".to_owned()),
        };
        let picture = start.follower.picture().unwrap_or_default();
        let mut failure = None;
        if let Some(symptom) = symptom {
            let report = evidence::gather(&self.cluster, &picture, symptom).await;
            events.emit(DeployEvent::Failing { target: self.id.clone(), failure: report.clone() });
            failure = Some(report);
        }
        Ok(Some((Outcome { verdict, failure, detail, ..base }, picture)))
    }

    /// Goes back to what was noted before the first change, and follows that to its end.
    async fn undo(
        &self,
        failed: Outcome,
        start: &mut Start<'_>,
        picture: &Picture,
        events: &Events,
    ) -> Result<Outcome, Error> {
        let in_place = |detail: &str| Outcome { detail: detail.to_owned(), ..failed.clone() };
        if self.options.on_failure == OnFailure::Leave {
            return Ok(in_place("left as it is, as asked"));
        }
        let Some(previous) = start.previous.clone() else {
            return Ok(in_place("it is the first roll-out: there is nothing to go back to"));
        };
        self.not_cancelled(events)?;
        events.emit(DeployEvent::RollingBack { target: self.id.clone(), to: Some(previous.clone()) });
        let lost = |detail: String| Outcome { verdict: Verdict::RollbackFailed, detail, ..failed.clone() };
        let deadline = bp_artifact::time::deadline(self.options.deadline);
        let patience = Patience::after_change(deadline, self.options.grace);
        let put_back = || self.put_back(&picture.versions, &start.slot, &previous);
        let applied = match retried(patience, events, &self.id, put_back).await {
            Ok(applied) => applied,
            Err(error) => {
                self.not_cancelled(events)?;
                let why = error.without_advice();
                return Ok(match error {
                    Error::Unreachable { .. } => Outcome {
                        verdict: Verdict::Unobserved,
                        detail: format!(
                            "revision {previous} may have been put back, which could not be observed: {why}; {ROLL_BACK}"
                        ),
                        ..failed
                    },
                    error if error.is_retryable() || error.is_refusal() => {
                        in_place(&format!("revision {previous} could not be put back: {why}; {ROLL_BACK}"))
                    }
                    _ => lost(format!("revision {previous} could not be put back: {why}")),
                });
            }
        };
        let before = picture.live.as_ref().unwrap_or(&start.live);
        let versions = picture.events.iter().filter_map(|event| event.metadata.resource_version.clone());
        let ours =
            Ours { grace: None, known: versions.collect(), ..self.ours(before, &applied, &start.slot) };
        self.unblock(start).await;
        let outcome = match start.follower.follow(&ours, deadline, None).await {
            Ok(End::Complete) => {
                let picture = start.follower.picture()?;
                Outcome {
                    verdict: Verdict::RolledBack,
                    revision: picture
                        .live
                        .as_ref()
                        .map(|live| revision_in_place(live, &picture.versions, &start.slot)),
                    detail: format!("revision {previous} runs again"),
                    ..failed.clone()
                }
            }
            Ok(End::Failed(symptom)) => {
                lost(format!("the previous revision does not come up: {}", symptom.message))
            }
            Ok(End::Paused) => lost("it was paused while going back".into()),
            Ok(End::Superseded(image)) => lost(format!("somebody put {image} there while going back")),
            Ok(End::Gone) => Outcome {
                verdict: Verdict::Gone,
                detail: "it was deleted while going back".into(),
                ..failed.clone()
            },
            Ok(End::Unobserved(error)) => Outcome {
                verdict: Verdict::Unobserved,
                detail: format!(
                    "revision {previous} was put back in {} and continues; it can no longer be observed: {}; {ROLL_BACK}",
                    self.cluster.workload,
                    error.without_advice()
                ),
                ..failed.clone()
            },
            Ok(End::OutOfTime(Some(symptom)))
                if matches!(symptom.recovery, Recovery::Soon | Recovery::Retried) =>
            {
                Outcome {
                    verdict: Verdict::DeadlineExceeded,
                    detail: format!(
                        "revision {previous} was put back, and its pods are refused so far; the controller tries on: {}",
                        symptom.message
                    ),
                    ..failed.clone()
                }
            }
            Ok(End::OutOfTime(_)) => lost("the previous revision is not up by the deadline".into()),
            Err(error) => return Err(error),
        };
        Ok(outcome)
    }

    /// An outcome to begin with.
    pub(super) fn outcome(&self, revision: Revision, changed: bool) -> Outcome {
        Outcome {
            target: self.id.clone(),
            verdict: Verdict::Deployed,
            image: None,
            changed,
            revision: Some(revision),
            previous: None,
            failure: None,
            proof: Proof::default(),
            detail: if changed { String::new() } else { "already in place".to_owned() },
        }
    }

    /// Success is what the pods prove.
    pub(super) async fn finish(
        &self,
        mut outcome: Outcome,
        picture: &Picture,
        image: Option<&ResolvedImage>,
        slot: &Slot,
        events: &Events,
    ) -> Outcome {
        match self.proof(picture, image, slot, events).await {
            Ok(proof) => {
                outcome.verdict = image.map_or(Verdict::Unproven, |image| proof.judge(image));
                outcome.proof = proof;
            }
            Err(error) => {
                outcome.verdict = Verdict::Unproven;
                outcome.detail = format!(
                    "the rollout of {} is complete, and what its pods run could not be read: {}",
                    self.cluster.workload,
                    error.without_advice()
                );
            }
        }
        self.ended(outcome, events)
    }

    /// The end of the operation.
    pub(super) fn ended(&self, outcome: Outcome, events: &Events) -> Outcome {
        events.emit(DeployEvent::Finished { outcome: Box::new(outcome.clone()) });
        outcome
    }

    /// The outcome of a change that was sent and not answered.
    ///
    /// # Errors
    /// When it was answered: nothing was changed.
    pub(super) fn may_be_applied(&self, base: Outcome, error: Error) -> Result<Outcome, Error> {
        let detail = may_be_applied(&self.cluster.workload, error)?;
        Ok(Outcome { verdict: Verdict::Unobserved, changed: true, detail, ..base })
    }
}
