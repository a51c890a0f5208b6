//! Deployment controller: new and old ReplicaSets, rolling updates, status, progress deadline.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    store::{Key, Object, seconds},
    world::{World, condition, condition_of, number, owner, template_hash},
};

const REVISION: &str = "deployment.kubernetes.io/revision";
const HISTORY: &str = "deployment.kubernetes.io/revision-history";

/// A Deployment with its ReplicaSets, newest revision last.
struct Rollout {
    deployment: Object,
    key: Key,
    new: Option<Object>,
    old: Vec<Object>,
}

pub(super) fn sync(world: &mut World, deployment: &Object) {
    let metadata = &deployment["metadata"];
    let (namespace, name) =
        (metadata["namespace"].as_str().unwrap_or_default(), metadata["name"].as_str().unwrap_or_default());
    let mut sets = world.controlled_by("replicasets", namespace, &metadata["uid"]);
    sets.sort_by_key(|set| revision(set));
    let new = sets.iter().position(|set| same_template(set, deployment)).map(|at| sets.remove(at));
    let key = Key::new("deployments", namespace, name);
    let mut rollout = Rollout { deployment: deployment.clone(), key, new, old: sets };
    if deployment["spec"]["paused"] == true {
        scale_paused(world, &rollout);
    } else {
        rollout.ensure_new(world);
        match deployment["spec"]["strategy"]["type"].as_str() {
            Some("Recreate") => rollout.recreate(world),
            _ => rollout.roll(world),
        }
        rollout.prune_history(world);
    }
    rollout.reload(world);
    rollout.write_status(world);
}

fn revision(set: &Value) -> i64 {
    set["metadata"]["annotations"][REVISION].as_str().and_then(|text| text.parse().ok()).unwrap_or_default()
}

/// Whether a ReplicaSet has the Deployment's template, apart from the hash label.
fn same_template(set: &Value, deployment: &Value) -> bool {
    let mut template = set["spec"]["template"].clone();
    if let Some(labels) = template["metadata"]["labels"].as_object_mut() {
        labels.remove("pod-template-hash");
    }
    template == deployment["spec"]["template"]
}

fn replicas(set: &Value) -> i64 {
    number(&set["spec"]["replicas"])
}

fn available(set: &Value) -> i64 {
    number(&set["status"]["availableReplicas"])
}

impl Rollout {
    fn desired(&self) -> i64 {
        self.deployment["spec"]["replicas"].as_i64().unwrap_or(1)
    }

    /// `maxSurge` (rounded up) and `maxUnavailable` (rounded down); they are not both zero.
    fn bounds(&self) -> (i64, i64) {
        let rolling = &self.deployment["spec"]["strategy"]["rollingUpdate"];
        let desired = self.desired();
        let read = |field: &str, up: bool| match &rolling[field] {
            Value::Number(n) => n.as_i64().unwrap_or_default(),
            value => {
                let percent = value.as_str().and_then(|t| t.trim_end_matches('%').parse::<i64>().ok());
                let product = desired * percent.unwrap_or(25);
                if up { (product + 99) / 100 } else { product / 100 }
            }
        };
        match (read("maxSurge", true), read("maxUnavailable", false)) {
            (0, 0) => (0, 1),
            bounds => bounds,
        }
    }

    fn reload(&mut self, world: &World) {
        let fresh = |set: &Object| {
            let key = Key::new("replicasets", &self.key.namespace, set["metadata"]["name"].as_str()?);
            world.store.get(&key).cloned()
        };
        self.new = self.new.as_ref().and_then(fresh);
        self.old = self.old.iter().filter_map(fresh).collect();
        if let Some(deployment) = world.store.get(&self.key) {
            self.deployment = deployment.clone();
        }
    }

