//! Jobs. A Job's template never changes, so each image is a Job of its own, made after the one that was named; its name
//! tells the image, so that the same command finds it again.

use bp_artifact::{DeployEvent, Outcome, ResolvedImage, Revision, Verdict, Workload};
use tokio::time::Instant;

use super::{WorkloadRollout, api::WorkloadApi, follow::Follower, survey::Start, watches::Watches};
use crate::{
    api::{
        Events,
        retry::{Patience, retried},
    },
    error::Error,
    workload::{Live, RolloutStatus, job, template::Slot},
};

/// A Job of the same image that failed is left as evidence, and the next one gets a number; as many are tried.
const TRIES: usize = 99;

impl WorkloadRollout {
    /// Runs a Job with `image` and follows it to its end. There is nothing to go back to.
    pub(super) async fn run_job(
        &self,
        image: &ResolvedImage,
        events: &Events,
        deadline: Instant,
    ) -> Result<Outcome, Error> {
        let pattern = self.api.workload().await?;
        let slot = self.slot(&pattern)?;
        let wanted = image.reference.to_string();
        let is_it = pattern.has(&slot, &wanted, &self.options.environment);
        let (live, made) = match is_it && !has_failed(&pattern) {
            true => (pattern, false),
            false => {
                self.not_cancelled(events)?;
                let patience = Patience::until(deadline.min(bp_artifact::time::deadline(self.options.grace)));
                self.job(&pattern, &slot, image, events, patience).await?
            }
        };
        let revision = Revision::new(live.metadata().name.clone().unwrap_or_default(), &image.reference);
        events.emit(DeployEvent::Planned {
            target: self.id.clone(),
            image: Some(image.reference.clone()),
            current: None,
            changes: made,
        });
        let cluster = self.api.of(&revision.id);
        let base = Outcome { image: Some(image.reference.clone()), ..self.outcome(revision.clone(), made) };
        let ours = self.ours(&live, &live, &slot);
        self.tell_applied(&revision, &ours, !made, events);
        let watches = Watches::start(&cluster, &live, self.options.live_events);
        let grace = self.options.grace;
        let follower = match Follower::start(&cluster, &self.id, events, watches, deadline, grace).await {
            Ok(follower) => follower,
            Err(error @ Error::Interrupted { .. }) => return Err(error),
            Err(error) => {
                let what = format!("job/{} was created", revision.id);
                let detail = error.unobserved(&what);
                return Ok(self.ended(Outcome { verdict: Verdict::Unobserved, detail, ..base }, events));
            }
        };
        let mut start = Start { live, versions: Vec::new(), slot, settled: false, previous: None, follower };
        let end = start.follower.follow(&ours, deadline, self.options.live_logs).await?;
        match self.conclude(base.clone(), end, &mut start, events).await? {
            Some((outcome, _)) => Ok(self.ended(outcome, events)),
            None => {
                let picture = start.follower.picture()?;
                Ok(self.finish(base, &picture, Some(image), &start.slot, events).await)
            }
        }
    }

    /// The Job of this image that has not failed, made if there is none; and whether it was made.
    async fn job(
        &self,
        pattern: &Live,
        slot: &Slot,
        image: &ResolvedImage,
        events: &Events,
        patience: Patience,
    ) -> Result<(Live, bool), Error> {
        let name = &self.api.workload.name;
        let object = job::made_after(pattern, slot, &image.reference.to_string(), &self.options.environment);
        for attempt in 1..=TRIES {
            let name = job::name_of(name, image.digest().hex(), attempt);
            let mut object = object.clone();
            object.metadata.name = Some(name.clone());
            let create = || self.api.create(slot, &object);
            if let Some(live) = retried(patience, events, &self.id, create).await? {
                return Ok((live, true));
            }
            let there = self.api.of(&name).workload().await?;
            if !has_failed(&there) {
                return Ok((there, false));
            }
        }
        Err(Error::TooManyJobs { workload: self.api.workload.clone() })
    }
}

fn has_failed(live: &Live) -> bool {
    matches!(live.status(0), RolloutStatus::Failed(_))
}

impl WorkloadApi {
    /// The same for another workload of the same kind.
    fn of(&self, name: &str) -> Self {
        let mut other = self.clone();
        other.workload = Workload { kind: self.workload.kind, name: name.to_owned() };
        other
    }
}
