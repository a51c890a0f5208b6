//! The controllers of Deployments and ReplicaSets, the garbage collector among them.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    deployment, endpoints,
    kubelet::PodRun,
    resource,
    status::Failure,
    store::{Key, Object, seconds},
    world::{World, condition, condition_of, is_ready, number, owner, suffix},
};

/// One round of all controllers.
pub(super) fn reconcile(world: &mut World) {
    collect_garbage(world);
    adopt_pods(world);
    for set in world.store.list("replicasets", "").cloned().collect::<Vec<_>>() {
        sync_replica_set(world, &set);
    }
    for object in world.store.list("deployments", "").cloned().collect::<Vec<_>>() {
        deployment::sync(world, &object);
    }
    endpoints::reconcile(world);
}

/// Removes what belongs to something that is gone.
fn collect_garbage(world: &mut World) {
    for (owned, owner) in [
        ("replicasets", "deployments"),
        ("pods", "replicasets"),
        ("services", "services"),
        ("endpointslices", "services"),
    ] {
        for object in world.store.list(owned, "").cloned().collect::<Vec<_>>() {
            let metadata = &object["metadata"];
            let (Some(name), Some(kind)) = (
                metadata["ownerReferences"][0]["name"].as_str(),
                metadata["ownerReferences"][0]["kind"].as_str(),
            ) else {
                continue;
            };
            let namespace = metadata["namespace"].as_str().unwrap_or_default();
            let served = resource::by_plural(owner).is_some_and(|r| r.kind == kind);
            let lives = world
                .store
                .get(&Key::new(owner, namespace, name))
                .is_some_and(|o| o["metadata"]["uid"] == metadata["ownerReferences"][0]["uid"]);
            if served && !lives {
                let name = metadata["name"].as_str().unwrap_or_default();
                delete(world, &Key::new(owned, namespace, name));
            }
        }
    }
}

/// Deletes an object; a pod goes after its grace period.
pub(super) fn delete(world: &mut World, key: &Key) -> Option<Object> {
    let now = world.now;
    let Some(run) = world.pods.get_mut(key) else { return world.remove(key) };
    run.end(now);
    world.update(key, |pod| {
        if pod["metadata"]["deletionTimestamp"].is_null() {
            pod["metadata"]["deletionTimestamp"] = json!(seconds(now));
            pod["metadata"]["deletionGracePeriodSeconds"] = json!(30);
        }
    })
}

/// Every pod that has no kubelet yet gets one.
fn adopt_pods(world: &mut World) {
    let now = world.now;
    for pod in world.store.list("pods", "").cloned().collect::<Vec<_>>() {
        let key = Key::of(resource::by_plural("pods").expect("pods are served"), &pod);
        world.pods.entry(key).or_insert_with(|| PodRun::new(&pod, now));
    }
}

fn sync_replica_set(world: &mut World, set: &Object) {
    let metadata = &set["metadata"];
    let (namespace, name) =
        (metadata["namespace"].as_str().unwrap_or_default(), metadata["name"].as_str().unwrap_or_default());
    let pods = world.controlled_by("pods", namespace, &metadata["uid"]);
    let mut active: Vec<Object> =
        pods.into_iter().filter(|pod| pod["metadata"]["deletionTimestamp"].is_null()).collect();
    let wanted = number(&set["spec"]["replicas"]).max(0) as usize;
    let mut refused = None;
    for _ in active.len()..wanted {
        match create_pod(world, set) {
            Ok(pod) => active.push(pod),
            Err(failure) => {
                let message = format!("Error creating: {}", failure.message());
                world.event(set, "replicaset-controller", "Warning", "FailedCreate", &message);
                refused = Some(failure);
                break;
            }
        }
    }
    if active.len() > wanted {
        // The kubelet's order: what is not ready goes first, then the youngest.
        active.sort_by_key(|pod| {
            let born = pod["metadata"]["creationTimestamp"].as_str().unwrap_or_default().to_owned();
            (!is_ready(pod), born)
        });
        for pod in active.split_off(wanted) {
            let key = Key::of(resource::by_plural("pods").expect("pods are served"), &pod);
            let message = format!("Deleted pod: {}", key.name);
            world.event(set, "replicaset-controller", "Normal", "SuccessfulDelete", &message);
            delete(world, &key);
        }
    }
    let minimum = Duration::from_secs(number(&set["spec"]["minReadySeconds"]).max(0) as u64);
    let ready: Vec<&Object> = active.iter().filter(|pod| is_ready(pod)).collect();
    let mut available = 0;
    for pod in &ready {
        let since = condition_of(&pod["status"], "Ready")["lastTransitionTime"].as_str().unwrap_or_default();
        let at = since.parse::<Timestamp>().unwrap_or(world.now) + minimum;
        match at <= world.now {
            true => available += 1,
            false => world.wake_at(at),
        }
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
        match refused {
            Some(failure) => {
                condition(status, "ReplicaFailure", "True", "FailedCreate", failure.message(), now);
            }
            None => {
                if let Some(conditions) = status["conditions"].as_array_mut() {
                    conditions.retain(|c| c["type"] != "ReplicaFailure");
                }
            }
        }
    });
}

fn create_pod(world: &mut World, set: &Object) -> Result<Object, Failure> {
    let namespace = set["metadata"]["namespace"].as_str().unwrap_or_default();
    let name = format!("{}-{}", set["metadata"]["name"].as_str().unwrap_or_default(), suffix());
    admit_pod(world, namespace, &name, &set["spec"]["template"]["spec"])?;
    let template = &set["spec"]["template"];
    let mut pod = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "generateName": format!("{}-", set["metadata"]["name"].as_str().unwrap_or_default()),
            "namespace": namespace,
            "labels": template["metadata"]["labels"],
            "ownerReferences": owner(set),
        },
        "spec": template["spec"],
        "status": { "phase": "Pending" },
    });
    if !template["metadata"]["annotations"].is_null() {
        pod["metadata"]["annotations"] = template["metadata"]["annotations"].clone();
    }
    let key = Key::new("pods", namespace, &name);
    let pod = world.put(key.clone(), pod);
    let now = world.now;
    world.pods.insert(key, PodRun::new(&pod, now));
    let message = format!("Created pod: {name}");
    world.event(set, "replicaset-controller", "Normal", "SuccessfulCreate", &message);
    Ok(pod)
}

/// Admission of a pod: its service account has to exist, and the quotas to allow it.
pub(super) fn admit_pod(world: &World, namespace: &str, name: &str, spec: &Value) -> Result<(), Failure> {
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
