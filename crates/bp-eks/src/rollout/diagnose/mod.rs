//! Diagnose why pods do not become ready: map container states, conditions and events to a cause.
//!
//! A cause that cannot recover is *final* and ends the rollout early; a cause that may recover (a pending node, a slow
//! probe, a busy registry) is reported if the rollout stalls.

mod pulls;

use bp_artifact::deploy::Cause;
use k8s_openapi::api::core::v1::{ContainerState, ContainerStateTerminated, ContainerStatus, Event, Pod};

use crate::api::{
    pod,
    symptom::{Recovery, Symptom},
    text::Text,
};

/// The symptom of `pod`, preferring final ones; `events` are the warnings about the pod.
pub(crate) fn of_pod<'e>(pod: &Pod, events: impl Iterator<Item = &'e Event> + Clone) -> Option<Symptom> {
    let status = pod.status.as_ref()?;
    if pod::was_evicted(pod) {
        return None;
    }
    let inits = status.init_container_statuses.iter().flatten();
    let containers = inits.chain(status.container_statuses.iter().flatten());
    let mut found: Vec<Symptom> =
        containers.filter_map(|container| of_container(container, events.clone())).collect();
    found.extend(of_scheduling(pod));
    if !pod::is_ready(pod) {
        found.extend(events.filter_map(|event| of_event(pod, event)));
    }
    // The sort is stable: among equal symptoms the first container's wins.
    found.sort_by_key(|symptom| !symptom.is_final());
    found.into_iter().next()
}

fn of_container<'e>(container: &ContainerStatus, events: impl Iterator<Item = &'e Event>) -> Option<Symptom> {
    let state = container.state.as_ref()?;
    let symptom = match state {
        ContainerState { waiting: Some(waiting), .. } => {
            let message = waiting.message.text();
            match waiting.reason.text() {
                "ErrImagePull" | "ImagePullBackOff" => of_pull(message, events),
                // The kubelet retries both.
                "RegistryUnavailable" | "ImageInspectError" => {
                    Symptom::new(Cause::ImagePullFailed, Recovery::Sometime, message)
                }
                "SignatureValidationFailed" => {
                    Symptom::new(Cause::AdmissionRefused, Recovery::Never, message)
                }
                "InvalidImageName" => Symptom::new(Cause::ConfigInvalid, Recovery::Never, message),
                "ErrImageNeverPull" => Symptom::new(Cause::ImageNotFound, Recovery::Never, message),
                "CreateContainerConfigError" => of_configuration(message)?,
                "CreateContainerError" | "RunContainerError" => of_start(message),
                "CrashLoopBackOff" => of_crash(container, events),
                _ => return None,
            }
        }
        ContainerState { terminated: Some(terminated), .. } if terminated.exit_code != 0 => {
            let symptom = of_exit(terminated, container.restart_count);
            // The container is restarted; only a program for another architecture can never start.
            let recovery = final_if(symptom.cause == Cause::WrongArchitecture);
            Symptom { recovery, ..symptom }
        }
        _ => return None,
    };
    Some(symptom.of_container(&container.name))
}

/// An image pull that failed.
fn of_pull<'e>(message: &str, mut events: impl Iterator<Item = &'e Event>) -> Symptom {
    // Older kubelets report only "Back-off pulling image"; the reason is in the event.
    let mut event = || events.find(|e| e.message.text().starts_with("Failed to pull image"));
    let reported = if pulls::is_bare(message) { event().map(|event| event.message.text()) } else { None };
    let message = reported.unwrap_or(message);
    let (cause, is_final) = pulls::cause(message);
    Symptom::new(cause, final_if(is_final), message)
}

fn final_if(is_final: bool) -> Recovery {
    if is_final { Recovery::Never } else { Recovery::Sometime }
}

/// `CreateContainerConfigError`: a missing reference of the container.
fn of_configuration(message: &str) -> Option<Symptom> {
    // The kubelet's cache was not ready: it retries.
    if message.contains("failed to sync") && message.contains("cache") {
        return None;
    }
    Some(Symptom::new(of_reference(message).unwrap_or(Cause::ConfigInvalid), Recovery::Never, message))
}

