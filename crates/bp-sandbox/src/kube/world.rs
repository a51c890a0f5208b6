//! State of a cluster, and its simulation over time.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    load_balancers::state::LoadBalancers,
    resource::Resources,
    run::PodRun,
    status::Failure,
    store::{Key, Object, Store, seconds},
};
use crate::runtime::Runtime;

/// The delay until controllers react to a change; long enough for clients to see intermediate states.
const NOTICE: Duration = Duration::from_millis(50);

/// The objects, the running pods, and the times of the next transitions.
pub(super) struct World {
    pub(super) store: Store,
    pub(super) resources: Resources,
    pub(super) runtime: Arc<Runtime>,
    /// The running pods.
    pub(super) pods: BTreeMap<Key, PodRun>,
    /// The architecture of every node.
    pub(super) architecture: String,
    /// Registries that reject pulls from the nodes.
    pub(super) denied_pulls: BTreeSet<String>,
    /// The failure with which the API server rejects every pod that a controller creates, if set.
    pub(super) refused_pods: Option<Failure>,
    /// The controllers whose pods were rejected, by uid.
    pub(super) refusals: BTreeMap<String, PodBackOff>,
    pub(super) load_balancers: LoadBalancers,
    /// The names of the events by what they say: the object's uid, the reason and the message.
    events: HashMap<[String; 3], String>,
    pub(super) now: Timestamp,
    /// The time of the next run of the controllers.
    pub(super) controllers: Option<Timestamp>,
}

/// The back-off of a controller whose last pod was rejected.
#[derive(Debug)]
pub(super) struct PodBackOff {
    pub(super) failures: u32,
    /// The time of the next attempt, unless the controller's `spec` changes before.
    pub(super) until: Timestamp,
    pub(super) generation: i64,
}

impl World {
    pub(super) fn new(runtime: Arc<Runtime>, architecture: String, now: Timestamp) -> Self {
        World {
            store: Store::default(),
            resources: Resources::default(),
            runtime,
            pods: BTreeMap::new(),
            architecture,
            denied_pulls: BTreeSet::new(),
            refused_pods: None,
            refusals: BTreeMap::new(),
            load_balancers: LoadBalancers::default(),
            events: HashMap::new(),
            now,
            controllers: None,
        }
    }

    /// The time of the next transition, if any.
    pub(super) fn next_due(&self) -> Option<Timestamp> {
        self.pods.values().filter_map(PodRun::due).chain(self.controllers).min()
    }

    /// Runs the controllers at `at`, unless they run earlier.
    pub(super) fn wake_at(&mut self, at: Timestamp) {
        self.controllers = Some(self.controllers.map_or(at, |before| before.min(at)));
    }

    /// Stores an object, and schedules the controllers if it changed.
    pub(super) fn put(&mut self, key: Key, object: Value) -> Object {
        let version = self.store.version();
        let event = key.plural == "events";
        let stored = self.store.put(key, object, self.now);
        if self.store.version() != version && !event {
            self.wake_at(self.now + NOTICE);
        }
        stored
    }

    pub(super) fn remove(&mut self, key: &Key) -> Option<Object> {
        let removed = self.store.remove(key, self.now);
        if removed.is_some() {
            self.pods.remove(key);
            self.wake_at(self.now + NOTICE);
        }
        removed
    }

    /// Deletes an object; a pod is removed after its grace period, a namespace when it is empty, and an object with
    /// finalizers when it has none.
    pub(super) fn delete(&mut self, key: &Key) -> Option<Object> {
        let now = self.now;
        let grace = match self.pods.get_mut(key) {
            Some(run) => {
                run.end(now);
                Some(30)
            }
            None if key.plural == "namespaces" => None,
            None if !has_finalizers(self.store.get(key)?) => return self.remove(key),
            None => Some(0),
        };
        self.update(key, |object| {
            if !object["metadata"]["deletionTimestamp"].is_null() {
                return;
            }
            object["metadata"]["deletionTimestamp"] = json!(seconds(now));
            match grace {
                Some(grace) => object["metadata"]["deletionGracePeriodSeconds"] = json!(grace),
                None => object["status"]["phase"] = json!("Terminating"),
            }
        })
    }

    /// Whether the namespace exists and is being deleted.
    pub(super) fn is_terminating(&self, namespace: &str) -> bool {
        let namespace = self.store.get(&Key::new("namespaces", "", namespace));
        namespace.is_some_and(|namespace| !namespace["metadata"]["deletionTimestamp"].is_null())
    }

    /// Modifies an object, if it exists.
    pub(super) fn update(&mut self, key: &Key, change: impl FnOnce(&mut Value)) -> Option<Object> {
        let mut object = Value::clone(self.store.get(key)?);
        change(&mut object);
        Some(self.put(key.clone(), object))
    }