    /// Ensures that the ReplicaSet of the current template exists and has the highest revision.
    fn ensure_new(&mut self, world: &mut World) {
        let highest = self.old.iter().map(|set| revision(set)).max().unwrap_or_default();
        let next = (highest + 1).to_string();
        let set = match self.new.take() {
            Some(set) if revision(&set) > highest => {
                let key = self.set_key(&set);
                world.update(&key, |set| self.copy_annotations(set)).unwrap_or(set)
            }
            Some(set) => {
                let key = self.set_key(&set);
                let renumber = |set: &mut Value| {
                    let annotations = &mut set["metadata"]["annotations"];
                    let before = annotations[REVISION].as_str().unwrap_or_default().to_owned();
                    let history = match annotations[HISTORY].as_str() {
                        Some(history) => format!("{history},{before}"),
                        None => before,
                    };
                    annotations[HISTORY] = json!(history);
                    annotations[REVISION] = json!(next);
                };
                world.update(&key, renumber).unwrap_or(set)
            }
            None => self.create_set(world, &next),
        };
        let revision = set["metadata"]["annotations"][REVISION].clone();
        world.update(&self.key, |d| d["metadata"]["annotations"][REVISION] = revision);
        let annotations = self.copied_annotations();
        let copied = world.update(&self.set_key(&set), |set| {
            for (name, value) in annotations {
                set["metadata"]["annotations"][name] = value;
            }
        });
        self.new = Some(copied.unwrap_or(set));
    }

    /// The annotations that the current ReplicaSet has too, such as the change cause in `kubectl rollout history`.
    fn copied_annotations(&self) -> Vec<(String, Value)> {
        let own = |name: &str| {
            name.starts_with("deployment.kubernetes.io/")
                || name == "kubectl.kubernetes.io/last-applied-configuration"
        };
        let annotations = self.deployment["metadata"]["annotations"].as_object().into_iter().flatten();
        let annotations = annotations.filter(|(name, _)| !own(name));
        annotations.map(|(name, value)| (name.clone(), value.clone())).collect()
    }

    /// The annotations of the Deployment are also those of its new ReplicaSet, except the controller's own.
    fn copy_annotations(&self, set: &mut Value) {
        let own = |name: &String| {
            name.starts_with("deployment.kubernetes.io/")
                || name == "kubectl.kubernetes.io/last-applied-configuration"
        };
        let annotations = self.deployment["metadata"]["annotations"].as_object().into_iter().flatten();
        for (name, value) in annotations.filter(|(name, _)| !own(name)) {
            set["metadata"]["annotations"][name] = value.clone();
        }
    }

    fn create_set(&self, world: &mut World, revision: &str) -> Object {
        let hash = template_hash(&self.deployment["spec"]["template"]);
        let name = format!("{}-{hash}", self.key.name);
        let mut template = self.deployment["spec"]["template"].clone();
        template["metadata"]["labels"]["pod-template-hash"] = json!(hash);
        let mut selector = self.deployment["spec"]["selector"].clone();
        selector["matchLabels"]["pod-template-hash"] = json!(hash);
        let (surge, _) = self.bounds();
        let mut set = json!({
            "apiVersion": "apps/v1",
            "kind": "ReplicaSet",
            "metadata": {
                "name": name,
                "namespace": self.key.namespace,
                "labels": template["metadata"]["labels"],
                "annotations": {
                    REVISION: revision,
                    "deployment.kubernetes.io/desired-replicas": self.desired().to_string(),
                    "deployment.kubernetes.io/max-replicas": (self.desired() + surge).to_string(),
                },
                "ownerReferences": owner(&self.deployment),
                "generation": 1,
            },
            "spec": {
                "replicas": 0,
                "minReadySeconds": self.deployment["spec"]["minReadySeconds"],
                "selector": selector,
                "template": template,
            },
            "status": { "replicas": 0 },
        });
        self.copy_annotations(&mut set);
        let set = world.put(Key::new("replicasets", &self.key.namespace, &name), set);
        let (now, message) = (world.now, format!("Created new replica set {name:?}"));
        world.update(&self.key, |d| {
            progressing(&mut d["status"], "True", "NewReplicaSetCreated", &message, now);
        });
        set
    }

    fn set_key(&self, set: &Value) -> Key {
        let name = set["metadata"]["name"].as_str().unwrap_or_default();
        Key::new("replicasets", &self.key.namespace, name)
    }

