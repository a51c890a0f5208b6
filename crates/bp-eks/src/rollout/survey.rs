//! Read a workload's state before a change, and the running digests after it.

use std::{sync::Arc, time::Duration};

use bp_artifact::deploy::{Current, FailureReport, Proof, Reporter, Revision, run::Run};
use k8s_openapi::api::core::v1::Pod;
use serde_json::Value;
use tokio::time::Instant;

use super::{
    WorkloadRollout, evidence, follow::Follower, judge::Snapshot, proof, schedule, watches::Watches,
};
use crate::{
    api::{
        event::Events,
        retry::{RetryLimit, with_retries},
    },
    error::Error,
    workload::{
        Live, RolloutStatus,
        template::{self, Slot},
        version::{self, Version},
    },
};

/// The state before a rollout.
pub(super) struct Start<'s> {
    pub(super) live: Live,
    pub(super) versions: Vec<Version>,
    pub(super) slot: Slot,
    /// Whether the workload's template is fully rolled out.
    pub(super) settled: bool,
    /// The rollback revision; none for a first rollout that is not complete.
    pub(super) previous: Option<Revision>,
    pub(super) follower: Follower<'s>,
}

impl Start<'_> {
    /// The revision in the template.
    pub(super) fn in_place(&self) -> Revision {
        revision_in_place(&self.live, &self.versions, &self.slot)
    }

    /// The revision number that the controller will assign to a template applied now.
    pub(super) fn next_number(&self) -> String {
        let numbers = version::owned(&self.live, &self.versions).map(Version::number);
        (numbers.max().unwrap_or_default() + 1).to_string()
    }
}

/// A workload and what its controller has kept of an earlier revision.
pub(crate) struct Kept {
    pub(crate) live: Live,
    pub(crate) slot: Slot,
    /// Whether there is a revision to return to.
    pub(crate) has_previous: bool,
    /// The pod template of the earlier revision, if it was kept.
    pub(crate) template: Option<Value>,
}

pub(super) fn revision_in_place(live: &Live, versions: &[Version], slot: &Slot) -> Revision {
    Revision::new(version::in_place(live, versions).to_string(), live.image(&slot.name))
}

fn revision_of(version: &Version, slot: &Slot) -> Revision {
    Revision::new(version.number().to_string(), version.image(&slot.name))
}

/// The rollback revision: the one that is rolled out, or else the one before the rollout in progress.
fn stable(live: &Live, versions: &[Version], pods: &[Arc<Pod>], slot: &Slot) -> Option<Revision> {
    if live.is_settled() {
        Some(revision_in_place(live, versions, slot))
    } else {
        version::stable(live, versions, pods).map(|version| revision_of(version, slot))
    }
}

impl WorkloadRollout {
    pub(crate) fn slot(&self, live: &Live) -> Result<Slot, Error> {
        let slot = |name| template::slot(live.template(), &self.api.workload, name);
        let also = self.also.iter().map(|name| slot(Some(name.as_str())));
        Ok(Slot { also: also.collect::<Result<_, _>>()?, ..slot(self.container.as_deref())? })
    }