    /// The objects of `plural` in `namespace` that the object with this uid controls.
    pub(super) fn controlled_by(&self, plural: &'static str, namespace: &str, uid: &Value) -> Vec<Object> {
        let owned = |object: &&Object| {
            let owners = object["metadata"]["ownerReferences"].as_array().into_iter().flatten();
            owners.into_iter().any(|owner| owner["uid"] == *uid)
        };
        self.store.list(plural, namespace).filter(owned).cloned().collect()
    }

    /// Writes an event about `object`, or increments the count of an equal one.
    pub(super) fn event(&mut self, object: &Value, source: &str, kind: &str, reason: &str, message: &str) {
        let metadata = &object["metadata"];
        let namespace = metadata["namespace"].as_str().unwrap_or("default").to_owned();
        if self.is_terminating(&namespace) {
            return;
        }
        let now = seconds(self.now);
        let uid = metadata["uid"].as_str().unwrap_or_default().to_owned();
        let says = [uid, reason.to_owned(), message.to_owned()];
        let known = self.events.get(&says).map(|name| Key::new("events", &namespace, name));
        let repeated = known.and_then(|key| {
            self.update(&key, |event| {
                event["count"] = json!(event["count"].as_u64().unwrap_or(1) + 1);
                event["lastTimestamp"] = json!(now);
            })
        });
        if repeated.is_some() {
            return;
        }
        let name = format!("{}.{:016x}", metadata["name"].as_str().unwrap_or_default(), fastrand::u64(..));
        self.events.insert(says, name.clone());
        let event = json!({
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": { "name": name, "namespace": namespace },
            "involvedObject": {
                "apiVersion": object["apiVersion"],
                "kind": object["kind"],
                "name": metadata["name"],
                "namespace": namespace,
                "uid": metadata["uid"],
                "resourceVersion": metadata["resourceVersion"],
            },
            "type": kind,
            "reason": reason,
            "message": message,
            "source": { "component": source },
            "reportingComponent": source,
            "reportingInstance": "",
            "count": 1,
            "firstTimestamp": now,
            "lastTimestamp": now,
        });
        self.put(Key::new("events", &namespace, &name), event);
    }
}

/// The `ownerReferences` of objects that `object` controls.
pub(super) fn owner(object: &Value) -> Value {
    json!([{
        "apiVersion": object["apiVersion"],
        "kind": object["kind"],
        "name": object["metadata"]["name"],
        "uid": object["metadata"]["uid"],
        "controller": true,
        "blockOwnerDeletion": true,
    }])
}

/// Whether something must happen before the object is removed.
pub(super) fn has_finalizers(object: &Value) -> bool {
    object["metadata"]["finalizers"].as_array().is_some_and(|finalizers| !finalizers.is_empty())
}

/// Sets a condition; its transition time changes only with its status.
pub(super) fn condition(
    status: &mut Value,
    kind: &str,
    value: &str,
    reason: &str,
    message: &str,
    now: Timestamp,
) {
    if !status["conditions"].is_array() {
        status["conditions"] = json!([]);
    }
    let conditions = status["conditions"].as_array_mut().expect("made a list above");
    let now = seconds(now);
    let mut new = json!({ "type": kind, "status": value, "lastTransitionTime": now });
    if !reason.is_empty() {
        new["reason"] = json!(reason);
    }
    if !message.is_empty() {
        new["message"] = json!(message);
    }
    match conditions.iter_mut().find(|c| c["type"] == kind) {
        None => conditions.push(new),
        Some(old) => {
            if old["status"] == value {
                new["lastTransitionTime"] = old["lastTransitionTime"].clone();
            }
            *old = new;
        }
    }
}

/// The condition of this type, or null.
pub(super) fn condition_of<'v>(status: &'v Value, kind: &str) -> &'v Value {
    let conditions = status["conditions"].as_array().into_iter().flatten();
    conditions.into_iter().find(|c| c["type"] == kind).unwrap_or(&Value::Null)
}

pub(super) fn number(value: &Value) -> i64 {
    value.as_i64().unwrap_or_default()
}

pub(super) fn is_ready(pod: &Value) -> bool {
    condition_of(&pod["status"], "Ready")["status"] == "True"
}

/// A random suffix of five characters from the alphabet of generated names.
pub(super) fn suffix() -> String {
    (0..5).map(|_| char::from(ALPHABET[fastrand::usize(..ALPHABET.len())])).collect()
}

/// The hash of a pod template, in the alphabet of generated names.
pub(super) fn template_hash(template: &Value) -> String {
    // FNV-1a. Real clusters use another algorithm; clients must not depend on it.
    let fold = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    let mut hash = template.to_string().bytes().fold(0xcbf2_9ce4_8422_2325, fold);
    let mut text = String::new();
    for _ in 0..10 {
        text.push(char::from(ALPHABET[(hash % ALPHABET.len() as u64) as usize]));
        hash /= ALPHABET.len() as u64;
    }
    text
}

/// No vowels, and no characters that look alike.
const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
