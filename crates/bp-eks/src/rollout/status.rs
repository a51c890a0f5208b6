//! The status of the workload for people: what runs, the rollout, failing pods and warning events.

use std::sync::Arc;

use bp_artifact::deploy::{
    Evidence, FailureReport, Progress, Revision,
    status::{ContainerStatus, DeploymentStatus, Status, UnitFailure},
};
use k8s_openapi::api::core::v1::{Event, Pod};
use kube::ResourceExt;
use serde_json::Value;

use super::{
    WorkloadRollout, diagnose, evidence, judge::Snapshot, proof, schedule, survey::revision_in_place,
};
use crate::{
    api::{pod, symptom::Recovery},
    error::Error,
    workload::{Live, RolloutStatus, version::Version},
};

impl WorkloadRollout {
    /// Reads the workload, its revisions, its pods and the namespace's warnings: four calls, and one more per page of
    /// pods.
    pub(crate) async fn status(&self) -> Result<Status, Error> {
        let (mut snapshot, live, slot) = self.read().await?;
        let mut status = Status::new(self.id.clone());
        match self.api.recent_warnings().await {
            Ok(events) => snapshot.events = events.into_iter().map(Arc::new).collect(),
            Err(error) => {
                let error = bp_artifact::error::chain(&error);
                status.notes.push(format!("the events could not be read: {error}"));
            }
        }
        if live.kind.is_scheduled {
            status.state = self.schedule_state(&live, &slot).await;
            status.revision = Some(schedule::revision(&live, &slot));
            status.containers = containers(live.template());
            status.events = events(&snapshot, &live);
            status.shorten();
            return Ok(status);
        }
        let revision = revision_in_place(&live, &snapshot.versions, &slot);
        let mut progress =
            snapshot.progress(&self.tracked(&live, &live, &slot), &live, &live.status(live.generation()));
        progress.stage.clear();
        status.deployments = vec![rollout(&live, progress.clone(), &revision)];
        status.state = state(&live);
        status.progress = progress;
        status.revision = Some(revision);
        for container in containers(live.template()) {
            status.containers.push(container);
        }
        for pod in &snapshot.pods {
            count(&mut status, pod, &snapshot.versions);
            let symptom = diagnose::of_pod(pod, snapshot.warnings(&pod.metadata.uid));
            match symptom {
                Some(symptom) if symptom.recovery != Recovery::Starting => {
                    let command =
                        evidence::command(&self.api, symptom.cause, symptom.container.as_deref(), Some(pod));
                    let failure = FailureReport::new(symptom.cause, symptom.message)
                        .in_container(symptom.container, symptom.exit_code)
                        .inspect_with(command.iter().map(String::as_str));
                    let at = pod.metadata.creation_timestamp.as_ref().map(|time| time.0);
                    status.failures.push(UnitFailure::new(format!("pod/{}", pod.name_any()), at, failure));
                }
                Some(_) | None if is_starting(pod) => status.starting.push(evidence::state(pod)),
                Some(_) | None => {}
            }
        }
        status.events = events(&snapshot, &live);
        status.shorten();
        Ok(status)
    }
}

fn rollout(live: &Live, progress: Progress, revision: &Revision) -> DeploymentStatus {
    let mut status = DeploymentStatus::new(format!("generation {}", live.generation()));
    status.revision = Some(revision.id.clone());
    status.in_progress = !live.is_settled();
    status.state = state(live);
    status.reasons = live.bad_conditions().into_iter().map(|condition| condition.text).collect();
    let strategy = [&live.spec()["strategy"]["type"], &live.spec()["updateStrategy"]["type"]];
    status.strategy = strategy.into_iter().find_map(Value::as_str).map(str::to_owned);
    status.progress = Some(progress);
    status
}

fn state(live: &Live) -> String {
    if live.is_paused() {
        return "paused".to_owned();
    }
    match live.status(live.generation()) {
        RolloutStatus::NotObserved => "waiting for the controller".to_owned(),
        RolloutStatus::Progressing(stage) => stage.to_string(),
        RolloutStatus::Stalled(message) => format!("stalled: {message}"),
        RolloutStatus::Failed(message) => format!("failed: {message}"),
        RolloutStatus::OnDelete => "pods are replaced only when they are deleted (OnDelete)".to_owned(),
        RolloutStatus::Complete => "complete".to_owned(),
    }
}

fn containers(template: &Value) -> Vec<ContainerStatus> {
    let containers = template["spec"]["containers"].as_array().into_iter().flatten();
    let read = |container: &Value| {
        let image = container["image"].as_str().map(str::to_owned);
        ContainerStatus::new(container["name"].as_str().unwrap_or_default(), image)
    };
    containers.map(read).collect()
}

/// Counts the running containers of a pod.
fn count(status: &mut Status, pod: &Pod, versions: &[Version]) {
    let revision = versions.iter().find(|version| version.made(pod));
    let revision = revision.map_or_else(|| "unknown".to_owned(), |version| version.number().to_string());
    let containers = pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
    for container in containers {
        if container.state.as_ref().is_some_and(|state| state.running.is_some()) {
            status.count(&container.name, &revision, proof::digest(&container.image_id));
        }
    }
}

fn is_starting(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    !pod::is_ready(pod)
        && pod.metadata.deletion_timestamp.is_none()
        && !matches!(phase, Some("Succeeded" | "Failed"))
}

/// The warning events about the workload, its revisions and its pods, the latest first.
fn events(snapshot: &Snapshot, live: &Live) -> Vec<Evidence> {
    let pods = snapshot.pods.iter().map(|pod| (format!("pod/{}", pod.name_any()), &pod.metadata.uid));
    let workload = (live.metadata().name.clone().unwrap_or_default(), &live.metadata().uid);
    let about = pods.chain([workload]);
    let events = about.flat_map(|(source, uid)| {
        let warnings: Vec<&Event> = snapshot.warnings(uid).collect();
        warnings.into_iter().map(move |event| evidence::event(source.clone(), event)).collect::<Vec<_>>()
    });
    let mut events: Vec<Evidence> = events.collect();
    events.sort_by_key(|event| std::cmp::Reverse(event.at));
    events
}
