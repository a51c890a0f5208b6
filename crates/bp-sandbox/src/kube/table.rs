//! `Table` responses for `kubectl get`, with the columns of the real server's printers.

use std::fmt::Write as _;

use http::request;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    resource::Resource,
    status::json_response,
    store::Object,
    world::{World, is_ready, number},
};
use crate::body::Body;

/// Whether the client accepts a `Table` (`Accept: application/json;as=Table;v=v1;g=meta.k8s.io`).
pub(super) fn is_wanted(parts: &request::Parts) -> bool {
    let accept = parts.headers.get("accept").and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    accept.split(',').any(|kind| kind.contains("as=Table") && kind.contains("v=v1;"))
}

/// The objects as a `Table` response.
pub(super) fn answer(resource: &Resource, objects: &[Object], world: &World) -> http::Response<Body> {
    let columns: Vec<Value> = columns(resource.kind).iter().map(|name| column(name)).collect();
    let rows: Vec<Value> = objects
        .iter()
        .map(|object| {
            let known =
                json!({ "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": object["metadata"] });
            json!({ "cells": cells(resource.kind, object, world.now), "object": known })
        })
        .collect();
    let table = json!({
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": { "resourceVersion": world.store.version().to_string() },
        "columnDefinitions": columns,
        "rows": rows,
    });
    json_response(200, &table)
}

fn column(name: &str) -> Value {
    let format = if name == "Name" { "name" } else { "" };
    json!({ "name": name, "type": "string", "format": format, "description": "", "priority": 0 })
}

fn columns(kind: &str) -> &'static [&'static str] {
    match kind {
        "Pod" => &["Name", "Ready", "Status", "Restarts", "Age"],
        "Deployment" => &["Name", "Ready", "Up-to-date", "Available", "Age"],
        "ReplicaSet" => &["Name", "Desired", "Current", "Ready", "Age"],
        "StatefulSet" => &["Name", "Ready", "Age"],
        "DaemonSet" => {
            &["Name", "Desired", "Current", "Ready", "Up-to-date", "Available", "Node Selector", "Age"]
        }
        "Job" => &["Name", "Status", "Completions", "Duration", "Age"],
        "Service" => &["Name", "Type", "Cluster-IP", "External-IP", "Port(s)", "Age"],
        "Event" => &["Last Seen", "Type", "Reason", "Object", "Message"],
        "ConfigMap" => &["Name", "Data", "Age"],
        "Secret" => &["Name", "Type", "Data", "Age"],
        "Namespace" => &["Name", "Status", "Age"],
        "Node" => &["Name", "Status", "Roles", "Age", "Version"],
        _ => &["Name", "Created At"],
    }
}

fn cells(kind: &str, object: &Value, now: Timestamp) -> Vec<Value> {
    let (name, spec, status) = (&object["metadata"]["name"], &object["spec"], &object["status"]);
    let age = json!(since(&object["metadata"]["creationTimestamp"], now));
    let count = |value: &Value| json!(number(value));
    let of = |part: &Value, whole: &Value| json!(format!("{}/{}", number(part), number(whole)));
    let entries = |fields: [&str; 2]| {
        json!(fields.iter().filter_map(|field| object[field].as_object()).map(|map| map.len()).sum::<usize>())
    };
    let mut cells = vec![name.clone()];
    match kind {
        "Pod" => cells.extend(pod(object, now)),
        "Deployment" => cells.extend([
            of(&status["readyReplicas"], &spec["replicas"]),
            count(&status["updatedReplicas"]),
            count(&status["availableReplicas"]),
        ]),
        "ReplicaSet" => cells.extend([
            count(&spec["replicas"]),
            count(&status["replicas"]),
            count(&status["readyReplicas"]),
        ]),
        "StatefulSet" => cells.push(of(&status["readyReplicas"], &spec["replicas"])),
        "DaemonSet" => {
            let fields = ["desiredNumberScheduled", "currentNumberScheduled", "numberReady"];
            cells.extend(fields.map(|field| count(&status[field])));
            cells.extend(["updatedNumberScheduled", "numberAvailable"].map(|field| count(&status[field])));
            cells.push(json!(pairs(&spec["template"]["spec"]["nodeSelector"])));
        }
        "Job" => cells.extend(job(object, now)),
        "Service" => cells.extend(service(spec)),
        "Event" => return event(object, now),
        "ConfigMap" => cells.push(entries(["data", "binaryData"])),
        "Secret" => {
            let kind = object["type"].as_str().unwrap_or("Opaque");
            cells.extend([json!(kind), entries(["data", "stringData"])]);
        }
        "Namespace" => cells.push(json!(status["phase"].as_str().unwrap_or("Active"))),
        "Node" => {
            let ready = is_ready(object);
            cells.extend([json!(if ready { "Ready" } else { "NotReady" }), json!("<none>"), age]);
            cells.push(status["nodeInfo"]["kubeletVersion"].clone());
            return cells;
        }
        _ => {
            cells.push(object["metadata"]["creationTimestamp"].clone());
            return cells;
        }
    }
    cells.push(age);
    cells
}

