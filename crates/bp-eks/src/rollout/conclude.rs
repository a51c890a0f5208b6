//! What the end of a rollout means: proven, failed with its evidence, or over.

use bp_artifact::{
    Outcome,
    deploy::run::{Ended, Run},
};

use super::{WorkloadRollout, evidence, follow::End, judge::Picture, survey::Start};
use crate::{error::Error, workload::template::Slot};

/// A rollout that was followed to its end.
pub(super) enum Concluded {
    /// Every pod that is to be updated is; whether they run the image is to be proven.
    Complete(Run, Picture),
    /// It failed, which was reported with its evidence: how, in a word.
    Failed(Run, Picture, &'static str),
    /// There is nothing more to be done.
    Over(Outcome),
}

impl WorkloadRollout {
    /// Reads an end. At the deadline, a rollout with a visible reason has failed, and one without continues.
    ///
    /// # Errors
    /// When what was seen is not what the workload's kind says.
    pub(super) async fn conclude(
        &self,
        mut run: Run,
        end: End,
        start: &mut Start<'_>,
    ) -> Result<Concluded, Error> {
        let workload = &self.api.workload;
        let (symptom, how) = match end {
            End::Complete => return Ok(Concluded::Complete(run, start.follower.picture()?)),
            End::Failed(symptom) => (symptom, "the new pods do not come up"),
            End::OutOfTime(Some(symptom)) => (symptom, "the new pods are not up by the deadline"),
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
                return Ok(Concluded::Over(run.ended(Ended::DeadlineExceeded, "it goes on")));
            }
            End::Paused => return Ok(Concluded::Over(run.ended(Ended::Stopped, "it was paused"))),
            End::Superseded(image) => {
                let detail = format!("somebody put {image} in its place");
                return Ok(Concluded::Over(run.ended(Ended::Superseded, detail)));
            }
            End::Gone => return Ok(Concluded::Over(run.ended(Ended::Gone, "it was deleted"))),
        };
        let picture = start.follower.picture().unwrap_or_default();
        run.failing(evidence::gather(&self.api, &picture, symptom).await);
        Ok(Concluded::Failed(run, picture, how))
    }

    /// Success is what the pods prove.
    pub(super) async fn proven(&self, run: Run, picture: &Picture, slot: &Slot) -> Outcome {
        match self.proof(picture, &run, slot).await {
            Ok(proof) => run.proven(proof),
            Err(error) => {
                let detail = format!(
                    "the rollout of {} is complete, and what its pods run could not be read: {}",
                    self.api.workload,
                    error.without_advice()
                );
                run.ended(Ended::Unproven, detail)
            }
        }
    }
}
