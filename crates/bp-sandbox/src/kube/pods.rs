//! Pods as controllers make them, and what admission says to that.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    kubelet::PodRun,
    resource,
    status::Failure,
    store::{Key, Object},
    world::{World, is_ready, number, owner},
};

/// Before the first retry of a refused pod; doubled each time, up to the longest. As client-go's work queues do.
const FIRST_RETRY: Duration = Duration::from_millis(5);
const LONGEST_RETRY: Duration = Duration::from_secs(1000);

/// A controller whose last pod was refused.
#[derive(Debug)]
pub(super) struct Refused {
    failures: u32,
    /// When it tries again, unless its specification changes before.
    until: Timestamp,
    generation: i64,
}

/// Why a controller has no new pod.
pub(super) enum NotMade {
    /// The API server refused it.
    Refused(Failure),
    /// It was refused before, and it is not yet time for the next try.
    BackingOff,
}

/// The pod that a controller is to make.
pub(super) struct NewPod<'a> {
    pub(super) name: String,
    /// What generated the name, if it was generated.
    pub(super) prefix: Option<String>,
    /// Labels that the controller adds.
    pub(super) labels: &'a [(&'a str, String)],
    /// Where it is to run, if the controller knows.
    pub(super) node: Option<&'a str>,
}

pub(super) fn key(pod: &Value) -> Key {
    Key::of(resource::by_plural("pods").expect("pods are served"), pod)
}

/// Makes a pod from the template of its controller, and emits the events that this controller writes. After a refusal
/// `refusal` is the event's message before the API server's own.
pub(super) fn create(
    world: &mut World,
    controller: &Object,
    source: &str,
    new: NewPod<'_>,
    refusal: &str,
) -> Result<Object, NotMade> {
    let namespace = controller["metadata"]["namespace"].as_str().unwrap_or_default();
    let template = &controller["spec"]["template"];
    let uid = controller["metadata"]["uid"].as_str().unwrap_or_default().to_owned();
    let generation = number(&controller["metadata"]["generation"]);
    if let Some(until) = world.refusals.get(&uid).filter(|r| r.generation == generation).map(|r| r.until)
        && until > world.now
    {
        world.wake_at(until);
        return Err(NotMade::BackingOff);
    }
    let admitted = match world.refused_pods.clone() {
        Some(failure) => Err(failure),
        None => admit(world, namespace, &new.name, &template["spec"]),
    };
    if let Err(failure) = admitted {
        let failures = world.refusals.get(&uid).map_or(0, |refused| refused.failures);
        let until = world.now + FIRST_RETRY.saturating_mul(1 << failures.min(18)).min(LONGEST_RETRY);
        world.refusals.insert(uid, Refused { failures: failures + 1, until, generation });
        world.wake_at(until);
        let message = format!("{refusal}: {}", failure.message());
        world.event(controller, source, "Warning", "FailedCreate", &message);
        return Err(NotMade::Refused(failure));
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

/// Admission of a pod: its service account has to exist, and the quotas to allow it.
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
        let used = world.store.list("pods", namespace).count() as u64;
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

pub(super) fn is_ending(pod: &Value) -> bool {
    !pod["metadata"]["deletionTimestamp"].is_null()
}

/// Whether it has ended for good.
pub(super) fn is_over(pod: &Value) -> bool {
    matches!(pod["status"]["phase"].as_str(), Some("Failed" | "Succeeded"))
}

/// Whether it is ready and stays.
pub(super) fn is_well(pod: &Value) -> bool {
    is_ready(pod) && !is_ending(pod)
}
