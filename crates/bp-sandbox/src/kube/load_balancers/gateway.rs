//! A controller of the Gateway API: the status of HTTPRoutes whose parents are Gateways of the cluster.

use serde_json::{Value, json};

use super::state::{Shares, list};
use crate::kube::{
    store::{Key, Object, seconds},
    world::World,
};

const GROUP: &str = "gateway.networking.k8s.io";
const CONTROLLER: &str = "sandbox.example.com/gateway-controller";

/// Sets the defaults of an HTTPRoute, as its custom resource definition does.
pub(crate) fn complete(route: &mut Value) {
    let default = |at: &mut Value, field: &str, value: Value| {
        if at[field].is_null() {
            at[field] = value;
        }
    };
    let spec = &mut route["spec"];
    for parent in spec["parentRefs"].as_array_mut().into_iter().flatten() {
        default(parent, "group", json!(GROUP));
        default(parent, "kind", json!("Gateway"));
    }
    for rule in spec["rules"].as_array_mut().into_iter().flatten() {
        default(rule, "matches", json!([{ "path": { "type": "PathPrefix", "value": "/" } }]));
        for backend in rule["backendRefs"].as_array_mut().into_iter().flatten() {
            default(backend, "group", json!(""));
            default(backend, "kind", json!("Service"));
            default(backend, "weight", json!(1));
        }
    }
}

/// Brings a route into effect. Returns the shares of its rules.
pub(super) fn reconcile(world: &mut World, key: &Key, route: &Object) -> Option<Vec<Shares>> {
    let generation = &route["metadata"]["generation"];
    let missing = missing_backend(world, key, route);
    let resolved = match &missing {
        None => ("True", "ResolvedRefs", String::new()),
        Some(service) => ("False", "BackendNotFound", format!("service \"{service}\" not found")),
    };
    let now = seconds(world.now);
    let condition = |kind: &str, (status, reason, message): (&str, &str, String)| {
        json!({
            "type": kind, "status": status, "reason": reason, "message": message,
            "observedGeneration": generation, "lastTransitionTime": now,
        })
    };
    let parents = list(&route["spec"]["parentRefs"]).iter();
    // Another controller serves the others, or none.
    let own = parents.filter(|parent| {
        let namespace = parent["namespace"].as_str().unwrap_or(&key.namespace);
        let name = parent["name"].as_str().unwrap_or_default();
        world.store.get(&Key::new("gateways", namespace, name)).is_some()
    });
    let reported: Vec<Value> = own
        .map(|parent| {
            let accepted = ("True", "Accepted", String::new());
            json!({
                "parentRef": parent,
                "controllerName": CONTROLLER,
                "conditions": [condition("Accepted", accepted), condition("ResolvedRefs", resolved.clone())],
            })
        })
        .collect();
    let is_served = !reported.is_empty();
    world.update(key, |route| route["status"] = json!({ "parents": reported }));
    let backend = |backend: &Value| {
        let name = backend["name"].as_str().unwrap_or_default().to_owned();
        (name, backend["weight"].as_u64().unwrap_or(1))
    };
    let rules = list(&route["spec"]["rules"]).iter();
    let shares = rules.map(|rule| list(&rule["backendRefs"]).iter().map(backend).collect());
    (missing.is_none() && is_served).then(|| shares.collect())
}

/// A Service that a rule refers to and that does not exist.
fn missing_backend(world: &World, key: &Key, route: &Value) -> Option<String> {
    let rules = list(&route["spec"]["rules"]).iter();
    let mut backends = rules.flat_map(|rule| list(&rule["backendRefs"]));
    let is_missing = |backend: &&Value| {
        let namespace = backend["namespace"].as_str().unwrap_or(&key.namespace);
        let name = backend["name"].as_str().unwrap_or_default();
        backend["kind"] == "Service" && world.store.get(&Key::new("services", namespace, name)).is_none()
    };
    backends.find(is_missing).and_then(|backend| Some(backend["name"].as_str()?.to_owned()))
}
