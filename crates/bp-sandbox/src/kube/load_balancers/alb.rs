//! The AWS Load Balancer Controller: actions in annotations, TargetGroupBindings, events.

use serde_json::{Value, json};

use super::state::{Shares, list};
use crate::kube::{
    store::{Key, Object},
    world::{World, owner},
};

const ACTION: &str = "alb.ingress.kubernetes.io/actions.";

/// Whether the controller serves an Ingress: by its class.
pub(super) fn is_served(world: &World, ingress: &Value) -> bool {
    let annotation = &ingress["metadata"]["annotations"]["kubernetes.io/ingress.class"];
    match ingress["spec"]["ingressClassName"].as_str() {
        Some(class) => {
            let class = world.store.get(&Key::new("ingressclasses", "", class));
            class.is_some_and(|class| class["spec"]["controller"] == "ingress.k8s.aws/alb")
        }
        None => annotation == "alb",
    }
}

/// Brings an Ingress into effect. Returns the shares of its backends; `None` if it failed.
pub(super) fn reconcile(world: &mut World, key: &Key, ingress: &Object) -> Option<Vec<Shares>> {
    let shares = match model(world, ingress) {
        Ok(shares) => shares,
        Err(why) => {
            let message = format!("Failed build model due to ingress: {}/{}: {why}", key.namespace, key.name);
            world.event(ingress, "ingress", "Warning", "FailedBuildModel", &message);
            return None;
        }
    };
    for (service, _) in shares.iter().flatten() {
        bind(world, key, ingress, service);
    }
    let host = format!("k8s-{}-{}-1234567890.elb.amazonaws.com", key.namespace, key.name);
    world.update(key, |ingress| ingress["status"]["loadBalancer"]["ingress"] = json!([{ "hostname": host }]));
    world.event(ingress, "ingress", "Normal", "SuccessfullyReconciled", "Successfully reconciled");
    Some(shares)
}

/// The shares of every backend.
fn model(world: &World, ingress: &Value) -> Result<Vec<Shares>, String> {
    let spec = &ingress["spec"];
    let default = Some(&spec["defaultBackend"]).filter(|backend| !backend.is_null());
    let rules = list(&spec["rules"]).iter().flat_map(|rule| list(&rule["http"]["paths"]));
    let backends = default.into_iter().chain(rules.map(|path| &path["backend"]));
    backends.map(|backend| shares(world, ingress, &backend["service"])).collect()
}

fn shares(world: &World, ingress: &Value, backend: &Value) -> Result<Shares, String> {
    let name = backend["name"].as_str().unwrap_or_default();
    let namespace = ingress["metadata"]["namespace"].as_str().unwrap_or_default();
    let shares = if backend["port"]["name"] == "use-annotation" {
        let annotation = format!("{ACTION}{name}");
        let text = ingress["metadata"]["annotations"][&annotation].as_str();
        let text = text.ok_or_else(|| format!("missing actions.{name} configuration"))?;
        let action: Value = serde_json::from_str(text)
            .map_err(|e| format!("failed to parse json annotation, {annotation}: {text}: {e}"))?;
        forward(&action)?
    } else {
        vec![(name.to_owned(), 1)]
    };
    for (service, _) in &shares {
        if world.store.get(&Key::new("services", namespace, service)).is_none() {
            return Err(format!("Service {service:?} not found"));
        }
    }
    Ok(shares)
}

/// The Services of an action with their weights. The controller ignores the case of names.
fn forward(action: &Value) -> Result<Shares, String> {
    let kind = member(action, "type");
    if kind != "forward" {
        let known = kind == "redirect" || kind == "fixed-response";
        let wrong = || format!("unknown action type: {}", kind.as_str().unwrap_or_default());
        return if known { Ok(Vec::new()) } else { Err(wrong()) };
    }
    let groups = list(member(member(action, "forwardConfig"), "targetGroups"));
    if groups.is_empty() {
        return Err("missing ForwardConfig or TargetGroupARN/TargetGroupName".to_owned());
    }
    let mut shares = Vec::new();
    for group in groups {
        if let Some(service) = member(group, "serviceName").as_str() {
            if member(group, "servicePort").is_null() {
                return Err("invalid ForwardConfig: invalid TargetGroupTuple: missing servicePort".to_owned());
            }
            let weight = member(group, "weight");
            if weight.is_null() && groups.len() > 1 {
                let why = "invalid ForwardConfig: weight must be set when route to multiple target groups";
                return Err(why.to_owned());
            }
            shares.push((service.to_owned(), weight.as_u64().unwrap_or(1)));
        }
    }
    Ok(shares)
}

fn member<'v>(object: &'v Value, name: &str) -> &'v Value {
    let mut members = object.as_object().into_iter().flatten();
    members.find(|(key, _)| key.eq_ignore_ascii_case(name)).map_or(&Value::Null, |(_, value)| value)
}

/// Creates the TargetGroupBinding of a Service.
fn bind(world: &mut World, key: &Key, ingress: &Value, service: &str) {
    let name = format!("k8s-{}-{service}", key.namespace);
    let binding = Key::new("targetgroupbindings", &key.namespace, &name);
    if world.store.get(&binding).is_some() {
        return;
    }
    let arn =
        format!("arn:aws:elasticloadbalancing:eu-central-1:111111111111:targetgroup/{name}/0123456789abcdef");
    let object = json!({
        "apiVersion": "elbv2.k8s.aws/v1beta1",
        "kind": "TargetGroupBinding",
        "metadata": { "name": name, "namespace": key.namespace, "ownerReferences": owner(ingress) },
        "spec": { "serviceRef": { "name": service, "port": 80 }, "targetType": "ip", "targetGroupARN": arn },
    });
    world.put(binding, object);
}
