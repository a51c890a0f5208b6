//! Map the end of a followed rollout to an outcome: complete, failed with evidence, or ended.

use bp_artifact::{
    Outcome,
    deploy::run::{Ended, Run},
};

use super::{WorkloadRollout, evidence, follow::End, judge::Snapshot, survey::Start};
use crate::{api::symptom::Recovery, error::Error, workload::template::Slot};

/// The conclusion of a followed rollout.
pub(super) enum Concluded {
    /// Every pod is updated; the digests are still to be verified.
    Complete(Run, Snapshot),
    /// The rollout failed, which was reported with evidence; with a short description.
    Failed(Run, Snapshot, &'static str),
    /// The operation has ended.
    Over(Outcome),
}

impl WorkloadRollout {
    /// Concludes a followed rollout. At the deadline, a rollout with a known cause has failed; one without continues.
    ///
    /// # Errors
    /// When a watched object does not match the workload's kind.
    pub(super) async fn conclude(
        &self,
        mut run: Run,
        end: End,
        start: &mut Start<'_>,
    ) -> Result<Concluded, Error> {
        let workload = &self.api.workload;
        let (symptom, how) = match end {
            End::Complete => return Ok(Concluded::Complete(run, start.follower.snapshot()?)),
            End::Failed(symptom) => (symptom, "the new pods failed to become ready"),
            End::OutOfTime(Some(symptom)) if symptom.recovery == Recovery::Starting => {
                let detail = format!("the rollout continues; {symptom}");
                return Ok(Concluded::Over(run.ended(Ended::DeadlineExceeded, detail)));
            }
            End::OutOfTime(Some(symptom)) => (symptom, "the new pods were not ready before the deadline"),
            End::Unobserved(error) => {
                let what = match &run.outcome().revision {
                    Some(job) if start.live.runs_to_completion() => {
                        format!("{}/{} was created", workload.kind, job.id)
                    }
                    Some(revision) => format!("revision {revision} was applied to {workload}"),
                    None => format!("a change was applied to {workload}"),
                };
                return Ok(Concluded::Over(run.ended(Ended::Unobserved, error.unobserved(&what))));
            }
            End::OutOfTime(None) => {
                return Ok(Concluded::Over(run.ended(Ended::DeadlineExceeded, "the rollout continues")));
            }
            End::Paused => return Ok(Concluded::Over(run.ended(Ended::Stopped, "the rollout was paused"))),
            End::Superseded(image) => {
                let detail = format!("another client changed the image to {image}");
                return Ok(Concluded::Over(run.ended(Ended::Superseded, detail)));
            }
            End::Gone => return Ok(Concluded::Over(run.ended(Ended::Gone, "the workload was deleted"))),
        };
        let snapshot = start.follower.snapshot().unwrap_or_default();
        run.failing(evidence::gather(&self.api, &snapshot, symptom).await);
        Ok(Concluded::Failed(run, snapshot, how))
    }

    /// Verifies the digests of the pods, which decides about success.
    pub(super) async fn proven(&self, run: Run, snapshot: &Snapshot, slot: &Slot) -> Outcome {
        match self.proof(snapshot, &run, slot).await {
            Ok(proof) if proof.is_empty() && is_scaled_to_zero(snapshot) => {
                let detail = "0 replicas: no pod runs that could prove the digest";
                if self.options.allow_no_replicas {
                    return run.scaled_to_zero(detail);
                }
                run.ended(Ended::Unproven, detail)
            }
            Ok(proof) => run.proven(proof),
            Err(error) => {
                let detail = format!(
                    "the rollout of {} is complete, but the digests of its pods could not be read: {}",
                    self.api.workload,
                    error.without_advice()
                );
                run.ended(Ended::Unproven, detail)
            }
        }
    }
}

fn is_scaled_to_zero(snapshot: &Snapshot) -> bool {
    let live = snapshot.live.as_ref().filter(|live| !live.runs_to_completion());
    live.is_some_and(|live| live.counts().desired == 0)
}