    fn scale(&self, world: &mut World, set: &Object, to: i64) {
        let from = replicas(set);
        if from == to {
            return;
        }
        world.update(&self.set_key(set), |set| {
            set["spec"]["replicas"] = json!(to);
            set["metadata"]["generation"] = json!(number(&set["metadata"]["generation"]) + 1);
        });
        let direction = if to > from { "up" } else { "down" };
        let name = set["metadata"]["name"].as_str().unwrap_or_default();
        let message = format!("Scaled {direction} replica set {name} from {from} to {to}");
        world.event(&self.deployment, "deployment-controller", "Normal", "ScalingReplicaSet", &message);
    }

    /// One step of a rolling update: scales the new ReplicaSet up within `maxSurge`, otherwise the old ones down within
    /// `maxUnavailable`.
    fn roll(&self, world: &mut World) {
        let Some(new) = &self.new else { return };
        let (desired, (surge, unavailable)) = (self.desired(), self.bounds());
        let total: i64 = self.old.iter().map(|set| replicas(set)).sum::<i64>() + replicas(new);
        if replicas(new) > desired {
            return self.scale(world, new, desired);
        }
        if replicas(new) < desired && total < desired + surge {
            return self.scale(world, new, desired.min(replicas(new) + desired + surge - total));
        }
        let minimum = desired - unavailable;
        let starting = replicas(new) - available(new);
        let mut spare = total - minimum - starting;
        if spare <= 0 {
            return;
        }
        let mut left: Vec<(Object, i64)> = self.old.iter().map(|set| (set.clone(), replicas(set))).collect();
        // Unavailable pods are removed first, starting with the oldest revision.
        for (set, keep) in &mut left {
            let broken = (*keep - available(set)).clamp(0, spare);
            *keep -= broken;
            spare -= broken;
        }
        let working: i64 =
            left.iter().map(|(set, keep)| available(set).min(*keep)).sum::<i64>() + available(new);
        let mut surplus = (working - minimum).max(0);
        for (_, keep) in &mut left {
            let down = (*keep).min(surplus);
            *keep -= down;
            surplus -= down;
        }
        for (set, keep) in left {
            self.scale(world, &set, keep);
        }
    }

    /// The Recreate strategy: all old pods terminate before the first new one starts.
    fn recreate(&self, world: &mut World) {
        let Some(new) = &self.new else { return };
        for set in &self.old {
            self.scale(world, set, 0);
        }
        let uids: Vec<&Value> = self.old.iter().map(|set| &set["metadata"]["uid"]).collect();
        let left = uids.iter().any(|uid| !world.controlled_by("pods", &self.key.namespace, uid).is_empty());
        if !left {
            self.scale(world, new, self.desired());
        }
    }

    /// Deletes idle ReplicaSets beyond `revisionHistoryLimit`.
    fn prune_history(&self, world: &mut World) {
        let limit = self.deployment["spec"]["revisionHistoryLimit"].as_u64().unwrap_or(10) as usize;
        let idle = |set: &&Object| replicas(set) == 0 && number(&set["status"]["replicas"]) == 0;
        let idle: Vec<&Object> = self.old.iter().filter(idle).collect();
        for set in &idle[..idle.len().saturating_sub(limit)] {
            world.remove(&self.set_key(set));
        }
    }

    fn write_status(&self, world: &mut World) {
        let now = world.now;
        let all = || self.old.iter().chain(&self.new);
        let sum = |field: &str| all().map(|set| number(&set["status"][field])).sum::<i64>();
        let (replicas, ready, available) = (sum("replicas"), sum("readyReplicas"), sum("availableReplicas"));
        let updated = self.new.as_ref().map_or(0, |set| number(&set["status"]["replicas"]));
        let desired = self.desired();
        let before = self.deployment["status"].clone();
        let mut status = before.clone();
        status["observedGeneration"] = self.deployment["metadata"]["generation"].clone();
        status["replicas"] = json!(replicas);
        status["updatedReplicas"] = json!(updated);
        status["readyReplicas"] = json!(ready);
        status["availableReplicas"] = json!(available);
        status["unavailableReplicas"] = json!((desired.max(replicas) - available).max(0));
        let (_, unavailable) = self.bounds();
        if available >= desired - unavailable {
            condition(
                &mut status,
                "Available",
                "True",
                "MinimumReplicasAvailable",
                "Deployment has minimum availability.",
                now,
            )
        } else {
            condition(
                &mut status,
                "Available",
                "False",
                "MinimumReplicasUnavailable",
                "Deployment does not have minimum availability.",
                now,
            )
        }
        let failure =
            self.new.iter().map(|set| condition_of(&set["status"], "ReplicaFailure")).find(|c| !c.is_null());
        match failure {
            Some(failure) => {
                let text = |field: &str| failure[field].as_str().unwrap_or_default();
                condition(&mut status, "ReplicaFailure", "True", text("reason"), text("message"), now);
            }
            None => {
                if let Some(conditions) = status["conditions"].as_array_mut() {
                    conditions.retain(|c| c["type"] != "ReplicaFailure");
                }
            }
        }
        self.write_progress(world, &before, &mut status);
        world.update(&self.key, |deployment| deployment["status"] = status);
    }

