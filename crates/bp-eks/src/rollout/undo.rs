//! Roll back a failed rollout: restore the image, or the whole template when more has changed.

use std::collections::BTreeMap;

use bp_artifact::{
    Outcome,
    deploy::{
        OnFailure, Revision,
        run::{Ended, Run},
    },
    error::{Classified, chain},
};
use kube::ResourceExt;
use serde_json::Value;

use super::{
    WorkloadRollout, diagnose,
    follow::End,
    judge::{Snapshot, Tracked},
    survey::{Start, revision_in_place},
    unanswered::Unanswered,
};
use crate::{
    api::{
        pod,
        retry::{RetryLimit, with_retries},
        symptom::Recovery,
    },
    error::Error,
    workload::{
        Live,
        template::{self, Slot},
        version::{self, Version},
    },
};

/// The annotations that describe the build of the image that runs.
const BUILD: [&str; 2] = ["bp-eks/Commit", "bp-eks/Version"];
/// The advice after a rollback that was not observed to complete.
const ROLL_BACK: &str = "rerun the rollback to resume";

impl WorkloadRollout {
    /// Restores the revision recorded before the first change, and follows the rollback until it ends.
    pub(super) async fn undo(
        &self,
        mut run: Run,
        start: &mut Start<'_>,
        snapshot: &Snapshot,
    ) -> Result<Outcome, Error> {
        if self.options.on_failure == OnFailure::Leave {
            return Ok(run.ended(Ended::FailedInPlace, "left in place as configured"));
        }
        let Some(previous) = start.previous.clone() else {
            let detail = "there is no revision to roll back to: this is the first rollout";
            return Ok(run.ended(Ended::FailedInPlace, detail));
        };
        self.checkpoint(&run)?;
        run.rolling_back(Some(previous.clone()));
        let deadline = bp_artifact::time::deadline(self.options.deadline);
        let limit = RetryLimit::after_change(deadline, self.options.grace);
        let sent = Unanswered::default();
        let restore_revision = || self.restore_revision(&snapshot.versions, &start.slot, &previous, &sent);
        let applied = match with_retries(limit, &run, restore_revision).await {
            Ok(applied) => applied,
            Err(error) => {
                self.checkpoint(&run)?;
                let why = error.without_advice();
                let is_unanswered = sent.is_any() && (error.is_refusal() || error.is_retryable());
                let (ended, detail) = if is_unanswered || matches!(error, Error::Unreachable { .. }) {
                    let detail = format!(
                        "the rollback to revision {previous} may have been applied, but could not be observed: {why}; {ROLL_BACK}"
                    );
                    (Ended::Unobserved, detail)
                } else if error.is_retryable() || error.is_refusal() {
                    let detail = format!("failed to roll back to revision {previous}: {why}; {ROLL_BACK}");
                    (Ended::FailedInPlace, detail)
                } else {
                    (Ended::RollbackFailed, format!("failed to roll back to revision {previous}: {why}"))
                };
                return Ok(run.ended(ended, detail));
            }
        };
        let before = snapshot.live.as_ref().unwrap_or(&start.live);
        let versions = snapshot.events.iter().filter_map(|event| event.metadata.resource_version.clone());
        let tracked =
            Tracked { grace: None, known: versions.collect(), ..self.tracked(before, &applied, &start.slot) };
        self.unblock(start, Some(&previous)).await;
        let (ended, detail) = match start.follower.follow(&tracked, deadline, None).await? {
            End::Complete => {
                let snapshot = start.follower.snapshot()?;
                let revision = |live: &Live| revision_in_place(live, &snapshot.versions, &start.slot);
                run.in_place(snapshot.live.as_ref().map(revision));
                (Ended::RolledBack, format!("revision {previous} runs again"))
            }
            End::Failed(symptom) => {
                let detail = format!("the previous revision failed to become ready: {}", symptom.message);
                (Ended::RollbackFailed, detail)
            }
            End::Paused => (Ended::RollbackFailed, "the workload was paused during the rollback".to_owned()),
            End::Superseded(image) => (
                Ended::RollbackFailed,
                format!("another client changed the image to {image} during the rollback"),
            ),
            End::Gone => (Ended::Gone, "the workload was deleted during the rollback".to_owned()),
            End::Unobserved(error) => (
                Ended::Unobserved,
                format!(
                    "the rollback of {} to revision {previous} continues, but can no longer be observed: {}; {ROLL_BACK}",
                    self.api.workload,
                    error.without_advice()
                ),
            ),
            End::OutOfTime(Some(symptom))
                if matches!(symptom.recovery, Recovery::Soon | Recovery::Retried) =>
            {
                let detail = format!(
                    "the rollback to revision {previous} is applied, but its pods are refused or cannot start, which is being retried: {}",
                    symptom.message
                );
                (Ended::DeadlineExceeded, detail)
            }
            End::OutOfTime(_) => {
                (Ended::RollbackFailed, "the previous revision was not ready before the deadline".to_owned())
            }
        };
        Ok(run.ended(ended, detail))
    }

