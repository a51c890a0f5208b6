//! A scripted kubelet with its scheduler: what a pod goes through from Pending to Running, or to its back-off.

use std::{collections::VecDeque, time::Duration};

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    container::{ContainerRun, Phase},
    store::{Key, Object, seconds},
    world::{World, condition},
};

/// How long the scheduler and the kubelet take to notice a pod.
const NOTICE: Duration = Duration::from_millis(100);
/// How long a pod takes to end when it is deleted.
const GRACE: Duration = Duration::from_secs(1);

/// A pod on its node.
#[derive(Debug)]
pub(super) struct PodRun {
    /// When the scheduler looks at it, while it has no place.
    scheduling: Option<Timestamp>,
    /// When it is gone, once it is deleted.
    ends: Option<Timestamp>,
    /// Init containers first, in their order.
    pub(super) containers: Vec<ContainerRun>,
}

impl PodRun {
    pub(super) fn new(pod: &Value, now: Timestamp) -> Self {
        let list = |field: &str, init: bool| {
            let specs = pod["spec"][field].as_array().cloned().unwrap_or_default();
            specs.into_iter().map(move |spec| ContainerRun::new(spec, init)).collect::<Vec<_>>()
        };
        let mut containers = list("initContainers", true);
        containers.extend(list("containers", false));
        PodRun { scheduling: Some(now + NOTICE), ends: None, containers }
    }

    /// When something happens to it next.
    pub(super) fn due(&self) -> Option<Timestamp> {
        match (self.ends, self.scheduling) {
            (Some(ends), _) => Some(ends),
            (None, Some(at)) => Some(at),
            (None, None) => self.containers.iter().filter_map(ContainerRun::due).min(),
        }
    }

    /// Ends it after its grace period.
    pub(super) fn end(&mut self, now: Timestamp) {
        self.ends.get_or_insert(now + GRACE);
    }
}

/// What a container wants to be told to the world.
pub(super) struct Told {
    pub(super) kind: &'static str,
    pub(super) reason: &'static str,
    pub(super) message: String,
}

impl Told {
    pub(super) fn normal(reason: &'static str, message: impl Into<String>) -> Self {
        Told { kind: "Normal", reason, message: message.into() }
    }

    pub(super) fn warning(reason: &'static str, message: impl Into<String>) -> Self {
        Told { kind: "Warning", reason, message: message.into() }
    }
}

/// Lets what is due happen to one pod.
pub(super) fn step(world: &mut World, key: &Key) {
    let (Some(mut run), Some(pod)) = (world.pods.remove(key), world.store.get(key).cloned()) else { return };
    let now = world.now;
    if run.ends.is_some_and(|at| at <= now) {
        world.remove(key);
        return;
    }
    match run.scheduling {
        Some(_) => schedule(world, &mut run, &pod),
        None => {
            let mut told = VecDeque::new();
            for container in &mut run.containers {
                if container.due().is_some_and(|at| at <= now) {
                    container.step(world, &pod, &mut told);
                }
            }
            advance_inits(&mut run, now);
            for Told { kind, reason, message } in told {
                world.event(&pod, "kubelet", kind, reason, &message);
            }
        }
    }
    let status = status(&run, &pod, world);
    world.update(key, |pod| pod["status"] = status);
    world.pods.insert(key.clone(), run);
}

/// Starts the next init container when its predecessor is done, and the others after the last one.
fn advance_inits(run: &mut PodRun, now: Timestamp) {
    let waiting = run.containers.iter().position(|c| c.init && !c.lets_pass());
    let upto = waiting.map_or(run.containers.len(), |at| at + 1);
    for container in &mut run.containers[..upto] {
        container.begin(now);
    }
}

fn schedule(world: &mut World, run: &mut PodRun, pod: &Object) {
    let now = world.now;
    let nodes: Vec<Object> = world.store.list("nodes", "").cloned().collect();
    let wanted = pod["spec"]["nodeSelector"].as_object().cloned().unwrap_or_default();
    let named = pod["spec"]["nodeName"].clone();
    let fits = |node: &&Object| {
        let is_it = named.is_null() || node["metadata"]["name"] == named;
        is_it && wanted.iter().all(|(k, v)| node["metadata"]["labels"][k] == *v)
    };
    let fitting: Vec<&Object> = nodes.iter().filter(fits).collect();
    let key = Key::new(
        "pods",
        pod["metadata"]["namespace"].as_str().unwrap_or_default(),
        pod["metadata"]["name"].as_str().unwrap_or_default(),
    );
    if fitting.is_empty() {
        let message = unschedulable(nodes.len());
        if super::world::condition_of(&pod["status"], "PodScheduled")["message"] != message {
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

fn unschedulable(nodes: usize) -> String {
    format!(
        "0/{nodes} nodes are available: {nodes} node(s) didn't match Pod's node affinity/selector. \
         preemption: 0/{nodes} nodes are available: {nodes} Preemption is not helpful for scheduling."
    )
}

/// The pod's status as its containers make it.
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
    let over = main().all(|c| matches!(c.phase, Phase::Ended { .. }));
    let failed = main().any(|c| matches!(c.phase, Phase::Ended { code, .. } if code != 0));
    status["phase"] = json!(match () {
        () if over && restarts != "Always" && failed => "Failed",
        () if over && restarts != "Always" => "Succeeded",
        () if main().any(ContainerRun::has_started) => "Running",
        () => "Pending",
    });
    if status["podIP"].is_null() && main().any(ContainerRun::has_started) {
        let address = format!("10.0.{}.{}", fastrand::u8(..), fastrand::u8(1..255));
        status["podIPs"] = json!([{ "ip": address }]);
        status["podIP"] = json!(address);
    }
    let initialized = run.containers.iter().filter(|c| c.init).all(ContainerRun::lets_pass);
    let ready = initialized && main().all(|c| c.ready);
    let mut set = |kind: &str, holds: bool, reason: &str, message: String| {
        let (value, reason) = if holds { ("True", "") } else { ("False", reason) };
        condition(&mut status, kind, value, reason, if holds { "" } else { &message }, now);
    };
    let unready: Vec<&str> = main().filter(|c| !c.ready).map(ContainerRun::name).collect();
    let unready = format!("containers with unready status: [{}]", unready.join(" "));
    set("Initialized", initialized, "ContainersNotInitialized", String::new());
    set("ContainersReady", ready, "ContainersNotReady", unready.clone());
    set("Ready", ready, "ContainersNotReady", unready);
    status
}
