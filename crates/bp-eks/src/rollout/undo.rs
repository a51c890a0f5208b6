//! Back: the image alone where nothing else changed, the whole template where more did.

use bp_artifact::{
    Outcome,
    deploy::{
        OnFailure, Revision,
        run::{Ended, Run},
    },
    error::{Classified, chain},
};
use serde_json::Value;

use super::{
    WorkloadRollout, diagnose,
    follow::End,
    judge::{Ours, Picture},
    survey::{Start, revision_in_place},
};
use crate::{
    api::{
        pod,
        retry::{Patience, retried},
        symptom::Recovery,
    },
    error::Error,
    workload::{
        Live,
        template::{self, Slot},
        version::{self, Version},
    },
};

/// What to do about an undo that was not seen through.
const ROLL_BACK: &str = "run the rollback again to resume";

impl WorkloadRollout {
    /// Goes back to what was noted before the first change, and follows that to its end.
    pub(super) async fn undo(
        &self,
        mut run: Run,
        start: &mut Start<'_>,
        picture: &Picture,
    ) -> Result<Outcome, Error> {
        if self.options.on_failure == OnFailure::Leave {
            return Ok(run.ended(Ended::FailedInPlace, "left as it is, as asked"));
        }
        let Some(previous) = start.previous.clone() else {
            let detail = "it is the first roll-out: there is nothing to go back to";
            return Ok(run.ended(Ended::FailedInPlace, detail));
        };
        self.checkpoint(&run)?;
        run.rolling_back(Some(previous.clone()));
        let deadline = bp_artifact::time::deadline(self.options.deadline);
        let patience = Patience::after_change(deadline, self.options.grace);
        let put_back = || self.put_back(&picture.versions, &start.slot, &previous);
        let applied = match retried(patience, &run, put_back).await {
            Ok(applied) => applied,
            Err(error) => {
                self.checkpoint(&run)?;
                let why = error.without_advice();
                let (ended, detail) = match error {
                    Error::Unreachable { .. } => (
                        Ended::Unobserved,
                        format!(
                            "revision {previous} may have been put back, which could not be observed: {why}; {ROLL_BACK}"
                        ),
                    ),
                    error if error.is_retryable() || error.is_refusal() => (
                        Ended::FailedInPlace,
                        format!("revision {previous} could not be put back: {why}; {ROLL_BACK}"),
                    ),
                    _ => (Ended::RollbackFailed, format!("revision {previous} could not be put back: {why}")),
                };
                return Ok(run.ended(ended, detail));
            }
        };
        let before = picture.live.as_ref().unwrap_or(&start.live);
        let versions = picture.events.iter().filter_map(|event| event.metadata.resource_version.clone());
        let ours =
            Ours { grace: None, known: versions.collect(), ..self.ours(before, &applied, &start.slot) };
        self.unblock(start).await;
        let (ended, detail) = match start.follower.follow(&ours, deadline, None).await? {
            End::Complete => {
                let picture = start.follower.picture()?;
                let revision = |live: &Live| revision_in_place(live, &picture.versions, &start.slot);
                run.in_place(picture.live.as_ref().map(revision));
                (Ended::RolledBack, format!("revision {previous} runs again"))
            }
            End::Failed(symptom) => {
                let detail = format!("the previous revision does not come up: {}", symptom.message);
                (Ended::RollbackFailed, detail)
            }
            End::Paused => (Ended::RollbackFailed, "it was paused while going back".to_owned()),
            End::Superseded(image) => {
                (Ended::RollbackFailed, format!("somebody put {image} there while going back"))
            }
            End::Gone => (Ended::Gone, "it was deleted while going back".to_owned()),
            End::Unobserved(error) => (
                Ended::Unobserved,
                format!(
                    "revision {previous} was put back in {} and continues; it can no longer be observed: {}; {ROLL_BACK}",
                    self.api.workload,
                    error.without_advice()
                ),
            ),
            End::OutOfTime(Some(symptom))
                if matches!(symptom.recovery, Recovery::Soon | Recovery::Retried) =>
            {
                let detail = format!(
                    "revision {previous} was put back, and its pods are refused so far; the controller tries on: {}",
                    symptom.message
                );
                (Ended::DeadlineExceeded, detail)
            }
            End::OutOfTime(_) => {
                (Ended::RollbackFailed, "the previous revision is not up by the deadline".to_owned())
            }
        };
        Ok(run.ended(ended, detail))
    }

    /// The template of a revision, if it is kept and differs from the one in place by more than what we apply.
    pub(super) fn wanted(
        &self,
        live: &Live,
        versions: &[Version],
        slot: &Slot,
        revision: &Revision,
    ) -> Option<Value> {
        let kept = version::of_image(live, versions, &slot.name, revision.image.as_str(), &revision.id)?;
        let applied =
            template::with(live.plain_template(), slot, revision.image.as_str(), &self.options.environment);
        (kept.template != applied).then(|| kept.template.clone())
    }

    /// Puts `revision` back, as it differs from what is in place now, and returns the workload as the API answered.
    pub(super) async fn put_back(
        &self,
        versions: &[Version],
        slot: &Slot,
        revision: &Revision,
    ) -> Result<Live, Error> {
        let live = self.api.workload().await?;
        match self.wanted(&live, versions, slot, revision) {
            // Refused when somebody wrote in between, most often the controller its status.
            Some(template) => self.api.replace_template(&live, slot, template).await,
            None => self.apply(&live, slot, revision.image.as_str()).await,
        }
    }

    /// A StatefulSet that replaces its pods in order waits for a broken pod to become ready before it replaces it, which
    /// never happens. Such pods are deleted, as its documentation tells people to do by hand.
    pub(super) async fn unblock(&self, start: &mut Start<'_>) {
        let Ok(picture) = start.follower.picture() else { return };
        if !start.live.is_ordered() {
            return;
        }
        for pod in &picture.pods {
            let stuck =
                diagnose::of_pod(pod, picture.warnings(&pod.metadata.uid)).is_some_and(|s| s.is_final());
            if !stuck || pod::is_ready(pod) || pod.metadata.deletion_timestamp.is_some() {
                continue;
            }
            let name = pod.metadata.name.clone().unwrap_or_default();
            let message = match self.api.delete_pod(pod).await {
                Ok(()) => format!(
                    "pod/{name} was deleted: broken as it was, it would have blocked its own replacement"
                ),
                Err(error) => format!(
                    "pod/{name} blocks its own replacement: delete it (kubectl delete pod {name}): {}",
                    chain(&error)
                ),
            };
            start.follower.notice(message);
        }
    }
}
