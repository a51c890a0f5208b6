//! Simulated scheduler and kubelet: pod lifecycle from Pending to Running or back-off, and the pod status.

use std::{collections::VecDeque, time::Duration};

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    container::PodEvent,
    run::{ContainerRun, NOTICE, Phase, PodRun},
    store::{Key, Object, seconds},
    world::{World, condition, condition_of, has_finalizers},
};

/// Performs the due transitions of one pod.
pub(super) fn step(world: &mut World, key: &Key) {
    let (Some(mut run), Some(pod)) = (world.pods.remove(key), world.store.get(key).cloned()) else { return };
    let now = world.now;
    if run.ends.is_some_and(|at| at <= now) {
        // With finalizers, the object remains without its containers.
        if !has_finalizers(&pod) {
            world.remove(key);
        }
        return;
    }
    match run.scheduling {
        Some(_) => schedule(world, &mut run, &pod),
        None => {
            let mut events = VecDeque::new();
            for container in &mut run.containers {
                if container.due().is_some_and(|at| at <= now) {
                    container.step(world, &pod, &mut events);
                }
            }
            advance_inits(&mut run, now);
            for PodEvent { kind, reason, message } in events {
                world.event(&pod, "kubelet", kind, reason, &message);
            }
        }
    }
    let status = status(&run, &pod, world);
    world.update(key, |pod| pod["status"] = status);
    world.pods.insert(key.clone(), run);
}

/// Starts the next init container when its predecessor has completed, and the other containers after the last one.
fn advance_inits(run: &mut PodRun, now: Timestamp) {
    let waiting = run.containers.iter().position(|c| c.init && !c.allows_next());
    let upto = waiting.map_or(run.containers.len(), |at| at + 1);
    for container in &mut run.containers[..upto] {
        container.begin(now);
    }
}

fn schedule(world: &mut World, run: &mut PodRun, pod: &Object) {
    let now = world.now;
    let nodes: Vec<Object> = world.store.list("nodes", "").cloned().collect();
    let wanted = pod["spec"]["nodeSelector"].as_object().cloned().unwrap_or_default();
    let node_name = pod["spec"]["nodeName"].clone();
    let fits = |node: &&Object| {
        let named = node_name.is_null() || node["metadata"]["name"] == node_name;
        let open = !node_name.is_null() || node["spec"]["unschedulable"] != true;
        named && open && wanted.iter().all(|(k, v)| node["metadata"]["labels"][k] == *v)
    };
    let fitting: Vec<&Object> = nodes.iter().filter(fits).collect();
    let key = Key::new(
        "pods",
        pod["metadata"]["namespace"].as_str().unwrap_or_default(),
        pod["metadata"]["name"].as_str().unwrap_or_default(),
    );
    if fitting.is_empty() {
        let message = unschedulable(&nodes);
        if condition_of(&pod["status"], "PodScheduled")["message"] != message {
            world.event(pod, "default-scheduler", "Warning", "FailedScheduling", &message);
        }
        world.update(&key, |pod| {
            condition(&mut pod["status"], "PodScheduled", "False", "Unschedulable", &message, now);
        });
        run.scheduling = Some(now + Duration::from_secs(30));
        return;
    }
    let node = fitting[fastrand::usize(..fitting.len())]["metadata"]["name"].clone();
    world.update(&key, |pod| {
        pod["spec"]["nodeName"] = node.clone();
        condition(&mut pod["status"], "PodScheduled", "True", "", "", now);
        pod["status"]["startTime"] = json!(seconds(now));
    });
    let (namespace, name, node) = (&key.namespace, &key.name, node.as_str().unwrap_or_default());
    let message = format!("Successfully assigned {namespace}/{name} to {node}");
    world.event(pod, "default-scheduler", "Normal", "Scheduled", &message);
    run.scheduling = None;
    advance_inits(run, now + NOTICE);
}

fn unschedulable(nodes: &[Object]) -> String {
    let (all, cordoned) =
        (nodes.len(), nodes.iter().filter(|node| node["spec"]["unschedulable"] == true).count());
    let others = all - cordoned;
    let mut reasons = Vec::new();
    if others > 0 || all == 0 {
        reasons.push(format!("{others} node(s) didn't match Pod's node affinity/selector"));
    }
    if cordoned > 0 {
        reasons.push(format!("{cordoned} node(s) were unschedulable"));
    }
    format!(
        "0/{all} nodes are available: {}. \
         preemption: 0/{all} nodes are available: {all} Preemption is not helpful for scheduling.",
        reasons.join(", ")
    )
}

/// The pod's status, derived from its containers.
fn status(run: &PodRun, pod: &Value, world: &World) -> Value {
    let now = world.now;
    // `schedule` may have written since `pod` was read.
    let key = Key::of(super::resource::by_plural("pods").expect("pods are served"), pod);
    let mut status = world.store.get(&key).map_or(Value::Null, |pod| pod["status"].clone());
    let list = |init: bool| -> Vec<Value> {
        run.containers.iter().filter(|c| c.init == init).map(ContainerRun::status).collect()
    };
    status["containerStatuses"] = json!(list(false));
    if run.containers.iter().any(|c| c.init) {
        status["initContainerStatuses"] = json!(list(true));
    }
    let main = || run.containers.iter().filter(|c| !c.init);
    let restarts = pod["spec"]["restartPolicy"].as_str().unwrap_or("Always");
    let ended = main().all(|c| matches!(c.phase, Phase::Ended { .. }));
    let failed = main().any(|c| matches!(c.phase, Phase::Ended { code, .. } if code != 0));
    status["phase"] = json!(match () {
        () if ended && restarts != "Always" && failed => "Failed",
        () if ended && restarts != "Always" => "Succeeded",
        () if main().any(ContainerRun::has_started) => "Running",
        () => "Pending",
    });
    if status["podIP"].is_null() && main().any(ContainerRun::has_started) {
        let address = format!("10.0.{}.{}", fastrand::u8(..), fastrand::u8(1..255));
        status["podIPs"] = json!([{ "ip": address }]);
        status["podIP"] = json!(address);
    }
    let initialized = run.containers.iter().filter(|c| c.init).all(ContainerRun::allows_next);
    let ready = initialized && main().all(|c| c.ready);
    let mut set = |kind: &str, is_true: bool, reason: &str, message: String| {
        let (value, reason) = if is_true { ("True", "") } else { ("False", reason) };
        condition(&mut status, kind, value, reason, if is_true { "" } else { &message }, now);
    };
    let unready: Vec<&str> = main().filter(|c| !c.ready).map(ContainerRun::name).collect();
    let unready = format!("containers with unready status: [{}]", unready.join(" "));
    set("Initialized", initialized, "ContainersNotInitialized", String::new());
    set("ContainersReady", ready, "ContainersNotReady", unready.clone());
    set("Ready", ready, "ContainersNotReady", unready);
    status
}
