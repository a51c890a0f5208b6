//! Restore a recorded revision on request.

use bp_artifact::{
    Outcome,
    deploy::{
        Reporter, Revision,
        run::{Ended, Intent, Run},
    },
};

use super::{WorkloadRollout, conclude::Concluded, deploy::Change, unanswered::Unanswered};
use crate::error::Error;

impl WorkloadRollout {
    pub(crate) async fn restore(&self, revision: &Revision, reporter: &Reporter) -> Result<Outcome, Error> {
        if self.api.kind().is_scheduled {
            return self.restore_schedule(revision, reporter).await;
        }
        let deadline = bp_artifact::time::deadline(self.options.deadline);
        let mut start = self.start(reporter, deadline).await?;
        if start.live.runs_to_completion() {
            return Err(Error::NotUndoable { workload: self.api.workload.clone() });
        }
        let wanted = self.wanted(&start.live, &start.versions, &start.slot, revision);
        let same = start.in_place().image == revision.image && wanted.is_none();
        let intent = Intent::restore(revision).current(Some(start.in_place())).changes(!same);
        let run = Run::planned(reporter, intent);
        if same && start.settled {
            return Ok(self.already_deployed(run, start.follower.snapshot()?, &start.slot).await);
        }
        self.check(&start.live)?;
        let change = if same {
            self.adopted(&start, revision.clone())
        } else {
            let sent = Unanswered::default();
            let restore_revision = || self.restore_revision(&start.versions, &start.slot, revision, &sent);
            match self.make(&run, deadline, &sent, restore_revision).await? {
                Ok(applied) => {
                    let back_to = Some(revision.clone());
                    Change { back_to, ..self.made(&start, &applied, revision.clone()) }
                }
                Err(unanswered) => return Ok(run.ended(Ended::Unobserved, unanswered)),
            }
        };
        match self.follow_change(run, &mut start, change, deadline).await? {
            Concluded::Complete(run, snapshot) => Ok(self.proven(run, &snapshot, &start.slot).await),
            Concluded::Failed(run, _, how) => Ok(run.ended(Ended::FailedInPlace, how)),
            Concluded::Over(outcome) => Ok(outcome),
        }
    }
}