/// The cause in a message about a missing Secret or ConfigMap.
fn of_reference(message: &str) -> Option<Cause> {
    let text = message.to_ascii_lowercase();
    let missing = text.contains("not found") || text.contains("couldn't find key");
    match () {
        () if missing && text.contains("secret") => Some(Cause::SecretMissing),
        () if missing && text.contains("configmap") => Some(Cause::ConfigInvalid),
        () => None,
    }
}

/// The runtime could not start the program.
fn of_start(message: &str) -> Symptom {
    if is_format_error(message) {
        Symptom::new(Cause::WrongArchitecture, Recovery::Never, message)
    } else {
        Symptom::new(Cause::ConfigInvalid, Recovery::Never, message)
    }
}

/// Whether the text reports missing AWS credentials: the service account has no role (IRSA) or Pod Identity
/// association, or the role does not trust it.
pub(crate) fn is_identity_error(text: &str) -> bool {
    let said = [
        "AssumeRoleWithWebIdentity",
        "InvalidIdentityToken",
        "WebIdentityErr",
        "NoCredentialProviders",
        "Unable to locate credentials",
        "no EC2 IMDS role found",
        "Could not load credentials from any providers",
        "the credential provider was not enabled",
        "PodIdentityAssociation",
    ];
    said.iter().any(|said| text.contains(said))
}

/// Whether the text reports a program for another architecture.
pub(crate) fn is_format_error(text: &str) -> bool {
    text.to_ascii_lowercase().contains("exec format error")
}

/// `CrashLoopBackOff`: the container has ended repeatedly.
fn of_crash<'e>(container: &ContainerStatus, mut events: impl Iterator<Item = &'e Event>) -> Symptom {
    let last = container.last_state.as_ref().and_then(|state| state.terminated.as_ref());
    let Some(last) = last else {
        return Symptom::new(
            Cause::ContainerExited,
            Recovery::Never,
            "the container ends soon after each start",
        );
    };
    let symptom = Symptom { recovery: Recovery::Never, ..of_exit(last, container.restart_count) };
    let killed = matches!(last.exit_code, 137 | 143) && symptom.cause == Cause::ContainerExited;
    let probe = || events.find(|e| e.reason.text() == "Unhealthy" && is_restarting_probe(e.message.text()));
    match killed.then(probe).flatten() {
        Some(event) => {
            Symptom { cause: Cause::HealthCheckFailed, message: event.message.text().into(), ..symptom }
        }
        None => symptom,
    }
}

fn is_restarting_probe(message: &str) -> bool {
    message.starts_with("Liveness") || message.starts_with("Startup")
}

fn of_exit(terminated: &ContainerStateTerminated, restarts: i32) -> Symptom {
    let (reason, said) = (terminated.reason.text(), terminated.message.text().trim());
    let code = terminated.exit_code;
    let cause = match reason {
        "OOMKilled" => Cause::OutOfMemory,
        _ if is_format_error(said) => Cause::WrongArchitecture,
        "ContainerCannotRun" | "StartError" => Cause::ConfigInvalid,
        _ => Cause::ContainerExited,
    };
    let mut message = match reason {
        "" | "Error" | "Completed" => format!("exit code {code}"),
        reason => format!("{reason}, exit code {code}"),
    };
    if restarts > 0 {
        message.push_str(&format!(", restarted {restarts} times"));
    }
    if !said.is_empty() {
        message.push_str(": ");
        message.push_str(said);
    }
    Symptom { exit_code: Some(code), ..Symptom::new(cause, Recovery::Sometime, message) }
}

/// The pod is unschedulable. Not final, because a node may be added.
fn of_scheduling(pod: &Pod) -> Option<Symptom> {
    let (status, reason, message) = pod::condition(pod, "PodScheduled")?;
    if status != "False" || reason != "Unschedulable" {
        return None;
    }
    let volume = message.to_ascii_lowercase().contains("persistentvolumeclaim");
    let cause = if volume { Cause::ResourceInitialization } else { Cause::Unschedulable };
    Some(Symptom::new(cause, Recovery::Sometime, message))
}