    /// The template of a revision, if the controller still has it and it differs in more than the applied fields.
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

    /// Restores `revision`, and returns the updated workload; records whether the change was `sent` and not answered.
    pub(super) async fn restore_revision(
        &self,
        versions: &[Version],
        slot: &Slot,
        revision: &Revision,
        sent: &Unanswered,
    ) -> Result<Live, Error> {
        let live = self.api.workload().await?;
        let build = self.build_of(&live, versions, slot, revision);
        match self.wanted(&live, versions, slot, revision) {
            // Conflicts when the workload has changed since, most often by the controller's status update.
            Some(template) => sent.send(self.api.replace_template(&live, slot, template, build)).await,
            None => {
                let mut content = self.content(&live, revision.image.as_str());
                content.metadata =
                    build.into_iter().filter_map(|(name, value)| Some((name, value?))).collect();
                sent.send(self.apply(&live, slot, &content)).await
            }
        }
    }

    /// The annotations about the build of a revision, which the controllers have copied from the workload. Those of the
    /// revision that is replaced would be wrong.
    fn build_of(
        &self,
        live: &Live,
        versions: &[Version],
        slot: &Slot,
        revision: &Revision,
    ) -> BTreeMap<String, Option<String>> {
        let kept = version::of_image(live, versions, &slot.name, revision.image.as_str(), &revision.id);
        let names = BUILD.into_iter().chain(self.options.build.keys().map(String::as_str));
        let value = |name: &str| kept?.object.annotations().get(name).cloned();
        names.map(|name| (name.to_owned(), value(name))).collect()
    }

    /// Deletes failing pods of an ordered StatefulSet, as the Kubernetes documentation recommends: it would wait for
    /// such a pod to become ready before it replaces it. The pods are those of the replaced revision: it does not matter
    /// whether they could recover. If an earlier revision is restored, every pod of another one that is not ready is
    /// deleted: it may fail only later.
    pub(super) async fn unblock(&self, start: &mut Start<'_>, back_to: Option<&Revision>) {
        let Ok(snapshot) = start.follower.snapshot() else { return };
        if !start.live.is_ordered() {
            return;
        }
        let kept = back_to.and_then(|revision| {
            let (name, image) = (&start.slot.name, revision.image.as_str());
            version::of_image(&start.live, &snapshot.versions, name, image, &revision.id)
        });
        for pod in &snapshot.pods {
            let stuck =
                diagnose::of_pod(pod, snapshot.warnings(&pod.metadata.uid)).is_some_and(|s| s.is_failure());
            let stuck = stuck || kept.is_some_and(|version| !version.made(pod));
            if !stuck || pod::is_ready(pod) || pod.metadata.deletion_timestamp.is_some() {
                continue;
            }
            let name = pod.metadata.name.clone().unwrap_or_default();
            let message = match self.api.delete_pod(pod).await {
                Ok(()) => {
                    start.follower.ends(pod);
                    format!("pod/{name} was deleted because it failed and blocked its own replacement")
                }
                Err(error) => format!(
                    "pod/{name} blocks its own replacement, delete it (kubectl delete pod {name}): {}",
                    chain(&error)
                ),
            };
            start.follower.notice(message);
        }
    }
}
