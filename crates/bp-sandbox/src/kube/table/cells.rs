//! The cells of a row, by kind.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    super::world::{is_ready, number},
    age::since,
    pod::pod,
};

/// The cells of an object, one per column.
pub(super) fn cells(kind: &str, object: &Value, now: Timestamp) -> Vec<Value> {
    let (name, spec, status) = (&object["metadata"]["name"], &object["spec"], &object["status"]);
    let created = &object["metadata"]["creationTimestamp"];
    let age = json!(since(created, now));
    let count = |value: &Value| json!(number(value));
    let of = |part: &Value, whole: &Value| json!(format!("{}/{}", number(part), number(whole)));
    let text = |value: &Value| json!(value.as_str().filter(|text| !text.is_empty()).unwrap_or("<none>"));
    let entries = |fields: [&str; 2]| {
        json!(fields.iter().filter_map(|field| object[field].as_object()).map(|map| map.len()).sum::<usize>())
    };
    let selector = |selector: &Value| json!(label_selector(selector));
    let mut cells = vec![name.clone()];
    match kind {
        "Pod" => {
            cells.extend(pod(object, now));
            cells.push(age);
            let ip = &status["podIP"];
            cells.extend([
                text(ip),
                text(&spec["nodeName"]),
                text(&status["nominatedNodeName"]),
                json!("<none>"),
            ]);
        }
        "Deployment" => {
            cells.extend([
                of(&status["readyReplicas"], &spec["replicas"]),
                count(&status["updatedReplicas"]),
                count(&status["availableReplicas"]),
                age,
            ]);
            cells.extend(images(&spec["template"]["spec"]));
            cells.push(selector(&spec["selector"]));
        }
        "ReplicaSet" | "ReplicationController" => {
            let counts = [&spec["replicas"], &status["replicas"], &status["readyReplicas"]];
            cells.extend(counts.map(count));
            cells.push(age);
            cells.extend(images(&spec["template"]["spec"]));
            cells.push(selector(&spec["selector"]));
        }
        "StatefulSet" => {
            cells.extend([of(&status["readyReplicas"], &spec["replicas"]), age]);
            cells.extend(images(&spec["template"]["spec"]));
        }
        "DaemonSet" => {
            let fields = ["desiredNumberScheduled", "currentNumberScheduled", "numberReady"];
            cells.extend(fields.map(|field| count(&status[field])));
            cells.extend(["updatedNumberScheduled", "numberAvailable"].map(|field| count(&status[field])));
            cells.extend([json!(pairs(&spec["template"]["spec"]["nodeSelector"])), age]);
            cells.extend(images(&spec["template"]["spec"]));
            cells.push(selector(&spec["selector"]));
        }
        "Job" => {
            cells.extend(job(object, now));
            cells.push(age);
            cells.extend(images(&spec["template"]["spec"]));
            cells.push(selector(&spec["selector"]));
        }
        "CronJob" => {
            let last = &status["lastScheduleTime"];
            cells.extend([
                text(&spec["schedule"]),
                text(&spec["timeZone"]),
                json!(if spec["suspend"] == true { "True" } else { "False" }),
                json!(status["active"].as_array().map_or(0, Vec::len)),
                json!(if last.is_null() { "<none>".to_owned() } else { since(last, now) }),
                age,
            ]);
            cells.extend(images(&spec["jobTemplate"]["spec"]["template"]["spec"]));
            cells.push(selector(&spec["jobTemplate"]["spec"]["selector"]));
        }
        "Service" => {
            cells.extend(service(spec, status));
            cells.extend([age, json!(pairs(&spec["selector"]))]);
        }
        "Ingress" => {
            let hosts = spec["rules"].as_array().into_iter().flatten();
            let hosts: Vec<&str> = hosts.filter_map(|rule| rule["host"].as_str()).collect();
            let hosts = if hosts.is_empty() { "*".to_owned() } else { hosts.join(",") };
            let ports =
                if spec["tls"].as_array().is_some_and(|tls| !tls.is_empty()) { "80, 443" } else { "80" };
            let class = &spec["ingressClassName"];
            cells.extend([text(class), json!(hosts), json!(addresses(status)), json!(ports), age]);
        }
        "Event" => return event(object, now),
        "ConfigMap" => cells.extend([entries(["data", "binaryData"]), age]),
        "Secret" => {
            let kind = object["type"].as_str().unwrap_or("Opaque");
            cells.extend([json!(kind), entries(["data", "stringData"]), age]);
        }
        "Namespace" => cells.extend([json!(status["phase"].as_str().unwrap_or("Active")), age]),
        "Node" => cells.extend(node(object, age)),
        "ServiceAccount" => cells.extend([json!(object["secrets"].as_array().map_or(0, Vec::len)), age]),
        "HorizontalPodAutoscaler" => {
            let target = &spec["scaleTargetRef"];
            let reference = format!(
                "{}/{}",
                target["kind"].as_str().unwrap_or_default(),
                target["name"].as_str().unwrap_or_default()
            );
            let (min, max) = (spec["minReplicas"].as_i64().unwrap_or(1), count(&spec["maxReplicas"]));
            cells.extend([json!(reference), json!("<unknown>"), json!(min.to_string()), max]);
            cells.extend([count(&status["currentReplicas"]), age]);
        }
        "PodDisruptionBudget" => {
            let value = |value: &Value| match value {
                Value::Null => "N/A".to_owned(),
                Value::String(text) => text.clone(),
                value => value.to_string(),
            };
            cells.extend([json!(value(&spec["minAvailable"])), json!(value(&spec["maxUnavailable"]))]);
            cells.extend([count(&status["disruptionsAllowed"]), age]);
        }
        "Lease" => cells.extend([json!(spec["holderIdentity"].as_str().unwrap_or_default()), age]),
        "ControllerRevision" => {
            let owner = &object["metadata"]["ownerReferences"][0];
            let kind = owner["kind"].as_str().unwrap_or_default().to_lowercase();
            let controller = match owner["name"].as_str() {
                Some(name) => format!("{kind}.apps/{name}"),
                None => "<none>".to_owned(),
            };
            cells.extend([json!(controller), count(&object["revision"]), age]);
        }
        "RoleBinding" | "ClusterRoleBinding" => {
            let role = &object["roleRef"];
            let (kind, name) =
                (role["kind"].as_str().unwrap_or_default(), role["name"].as_str().unwrap_or_default());
            cells.extend([json!(format!("{kind}/{name}")), age]);
            cells.extend(["User", "Group", "ServiceAccount"].map(|kind| json!(subjects(object, kind))));
        }
        "EndpointSlice" => {
            let addresses = object["endpoints"].as_array().into_iter().flatten();
            let addresses: Vec<&str> =
                addresses.filter_map(|endpoint| endpoint["addresses"][0].as_str()).collect();
            let ports = object["ports"].as_array().into_iter().flatten();
            let ports: Vec<String> = ports.map(|port| port["port"].to_string()).collect();
            let list =
                |items: Vec<String>| if items.is_empty() { "<unset>".to_owned() } else { items.join(",") };
            let endpoints = list(addresses.iter().map(|address| (*address).to_owned()).collect());
            cells.extend([text(&object["addressType"]), json!(list(ports)), json!(endpoints), age]);
        }
        "Endpoints" => {
            let subsets = object["subsets"].as_array().into_iter().flatten();
            let points = subsets.flat_map(|subset| {
                let addresses = subset["addresses"].as_array().into_iter().flatten();
                let ports = subset["ports"].as_array().map_or(&[][..], Vec::as_slice);
                addresses.flat_map(move |address| {
                    let ip = address["ip"].as_str().unwrap_or_default();
                    ports.iter().map(move |port| format!("{ip}:{}", port["port"]))
                })
            });
            let points: Vec<String> = points.collect();
            cells
                .extend([json!(if points.is_empty() { "<none>".to_owned() } else { points.join(",") }), age]);
        }
        "PersistentVolume" => {
            let claim = &spec["claimRef"];
            let claim = match (claim["namespace"].as_str(), claim["name"].as_str()) {
                (Some(namespace), Some(name)) => format!("{namespace}/{name}"),
                (_, _) => String::new(),
            };
            let plain = |value: &Value| json!(value.as_str().unwrap_or_default());
            cells.extend([plain(&spec["capacity"]["storage"]), json!(access_modes(spec))]);
            cells.extend([
                plain(&spec["persistentVolumeReclaimPolicy"]),
                plain(&status["phase"]),
                json!(claim),
            ]);
            cells.extend([plain(&spec["storageClassName"]), json!("<unset>"), plain(&status["reason"]), age]);
            cells.push(json!(spec["volumeMode"].as_str().unwrap_or("Filesystem")));
        }
        "PersistentVolumeClaim" => {
            cells.extend([
                json!(status["phase"].as_str().unwrap_or_default()),
                json!(spec["volumeName"].as_str().unwrap_or_default()),
                json!(status["capacity"]["storage"].as_str().unwrap_or_default()),
                json!(if status["capacity"].is_null() { String::new() } else { access_modes(spec) }),
                json!(spec["storageClassName"].as_str().unwrap_or_default()),
                json!("<unset>"),
                age,
                json!(spec["volumeMode"].as_str().unwrap_or("Filesystem")),
            ]);
        }
        "ResourceQuota" => {
            let (hard, used) = (&spec["hard"], &status["used"]);
            let show = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            let all = hard.as_object().into_iter().flatten().map(|(name, limit)| {
                let used = if used[name].is_null() { "0".to_owned() } else { show(&used[name]) };
                (name.starts_with("limits."), format!("{name}: {used}/{}", show(limit)))
            });
            let (limits, requests): (Vec<_>, Vec<_>) = all.partition(|(is_limit, _)| *is_limit);
            let joined = |list: Vec<(bool, String)>| {
                list.into_iter().map(|(_, text)| text).collect::<Vec<_>>().join(", ")
            };
            cells.extend([json!(joined(requests)), json!(joined(limits)), age]);
        }
        "IngressClass" => {
            cells.extend([json!(spec["controller"].as_str().unwrap_or_default()), json!("<none>"), age]);
        }
        "NetworkPolicy" => cells.extend([selector(&spec["podSelector"]), age]),
        "StorageClass" => {
            let expansion = json!(object["allowVolumeExpansion"] == true);
            let text = |field: &str, none: &str| json!(object[field].as_str().unwrap_or(none));
            cells.extend([text("provisioner", ""), text("reclaimPolicy", "Delete")]);
            cells.extend([text("volumeBindingMode", "Immediate"), expansion, age]);
        }
        "PriorityClass" => {
            let policy = json!(object["preemptionPolicy"].as_str().unwrap_or("PreemptLowerPriority"));
            cells.extend([count(&object["value"]), json!(object["globalDefault"] == true), age, policy]);
        }
        "ValidatingWebhookConfiguration" | "MutatingWebhookConfiguration" => {
            cells.extend([json!(object["webhooks"].as_array().map_or(0, Vec::len)), age]);
        }
        _ => cells.push(created.clone()),
    }
    cells
}

