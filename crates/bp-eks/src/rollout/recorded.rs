//! Judge recorded pods, refusals and errors (`tests/recorded`, each with its source), unchanged and with other account
//! ids, regions, digests, repositories, addresses and names. Of a recorded namespace, the workload `expect.workload` is
//! judged. A file may have an array of recordings. `BP_EKS_RECORDINGS`: a directory with more recordings.

use std::{collections::HashSet, fs, path::PathBuf, sync::Arc, time::Duration};

use bp_artifact::{
    config::{Workload, WorkloadKind},
    deploy::{Cause, FailureReport},
    error::Classified,
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::judge::{Judgement, Snapshot, Tracked};
use crate::{
    api::symptom::{RESTARTS, Recovery, Symptom},
    object::ObjectRef,
    record::{is_owned_by, refused, with_pod_positions},
    workload::{Live, of, template::Slot, version::Version},
};

#[derive(Debug, Deserialize)]
struct Recording {
    expect: Expected,
    /// The kind of the workload.
    #[serde(default = "deployment")]
    kind: String,
    #[serde(default)]
    replicas: i32,
    /// The container of ours, and the image that is rolled out.
    #[serde(default = "web")]
    container: String,
    #[serde(default = "new_image")]
    image: String,
    #[serde(default)]
    pods: Vec<Value>,
    #[serde(default)]
    events: Vec<Value>,
    /// Why the ReplicaSet cannot create pods.
    refused: Option<String>,
    /// Merged into the Deployment.
    #[serde(default)]
    workload: Value,
    /// The error response to a patch.
    error: Option<Value>,
}

#[derive(Debug, Default, Deserialize)]
struct Expected {
    #[serde(default)]
    fatal_now: bool,
    /// The possible causes; empty if there is none.
    #[serde(default)]
    causes: Vec<String>,
    /// The beginning of the first line of the report.
    line: Option<String>,
    class: Option<String>,
    /// What that line or the error's message contains, and what it does not.
    says: Option<String>,
    not: Option<String>,
}

/// The file name and text of each recording.
fn texts() -> Vec<(String, String)> {
    let own = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/recorded");
    let more = std::env::var_os("BP_EKS_RECORDINGS").map(PathBuf::from);
    let entries = |directory: PathBuf| fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let files = [Some(own), more].into_iter().flatten().flat_map(entries);
    let mut texts = Vec::new();
    for path in files.filter(|path| path.extension().is_some_and(|extension| extension == "json")) {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let text = fs::read_to_string(path).unwrap();
        if let Value::Array(all) = serde_json::from_str(&text).unwrap() {
            texts.extend(all.iter().map(|one| {
                (format!("{name}: {}", one["source"]), serde_json::to_string_pretty(one).unwrap())
            }));
        } else {
            texts.push((name, text));
        }
    }
    texts.sort();
    assert!(texts.len() >= 10, "the recordings are missing");
    texts
}

fn deployment() -> String {
    "Deployment".to_owned()
}

fn web() -> String {
    "web".to_owned()
}

fn new_image() -> String {
    "b".to_owned()
}

fn read(text: &str) -> Recording {
    let value: Value = serde_json::from_str(text).unwrap();
    let value = match value["kind"].as_str() {
        Some("eks-namespace" | "eks-release") => of_record(select(value)),
        Some("eks-workload") => of_record(value),
        _ => value,
    };
    serde_json::from_value(value).unwrap()
}

/// The recording of the workload `expect.workload`, from that of its namespace or its Helm release.
fn select(mut recording: Value) -> Value {
    let wanted = recording["expect"]["workload"].as_str().expect("expect.workload is missing");
    let wanted: Workload = wanted.parse().unwrap();
    let list = |part: &str| recording[part].as_array().cloned().unwrap_or_default();
    let mut workloads = list(&(of(wanted.kind).resource)().plural);
    workloads.retain(|workload| workload["metadata"]["name"] == wanted.name.as_str());
    let workload = workloads.pop().unwrap_or_else(|| panic!("{wanted} is not in the recording"));
    let mut uids = vec![workload["metadata"]["uid"].clone()];
    let mut sets = [list("replicasets"), list("controllerrevisions")].concat();
    sets.retain(|set| is_owned_by(set, &uids));
    uids.extend(sets.iter().map(|set| set["metadata"]["uid"].clone()));
    let mut pods = list("pods");
    pods.retain(|pod| is_owned_by(pod, &uids));
    let events = with_pod_positions(list("events"), &pods);
    recording["replicas"] = json!(workload["spec"]["replicas"].as_u64().unwrap_or(pods.len() as u64));
    recording["refused"] = refused(&sets);
    recording["workload"] = workload;
    recording["pods"] = pods.into();
    recording["events"] = events.into();
    recording
}

/// A recording that `record` made, as those that were written by hand: the pods of the new revision without what makes
/// them parts of their own cluster, and their events.
fn of_record(mut recording: Value) -> Value {
    let container = recording.pointer("/workload/spec/template/spec/containers/0").cloned().unwrap();
    let image = container["image"].clone();
    let pods = recording["pods"].take();
    let is_new = |pod: &Value| pod.pointer("/spec/containers/0/image") == Some(&image);
    let mut positions = Vec::new();
    let mut new = Vec::new();
    for (position, mut pod) in pods.as_array().cloned().unwrap_or_default().into_iter().enumerate() {
        if is_new(&pod) {
            pod.as_object_mut().unwrap().remove("metadata");
            positions.push(json!(position));
            new.push(pod);
        }
    }
    let mut events = Vec::new();
    for mut event in recording["events"].as_array().cloned().unwrap_or_default() {
        if let Some(about) = positions.iter().position(|position| *position == event["about"]) {
            event["about"] = json!(about);
            events.push(event);
        }
    }
    recording["container"] = container["name"].clone();
    recording["image"] = image;
    recording["pods"] = new.into();
    recording["events"] = events.into();
    recording["workload"] = Value::Null;
    recording["kind"] = json!("Deployment");
    recording
}

fn merge(into: &mut Value, from: &Value) {
    match from.as_object() {
        Some(fields) => fields.iter().for_each(|(field, value)| merge(&mut into[field], value)),
        None if from.is_null() => {}
        None => *into = from.clone(),
    }
}

impl Recording {
    fn kind(&self) -> WorkloadKind {
        match self.kind.as_str() {
            "DaemonSet" => WorkloadKind::DaemonSet,
            "StatefulSet" => WorkloadKind::StatefulSet,
            "Job" => WorkloadKind::Job,
            _ => WorkloadKind::Deployment,
        }
    }

    /// A workload in a rolling update: every old pod runs, and the new pods are the recorded ones.
    fn snapshot(&self) -> Snapshot {
        let kind = of(self.kind());
        let owner = |uid: &str| json!([{ "apiVersion": "apps/v1", "kind": "x", "name": "x", "uid": uid }]);
        let template = json!({ "metadata": { "labels": {} }, "spec": { "containers": [{ "name": self.container, "image": self.image }] } });
        let (old, new) = (self.replicas, self.pods.len());
        let mut workload = json!({
            "metadata": { "name": "web", "uid": "dep", "generation": 2 },
            "spec": { "replicas": self.replicas, "selector": {}, "serviceName": "web", "template": template },
            "status": {
                "observedGeneration": 2, "replicas": old as usize + new, "updatedReplicas": new, "availableReplicas": old,
                "readyReplicas": old, "desiredNumberScheduled": old, "currentNumberScheduled": old, "numberReady": old,
                "numberAvailable": old, "numberMisscheduled": 0, "updatedNumberScheduled": new,
            },
        });
        if self.kind() == WorkloadKind::Job {
            workload["status"] = json!({});
        }
        merge(&mut workload, &self.workload);
        let failure = self.refused.as_ref().map(|message| {
            json!({ "type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": message })
        });
        let version = json!({
            "metadata": {
                "name": "web-2", "uid": "set", "ownerReferences": owner("dep"),
                "labels": { "controller-revision-hash": "web-2" },
            },
            "spec": { "selector": {}, "template": template },
            "data": { "spec": { "template": template } },
            "revision": 2,
            "status": { "replicas": new, "conditions": failure.into_iter().collect::<Vec<_>>() },
        });
        let made_by = if self.kind() == WorkloadKind::Job { "dep" } else { "set" };
        let pod = |(n, recorded): (usize, &Value)| {
            let mut pod = json!({ "metadata": {
                "name": format!("web-{n}"), "uid": format!("pod-{n}"), "ownerReferences": owner(made_by),
                "labels": { "controller-revision-hash": "web-2" },
            } });
            merge(&mut pod, recorded);
            Arc::new(serde_json::from_value(pod).unwrap())
        };
        let event = |recorded: &Value| {
            let mut event = recorded.clone();
            event["metadata"] = json!({});
            event["involvedObject"] = json!({ "uid": format!("pod-{}", recorded["about"]) });
            Arc::new(serde_json::from_value(event).unwrap())
        };
        Snapshot {
            live: Some(Live::read(kind, Arc::new(serde_json::from_value(workload).unwrap())).unwrap()),
            versions: vec![Version::read(kind, Arc::new(serde_json::from_value(version).unwrap()))],
            pods: self.pods.iter().enumerate().map(pod).collect(),
            events: self.events.iter().map(event).collect(),
        }
    }

    /// Whether the rollout fails immediately, and the most likely reason.
    fn judge(&self) -> (bool, Option<Symptom>) {
        let tracked = Tracked {
            uid: "dep".into(),
            generation: 2,
            slot: Slot { list: "containers", name: self.container.clone(), also: Vec::new() },
            image: self.image.clone(),
            since: None,
            stalled_before: None,
            fail_after: None,
            restarts: RESTARTS,
            circuit_breaker: false,
            grace: Some(Duration::from_secs(90)),
            registry: None,
            image_exists: false,
            known: HashSet::new(),
        };
        let snapshot = self.snapshot();
        match snapshot.judge(&tracked) {
            Judgement::Failing(symptom) => (true, Some(symptom)),
            // Does not wait for the grace period.
            Judgement::Blocked(_, symptom) => (symptom.recovery == Recovery::Soon, Some(symptom)),
            Judgement::Waiting(_)
            | Judgement::Complete
            | Judgement::Superseded(_)
            | Judgement::Paused
            | Judgement::Gone => (false, snapshot.reason(Some(&tracked))),
        }
    }

    fn verdict(&self) -> (bool, Option<Cause>) {
        let (fatal, symptom) = self.judge();
        (fatal, symptom.map(|symptom| symptom.cause))
    }
}

/// The first line of the failure report.
fn line(symptom: &Symptom) -> String {
    FailureReport::new(symptom.cause, symptom.message.as_str())
        .in_container(symptom.container.clone(), symptom.exit_code)
        .to_string()
}

#[test]
fn recorded_pods_and_refusals_have_the_expected_cause_recovery_and_report() {
    let mut wrong = Vec::new();
    for (name, text) in texts() {
        let recording = read(&text);
        if recording.error.is_some() {
            continue;
        }
        let (fatal, symptom) = recording.judge();
        let expected = &recording.expect;
        let is_cause = match &symptom {
            Some(symptom) => expected.causes.contains(&format!("{:?}", symptom.cause)),
            None => expected.causes.is_empty(),
        };
        let said = symptom.as_ref().map(line);
        let says = |is: &dyn Fn(&str) -> bool| said.as_deref().is_some_and(is);
        let is_line = expected.line.as_ref().is_none_or(|line| says(&|said| said.starts_with(line)))
            && expected.says.as_ref().is_none_or(|part| says(&|said| said.contains(part)))
            && expected.not.as_ref().is_none_or(|part| !says(&|said| said.contains(part)));
        if fatal != expected.fatal_now || !is_cause || !is_line {
            wrong.push(format!("{name}: fatal {fatal}, {symptom:?}, {said:?}; expected {expected:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A name that says what no name decides.
const NAMES: [&str; 14] = [
    "secret",
    "configmap",
    "forbidden",
    "not-found",
    "401",
    "unauthorized",
    "denied",
    "exec",
    "timeout",
    "violates-podsecurity",
    "exceeded-quota",
    "manifest-unknown",
    "toomanyrequests",
    "no-basic-auth-credentials",
];

/// The text with each quoted name in its messages replaced.
fn with_names(value: &mut Value, name: &str) {
    match value {
        Value::Object(fields) => {
            for (field, value) in fields {
                if matches!(field.as_str(), "message" | "refused")
                    && let Value::String(text) = value
                {
                    *text = with_quoted(text, name);
                }
                with_names(value, name);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| with_names(item, name)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn with_quoted(text: &str, name: &str) -> String {
    let is_name = |part: &str| {
        !part.is_empty()
            && part
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'.' | b'_'))
    };
    let parts = text.split('"').enumerate();
    let parts = parts.map(|(n, part)| if n % 2 == 1 && is_name(part) { name } else { part });
    parts.collect::<Vec<_>>().join("\"")
}

/// Pseudo-random hexadecimal digits.
fn hex(seed: &mut u64, length: usize) -> String {
    let mut next = || {
        *seed ^= *seed << 13;
        *seed ^= *seed >> 7;
        *seed ^= *seed << 17;
        char::from_digit((*seed >> 32) as u32 % 16, 16).unwrap()
    };
    (0..length).map(|_| next()).collect()
}

/// The text with each digest replaced by another one, which begins with `with`.
fn with_digests(text: &str, seed: &mut u64, with: &str) -> String {
    let mut other = String::new();
    let mut rest = text;
    while let Some(at) = rest.find("sha256:") {
        let (before, from) = rest.split_at(at + "sha256:".len());
        let length = from.bytes().take_while(u8::is_ascii_hexdigit).count();
        other.push_str(before);
        other.push_str(&format!("{with}{}", hex(seed, 64))[..length.min(64)]);
        rest = &from[length..];
    }
    other + rest
}

/// Replaces parts of image references, URLs, digests, addresses and names, which must not change the result.
#[test]
fn ids_names_addresses_and_digests_change_neither_cause_nor_recovery() {
    let mut wrong = Vec::new();
    let mut seed = 0x9e37_79b9_7f4a_7c15;
    for (name, text) in texts() {
        // In one that `record` made the digest says which pods are new.
        let is_made = text.contains("bp.recording/");
        if read(&text).error.is_some() || is_made {
            continue;
        }
        let expected = read(&text).verdict();
        let mut variants: Vec<String> = Vec::new();
        for account in ["140311112222", "240111112222", "404404404404", "429500503401", "401403404429"] {
            variants.push(text.replace("111111111111", account));
        }
        for region in ["us-gov-east-1", "ap-southeast-4"] {
            variants.push(text.replace("eu-central-1", region));
        }
        for repository in ["forbidden", "not-found", "unauthorized", "denied", "team/401", "manifest-unknown"]
        {
            variants.push(text.replace("shop/web", repository));
            variants.push(text.replace("shop/web", &format!("shop/{repository}")));
        }
        for digest in ["401", "403", "404", "a403", "b401c", "429", "", "", "", ""] {
            variants.push(with_digests(&text, &mut seed, digest));
        }
        for address in ["40.1.40.3:403", "[2001:db8::401]:404", "10.40.3.1:429"] {
            variants.push(text.replace("52.219.170.2:443", address).replace("10.0.1.2:8080", address));
        }
        for name in NAMES {
            let mut value: Value = serde_json::from_str(&text).unwrap();
            with_names(&mut value, name);
            variants.push(value.to_string());
        }
        for variant in variants {
            let judged = read(&variant).verdict();
            if judged != expected {
                wrong.push(format!("{name}: {judged:?} instead of {expected:?}: {variant}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn recorded_errors_have_the_expected_class_and_message() {
    for (name, text) in texts() {
        let recording = read(&text);
        let Some(error) = recording.error else { continue };
        let object = ObjectRef::all("shop", "prod", "deployment").named("web");
        let status = serde_json::from_value(error).unwrap();
        let error = object.error("patch deployments", kube::Error::Api(Box::new(status)));
        let message = error.to_string();
        if let Some(class) = recording.expect.class {
            assert_eq!(format!("{:?}", error.class()), class, "{name}: {message}");
        }
        assert!(recording.expect.says.is_none_or(|says| message.contains(&says)), "{name}: {message}");
        assert!(recording.expect.not.is_none_or(|not| !message.contains(&not)), "{name}: {message}");
    }
}
