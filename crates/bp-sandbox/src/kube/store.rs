//! Object store: objects, resource versions, and the change history for watches.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use jiff::Timestamp;
use serde_json::{Value, json};

use super::resource::Resource;

pub(super) type Object = Arc<Value>;

/// The key of an object in the store.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    pub(super) plural: &'static str,
    pub(super) namespace: String,
    pub(super) name: String,
}

impl Key {
    pub(super) fn new(plural: &'static str, namespace: &str, name: &str) -> Self {
        Key { plural, namespace: namespace.to_owned(), name: name.to_owned() }
    }

    /// The key of an object of `resource`.
    pub(super) fn of(resource: &Resource, object: &Value) -> Self {
        let metadata = &object["metadata"];
        let text = |field: &str| metadata[field].as_str().unwrap_or_default();
        Key::new(resource.stored, if resource.namespaced { text("namespace") } else { "" }, text("name"))
    }
}

/// One change of one object.
#[derive(Debug, Clone)]
pub(super) struct Change {
    pub(super) at: Timestamp,
    pub(super) version: u64,
    pub(super) key: Key,
    pub(super) before: Option<Object>,
    pub(super) after: Option<Object>,
}

/// All objects of a cluster.
#[derive(Debug, Default)]
pub(super) struct Store {
    objects: BTreeMap<Key, Object>,
    version: u64,
    changes: VecDeque<Change>,
    /// Changes up to this version have been discarded.
    compacted: u64,
}

impl Store {
    /// The number of changes kept for watches.
    const HISTORY: usize = 10_000;

    pub(super) fn version(&self) -> u64 {
        self.version
    }

    /// The number of objects.
    pub(super) fn len(&self) -> usize {
        self.objects.len()
    }

    pub(super) fn compacted(&self) -> u64 {
        self.compacted
    }

    pub(super) fn get(&self, key: &Key) -> Option<&Object> {
        self.objects.get(key)
    }

    /// The objects of one kind in a namespace, or in all namespaces if it is empty.
    pub(super) fn list(&self, plural: &'static str, namespace: &str) -> impl Iterator<Item = &Object> {
        let start = Key::new(plural, namespace, "");
        let namespace = namespace.to_owned();
        self.objects
            .range(start..)
            .take_while(move |(k, _)| k.plural == plural)
            .take_while(move |(k, _)| namespace.is_empty() || k.namespace == namespace)
            .map(|(_, object)| object)
    }

    /// The keys and objects of all kinds.
    pub(super) fn all(&self) -> impl Iterator<Item = (&Key, &Object)> {
        self.objects.iter()
    }

    /// Stores an object. A new object gets a uid and a creation time; an unchanged object is not written.
    pub(super) fn put(&mut self, key: Key, mut object: Value, now: Timestamp) -> Object {
        let before = self.objects.get(&key).cloned();
        let metadata = &mut object["metadata"];
        match &before {
            None => {
                if metadata["uid"].is_null() {
                    metadata["uid"] = json!(uuid());
                }
                metadata["creationTimestamp"] = json!(seconds(now));
            }
            Some(before) => {
                for field in ["uid", "creationTimestamp", "resourceVersion"] {
                    metadata[field] = before["metadata"][field].clone();
                }
                if **before == object {
                    return Arc::clone(before);
                }
            }
        }
        self.version += 1;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        let after = Arc::new(object);
        self.objects.insert(key.clone(), Arc::clone(&after));
        let change = Change { at: now, version: self.version, key, before, after: Some(Arc::clone(&after)) };
        self.record(change);
        after
    }

    pub(super) fn remove(&mut self, key: &Key, now: Timestamp) -> Option<Object> {
        let before = self.objects.remove(key)?;
        self.version += 1;
        // A watch shows the deleted object with the resource version of its deletion.
        let mut last = Value::clone(&before);
        last["metadata"]["resourceVersion"] = json!(self.version.to_string());
        let last = Arc::new(last);
        let (version, key) = (self.version, key.clone());
        self.record(Change { at: now, version, key, before: Some(last), after: None });
        Some(before)
    }

    fn record(&mut self, change: Change) {
        self.changes.push_back(change);
        if self.changes.len() > Self::HISTORY
            && let Some(oldest) = self.changes.pop_front()
        {
            self.compacted = self.compacted.max(oldest.version);
        }
    }

    /// The changes of one kind since `version`.
    pub(super) fn since(&self, version: u64, plural: &'static str) -> impl Iterator<Item = &Change> {
        let start = self.changes.partition_point(|change| change.version <= version);
        self.changes.range(start..).filter(move |change| change.key.plural == plural)
    }

    /// The kept changes of the objects of one kind in a namespace, also those from before a compaction.
    pub(super) fn history(&self, plural: &'static str, namespace: &str) -> impl Iterator<Item = &Change> {
        let of_kind = move |change: &&Change| change.key.plural == plural;
        self.changes.iter().filter(of_kind).filter(move |change| change.key.namespace == namespace)
    }

    /// Compacts the change history: a watch from an older version gets 410 Gone.
    pub(super) fn compact(&mut self) {
        self.compacted = self.version;
    }
}

/// A timestamp in Kubernetes format.
pub(super) fn seconds(time: Timestamp) -> String {
    format!("{time:.0}")
}

pub(super) fn uuid() -> String {
    let (a, b) = (fastrand::u64(..), fastrand::u64(..));
    let (high, low) = (a >> 32, b & 0xffff_ffff_ffff);
    format!("{high:08x}-{:04x}-{:04x}-{:04x}-{low:012x}", a >> 16 & 0xffff, a & 0xfff | 0x4000, b >> 48)
}
