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
    judge::{Snapshot, Tracked},
    survey::{Start, revision_in_place},
    unanswered::Unanswered,
};
use crate::{
    error::Error,
    workload::{Live, template::Slot},
};

/// A change to follow until it ends.
pub(super) struct Change {
    pub(super) revision: Revision,
    pub(super) tracked: Tracked,
    /// Whether the change was in place already.
    pub(super) adopted: bool,
    /// Whether failing pods that block their own replacement are deleted.
    pub(super) unblocks: bool,
    /// The earlier revision that is restored, if any.
    pub(super) back_to: Option<Revision>,
}

impl WorkloadRollout {
    pub(crate) async fn deploy(&self, image: &ResolvedImage, reporter: &Reporter) -> Result<Outcome, Error> {
        if self.api.kind().is_scheduled {
            return self.deploy_schedule(image, reporter).await;
        }
        let deadline = bp_artifact::time::deadline(self.options.deadline);
        let mut start = match self.start(reporter, deadline).await {
            Err(Error::NotFound { .. }) if self.api.kind().runs_to_completion => {
                return self.run_job(image, reporter, deadline).await;
            }
            start => start?,
        };
        if start.live.runs_to_completion() {
            drop(start);
            return self.run_job(image, reporter, deadline).await;
        }
        let in_place = start.in_place();
        let restarting = self.restarting(&start.live).await?;
        let same = restarting.is_empty()
            && start.live.has(&start.slot, in_place.image.as_str(), &self.options.environment)
            && (in_place.image.is(&image.reference)
                || self.is_rewritten(&start.live, &start.slot, &in_place, image).await);
        let intent = Intent::deploy(image)
            .current(start.previous.clone().or_else(|| Some(in_place.clone())))
            .previous(start.previous.clone())
            .changes(!same);
        let mut run = Run::planned(reporter, intent);
        run.in_place(Some(in_place.clone()));
        if same && start.settled {
            return Ok(self.already_deployed(run, start.follower.snapshot()?, &start.slot).await);
        }
        self.check(&start.live)?;
        let change = if same {
            self.adopted(&start, in_place)
        } else if self.options.adopt_only {
            return Ok(run.ended(Ended::Superseded, "the workload has a different image"));
        } else {
            self.checkpoint(&run)?;
            let mut content = self.content(&start.live, &image.reference.to_string());
            content.template.extend(restarting);
            self.report_changes(&mut start, &content).await;
            let unanswered = Unanswered::default();
            let apply = || unanswered.send(self.apply(&start.live, &start.slot, &content));
            let applied = self.make(&run, deadline, &unanswered, apply).await?;
            let revision = Revision::new(start.next_number(), &image.reference);
            match applied {
                Ok(applied) => self.made(&start, &applied, revision),
                Err(unanswered) => {
                    run.in_place(Some(revision));
                    return Ok(run.ended(Ended::Unobserved, unanswered));
                }
            }
        };
        match self.follow_change(run, &mut start, change, deadline).await? {
            Concluded::Complete(mut run, snapshot) => {
                // Pods below the partition are not updated.
                let partition = snapshot.live.as_ref().map_or(0, |live| live.partition());
                if partition > 0 {
                    run.detail(format!(
                        "partition {partition}: the pods below that ordinal keep their revision"
                    ));
                }
                Ok(self.proven(run, &snapshot, &start.slot).await)
            }
            Concluded::Failed(run, snapshot, _) => self.undo(run, &mut start, &snapshot).await,
            Concluded::Over(outcome) => Ok(outcome),
        }
    }

    /// Whether a webhook has replaced the image's registry, and would do so again: the change would change nothing.
    async fn is_rewritten(
        &self,
        live: &Live,
        slot: &Slot,
        in_place: &Revision,
        image: &ResolvedImage,
    ) -> bool {
        if in_place.image.pinned().is_none_or(|pinned| pinned.digest() != image.digest()) {
            return false;
        }
        let plan = self.plan(live, slot, &self.content(live, &image.reference.to_string())).await;
        plan.is_ok_and(|plan| plan.changes.is_empty() && plan.conflicts.is_empty())
    }

    /// The image is rolled out already: verifies that it runs.
    pub(super) async fn already_deployed(&self, mut run: Run, snapshot: Snapshot, slot: &Slot) -> Outcome {
        run.detail("already in place");
        self.proven(run, &snapshot, slot).await
    }

    /// Follows a change until it ends. When it is complete, the revision is the one that the controller assigned.
    pub(super) async fn follow_change(
        &self,
        mut run: Run,
        start: &mut Start<'_>,
        change: Change,
        deadline: Instant,
    ) -> Result<Concluded, Error> {
        start.follower.set_grace(self.options.grace);
        let Change { revision, tracked, adopted, unblocks, back_to } = change;
        run.applied(revision, format!("generation {}", tracked.generation), adopted);
        if unblocks {
            self.unblock(start, back_to.as_ref()).await;
        }
        let end = start.follower.follow(&tracked, deadline, self.options.live_logs).await?;
        let mut concluded = self.conclude(run, end, start).await?;
        if let Concluded::Complete(run, snapshot) = &mut concluded
            && let Some(live) = &snapshot.live
        {
            run.in_place(Some(revision_in_place(live, &snapshot.versions, &start.slot)));
        }
        Ok(concluded)
    }
}
