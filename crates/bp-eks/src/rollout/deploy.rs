//! Deploy an image to a workload: read the state, plan, apply, follow, verify; roll back on failure.

use bp_artifact::{
    Outcome, ResolvedImage,
    deploy::{
        Reporter, Revision,
        run::{Ended, Intent, Run},
    },
};
use tokio::time::Instant;

use super::{
    WorkloadRollout,
    conclude::Concluded,
    judge::{Ours, Picture},
    survey::{Start, revision_in_place},
};
use crate::{error::Error, workload::template::Slot};

/// A change to follow until it ends.
pub(super) struct Change {
    pub(super) revision: Revision,
    pub(super) ours: Ours,
    /// Whether the change was in place already.
    pub(super) adopted: bool,
}

impl WorkloadRollout {
    pub(crate) async fn deploy(&self, image: &ResolvedImage, reporter: &Reporter) -> Result<Outcome, Error> {
        let deadline = bp_artifact::time::deadline(self.options.deadline);
        let mut start = self.start(reporter, deadline).await?;
        if start.live.runs_to_completion() {
            drop(start);
            return self.run_job(image, reporter, deadline).await;
        }
        let in_place = start.in_place();
        let same = in_place.image.is(&image.reference)
            && start.live.has(&start.slot, in_place.image.as_str(), &self.options.environment);
        let intent = Intent::deploy(image)
            .current(start.previous.clone().or_else(|| Some(in_place.clone())))
            .previous(start.previous.clone())
            .changes(!same);
        let mut run = Run::planned(reporter, intent);
        run.in_place(Some(in_place.clone()));
        if same && start.settled {
            return Ok(self.already_there(run, start.follower.picture()?, &start.slot).await);
        }
        self.check(&start.live)?;
        let change = if same {
            self.adopted(&start, in_place)
        } else if self.options.adopt_only {
            return Ok(run.ended(Ended::Superseded, "the workload has a different image"));
        } else {
            self.checkpoint(&run)?;
            let wanted = image.reference.to_string();
            self.tell_changes(&mut start, &wanted).await;
            let apply = || self.apply(&start.live, &start.slot, &wanted);
            let applied = self.make(&run, deadline, apply).await?;
            let revision = Revision::new(start.next_number(), &image.reference);
            match applied {
                Ok(applied) => self.made(&start, &applied, revision),
                Err(unanswered) => {
                    run.in_place(Some(revision));
                    return Ok(run.ended(Ended::Unobserved, unanswered));
                }
            }
        };
        match self.see_through(run, &mut start, change, deadline).await? {
            Concluded::Complete(mut run, picture) => {
                // Pods below the partition are not updated.
                let partition = picture.live.as_ref().map_or(0, |live| live.partition());
                if partition > 0 {
                    run.detail(format!(
                        "partition {partition}: the pods below that ordinal keep their revision"
                    ));
                }
                Ok(self.proven(run, &picture, &start.slot).await)
            }
            Concluded::Failed(run, picture, _) => self.undo(run, &mut start, &picture).await,
            Concluded::Over(outcome) => Ok(outcome),
        }
    }

    /// The image is rolled out already: verifies that it runs.
    pub(super) async fn already_there(&self, mut run: Run, picture: Picture, slot: &Slot) -> Outcome {
        run.detail("already in place");
        self.proven(run, &picture, slot).await
    }

    /// Follows a change until it ends. When it is complete, the revision is the one that the controller assigned.
    pub(super) async fn see_through(
        &self,
        mut run: Run,
        start: &mut Start<'_>,
        change: Change,
        deadline: Instant,
    ) -> Result<Concluded, Error> {
        start.follower.is_patient(self.options.grace);
        let Change { revision, ours, adopted } = change;
        run.applied(revision, format!("generation {}", ours.generation), adopted);
        self.unblock(start).await;
        let end = start.follower.follow(&ours, deadline, self.options.live_logs).await?;
        let mut concluded = self.conclude(run, end, start).await?;
        if let Concluded::Complete(run, picture) = &mut concluded
            && let Some(live) = &picture.live
        {
            run.in_place(Some(revision_in_place(live, &picture.versions, &start.slot)));
        }
        Ok(concluded)
    }
}
