//! Collect failure evidence (pod states, events, logs) before a rollback deletes the pods.

use std::{sync::Arc, time::Duration};

use bp_artifact::deploy::{Cause, Evidence, EvidenceKind, FailureReport};
use futures_util::future::join_all;
use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{ContainerStatus, Event, Pod},
    apimachinery::pkg::apis::meta::v1::Time,
};
use kube::ResourceExt;

use super::{api::WorkloadApi, diagnose, judge::Snapshot};
use crate::{
    api::{event, symptom::Symptom, text::Text},
    workload::{Condition, Live},
};

/// The number of pods to inspect; further pods would show the same.
const PODS: usize = 3;
/// The number of log lines to keep.
const LINES: i64 = 20;
/// The timeout of each evidence call.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The failure report of `symptom`, with evidence from pods, events and logs.
pub(super) async fn gather(cluster: &WorkloadApi, snapshot: &Snapshot, symptom: Symptom) -> FailureReport {
    let mut pods = snapshot.new_pods();
    pods.extend(snapshot.failed_pods(None));
    // Failing pods first, and among them those with the reported cause.
    pods.sort_by_key(|pod| {
        let found = diagnose::of_pod(pod, snapshot.warnings(&pod.metadata.uid));
        (found.as_ref().map(|s| s.cause) != Some(symptom.cause), found.is_none())
    });
    pods.truncate(PODS);
    let inspected = join_all(pods.iter().map(|pod| inspect_pod(cluster, snapshot, pod))).await;
    let report = FailureReport::new(symptom.cause, symptom.message);
    let command = command(cluster, symptom.cause, symptom.container.as_deref(), pods.first().copied());
    let report = report.in_container(symptom.container, symptom.exit_code);
    let mut report = report.inspect_with(command.iter().map(String::as_str));
    report.evidence = workload(cluster, snapshot);
    report.evidence.extend(inspected.into_iter().flatten());
    if report.cause == Cause::ContainerExited
        && let Some((cause, line)) = cause_in_log(&report.evidence)
    {
        report.cause = cause;
        report.message = format!("{}: {line}", report.message);
    }
    report
}

/// The kubectl command that shows most about a failure.
pub(super) fn command(
    cluster: &WorkloadApi,
    cause: Cause,
    container: Option<&str>,
    pod: Option<&Arc<Pod>>,
) -> Vec<String> {
    let mut words = vec!["kubectl", "-n", &cluster.scope.namespace];
    let name = pod.map(|pod| pod.name_any());
    let status = pod.and_then(|pod| pod.status.as_ref()).into_iter();
    let mut statuses =
        status.flat_map(|s| s.init_container_statuses.iter().chain(&s.container_statuses).flatten());
    match (&name, container) {
        (Some(pod), Some(container)) if cause == Cause::ContainerExited => {
            words.extend(["logs", pod.as_str(), "-c", container]);
            // The present run of a container that was restarted has not failed yet.
            if statuses.any(|status| status.name == container && status.restart_count > 0) {
                words.push("--previous");
            }
        }
        (Some(pod), _) => words.extend(["describe", "pod", pod.as_str()]),
        (None, _) if cause == Cause::QuotaExceeded => words.extend(["describe", "resourcequota"]),
        (None, _) if matches!(cause, Cause::AdmissionRefused | Cause::PermissionMissing) => {
            words.extend(["get", "events", "--field-selector", "reason=FailedCreate"]);
        }
        (None, _) => words.extend(["describe", cluster.workload.kind.name(), cluster.workload.name.as_str()]),
    }
    words.into_iter().map(str::to_owned).collect()
}

/// A cause that only the log shows: wrong architecture or missing AWS credentials. With the log line.
fn cause_in_log(evidence: &[Evidence]) -> Option<(Cause, String)> {
    let logs = evidence.iter().filter(|e| e.kind == EvidenceKind::Log);
    let cause_of = |line: &str| match () {
        () if diagnose::is_format_error(line) => Some((Cause::WrongArchitecture, line.to_owned())),
        () if diagnose::is_identity_error(line) => Some((Cause::PermissionMissing, line.to_owned())),
        () => None,
    };
    logs.flat_map(|log| log.message.lines()).find_map(cause_of)
}

/// The conditions of the workload that report a problem.
fn workload(cluster: &WorkloadApi, snapshot: &Snapshot) -> Vec<Evidence> {
    let conditions = snapshot.live.iter().flat_map(Live::bad_conditions);
    let evidence = |Condition { text, at }| {
        Evidence::new(EvidenceKind::Deployment, text).source(cluster.workload.to_string()).at(at)
    };
    conditions.map(evidence).collect()
}

