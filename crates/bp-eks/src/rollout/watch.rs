//! Follow the rollout in progress of a workload without changing it.

use bp_artifact::{
    Outcome,
    deploy::{
        OnFailure, Reporter,
        run::{Ended, Intent, Run},
    },
};

use super::{WorkloadRollout, conclude::Concluded, deploy::Change};
use crate::error::Error;

impl WorkloadRollout {
    /// Follows the rollout in progress; if there is none, verifies the running digests. A failed rollout is rolled back
    /// if `on_failure` and the options request it.
    pub(crate) async fn watch(&self, on_failure: OnFailure, reporter: &Reporter) -> Result<Outcome, Error> {
        if self.api.kind().is_scheduled {
            return self.watch_schedule(reporter).await;
        }
        let deadline = bp_artifact::time::deadline(self.options.deadline);
        let mut start = self.start(reporter, deadline).await?;
        let revision = start.in_place();
        let intent = Intent::restore(&revision).platforms_of(&self.images).current(Some(revision.clone()));
        let mut run = Run::planned(reporter, intent.previous(start.previous.clone()).changes(false));
        run.in_place(Some(revision.clone()));
        if start.settled {
            // A Job may have ended before it could be watched.
            if !start.live.runs_to_completion() {
                run.notice("no rollout is in progress");
            }
            return Ok(self.already_deployed(run, start.follower.snapshot()?, &start.slot).await);
        }
        let rolls_back = on_failure == OnFailure::RollBack;
        let change = Change { unblocks: rolls_back, ..self.adopted(&start, revision) };
        match self.follow_change(run, &mut start, change, deadline).await? {
            Concluded::Complete(run, snapshot) => Ok(self.proven(run, &snapshot, &start.slot).await),
            Concluded::Failed(run, snapshot, _) if rolls_back && !start.live.runs_to_completion() => {
                self.undo(run, &mut start, &snapshot).await
            }
            Concluded::Failed(run, _, how) => Ok(run.ended(Ended::FailedInPlace, how)),
            Concluded::Over(outcome) => Ok(outcome),
        }
    }
}
