//! The columns of pods.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{super::world::number, age::since};

/// The columns Ready, Status and Restarts of `kubectl get pods`.
pub(super) fn pod(pod: &Value, now: Timestamp) -> [Value; 3] {
    let status = &pod["status"];
    let containers = || status["containerStatuses"].as_array().into_iter().flatten();
    let total = pod["spec"]["containers"].as_array().map_or(0, Vec::len);
    let ready = containers().filter(|container| container["ready"] == true).count();
    let restarts: i64 = containers().map(|container| number(&container["restartCount"])).sum();
    let ended = containers().filter_map(|c| c["lastState"]["terminated"]["finishedAt"].as_str()).max();
    let restarts = match ended {
        Some(at) if restarts > 0 => format!("{restarts} ({} ago)", since(&json!(at), now)),
        _ => restarts.to_string(),
    };
    [json!(format!("{ready}/{total}")), json!(reason(pod)), json!(restarts)]
}

fn reason(pod: &Value) -> String {
    let status = &pod["status"];
    if !pod["metadata"]["deletionTimestamp"].is_null() {
        return "Terminating".to_owned();
    }
    let state_reason = |state: &Value| {
        let terminated = &state["terminated"];
        let waiting = state["waiting"]["reason"].as_str().map(str::to_owned);
        let ended = || match terminated["reason"].as_str() {
            Some(reason) if !reason.is_empty() => Some(reason.to_owned()),
            _ => (!terminated.is_null()).then(|| format!("ExitCode:{}", number(&terminated["exitCode"]))),
        };
        waiting.filter(|reason| !reason.is_empty()).or_else(ended)
    };
    let array = |field: &str| status[field].as_array().cloned().unwrap_or_default();
    let (init, all) =
        (array("initContainerStatuses"), pod["spec"]["initContainers"].as_array().map_or(0, Vec::len));
    let unfinished = init.iter().enumerate().find(|(_, container)| {
        number(&container["state"]["terminated"]["exitCode"]) != 0
            || (container["state"]["terminated"].is_null() && container["started"] != true)
    });
    if let Some((n, container)) = unfinished {
        return match state_reason(&container["state"]) {
            Some(reason) if reason != "PodInitializing" => format!("Init:{reason}"),
            _ => format!("Init:{n}/{all}"),
        };
    }
    let own = status["reason"].as_str().or(status["phase"].as_str()).unwrap_or("Unknown").to_owned();
    let containers = array("containerStatuses");
    let first = containers.iter().find_map(|container| state_reason(&container["state"]));
    let runs = containers.iter().any(|container| !container["state"]["running"].is_null());
    match first {
        Some(reason) if reason == "Completed" && runs => "Running".to_owned(),
        Some(reason) => reason,
        None => own,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_of_a_pod_is_its_failure_reason_or_phase() {
        let of = |status: Value| {
            reason(&json!({ "metadata": {}, "spec": { "containers": [{}] }, "status": status }))
        };
        let container =
            |state: Value| json!({ "phase": "Running", "containerStatuses": [{ "state": state }] });
        assert_eq!(of(json!({ "phase": "Pending" })), "Pending");
        assert_eq!(of(json!({ "phase": "Failed", "reason": "Evicted" })), "Evicted");
        assert_eq!(of(container(json!({ "running": {} }))), "Running");
        assert_eq!(of(container(json!({ "waiting": { "reason": "CrashLoopBackOff" } }))), "CrashLoopBackOff");
        assert_eq!(of(container(json!({ "terminated": { "exitCode": 3 } }))), "ExitCode:3");
        let init = json!({ "initContainerStatuses": [{ "state": { "waiting": { "reason": "ImagePullBackOff" } } }] });
        assert_eq!(of(init), "Init:ImagePullBackOff");
    }
}
