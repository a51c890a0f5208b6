//! Garbage collection: objects without their owners, objects whose dependents are deleted first, namespaces.

use std::collections::{BTreeSet, HashSet};

use serde_json::Value;

use super::{
    deletion::FOREGROUND,
    store::Key,
    world::{World, has_finalizers},
};

pub(super) fn reconcile(world: &mut World) {
    for key in without_owner(world) {
        world.delete(&key);
    }
    delete_in_foreground(world);
    empty_namespaces(world);
}

/// The objects that have owners, none of which exists. Owners of kinds that the API does not serve count as existing.
fn without_owner(world: &World) -> Vec<Key> {
    let owned = |(key, object): &(&Key, &std::sync::Arc<Value>)| {
        key.plural != "events"
            && object["metadata"]["ownerReferences"].as_array().is_some_and(|o| !o.is_empty())
    };
    let owned: Vec<_> = world.store.all().filter(owned).collect();
    if owned.is_empty() {
        return Vec::new();
    }
    let uids: HashSet<&str> =
        world.store.all().filter_map(|(_, object)| object["metadata"]["uid"].as_str()).collect();
    let kinds: HashSet<(String, &str)> =
        world.resources.all().iter().map(|resource| (resource.api_version(), resource.kind)).collect();
    let gone = |owner: &Value| {
        let text = |field: &str| owner[field].as_str().unwrap_or_default();
        kinds.contains(&(text("apiVersion").to_owned(), text("kind"))) && !uids.contains(text("uid"))
    };
    let orphaned = owned.into_iter().filter(|(_, object)| {
        object["metadata"]["ownerReferences"].as_array().is_some_and(|owners| owners.iter().all(gone))
    });
    orphaned.map(|(key, _)| key.clone()).collect()
}

/// Deletes the dependents of objects that are deleted in the foreground, then these.
fn delete_in_foreground(world: &mut World) {
    let waits = |object: &Value| {
        let finalizers = object["metadata"]["finalizers"].as_array();
        !object["metadata"]["deletionTimestamp"].is_null()
            && finalizers.is_some_and(|list| list.iter().any(|finalizer| finalizer == FOREGROUND))
    };
    let waiting: Vec<(Key, Value)> = world
        .store
        .all()
        .filter(|(_, object)| waits(object))
        .map(|(key, object)| (key.clone(), object["metadata"]["uid"].clone()))
        .collect();
    for (key, uid) in waiting {
        let reference = |object: &Value| {
            let owners = object["metadata"]["ownerReferences"].as_array().into_iter().flatten();
            owners.into_iter().find(|owner| owner["uid"] == uid).cloned()
        };
        let dependents: Vec<(Key, Value)> =
            world.store.all().filter_map(|(key, object)| Some((key.clone(), reference(object)?))).collect();
        let blocked = dependents.iter().any(|(_, owner)| owner["blockOwnerDeletion"] == true);
        for (dependent, _) in dependents {
            world.delete(&dependent);
        }
        if blocked {
            continue;
        }
        let left = world.update(&key, |object| {
            if let Some(finalizers) = object["metadata"]["finalizers"].as_array_mut() {
                finalizers.retain(|finalizer| finalizer != FOREGROUND);
            }
        });
        if left.is_some_and(|object| !has_finalizers(&object)) && !world.pods.contains_key(&key) {
            world.remove(&key);
        }
    }
}

/// Deletes what is in namespaces that are being deleted, then these.
fn empty_namespaces(world: &mut World) {
    let spaces = world.store.list("namespaces", "");
    let name = |space: &Value| space["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    let deleted: BTreeSet<String> =
        spaces.map(|space| name(space)).filter(|name| world.is_terminating(name)).collect();
    for namespace in deleted {
        let content: Vec<Key> = world
            .store
            .all()
            .filter(|(key, _)| key.namespace == namespace)
            .map(|(key, _)| key.clone())
            .collect();
        for key in &content {
            world.delete(key);
        }
        if content.is_empty() {
            world.remove(&Key::new("namespaces", "", &namespace));
        }
    }
}
