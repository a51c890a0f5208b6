//! The objects that a request is about.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{
    call::Call,
    resource::Resource,
    status::{Answer, Failure},
    store::Object,
    world::World,
};

pub(super) fn find(world: &World, call: &Call<'_>) -> Answer<Object> {
    world.store.get(&call.key()).cloned().ok_or_else(|| Failure::not_found(call.resource(), call.name()))
}

pub(super) fn selected(world: &World, call: &Call<'_>) -> Vec<Object> {
    let selector = call.selector();
    let objects = world.store.list(call.resource().stored, call.namespace());
    let named = call.target.name.as_deref();
    let objects = objects.filter(|object| named.is_none_or(|name| object["metadata"]["name"] == name));
    objects.filter(|object| selector.matches(object)).cloned().collect()
}

/// An object in the version of the request: custom resources are stored in one of their versions.
pub(super) fn versioned(resource: &Resource, object: &Object) -> Object {
    if !resource.is_custom() || object["apiVersion"] == resource.api_version() {
        return Arc::clone(object);
    }
    let mut object = Value::clone(object);
    object["apiVersion"] = json!(resource.api_version());
    Arc::new(object)
}
