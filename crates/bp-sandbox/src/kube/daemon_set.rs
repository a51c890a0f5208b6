//! DaemonSet controller: one pod on every matching node, replaced within `maxUnavailable`.

use serde_json::json;

use super::{
    pods::{self, NewPod},
    revisions::{self, HASH},
    store::{Key, Object},
    world::{World, number, suffix},
};

const SOURCE: &str = "daemonset-controller";

pub(super) fn sync(world: &mut World, set: &Object) {
    let metadata = &set["metadata"];
    let (namespace, name) =
        (metadata["namespace"].as_str().unwrap_or_default(), metadata["name"].as_str().unwrap_or_default());
    let hash =
        revisions::current(world, set)["metadata"]["labels"][HASH].as_str().unwrap_or_default().to_owned();
    let wanted = set["spec"]["template"]["spec"]["nodeSelector"].as_object().cloned().unwrap_or_default();
    let fits = |node: &&Object| wanted.iter().all(|(k, v)| node["metadata"]["labels"][k] == *v);
    let nodes: Vec<String> = world
        .store
        .list("nodes", "")
        .filter(fits)
        .filter_map(|node| node["metadata"]["name"].as_str().map(str::to_owned))
        .collect();

    // Unavailable old pods are deleted immediately, available ones within `maxUnavailable`.
    let (mut unavailable, mut working) = (0, Vec::new());
    for node in &nodes {
        match on_node(world, set, node) {
            None => {
                unavailable += 1;
                if !create_pod(world, set, name, node, &hash) {
                    break;
                }
            }
            Some(pod) if pods::is_terminating(&pod) => unavailable += 1,
            Some(pod) if pods::is_finished(&pod) => {
                unavailable += 1;
                world.delete(&pods::key(&pod));
            }
            Some(pod) if pod["metadata"]["labels"][HASH] == hash => {
                unavailable += i64::from(!pods::is_available(&pod));
            }
            Some(pod) if pods::is_available(&pod) => working.push(pod),
            Some(pod) => {
                unavailable += 1;
                if set["spec"]["updateStrategy"]["type"] != "OnDelete" {
                    world.delete(&pods::key(&pod));
                }
            }
        }
    }
    if set["spec"]["updateStrategy"]["type"] != "OnDelete" {
        let allowed = number(&set["spec"]["updateStrategy"]["rollingUpdate"]["maxUnavailable"]).max(1);
        let spare = (allowed - unavailable).max(0) as usize;
        for pod in working.into_iter().take(spare) {
            world.delete(&pods::key(&pod));
        }
    }
    write_status(world, &Key::new("daemonsets", namespace, name), set, &nodes, &hash);
}

/// The pod on a node; of two, the one that is not terminating.
fn on_node(world: &World, set: &Object, node: &str) -> Option<Object> {
    let namespace = set["metadata"]["namespace"].as_str().unwrap_or_default();
    let pods = world.controlled_by("pods", namespace, &set["metadata"]["uid"]);
    let candidates = pods.into_iter().filter(|pod| pod["spec"]["nodeName"] == node);
    candidates.min_by_key(|pod| pods::is_terminating(pod))
}

fn create_pod(world: &mut World, set: &Object, name: &str, node: &str, hash: &str) -> bool {
    let labels = [(HASH, hash.to_owned())];
    let prefix = format!("{name}-");
    let new = NewPod {
        name: format!("{prefix}{}", suffix()),
        prefix: Some(prefix),
        labels: &labels,
        node: Some(node),
    };
    pods::create(world, set, SOURCE, new, "Error creating").is_ok()
}

fn write_status(world: &mut World, key: &Key, set: &Object, nodes: &[String], hash: &str) {
    let pods: Vec<Object> = nodes.iter().filter_map(|node| on_node(world, set, node)).collect();
    let available = pods.iter().filter(|pod| pods::is_available(pod)).count();
    let updated = pods
        .iter()
        .filter(|pod| pod["metadata"]["labels"][HASH] == hash && !pods::is_terminating(pod))
        .count();
    let status = json!({
        "observedGeneration": set["metadata"]["generation"],
        "desiredNumberScheduled": nodes.len(),
        "currentNumberScheduled": pods.len(),
        "updatedNumberScheduled": updated,
        "numberReady": available,
        "numberAvailable": available,
        "numberUnavailable": nodes.len() - available,
        "numberMisscheduled": 0,
    });
    world.update(key, |set| set["status"] = status);
}