/// The symptom in a warning event about a pod that is not ready.
fn of_event(pod: &Pod, event: &Event) -> Option<Symptom> {
    let message = event.message.text();
    let cause = match event.reason.text() {
        "Unhealthy" => Cause::HealthCheckFailed,
        "FailedMount" => of_reference(message).unwrap_or(Cause::ResourceInitialization),
        "FailedAttachVolume" | "FailedMapVolume" | "FailedCreatePodSandBox" => Cause::ResourceInitialization,
        _ => return None,
    };
    // The kubelet has retried several times and the reference is still missing.
    let missing = matches!(cause, Cause::SecretMissing | Cause::ConfigInvalid);
    let symptom = Symptom::new(cause, final_if(missing && event.count.unwrap_or(1) >= 3), message);
    let container =
        container_of(event).or_else(|| only_unready(pod)).filter(|_| cause == Cause::HealthCheckFailed);
    Some(Symptom { container, ..symptom })
}

/// The container name in an event's field path: `spec.containers{web}`.
fn container_of(event: &Event) -> Option<String> {
    let (_, rest) = event.involved_object.field_path.text().split_once('{')?;
    rest.strip_suffix('}').map(str::to_owned)
}

/// The container that is not ready, if there is exactly one.
fn only_unready(pod: &Pod) -> Option<String> {
    let statuses = pod.status.as_ref()?.container_statuses.as_deref().unwrap_or_default();
    let mut unready = statuses.iter().filter(|status| !status.ready);
    let first = unready.next()?;
    unready.next().is_none().then(|| first.name.clone())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(status: Value) -> Pod {
        serde_json::from_value(json!({ "metadata": { "name": "web-1" }, "status": status })).unwrap()
    }

    fn container(state: Value, last: Value, restarts: u32) -> Value {
        json!({ "containerStatuses": [{
            "name": "web", "image": "", "imageID": "", "ready": false, "restartCount": restarts,
            "state": state, "lastState": last,
        }] })
    }

    fn waiting(reason: &str, message: &str) -> Value {
        container(json!({ "waiting": { "reason": reason, "message": message } }), json!({}), 0)
    }

    fn crash(last: Value) -> Value {
        let state = json!({ "waiting": { "reason": "CrashLoopBackOff", "message": "back-off 10s" } });
        container(state, json!({ "terminated": last }), 3)
    }

    fn event(reason: &str, message: &str, count: i32) -> Event {
        serde_json::from_value(json!({
            "metadata": {}, "involvedObject": {}, "reason": reason, "message": message, "count": count,
        }))
        .unwrap()
    }

    fn cause(status: Value, events: &[Event]) -> Option<(Cause, bool)> {
        of_pod(&pod(status), events.iter()).map(|symptom| (symptom.cause, symptom.is_final()))
    }

    #[test]
    fn maps_waiting_reasons_to_causes() {
        let pull =
            |message: &str| waiting("ErrImagePull", &format!("rpc error: code = Unknown desc = {message}"));
        for (status, expected) in [
            (pull("r.example.com/web@sha256:1: not found"), Some((Cause::ImageNotFound, true))),
            (pull("no match for platform in manifest: not found"), Some((Cause::WrongArchitecture, true))),
            (pull("unexpected status: 403 Forbidden"), Some((Cause::ImagePullDenied, true))),
            (pull("no basic auth credentials"), Some((Cause::ImagePullDenied, true))),
            (pull("dial tcp: i/o timeout"), Some((Cause::ImagePullFailed, false))),
            (pull("429 Too Many Requests"), Some((Cause::ImagePullFailed, false))),
            (
                waiting(
                    "ImagePullBackOff",
                    "Back-off pulling image \"x\": ErrImagePull: r.example.com/x:1: not found",
                ),
                Some((Cause::ImageNotFound, true)),
            ),
            (
                waiting("ImagePullBackOff", "Back-off pulling image \"x\""),
                Some((Cause::ImagePullFailed, false)),
            ),
            (waiting("InvalidImageName", "couldn't parse"), Some((Cause::ConfigInvalid, true))),
            (
                waiting("CreateContainerConfigError", "secret \"db\" not found"),
                Some((Cause::SecretMissing, true)),
            ),
            (
                waiting("CreateContainerConfigError", "couldn't find key url in Secret shop/db"),
                Some((Cause::SecretMissing, true)),
            ),
            (
                waiting("CreateContainerConfigError", "configmap \"web\" not found"),
                Some((Cause::ConfigInvalid, true)),
            ),
            (
                waiting(
                    "CreateContainerConfigError",
                    "failed to sync secret cache: timed out waiting for the condition",
                ),
                None,
            ),
            (
                waiting("CreateContainerError", "exec: \"/web\": exec format error"),
                Some((Cause::WrongArchitecture, true)),
            ),
            (
                waiting("RunContainerError", "exec: \"/web\": no such file or directory"),
                Some((Cause::ConfigInvalid, true)),
            ),
            (waiting("ContainerCreating", ""), None),
            (waiting("PodInitializing", ""), None),
        ] {
            assert_eq!(cause(status.clone(), &[]), expected, "{status}");
        }
    }

    #[test]
    fn reads_the_pull_error_of_older_kubelets_from_the_event() {
        let status = waiting("ImagePullBackOff", "Back-off pulling image \"x\"");
        let events = [event(
            "Failed",
            "Failed to pull image \"x\": rpc error: code = NotFound desc = r.example.com/x:1: not found",
            2,
        )];
        assert_eq!(cause(status, &events), Some((Cause::ImageNotFound, true)));
    }

    #[test]
    fn maps_crashes_to_causes() {
        let liveness =
            [event("Unhealthy", "Liveness probe failed: HTTP probe failed with statuscode: 500", 3)];
        for (last, events, expected) in [
            (json!({ "exitCode": 1, "reason": "Error" }), &[][..], Cause::ContainerExited),
            (json!({ "exitCode": 0, "reason": "Completed" }), &[], Cause::ContainerExited),
            (json!({ "exitCode": 137, "reason": "OOMKilled" }), &[], Cause::OutOfMemory),
            (json!({ "exitCode": 137, "reason": "Error" }), &liveness, Cause::HealthCheckFailed),
            (json!({ "exitCode": 1, "reason": "Error" }), &liveness, Cause::ContainerExited),
            (
                json!({ "exitCode": 128, "reason": "StartError", "message": "exec /web: exec format error" }),
                &[],
                Cause::WrongArchitecture,
            ),
        ] {
            assert_eq!(cause(crash(last.clone()), events), Some((expected, true)), "{last}");
        }
        let symptom = of_pod(&pod(crash(json!({ "exitCode": 3, "reason": "Error" }))), [].iter()).unwrap();
        assert_eq!((symptom.container.as_deref(), symptom.exit_code), (Some("web"), Some(3)));
        assert_eq!(symptom.message, "exit code 3, restarted 3 times");
    }

    #[test]
    fn single_exit_is_not_final() {
        let state = json!({ "terminated": { "exitCode": 1, "reason": "Error" } });
        assert_eq!(cause(container(state, json!({}), 0), &[]), Some((Cause::ContainerExited, false)));
    }

    #[test]
    fn transient_symptoms_are_not_final() {
        let unschedulable = |message: &str| {
            json!({ "conditions": [
                { "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message },
            ] })
        };
        for (status, events, expected) in [
            (
                unschedulable("0/3 nodes are available: 3 Insufficient cpu."),
                vec![],
                Some((Cause::Unschedulable, false)),
            ),
            (
                unschedulable("0/3 nodes are available: persistentvolumeclaim \"data\" not found."),
                vec![],
                Some((Cause::ResourceInitialization, false)),
            ),
            (
                json!({}),
                vec![event("Unhealthy", "Readiness probe failed: connection refused", 5)],
                Some((Cause::HealthCheckFailed, false)),
            ),
            (
                json!({}),
                vec![event(
                    "FailedMount",
                    "MountVolume.SetUp failed for volume \"v\" : secret \"db\" not found",
                    1,
                )],
                Some((Cause::SecretMissing, false)),
            ),
            (
                json!({}),
                vec![event(
                    "FailedMount",
                    "MountVolume.SetUp failed for volume \"v\" : secret \"db\" not found",
                    3,
                )],
                Some((Cause::SecretMissing, true)),
            ),
            (
                json!({ "conditions": [{ "type": "Ready", "status": "True" }] }),
                vec![event("Unhealthy", "Readiness probe failed: connection refused", 5)],
                None,
            ),
            (json!({ "phase": "Failed", "reason": "Evicted" }), vec![event("Unhealthy", "x", 1)], None),
        ] {
            assert_eq!(cause(status.clone(), &events), expected, "{status}");
        }
    }
}
