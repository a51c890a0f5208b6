//! StatefulSet controller: pods by ordinal, created in order, updated from the highest ordinal down to the partition.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{
    pods::{self, NewPod},
    revisions::{self, HASH},
    store::{Key, Object},
    world::{World, is_ready, number},
};

const SOURCE: &str = "statefulset-controller";

pub(super) fn sync(world: &mut World, set: &Object) {
    let metadata = &set["metadata"];
    let (namespace, name) =
        (metadata["namespace"].as_str().unwrap_or_default(), metadata["name"].as_str().unwrap_or_default());
    let update = revisions::name_of(&revisions::current(world, set)).to_owned();
    let current = set["status"]["currentRevision"].as_str().unwrap_or(&update).to_owned();
    let desired = number(&set["spec"]["replicas"]).max(0);
    let strategy = &set["spec"]["updateStrategy"];
    let partition = number(&strategy["rollingUpdate"]["partition"]);
    let ordered = set["spec"]["podManagementPolicy"] != "Parallel";
    let pods = by_ordinal(world, set);

    if ensure_pods(world, set, &pods, desired, ordered, |ordinal| {
        if ordinal < partition { current.clone() } else { update.clone() }
    }) && scale_down(world, &pods, desired, ordered)
        && strategy["type"] != "OnDelete"
    {
        update_one(world, &pods, desired, partition, &update);
    }
    write_status(world, &Key::new("statefulsets", namespace, name), set, &current, &update);
}

fn by_ordinal(world: &World, set: &Object) -> BTreeMap<i64, Object> {
    let namespace = set["metadata"]["namespace"].as_str().unwrap_or_default();
    let ordinal = |pod: &Object| pod["metadata"]["name"].as_str()?.rsplit_once('-')?.1.parse().ok();
    let pods = world.controlled_by("pods", namespace, &set["metadata"]["uid"]);
    pods.into_iter().filter_map(|pod| Some((ordinal(&pod)?, pod))).collect()
}

/// Creates missing pods; returns whether every ordinal has a pod. With ordered management it stops at the first pod
/// that is not ready: a pod that never becomes ready blocks the controller, even after the template is corrected.
fn ensure_pods(
    world: &mut World,
    set: &Object,
    pods: &BTreeMap<i64, Object>,
    desired: i64,
    ordered: bool,
    revision: impl Fn(i64) -> String,
) -> bool {
    for ordinal in 0..desired {
        let existing = pods.get(&ordinal);
        if let Some(pod) = existing.filter(|pod| pods::is_finished(pod) && !pods::is_terminating(pod)) {
            world.delete(&pods::key(pod));
        }
        let Some(pod) = existing else {
            let set_name = set["metadata"]["name"].as_str().unwrap_or_default();
            let (name, revision) = (format!("{set_name}-{ordinal}"), revision(ordinal));
            let controller = revisions::with_template(world, set, &revision);
            let labels = [
                (HASH, revision),
                ("statefulset.kubernetes.io/pod-name", name.clone()),
                ("apps.kubernetes.io/pod-index", ordinal.to_string()),
            ];
            let new = NewPod { name: name.clone(), prefix: None, labels: &labels, node: None };
            let refusal = format!("create Pod {name} in StatefulSet {set_name} failed error");
            if pods::create(world, &controller, SOURCE, new, &refusal).is_err() {
                return false;
            }
            if ordered {
                return false;
            }
            continue;
        };
        if ordered && (pods::is_terminating(pod) || !is_ready(pod)) {
            return false;
        }
    }
    true
}

/// Deletes surplus pods; returns whether there were none.
fn scale_down(world: &mut World, pods: &BTreeMap<i64, Object>, desired: i64, ordered: bool) -> bool {
    let surplus: Vec<&Object> = pods.range(desired..).map(|(_, pod)| pod).rev().collect();
    for pod in &surplus {
        if !pods::is_terminating(pod) {
            world.delete(&pods::key(pod));
        }
        if ordered {
            break;
        }
    }
    surplus.is_empty()
}

/// Deletes the pod with the highest ordinal of another revision, if all pods above it are available.
fn update_one(world: &mut World, pods: &BTreeMap<i64, Object>, desired: i64, partition: i64, update: &str) {
    for ordinal in (partition.max(0)..desired).rev() {
        let Some(pod) = pods.get(&ordinal) else { return };
        if pod["metadata"]["labels"][HASH] != update {
            if !pods::is_terminating(pod) {
                world.delete(&pods::key(pod));
            }
            return;
        }
        if !pods::is_available(pod) {
            return;
        }
    }
}

fn write_status(world: &mut World, key: &Key, set: &Object, current: &str, update: &str) {
    let pods = by_ordinal(world, set);
    let count = |counts: &dyn Fn(&Value) -> bool| pods.values().filter(|pod| counts(pod)).count() as i64;
    let of = |pod: &Value, revision: &str| {
        pod["metadata"]["labels"][HASH] == revision && !pods::is_terminating(pod)
    };
    let (ready, updated) = (count(&|pod| is_ready(pod)), count(&|pod| of(pod, update)));
    let mut in_current = count(&|pod| of(pod, current));
    // As the controller: of all pods that exist, also those that are being removed.
    let existing = pods.len() as i64;
    let mut current = current;
    if set["spec"]["updateStrategy"]["type"] != "OnDelete" && updated == existing && ready == existing {
        (current, in_current) = (update, updated);
    }
    let status = json!({
        "observedGeneration": set["metadata"]["generation"],
        "replicas": pods.len(),
        "readyReplicas": ready,
        "availableReplicas": ready,
        "currentReplicas": in_current,
        "updatedReplicas": updated,
        "currentRevision": current,
        "updateRevision": update,
        "collisionCount": 0,
    });
    world.update(key, |set| set["status"] = status);
}