/// The names and images of the containers of a pod template.
fn images(spec: &Value) -> [Value; 2] {
    ["name", "image"].map(|field| {
        let containers = spec["containers"].as_array().into_iter().flatten();
        json!(
            containers
                .map(|container| container[field].as_str().unwrap_or_default())
                .collect::<Vec<_>>()
                .join(",")
        )
    })
}

fn subjects(binding: &Value, kind: &str) -> String {
    let subjects =
        binding["subjects"].as_array().into_iter().flatten().filter(|subject| subject["kind"] == kind);
    let shown = subjects.map(|subject| {
        let name = subject["name"].as_str().unwrap_or_default();
        match subject["namespace"].as_str().filter(|_| kind == "ServiceAccount") {
            Some(namespace) => format!("{namespace}/{name}"),
            None => name.to_owned(),
        }
    });
    shown.collect::<Vec<_>>().join(", ")
}

/// The access modes of a volume, abbreviated.
fn access_modes(spec: &Value) -> String {
    let modes = spec["accessModes"].as_array().into_iter().flatten();
    let short = modes.filter_map(|mode| match mode.as_str()? {
        "ReadWriteOnce" => Some("RWO"),
        "ReadOnlyMany" => Some("ROX"),
        "ReadWriteMany" => Some("RWX"),
        "ReadWriteOncePod" => Some("RWOP"),
        _ => None,
    });
    short.collect::<Vec<_>>().join(",")
}