/// The columns Ready, Status and Restarts of `kubectl get pods`.
fn pod(pod: &Value, now: Timestamp) -> [Value; 3] {
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

fn job(job: &Value, now: Timestamp) -> [Value; 3] {
    let (spec, status) = (&job["spec"], &job["status"]);
    let is = |kind: &str| {
        let conditions = status["conditions"].as_array().into_iter().flatten();
        conditions.into_iter().any(|condition| condition["type"] == kind && condition["status"] == "True")
    };
    let named = ["Complete", "Failed", "Suspended"].into_iter().find(|kind| is(kind));
    let completions = spec["completions"].as_i64().unwrap_or(1);
    let duration = match (&status["startTime"], status["completionTime"].as_str()) {
        (Value::Null, _) => String::new(),
        (begun, Some(end)) => end.parse().map_or_else(|_| "<unknown>".to_owned(), |end| since(begun, end)),
        (begun, None) => since(begun, now),
    };
    let done = format!("{}/{completions}", number(&status["succeeded"]));
    [json!(named.unwrap_or("Running")), json!(done), json!(duration)]
}

fn service(spec: &Value) -> [Value; 4] {
    let ports = spec["ports"].as_array().into_iter().flatten().map(|port| {
        let protocol = port["protocol"].as_str().unwrap_or("TCP");
        match port["nodePort"].as_i64() {
            Some(node) if node != 0 => format!("{}:{node}/{protocol}", number(&port["port"])),
            _ => format!("{}/{protocol}", number(&port["port"])),
        }
    });
    let ports: Vec<String> = ports.collect();
    let text = |value: &Value, none: &str| json!(value.as_str().unwrap_or(none));
    let ports = if ports.is_empty() { "<none>".to_owned() } else { ports.join(",") };
    [text(&spec["type"], "ClusterIP"), text(&spec["clusterIP"], "<none>"), json!("<none>"), json!(ports)]
}

fn event(event: &Value, now: Timestamp) -> Vec<Value> {
    let object = &event["involvedObject"];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let seen = ["lastTimestamp", "eventTime", "firstTimestamp"].into_iter().find(|at| event[at].is_string());
    let seen = since(seen.map_or(&Value::Null, |at| &event[at]), now);
    let about = format!("{}/{}", text(&object["kind"]).to_lowercase(), text(&object["name"]));
    let message = text(&event["message"]);
    [seen, text(&event["type"]), text(&event["reason"]), about, message.trim().to_owned()]
        .map(Value::from)
        .to_vec()
}

fn pairs(map: &Value) -> String {
    let map = map.as_object().filter(|map| !map.is_empty());
    let shown = |(key, value): (&String, &Value)| format!("{key}={}", value.as_str().unwrap_or_default());
    map.map_or_else(|| "<none>".to_owned(), |map| map.iter().map(shown).collect::<Vec<_>>().join(","))
}

/// The age in kubectl's format, with up to two units: `2m5s`, `3h12m`, `9d`.
fn since(at: &Value, now: Timestamp) -> String {
    let Some(at) = at.as_str().and_then(|at| at.parse::<Timestamp>().ok()) else {
        return "<unknown>".to_owned();
    };
    let seconds = now.as_second().saturating_sub(at.as_second()).max(0);
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    let (large, small) = match seconds {
        0..120 => return format!("{seconds}s"),
        120..600 => ((minutes, 'm'), (seconds % 60, 's')),
        600..10_800 => ((minutes, 'm'), (0, 's')),
        10_800..28_800 => ((hours, 'h'), (minutes % 60, 'm')),
        28_800..172_800 => ((hours, 'h'), (0, 'm')),
        172_800..691_200 => ((days, 'd'), (hours % 24, 'h')),
        _ => ((days, 'd'), (0, 'h')),
    };
    let mut shown = format!("{}{}", large.0, large.1);
    if small.0 > 0 {
        let _ = write!(shown, "{}{}", small.0, small.1);
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_have_kubectls_format() {
        let now: Timestamp = "2026-01-10T00:00:00Z".parse().unwrap();
        for (at, shown) in [
            ("2026-01-09T23:59:01Z", "59s"),
            ("2026-01-09T23:55:55Z", "4m5s"),
            ("2026-01-09T23:55:00Z", "5m"),
            ("2026-01-09T23:00:00Z", "60m"),
            ("2026-01-09T19:48:00Z", "4h12m"),
            ("2026-01-09T00:00:00Z", "24h"),
            ("2026-01-06T22:00:00Z", "3d2h"),
            ("2025-12-01T00:00:00Z", "40d"),
            ("2026-01-11T00:00:00Z", "0s"),
            ("soon", "<unknown>"),
        ] {
            assert_eq!(since(&json!(at), now), shown, "{at}");
        }
    }

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