async fn inspect_pod(cluster: &WorkloadApi, snapshot: &Snapshot, pod: &Pod) -> Vec<Evidence> {
    let mut evidence = vec![state(pod)];
    let status = pod.status.as_ref();
    let inits = status.into_iter().flat_map(|s| s.init_container_statuses.iter().flatten());
    let containers = status.into_iter().flat_map(|s| s.container_statuses.iter().flatten());
    let failing: Vec<&ContainerStatus> =
        inits.chain(containers).filter(|c| !c.ready && ended(c) != Some(0)).collect();
    evidence.extend(failing.iter().filter_map(|container| container_state(pod, container)));
    // The watch of events may be refused or late: list them again.
    let fresh = tokio::time::timeout(TIMEOUT, cluster.warnings(pod)).await;
    match fresh {
        Ok(Ok(events)) => evidence.extend(warnings(pod, events.iter())),
        _ => evidence.extend(warnings(pod, snapshot.warnings(&pod.metadata.uid))),
    }
    let logs = failing.iter().filter(|c| ended(c).is_some()).map(|container| log(cluster, pod, container));
    evidence.extend(join_all(logs).await.into_iter().flatten());
    evidence
}

/// The exit code of the container's last run, if it ran.
fn ended(container: &ContainerStatus) -> Option<i32> {
    let terminated = |state: &Option<k8s_openapi::api::core::v1::ContainerState>| {
        state.as_ref().and_then(|state| state.terminated.as_ref()).map(|t| t.exit_code)
    };
    terminated(&container.state).or_else(|| terminated(&container.last_state))
}

fn source(pod: &Pod) -> String {
    format!("pod/{}", pod.name_any())
}

pub(super) fn state(pod: &Pod) -> Evidence {
    let status = pod.status.clone().unwrap_or_default();
    let mut message = status.phase.text().to_owned();
    for condition in status.conditions.iter().flatten().filter(|c| c.status.text() == "False") {
        message.push_str(&format!("; {} is False", condition.type_.text()));
        for part in [condition.reason.text(), condition.message.text()] {
            if !part.is_empty() {
                message.push_str(&format!(": {part}"));
            }
        }
    }
    if let Some(node) = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()) {
        message.push_str(&format!("; on {node}"));
    }
    let at = time(&pod.metadata.creation_timestamp);
    Evidence::new(EvidenceKind::Task, message).source(source(pod)).at(at)
}

fn container_state(pod: &Pod, container: &ContainerStatus) -> Option<Evidence> {
    let state = container.state.as_ref()?;
    let mut message = match (&state.waiting, &state.terminated, &state.running) {
        (Some(waiting), ..) => format!("waiting: {}: {}", waiting.reason.text(), waiting.message.text()),
        (_, Some(ended), _) => format!("ended: {}, exit code {}", ended.reason.text(), ended.exit_code),
        (.., Some(_)) => "running, not ready".to_owned(),
        _ => return None,
    };
    if let Some(last) = container.last_state.as_ref().and_then(|state| state.terminated.as_ref()) {
        message.push_str(&format!("; before: {}, exit code {}", last.reason.text(), last.exit_code));
    }
    if container.restart_count > 0 {
        message.push_str(&format!("; {}", diagnose::restarted(container.restart_count)));
    }
    let source = format!("{}/{}", source(pod), container.name);
    Some(Evidence::new(EvidenceKind::Container, message).source(source))
}

/// The warning events, the latest first.
fn warnings<'e>(pod: &Pod, events: impl Iterator<Item = &'e Event>) -> Vec<Evidence> {
    let mut warnings: Vec<Evidence> = events.map(|event| self::event(source(pod), event)).collect();
    warnings.sort_by_key(|warning| std::cmp::Reverse(warning.at));
    warnings
}

/// An event about `source`.
pub(super) fn event(source: String, event: &Event) -> Evidence {
    let times = match event::count(event) {
        0 | 1 => String::new(),
        count => format!(" ({count} times)"),
    };
    let message = format!("{}: {}{times}", event.reason.text(), event.message.text());
    Evidence::new(EvidenceKind::Event, message).source(source).at(event::last_seen(event))
}

/// The last log lines of a container before it ended.
async fn log(cluster: &WorkloadApi, pod: &Pod, container: &ContainerStatus) -> Option<Evidence> {
    let previous = container.last_state.as_ref().is_some_and(|state| state.terminated.is_some());
    let asked = cluster.log(pod, &container.name, previous, LINES);
    let message = tokio::time::timeout(TIMEOUT, asked).await.ok()??;
    let source = format!("{}/{}", source(pod), container.name);
    Some(Evidence::new(EvidenceKind::Log, message.trim_end()).source(source))
}

fn time(time: &Option<Time>) -> Option<Timestamp> {
    time.as_ref().map(|time| time.0)
}
