//! Pod creation by controllers, with admission and retries after rejections.

use std::time::Duration;

use serde_json::{Value, json};

use super::{
    resource,
    run::PodRun,
    status::Failure,
    store::{Key, Object},
    world::{PodBackOff, World, is_ready, number, owner},
};

/// The delay before the first retry of a rejected pod; doubled for each failure, as in client-go's work queues.
const FIRST_RETRY: Duration = Duration::from_millis(5);
const LONGEST_RETRY: Duration = Duration::from_secs(1000);

/// Why a controller did not create a pod.
pub(super) enum PodNotCreated {
    /// The API server rejected it.
    Refused(Failure),
    /// A pod was rejected before, and the next attempt is not due.
    BackingOff,
}

/// A pod to create.
pub(super) struct NewPod<'a> {
    pub(super) name: String,
    /// The `generateName` prefix, if the name was generated.
    pub(super) prefix: Option<String>,
    /// Labels that the controller adds.
    pub(super) labels: &'a [(&'a str, String)],
    /// The node, if the controller chooses it.
    pub(super) node: Option<&'a str>,
}

pub(super) fn key(pod: &Value) -> Key {
    Key::of(resource::by_plural("pods").expect("pods are served"), pod)
}

/// Creates a pod from the controller's template, and writes the controller's events. When the pod is rejected, the
/// event's message is `refusal` followed by the API server's message.
pub(super) fn create(
    world: &mut World,
    controller: &Object,
    source: &str,
    new: NewPod<'_>,
    refusal: &str,
) -> Result<Object, PodNotCreated> {
    let namespace = controller["metadata"]["namespace"].as_str().unwrap_or_default();
    let template = &controller["spec"]["template"];
    let uid = controller["metadata"]["uid"].as_str().unwrap_or_default().to_owned();
    let generation = number(&controller["metadata"]["generation"]);
    if let Some(until) = world.refusals.get(&uid).filter(|r| r.generation == generation).map(|r| r.until)
        && until > world.now
    {
        world.wake_at(until);
        return Err(PodNotCreated::BackingOff);
    }
    let admitted = match world.refused_pods.clone() {
        Some(failure) => Err(failure),
        None if world.is_terminating(namespace) => {
            let pods = resource::by_plural("pods").expect("pods are served");
            Err(Failure::terminating_namespace(pods, &new.name, namespace))
        }
        None => admit(world, namespace, &new.name, &template["spec"]),
    };
    if let Err(failure) = admitted {
        let failures = world.refusals.get(&uid).map_or(0, |back_off| back_off.failures);
        let until = world.now + FIRST_RETRY.saturating_mul(1 << failures.min(18)).min(LONGEST_RETRY);
        world.refusals.insert(uid, PodBackOff { failures: failures + 1, until, generation });
        world.wake_at(until);
        let message = format!("{refusal}: {}", failure.message());
        world.event(controller, source, "Warning", "FailedCreate", &message);
        return Err(PodNotCreated::Refused(failure));
    }
    world.refusals.remove(&uid);
    let mut pod = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": new.name,
            "namespace": namespace,
            "labels": template["metadata"]["labels"],
            "ownerReferences": owner(controller),
        },
        "spec": template["spec"],
        "status": { "phase": "Pending" },
    });
    for (name, value) in new.labels {
        pod["metadata"]["labels"][*name] = json!(value);
    }
    if let Some(prefix) = new.prefix {
        pod["metadata"]["generateName"] = json!(prefix);
    }
    if let Some(node) = new.node {
        pod["spec"]["nodeName"] = json!(node);
    }
    if !template["metadata"]["annotations"].is_null() {
        pod["metadata"]["annotations"] = template["metadata"]["annotations"].clone();
    }
    let key = Key::new("pods", namespace, &new.name);
    let pod = world.put(key.clone(), pod);
    let now = world.now;
    world.pods.insert(key, PodRun::new(&pod, now));
    world.event(controller, source, "Normal", "SuccessfulCreate", &format!("Created pod: {}", new.name));
    Ok(pod)
}

/// Admits a pod: its service account must exist, and resource quotas must allow it.
pub(super) fn admit(world: &World, namespace: &str, name: &str, spec: &Value) -> Result<(), Failure> {
    let pods = resource::by_plural("pods").expect("pods are served");
    let account = spec["serviceAccountName"].as_str().unwrap_or("default");
    if account != "default" && world.store.get(&Key::new("serviceaccounts", namespace, account)).is_none() {
        let why = format!(
            "error looking up service account {namespace}/{account}: serviceaccount {account:?} not found"
        );
        return Err(Failure::refused(pods, name, &why));
    }
    for quota in world.store.list("resourcequotas", namespace) {
        let hard = &quota["spec"]["hard"]["pods"];
        let Some(limit) = hard.as_u64().or_else(|| hard.as_str()?.parse().ok()) else { continue };
        let used = world.store.list("pods", namespace).filter(|pod| !is_finished(pod)).count() as u64;
        if used >= limit {
            let quota = quota["metadata"]["name"].as_str().unwrap_or_default();
            let why = format!(
                "exceeded quota: {quota}, requested: pods=1, used: pods={used}, limited: pods={limit}"
            );
            return Err(Failure::refused(pods, name, &why));
        }
    }
    Ok(())
}

pub(super) fn is_terminating(pod: &Value) -> bool {
    !pod["metadata"]["deletionTimestamp"].is_null()
}

/// Whether its phase is Failed or Succeeded.
pub(super) fn is_finished(pod: &Value) -> bool {
    matches!(pod["status"]["phase"].as_str(), Some("Failed" | "Succeeded"))
}

/// Whether it is ready and not terminating.
pub(super) fn is_available(pod: &Value) -> bool {
    is_ready(pod) && !is_terminating(pod)
}
