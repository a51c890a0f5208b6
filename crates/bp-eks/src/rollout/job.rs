//! Run Jobs: a Job's template is immutable, so each image gets its own Job, copied from the configured one; its name
//! contains the digest, so that a rerun finds it.

use std::sync::Arc;

use bp_artifact::{
    Outcome, ResolvedImage,
    config::Workload,
    deploy::{
        Reporter, Revision,
        run::{Ended, Intent, Run},
    },
};
use kube::api::ListParams;
use tokio::time::Instant;

use super::{
    WorkloadRollout, api::WorkloadApi, conclude::Concluded, follow::Follower, survey::Start, watches::Watches,
};
use crate::{
    api::retry::{RetryLimit, with_retries},
    error::Error,
    workload::{Live, RolloutStatus, job, template::Slot},
};

/// The number of Jobs per image: a failed Job is kept as evidence, and the next one gets a number.
const TRIES: usize = 99;

impl WorkloadRollout {
    /// Runs a Job with `image` and follows it until it ends. A Job cannot be rolled back.
    pub(super) async fn run_job(
        &self,
        image: &ResolvedImage,
        reporter: &Reporter,
        deadline: Instant,
    ) -> Result<Outcome, Error> {
        let pattern = self.pattern().await?;
        let slot = self.slot(&pattern)?;
        let is_it = pattern.has(&slot, &image.reference.to_string(), &self.options.environment);
        let (live, made) = if is_it && !has_failed(&pattern) {
            (pattern, false)
        } else {
            if reporter.is_cancelled() {
                return Err(self.interrupted());
            }
            let limit = RetryLimit::until(deadline.min(bp_artifact::time::deadline(self.options.grace)));
            self.job(&pattern, &slot, image, reporter, limit).await?
        };
        let revision = Revision::new(live.metadata().name.clone().unwrap_or_default(), &image.reference);
        let mut run = Run::planned(reporter, Intent::deploy(image).changes(made));
        if !made {
            run.detail("already in place");
        }
        let api = self.api.of(&revision.id);
        let tracked = self.tracked(&live, &live, &slot);
        run.applied(revision.clone(), format!("generation {}", tracked.generation), !made);
        let watches = Watches::start(&api, &live, self.options.live_events);
        let grace = self.options.grace;
        let follower = match Follower::start(&api, reporter, watches, deadline, grace).await {
            Ok(follower) => follower,
            Err(error @ Error::Interrupted { .. }) => return Err(error),
            Err(error) => {
                let detail = error.unobserved(&format!("job/{} was created", revision.id));
                return Ok(run.ended(Ended::Unobserved, detail));
            }
        };
        let mut start = Start { live, versions: Vec::new(), slot, settled: false, previous: None, follower };
        let end = start.follower.follow(&tracked, deadline, self.options.live_logs).await?;
        match self.conclude(run, end, &mut start).await? {
            Concluded::Complete(run, snapshot) => Ok(self.proven(run, &snapshot, &start.slot).await),
            Concluded::Failed(run, _, how) => Ok(run.ended(Ended::FailedInPlace, how)),
            Concluded::Over(outcome) => Ok(outcome),
        }
    }

    /// The workload. A Job that has been deleted, as by its time to live, is replaced by the latest one that was derived
    /// from it.
    pub(super) async fn pattern(&self) -> Result<Live, Error> {
        let missing = match self.api.workload().await {
            Err(error @ Error::NotFound { .. }) if self.api.kind().runs_to_completion => error,
            result => return result,
        };
        let label = format!("{}={}", job::DERIVED_FROM, self.api.workload.name);
        let list = self.api.workloads().list(&ListParams::default().labels(&label)).await;
        let list = list.map_err(|e| self.api.object().error(self.api.calls().list, e))?;
        let latest = list.items.into_iter().max_by_key(|job| job.metadata.creation_timestamp.clone());
        match latest {
            Some(job) => self.api.read(self.api.calls().list, Arc::new(job)),
            None => Err(missing),
        }
    }

    /// The Job of this image that has not failed, created if necessary; and whether it was created.
    async fn job(
        &self,
        pattern: &Live,
        slot: &Slot,
        image: &ResolvedImage,
        reporter: &Reporter,
        limit: RetryLimit,
    ) -> Result<(Live, bool), Error> {
        let name = &self.api.workload.name;
        let mut object =
            job::derive_job(pattern, name, slot, &image.reference.to_string(), &self.options.environment);
        if !self.options.annotations.is_empty() {
            object.metadata.annotations.get_or_insert_default().extend(self.options.annotations.clone());
        }
        for attempt in 1..=TRIES {
            let name = job::name_of(name, image.digest().hex(), attempt);
            let mut object = object.clone();
            object.metadata.name = Some(name.clone());
            let create = || self.api.create(slot, &object);
            if let Some(live) = with_retries(limit, reporter, create).await? {
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
    /// The API for another workload of the same kind.
    fn of(&self, name: &str) -> Self {
        let mut other = self.clone();
        other.workload = Workload { kind: self.workload.kind, name: name.to_owned() };
        other
    }
}
