//! EndpointSlice controller, and defaults and validation of Services.

use serde_json::{Value, json};

use super::{
    store::{Key, Object},
    world::{World, is_ready, owner, suffix},
};

const SERVICE: &str = "kubernetes.io/service-name";
const MANAGER: &str = "endpointslice.kubernetes.io/managed-by";

/// Updates the EndpointSlice of every Service. One slice per Service is enough: a real one holds 100 endpoints.
pub(super) fn reconcile(world: &mut World) {
    for service in world.store.list("services", "").cloned().collect::<Vec<_>>() {
        // The slices of a Service without a selector are managed elsewhere.
        if service["spec"]["selector"].as_object().is_some_and(|selector| !selector.is_empty()) {
            sync(world, &service);
        }
    }
}

fn sync(world: &mut World, service: &Object) {
    let text = |field: &str| service["metadata"][field].as_str().unwrap_or_default();
    let (namespace, name) = (text("namespace"), text("name"));
    let endpoints: Vec<Value> = selected(world, service).iter().map(|pod| endpoint(service, pod)).collect();
    let ports = ports(service);
    let own = |slice: &&Object| slice["metadata"]["labels"][SERVICE] == name;
    let slice = world.store.list("endpointslices", namespace).find(own).cloned();
    let mut slice = slice.map_or_else(|| new_slice(service), |slice| Value::clone(&slice));
    slice["endpoints"] = json!(endpoints);
    slice["ports"] = ports;
    let slice_name = slice["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    world.put(Key::new("endpointslices", namespace, &slice_name), slice);
}

fn new_slice(service: &Value) -> Value {
    let name = service["metadata"]["name"].as_str().unwrap_or_default();
    json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": format!("{name}-{}", suffix()),
            "namespace": service["metadata"]["namespace"],
            "labels": { (SERVICE): name, (MANAGER): "endpointslice-controller.k8s.io" },
            "ownerReferences": owner(service),
        },
        "addressType": "IPv4",
    })
}

/// The pods of a Service: those that match its selector, have an IP address and are not finished.
fn selected(world: &World, service: &Value) -> Vec<Object> {
    let namespace = service["metadata"]["namespace"].as_str().unwrap_or_default();
    let selector = service["spec"]["selector"].as_object().cloned().unwrap_or_default();
    let matches = |pod: &&Object| {
        let labels = &pod["metadata"]["labels"];
        let finished = matches!(pod["status"]["phase"].as_str(), Some("Failed" | "Succeeded"));
        selector.iter().all(|(key, value)| labels[key] == *value)
            && !finished
            && pod["status"]["podIP"].is_string()
    };
    world.store.list("pods", namespace).filter(matches).cloned().collect()
}

fn endpoint(service: &Value, pod: &Value) -> Value {
    let terminating = !pod["metadata"]["deletionTimestamp"].is_null();
    let serving = is_ready(pod);
    let publish_unready = service["spec"]["publishNotReadyAddresses"] == true;
    json!({
        "addresses": [pod["status"]["podIP"]],
        "conditions": {
            "ready": publish_unready || serving && !terminating,
            "serving": publish_unready || serving,
            "terminating": terminating,
        },
        "nodeName": pod["spec"]["nodeName"],
        "targetRef": {
            "kind": "Pod",
            "namespace": pod["metadata"]["namespace"],
            "name": pod["metadata"]["name"],
            "uid": pod["metadata"]["uid"],
        },
    })
}

fn ports(service: &Value) -> Value {
    let ports = service["spec"]["ports"].as_array().into_iter().flatten();
    let port = |port: &Value| {
        json!({
            "name": port["name"].as_str().unwrap_or_default(),
            "protocol": port["protocol"],
            "port": if port["targetPort"].is_number() { &port["targetPort"] } else { &port["port"] },
        })
    };
    ports.map(port).collect()
}

/// Sets the defaults of a Service.
pub(super) fn complete(service: &mut Value) {
    let spec = &mut service["spec"];
    for port in spec["ports"].as_array_mut().into_iter().flatten() {
        if port["protocol"].is_null() {
            port["protocol"] = json!("TCP");
        }
        if port["targetPort"].is_null() {
            port["targetPort"] = port["port"].clone();
        }
    }
    if spec["type"].is_null() {
        spec["type"] = json!("ClusterIP");
    }
    if spec["sessionAffinity"].is_null() {
        spec["sessionAffinity"] = json!("None");
    }
    if spec["clusterIP"].is_null() && spec["type"] != "ExternalName" {
        let address = format!("10.100.{}.{}", fastrand::u8(..), fastrand::u8(1..255));
        spec["clusterIPs"] = json!([address]);
        spec["clusterIP"] = json!(address);
    }
}

/// The invalid fields of a Service, with the reasons.
pub(super) fn validate(service: &Value) -> Vec<(String, String)> {
    let spec = &service["spec"];
    let needs_ports = spec["type"] != "ExternalName" && spec["clusterIP"] != "None";
    let mut wrong = Vec::new();
    if needs_ports && spec["ports"].as_array().is_none_or(Vec::is_empty) {
        wrong.push(("spec.ports".to_owned(), "Required value".to_owned()));
    }
    wrong
}
