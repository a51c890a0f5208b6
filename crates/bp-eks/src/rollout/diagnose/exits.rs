//! Why a container ended: its program, its memory limit, a probe or a hook.

use bp_artifact::deploy::Cause;
use k8s_openapi::api::core::v1::{Container, ContainerStateTerminated, ContainerStatus, Event, Pod, Probe};

use super::{clauses::is_format_error, start};
use crate::api::{
    event,
    symptom::{Recovery, Symptom},
    text::Text,
};

/// The kubelet's default of `failureThreshold`.
const FAILURE_THRESHOLD: u32 = 3;

/// `CrashLoopBackOff`: the container has ended repeatedly.
pub(super) fn crash(pod: &Pod, container: &ContainerStatus, events: &[&Event]) -> Symptom {
    let last = container.last_state.as_ref().and_then(|state| state.terminated.as_ref());
    let restarts = Recovery::Restarted(restarts(container));
    let Some(last) = last else {
        return Symptom::new(Cause::ContainerExited, restarts, "the container ends soon after each start");
    };
    let symptom = exit(last, container.restart_count);
    if symptom.cause != Cause::ContainerExited {
        return symptom;
    }
    if let Some(event) = failed_hook(container, last, events) {
        return hook(container, event.message.text());
    }
    match killing_probe(pod, container, last, events) {
        Some(event) => Symptom {
            cause: Cause::HealthCheckFailed,
            message: event.message.text().into(),
            recovery: restarts,
            ..symptom
        },
        None => Symptom { recovery: restarts, ..symptom },
    }
}

/// `restarted once`, `restarted 3 times`.
pub(crate) fn restarted(times: i32) -> String {
    if times == 1 { "restarted once".to_owned() } else { format!("restarted {times} times") }
}

fn restarts(container: &ContainerStatus) -> u32 {
    container.restart_count.max(0).unsigned_abs()
}

/// A failed `postStart` hook: it ends its container, which is started again. One failure may be a dependency's.
pub(super) fn hook(container: &ContainerStatus, message: &str) -> Symptom {
    let recovery = if container.restart_count > 0 { Recovery::Never } else { Recovery::Sometime };
    Symptom::new(Cause::ConfigInvalid, recovery, format!("the postStart hook failed: {message}"))
}

/// The event of the hook that ended the last run.
fn failed_hook<'e>(
    container: &ContainerStatus,
    last: &ContainerStateTerminated,
    events: &[&'e Event],
) -> Option<&'e Event> {
    of_last_run(container, last, events).find(|event| event.reason.text() == "FailedPostStartHook")
}

/// The events about the last run of a container.
fn of_last_run<'s, 'e: 's>(
    container: &'s ContainerStatus,
    last: &'s ContainerStateTerminated,
    events: &'s [&'e Event],
) -> impl Iterator<Item = &'e Event> + 's {
    let started = last.started_at.as_ref().map(|time| time.0);
    let concerns =
        move |event: &&Event| event::concerns(event, &container.name) && event::is_since(event, started);
    events.iter().copied().filter(concerns)
}

/// The event of the probe that had the container killed. A program may end with any code when it is asked to; then the
/// probe has failed as often as the kubelet allows before each restart.
fn killing_probe<'e>(
    pod: &Pod,
    container: &ContainerStatus,
    last: &ContainerStateTerminated,
    events: &[&'e Event],
) -> Option<&'e Event> {
    let fails = |event: &&Event| event.reason.text() == "Unhealthy" && probe_of(event).is_some();
    let failures: Vec<&Event> = of_last_run(container, last, events).filter(fails).collect();
    let latest = failures.first().copied()?;
    if matches!(last.exit_code, 137 | 143) {
        return Some(latest);
    }
    let times: u32 = failures.iter().map(|event| event::count(event)).sum();
    let spec = pod.spec.iter().flat_map(|spec| spec.init_containers.iter().flatten().chain(&spec.containers));
    let spec = spec.into_iter().find(|spec| spec.name == container.name);
    let allowed = spec.and_then(|spec| probe_of(latest)?(spec)?.failure_threshold);
    let allowed = allowed.map_or(FAILURE_THRESHOLD, |allowed| allowed.max(1).unsigned_abs());
    // The kubelet drops events beyond a rate; a program that ends by itself has few of them.
    (times * 2 >= restarts(container).max(1) * allowed).then_some(latest)
}

/// The probe whose failure restarts the container, which the event is about.
fn probe_of(event: &Event) -> Option<fn(&Container) -> Option<&Probe>> {
    let message = event.message.text();
    match () {
        () if message.starts_with("Liveness") => Some(|spec| spec.liveness_probe.as_ref()),
        () if message.starts_with("Startup") => Some(|spec| spec.startup_probe.as_ref()),
        () => None,
    }
}

/// The symptom of a container that has ended.
pub(super) fn exit(terminated: &ContainerStateTerminated, restarts: i32) -> Symptom {
    let (reason, said) = (terminated.reason.text(), terminated.message.text().trim());
    let code = terminated.exit_code;
    let (cause, recovery) = match reason {
        "OOMKilled" => (Cause::OutOfMemory, Recovery::Never),
        _ if is_format_error(said) => (Cause::WrongArchitecture, Recovery::Never),
        "ContainerCannotRun" | "StartError" => {
            let symptom = start::start(said);
            (symptom.cause, symptom.recovery)
        }
        "ContainerStatusUnknown" => (Cause::NodeFailed, Recovery::Sometime),
        _ => (Cause::ContainerExited, Recovery::Sometime),
    };
    let mut message = match reason {
        "" | "Error" | "Completed" => format!("exit code {code}"),
        reason => format!("{reason}, exit code {code}"),
    };
    if restarts > 0 {
        message.push_str(&format!(", {}", restarted(restarts)));
    }
    if !said.is_empty() {
        message.push_str(": ");
        message.push_str(said);
    }
    Symptom { exit_code: Some(code), ..Symptom::new(cause, recovery, message) }
}