    fn write_progress(&self, world: &mut World, before: &Value, status: &mut Value) {
        let now = world.now;
        let current = condition_of(status, "Progressing").clone();
        if self.deployment["spec"]["paused"] == true {
            if current["reason"] != "DeploymentPaused" {
                progressing(status, "Unknown", "DeploymentPaused", "Deployment is paused", now);
            }
            return;
        }
        if current["reason"] == "DeploymentPaused" {
            return progressing(status, "Unknown", "DeploymentResumed", "Deployment is resumed", now);
        }
        let count = |status: &Value, field: &str| number(&status[field]);
        let (replicas, updated) = (count(status, "replicas"), count(status, "updatedReplicas"));
        let complete = current["reason"] == "NewReplicaSetAvailable";
        if complete && replicas == updated {
            return;
        }
        let name = self.new.as_ref().and_then(|set| set["metadata"]["name"].as_str()).unwrap_or_default();
        let desired = self.desired();
        if updated == desired && replicas == desired && count(status, "availableReplicas") == desired {
            let message = format!("ReplicaSet {name:?} has successfully progressed.");
            return progressing(status, "True", "NewReplicaSetAvailable", &message, now);
        }
        let old = |status: &Value| count(status, "replicas") - count(status, "updatedReplicas");
        let progressed = updated > count(before, "updatedReplicas")
            || old(status) < old(before)
            || count(status, "readyReplicas") > count(before, "readyReplicas")
            || count(status, "availableReplicas") > count(before, "availableReplicas");
        if progressed || current.is_null() {
            let message = format!("ReplicaSet {name:?} is progressing.");
            progressing(status, "True", "ReplicaSetUpdated", &message, now);
        }
        let current = condition_of(status, "Progressing");
        if matches!(current["reason"].as_str(), Some("NewReplicaSetAvailable" | "ProgressDeadlineExceeded")) {
            return;
        }
        let allowed = self.deployment["spec"]["progressDeadlineSeconds"].as_u64().unwrap_or(600);
        let since =
            current["lastUpdateTime"].as_str().and_then(|t| t.parse::<Timestamp>().ok()).unwrap_or(now);
        let deadline = since + Duration::from_secs(allowed);
        if deadline <= now {
            let message = format!("ReplicaSet {name:?} has timed out progressing.");
            progressing(status, "False", "ProgressDeadlineExceeded", &message, now);
        } else {
            world.wake_at(deadline)
        }
    }
}

/// Scales a paused Deployment; its ReplicaSets keep their templates.
fn scale_paused(world: &mut World, rollout: &Rollout) {
    let active: Vec<&Object> =
        rollout.old.iter().chain(&rollout.new).filter(|set| replicas(set) > 0).collect();
    if let [only] = active.as_slice() {
        rollout.scale(world, only, rollout.desired());
    }
}

/// Sets the Progressing condition with its `lastUpdateTime`, from which the progress deadline is measured.
fn progressing(status: &mut Value, value: &str, reason: &str, message: &str, now: Timestamp) {
    condition(status, "Progressing", value, reason, message, now);
    let conditions = status["conditions"].as_array_mut().expect("a condition was set above");
    if let Some(condition) = conditions.iter_mut().find(|c| c["type"] == "Progressing") {
        condition["lastUpdateTime"] = json!(seconds(now));
    }
}
