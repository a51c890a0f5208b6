//! Controller loop: garbage collection, ReplicaSets, and the controllers of the other modules.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::json;

use super::{
    custom, daemon_set, deployment, disruption, endpoints, garbage, job, load_balancers,
    pods::{self, NewPod, PodNotCreated},
    resource,
    run::PodRun,
    stateful_set,
    store::{Key, Object},
    world::{World, condition, condition_of, is_ready, number, suffix},
};

/// Runs all controllers once.
pub(super) fn reconcile(world: &mut World) {
    custom::reconcile(world);
    garbage::reconcile(world);
    adopt_pods(world);
    for set in active(world, "replicasets") {
        sync_replica_set(world, &set);
    }
    for object in active(world, "deployments") {
        deployment::sync(world, &object);
    }
    for object in active(world, "statefulsets") {
        stateful_set::sync(world, &object);
    }
    for object in active(world, "daemonsets") {
        daemon_set::sync(world, &object);
    }
    for object in active(world, "jobs") {
        job::sync(world, &object);
    }
    endpoints::reconcile(world);
    load_balancers::reconcile(world);
    disruption::reconcile(world);
}

/// The objects that are not being deleted: controllers leave the pods of the others to the garbage collector.
fn active(world: &World, plural: &'static str) -> Vec<Object> {
    let objects = world.store.list(plural, "");
    objects.filter(|object| object["metadata"]["deletionTimestamp"].is_null()).cloned().collect()
}

/// Starts a simulated kubelet for every new pod.
fn adopt_pods(world: &mut World) {
    let now = world.now;
    for pod in active(world, "pods") {
        let key = Key::of(resource::by_plural("pods").expect("pods are served"), &pod);
        world.pods.entry(key).or_insert_with(|| PodRun::new(&pod, now));
    }
}

fn sync_replica_set(world: &mut World, set: &Object) {
    let metadata = &set["metadata"];
    let (namespace, name) =
        (metadata["namespace"].as_str().unwrap_or_default(), metadata["name"].as_str().unwrap_or_default());
    let pods = world.controlled_by("pods", namespace, &metadata["uid"]);
    let is_active = |pod: &Object| !pods::is_terminating(pod) && !pods::is_finished(pod);
    let mut active: Vec<Object> = pods.into_iter().filter(is_active).collect();
    let wanted = number(&set["spec"]["replicas"]).max(0) as usize;
    let mut not_created = None;
    for _ in active.len()..wanted {
        match create_pod(world, set, name) {
            Ok(pod) => active.push(pod),
            Err(reason) => {
                not_created = Some(reason);
                break;
            }
        }
    }
    if active.len() > wanted {
        // Unready pods are last, then the youngest: the last ones are deleted.
        active.sort_by_key(|pod| {
            let created = pod["metadata"]["creationTimestamp"].as_str().unwrap_or_default().to_owned();
            (!is_ready(pod), created)
        });
        for pod in active.split_off(wanted) {
            let key = Key::of(resource::by_plural("pods").expect("pods are served"), &pod);
            let message = format!("Deleted pod: {}", key.name);
            world.event(set, "replicaset-controller", "Normal", "SuccessfulDelete", &message);
            world.delete(&key);
        }
    }
    let minimum = Duration::from_secs(number(&set["spec"]["minReadySeconds"]).max(0) as u64);
    let ready: Vec<&Object> = active.iter().filter(|pod| is_ready(pod)).collect();
    let mut available = 0;
    for pod in &ready {
        let since = condition_of(&pod["status"], "Ready")["lastTransitionTime"].as_str().unwrap_or_default();
        let at = since.parse::<Timestamp>().unwrap_or(world.now) + minimum;
        if at <= world.now { available += 1 } else { world.wake_at(at) }
    }
    let (replicas, ready) = (active.len(), ready.len());
    let generation = metadata["generation"].clone();
    let now = world.now;
    world.update(&Key::new("replicasets", namespace, name), |set| {
        let status = &mut set["status"];
        status["replicas"] = json!(replicas);
        status["fullyLabeledReplicas"] = json!(replicas);
        status["readyReplicas"] = json!(ready);
        status["availableReplicas"] = json!(available);
        status["observedGeneration"] = generation;
        match not_created {
            Some(PodNotCreated::Refused(failure)) => {
                condition(status, "ReplicaFailure", "True", "FailedCreate", failure.message(), now);
            }
            // Unchanged since the last attempt.
            Some(PodNotCreated::BackingOff) => {}
            None => {
                if let Some(conditions) = status["conditions"].as_array_mut() {
                    conditions.retain(|c| c["type"] != "ReplicaFailure");
                }
            }
        }
    });
}

fn create_pod(world: &mut World, set: &Object, name: &str) -> Result<Object, PodNotCreated> {
    let prefix = format!("{name}-");
    let new = NewPod { name: format!("{prefix}{}", suffix()), prefix: Some(prefix), labels: &[], node: None };
    pods::create(world, set, "replicaset-controller", new, "Error creating")
}