/// The addresses of a load balancer.
fn addresses(status: &Value) -> String {
    let points = status["loadBalancer"]["ingress"].as_array().into_iter().flatten();
    let address =
        |point: &Value| point["hostname"].as_str().or(point["ip"].as_str()).unwrap_or_default().to_owned();
    points.map(address).collect::<Vec<_>>().join(",")
}

fn node(node: &Value, age: Value) -> Vec<Value> {
    let status = &node["status"];
    let mut states = vec![if is_ready(node) { "Ready" } else { "NotReady" }];
    if node["spec"]["unschedulable"] == true {
        states.push("SchedulingDisabled");
    }
    let addresses = status["addresses"].as_array().into_iter().flatten();
    let address = |kind: &str| {
        let found = addresses.clone().find(|address| address["type"] == kind);
        json!(found.and_then(|address| address["address"].as_str()).unwrap_or("<none>"))
    };
    let info = |field: &str| json!(status["nodeInfo"][field].as_str().unwrap_or("<unknown>"));
    vec![
        json!(states.join(",")),
        json!("<none>"),
        age,
        json!(status["nodeInfo"]["kubeletVersion"].as_str().unwrap_or_default()),
        address("InternalIP"),
        address("ExternalIP"),
        info("osImage"),
        info("kernelVersion"),
        info("containerRuntimeVersion"),
    ]
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

fn service(spec: &Value, status: &Value) -> [Value; 4] {
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
    let external = match spec["type"].as_str() {
        Some("ExternalName") => spec["externalName"].as_str().unwrap_or_default().to_owned(),
        Some("LoadBalancer") => match addresses(status).as_str() {
            "" => "<pending>".to_owned(),
            known => known.to_owned(),
        },
        _ => "<none>".to_owned(),
    };
    [text(&spec["type"], "ClusterIP"), text(&spec["clusterIP"], "<none>"), json!(external), json!(ports)]
}

fn event(event: &Value, now: Timestamp) -> Vec<Value> {
    let object = &event["involvedObject"];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let seen = ["lastTimestamp", "eventTime", "firstTimestamp"].into_iter().find(|at| event[at].is_string());
    let seen = since(seen.map_or(&Value::Null, |at| &event[at]), now);
    let about = format!("{}/{}", text(&object["kind"]).to_lowercase(), text(&object["name"]));
    let first = since(
        if event["firstTimestamp"].is_string() { &event["firstTimestamp"] } else { &event["eventTime"] },
        now,
    );
    let source = match event["source"]["component"].as_str() {
        None | Some("") => text(&event["reportingComponent"]),
        Some(component) => component.to_owned(),
    };
    let message = text(&event["message"]).trim().to_owned();
    let mut cells = [
        seen,
        text(&event["type"]),
        text(&event["reason"]),
        about,
        text(&object["fieldPath"]),
        source,
        message,
        first,
    ]
    .map(Value::from)
    .to_vec();
    cells.extend([json!(event["count"].as_i64().unwrap_or(1)), event["metadata"]["name"].clone()]);
    cells
}

fn pairs(map: &Value) -> String {
    let map = map.as_object().filter(|map| !map.is_empty());
    let shown = |(key, value): (&String, &Value)| format!("{key}={}", value.as_str().unwrap_or_default());
    map.map_or_else(|| "<none>".to_owned(), |map| map.iter().map(shown).collect::<Vec<_>>().join(","))
}

/// A label selector as text: `app=web,tier in (a,b)`.
fn label_selector(selector: &Value) -> String {
    let is_selector = selector["matchLabels"].is_object() || selector["matchExpressions"].is_array();
    let labels = if is_selector { &selector["matchLabels"] } else { selector };
    let equal = labels.as_object().into_iter().flatten();
    let equal = equal.map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()));
    let expressions = selector["matchExpressions"].as_array().into_iter().flatten().map(|expression| {
        let key = expression["key"].as_str().unwrap_or_default();
        let values = expression["values"].as_array().into_iter().flatten().filter_map(Value::as_str);
        let values = values.collect::<Vec<_>>().join(",");
        match expression["operator"].as_str() {
            Some("In") => format!("{key} in ({values})"),
            Some("NotIn") => format!("{key} notin ({values})"),
            Some("DoesNotExist") => format!("!{key}"),
            _ => key.to_owned(),
        }
    });
    let parts: Vec<String> = equal.chain(expressions).collect();
    if parts.is_empty() { "<none>".to_owned() } else { parts.join(",") }
}