    /// Reads the workload and starts the watches, so that missing read permissions show before the first change.
    pub(super) async fn start<'s>(
        &'s self,
        reporter: &'s Reporter,
        deadline: Instant,
    ) -> Result<Start<'s>, Error> {
        let live = self.api.workload().await?;
        let slot = self.slot(&live)?;
        let watches = Watches::start(&self.api, &live, self.options.live_events);
        let follower = Follower::start(&self.api, reporter, watches, deadline, Duration::ZERO).await?;
        let seen = follower.snapshot()?;
        let live = seen.live.unwrap_or(live);
        let previous = stable(&live, &seen.versions, &seen.pods, &slot);
        Ok(Start { settled: live.is_settled(), live, versions: seen.versions, slot, previous, follower })
    }

    /// Fails when a change would not roll out.
    pub(crate) fn check(&self, live: &Live) -> Result<(), Error> {
        let workload = || self.api.workload.clone();
        match () {
            () if live.is_paused() => Err(Error::Paused { workload: workload() }),
            () if live.status(0) == RolloutStatus::OnDelete => Err(Error::OnDelete { workload: workload() }),
            () => match live.owner().filter(|_| !self.options.allow_owner) {
                Some(owner) => Err(Error::Owned { workload: workload(), owner }),
                None => Ok(()),
            },
        }
    }

    /// The failure report of the workload's pods, if any pod has a symptom.
    pub(crate) async fn diagnose(&self, reporter: &Reporter) -> Result<Option<FailureReport>, Error> {
        let start = self.start(reporter, bp_artifact::time::deadline(self.options.deadline)).await?;
        let snapshot = start.follower.snapshot()?;
        match snapshot.reason(None) {
            Some(symptom) => Ok(Some(evidence::gather(&self.api, &snapshot, symptom).await)),
            None => Ok(None),
        }
    }

    pub(crate) async fn current(&self) -> Result<Current, Error> {
        let (snapshot, live, slot) = self.read().await?;
        if live.kind.is_scheduled {
            return Ok(Current::new(schedule::revision(&live, &slot), None));
        }
        let in_place = revision_in_place(&live, &snapshot.versions, &slot);
        let rolling_out = (!live.is_settled()).then(|| in_place.clone());
        let stable = stable(&live, &snapshot.versions, &snapshot.pods, &slot).unwrap_or(in_place);
        Ok(Current::new(stable, rolling_out))
    }

    /// The revision before the current one.
    pub(crate) async fn previous(&self) -> Result<Revision, Error> {
        let (snapshot, live, slot) = self.read().await?;
        if live.runs_to_completion() {
            return Err(Error::NotUndoable { workload: self.api.workload.clone() });
        }
        if live.kind.is_scheduled {
            let none = Error::NoPrevious { workload: self.api.workload.clone() };
            return schedule::previous(&live, &slot).ok_or(none);
        }
        let find = if live.is_settled() { version::earlier } else { version::stable };
        let version = find(&live, &snapshot.versions, &snapshot.pods);
        let none = || Error::NoPrevious { workload: self.api.workload.clone() };
        version.map(|version| revision_of(version, &slot)).ok_or_else(none)
    }

    /// The revision with this number. A Deployment renumbers a revision that it runs again, and keeps the earlier numbers.
    pub(crate) async fn revision(&self, number: &str) -> Result<Revision, Error> {
        let (snapshot, live, slot) = self.read().await?;
        let workload = || self.api.workload.clone();
        if live.runs_to_completion() {
            return Err(Error::NotUndoable { workload: workload() });
        }
        if live.kind.is_scheduled {
            let kept = [Some(schedule::revision(&live, &slot)), schedule::previous(&live, &slot)];
            let found = kept.into_iter().flatten().find(|revision| revision.id == number);
            let none =
                || Error::NoRevision { workload: workload(), revision: number.to_owned(), known: Vec::new() };
            return found.ok_or_else(none);
        }
        let known = || version::owned(&live, &snapshot.versions);
        let found = known().find(|version| version.number().to_string() == number);
        let found = found.or_else(|| known().find(|version| version.had_number(number)));
        found.map(|version| revision_of(version, &slot)).ok_or_else(|| {
            let mut numbers: Vec<u64> = known().map(Version::number).filter(|number| *number > 0).collect();
            numbers.sort_unstable();
            Error::NoRevision { workload: workload(), revision: number.to_owned(), known: numbers }
        })
    }

    /// Reads the workload, and what its controller has kept of `revision`.
    pub(crate) async fn kept(&self, revision: &Revision) -> Result<Kept, Error> {
        let (snapshot, live, slot) = self.read().await?;
        let stable = version::stable(&live, &snapshot.versions, &snapshot.pods);
        let image = revision.image.as_str();
        let kept = version::of_image(&live, &snapshot.versions, &slot.name, image, &revision.id);
        let template = kept.map(|version| version.template.clone());
        Ok(Kept { has_previous: live.is_settled() || stable.is_some(), live, slot, template })
    }

    pub(crate) async fn prove(&self) -> Result<Proof, Error> {
        let (snapshot, live, slot) = self.read().await?;
        if live.kind.is_scheduled {
            return Ok(schedule::proof(&live, &slot));
        }
        // With a partition some pods keep their revision; they are observed too.
        let pods = if live.partition() > 0 { snapshot.pods.iter().collect() } else { snapshot.new_pods() };
        Ok(proof::of_slot(pods.into_iter().map(AsRef::as_ref), &slot, None))
    }

    /// Reads the workload, its revisions and pods once, without events.
    pub(super) async fn read(&self) -> Result<(Snapshot, Live, Slot), Error> {
        let live = self.pattern().await?;
        let slot = self.slot(&live)?;
        let (versions, pods) = tokio::try_join!(self.api.versions(&live), self.api.list_pods(&live))?;
        let snapshot = Snapshot { live: Some(live.clone()), versions, pods, events: Events::default() };
        Ok((snapshot, live, slot))
    }

    /// The digests of the pods of the current template, listed again because the watch of the workload may be ahead of
    /// the watch of its pods.
    ///
    /// # Errors
    /// When they cannot be read, also after retries.
    pub(super) async fn proof(&self, snapshot: &Snapshot, run: &Run, slot: &Slot) -> Result<Proof, Error> {
        let mut fresh = snapshot.clone();
        if let Some(live) = &snapshot.live {
            let limit =
                RetryLimit::after_change(bp_artifact::time::deadline(self.options.grace), self.options.grace);
            let read = || async { tokio::try_join!(self.api.versions(live), self.api.list_pods(live)) };
            (fresh.versions, fresh.pods) = with_retries(limit, run, read).await?;
        }
        let pods = fresh.new_pods();
        let pods = pods.iter().map(|pod| pod.as_ref());
        Ok(proof::of_slot(pods, slot, run.image()))
    }
}
