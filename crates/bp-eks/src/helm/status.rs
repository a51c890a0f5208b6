//! The status of a release for people: its last revisions, what its workloads run, failures and warnings.

use bp_artifact::deploy::{
    Progress, Revision,
    status::{DeploymentStatus, Status},
};
use futures_util::future::join_all;

use super::{
    context::{HelmRevision, Release},
    error::HelmError,
    manifest::{ManifestContainer, parse_manifest},
    rollback::main_image,
};
use crate::error::Error;

/// The number of revisions that are shown.
const REVISIONS: usize = 3;

impl Release {
    pub(super) async fn status(&self) -> Result<Status, HelmError> {
        let helm = self.program(None).await?;
        let history = self.history(&helm).await?;
        let last = history.last().ok_or_else(|| self.not_found())?;
        let manifest = self.manifest(&helm, Some(last.revision)).await?;
        let places = parse_manifest(&manifest, "get manifest")?;
        let mut status = Status::new(self.id.clone());
        status.state.clone_from(&last.status);
        status.revision = Some(Revision::new(last.revision.to_string(), main_image(&places)));
        status.deployments = history.iter().rev().take(REVISIONS).map(revision).collect();
        let workloads = first_places(&places);
        let read: Vec<_> = workloads.iter().map(|place| self.status_of(place)).collect();
        for (shown, read) in join_all(read).await.into_iter().flatten() {
            match read {
                Ok(of_workload) => add(&mut status, &shown, of_workload),
                Err(error) => {
                    let error = bp_artifact::error::chain(&error);
                    status.notes.push(format!("{shown} could not be read: {error}"));
                }
            }
        }
        if last.status.starts_with("pending-") {
            let note = format!(
                "revision {} is {}: an operation is in progress, or the run that started it was killed, which the next \
                deployment recovers",
                last.revision, last.status
            );
            status.notes.push(note);
        }
        status.events.sort_by_key(|event| std::cmp::Reverse(event.at));
        status.shorten();
        Ok(status)
    }
}

impl Release {
    /// The status of a place's workload, and its name.
    async fn status_of(&self, place: &ManifestContainer) -> Option<(String, Result<Status, Error>)> {
        let workload = place.workload.as_ref()?;
        Some((self.shown(workload, place), self.target(workload, place).status().await))
    }
}

/// The first container of each workload.
pub(super) fn first_places(places: &[ManifestContainer]) -> Vec<&ManifestContainer> {
    let mut firsts: Vec<&ManifestContainer> = Vec::new();
    for place in places.iter().filter(|place| place.workload.is_some()) {
        let is_of = |first: &&ManifestContainer| {
            first.workload == place.workload && first.namespace == place.namespace
        };
        if !firsts.iter().any(is_of) {
            firsts.push(place);
        }
    }
    firsts
}

fn revision(entry: &HelmRevision) -> DeploymentStatus {
    let mut status = DeploymentStatus::new(format!("helm revision {}", entry.revision));
    status.state.clone_from(&entry.status);
    status.in_progress = entry.status.starts_with("pending-");
    let texts = [&entry.chart, &entry.description].into_iter().filter(|text| !text.is_empty());
    status.reasons = texts.cloned().collect();
    status.started_at = entry.updated;
    status
}

/// Adds the status of a workload to that of its release.
fn add(status: &mut Status, workload: &str, of_workload: Status) {
    let Status { progress, containers, deployments, starting, failures, events, notes, .. } = of_workload;
    let Progress { desired, running, pending, failed, old, .. } = &mut status.progress;
    *desired += progress.desired;
    *running += progress.running;
    *pending += progress.pending;
    *failed += progress.failed;
    *old += progress.old;
    status.containers.extend(containers.into_iter().map(|mut container| {
        container.name = format!("{workload} {}", container.name);
        container
    }));
    status.deployments.extend(deployments.into_iter().map(|mut deployment| {
        deployment.id = format!("{workload} {}", deployment.id);
        deployment
    }));
    status.starting.extend(starting);
    status.failures.extend(failures);
    status.events.extend(events);
    status.notes.extend(notes.into_iter().map(|note| format!("{workload}: {note}")));
}
