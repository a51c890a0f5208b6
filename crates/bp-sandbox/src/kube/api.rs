//! Verbs of the Kubernetes API: get, list, create, update, patch, delete, and the subresources that clients use.

use std::{sync::Arc, time::Duration};

use http::Response;
use serde_json::{Value, json};

use super::{
    Cluster,
    apply::{Writer, apply, track},
    call::Call,
    defaults::complete,
    log, patch,
    resource::{self, Resource},
    status::{Answer, Failure, json_response},
    store::{Key, Object, uuid},
    table,
    validate::validate,
    watch,
    world::{World, number, suffix},
};
use crate::body::Body;

/// Handles an authorised request.
pub(super) fn answer(
    cluster: &Arc<Cluster>,
    call: &Call<'_>,
    content_type: &str,
    body: &[u8],
) -> Answer<Response<Body>> {
    if call.resource().plural == "selfsubjectaccessreviews" {
        return Ok(json_response(201, &cluster.review(read_body(body)?)));
    }
    if call.verb == "watch" {
        return watch_from(cluster, call);
    }
    if (call.verb, call.subresource()) == ("get", "log") {
        return log::answer(cluster, call);
    }
    let mut world = cluster.enter();
    let before = world.store.version();
    let answer = match (call.verb, call.subresource()) {
        ("get", "") => find(&world, call).map(|object| {
            if call.table {
                table::answer(call.resource(), &[object], &world)
            } else {
                json_response(200, &object)
            }
        }),
        ("get", "scale") => find(&world, call).map(|object| json_response(200, &scale_of(&object))),
        ("list", _) if call.table => Ok(table::answer(call.resource(), &selected(&world, call), &world)),
        ("list", _) => Ok(json_response(200, &list(&world, call))),
        ("create", _) => {
            cluster.admit(call.resource())?;
            create(&mut world, call, read_body(body)?).map(|object| json_response(201, &object))
        }
        ("update", _) => {
            cluster.admit(call.resource())?;
            update(&mut world, call, &read_body(body)?).map(|object| json_response(200, &object))
        }
        ("patch", _) => {
            cluster.admit(call.resource())?;
            change(&mut world, call, content_type, body)
                .map(|(status, object)| json_response(status, &object))
        }
        ("delete", _) => delete(&mut world, call).map(|object| json_response(200, &object)),
        _ => Err(Failure::method()),
    };
    let after = world.store.version();
    drop(world);
    if after != before {
        cluster.changed.send_replace(after);
    }
    answer
}

fn read_body(body: &[u8]) -> Answer<Value> {
    serde_json::from_slice(body).map_err(|e| Failure::bad_request(format!("the body is not valid JSON: {e}")))
}

fn find(world: &World, call: &Call<'_>) -> Answer<Object> {
    world.store.get(&call.key()).cloned().ok_or_else(|| Failure::not_found(call.resource(), call.name()))
}

fn selected(world: &World, call: &Call<'_>) -> Vec<Object> {
    let selector = call.selector();
    let objects = world.store.list(call.resource().plural, call.namespace());
    objects.filter(|object| selector.matches(object)).cloned().collect()
}

fn list(world: &World, call: &Call<'_>) -> Value {
    let mut selected = selected(world, call);
    let mut metadata = json!({ "resourceVersion": world.store.version().to_string() });
    let limit = call.text("limit").parse().unwrap_or(0);
    if let Some(last) = call.text("continue").split_once('/') {
        // In the order of the store. Unlike in etcd, a later page shows the current state.
        selected.retain(|object| namespace_and_name(object) > last);
    }
    if limit > 0 && selected.len() > limit {
        metadata["remainingItemCount"] = json!(selected.len() - limit);
        let (namespace, name) = namespace_and_name(&selected[limit - 1]);
        metadata["continue"] = json!(format!("{namespace}/{name}"));
        selected.truncate(limit);
    }
    let items: Vec<&Value> = selected.iter().map(|object| &**object).collect();
    json!({
        "kind": format!("{}List", call.resource().kind),
        "apiVersion": call.resource().api_version(),
        "metadata": metadata,
        "items": items,
    })
}

fn namespace_and_name(object: &Value) -> (&str, &str) {
    let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default();
    (text("namespace"), text("name"))
}

fn watch_from(cluster: &Arc<Cluster>, call: &Call<'_>) -> Answer<Response<Body>> {
    let version = match call.text("resourceVersion") {
        "" | "0" => None,
        text => Some(text.parse().map_err(|_| Failure::bad_request("invalid resource version"))?),
    };
    let request = watch::Request {
        resource: call.resource(),
        namespace: call.namespace().to_owned(),
        selector: call.selector(),
        version,
        bookmarks: call.flag("allowWatchBookmarks"),
        initial_events: call.flag("sendInitialEvents"),
        timeout: Duration::from_secs(call.text("timeoutSeconds").parse().unwrap_or(1800)),
    };
    Ok(watch::open(Arc::clone(cluster), request))
}

pub(super) fn create(world: &mut World, call: &Call<'_>, mut object: Value) -> Answer<Object> {
    let resource = call.resource();
    let metadata = &mut object["metadata"];
    if metadata["name"].is_null()
        && let Some(prefix) = metadata["generateName"].as_str()
    {
        metadata["name"] = json!(format!("{prefix}{}", suffix()));
    }
    if resource.namespaced {
        metadata["namespace"] = json!(call.namespace());
    }
    let key = Key::of(resource, &object);
    check_namespace(world, resource, call.namespace())?;
    if world.store.get(&key).is_some() {
        return Err(Failure::exists(resource, &key.name));
    }
    object["metadata"]["uid"] = json!(uuid());
    complete(resource, &mut object);
    validate(world, resource, &Value::Null, &object)?;
    let writer = Writer { manager: &call.manager, subresource: "", now: world.now };
    track(&Value::Null, &mut object, &writer);
    object["metadata"]["generation"] = json!(1);
    store(world, call, key, object)
}

/// Rejects an object in a namespace that does not exist.
fn check_namespace(world: &World, resource: &Resource, namespace: &str) -> Answer<()> {
    if resource.namespaced && world.store.get(&Key::new("namespaces", "", namespace)).is_none() {
        return Err(Failure::no_namespace(namespace));
    }
    Ok(())
}

fn store(world: &mut World, call: &Call<'_>, key: Key, object: Value) -> Answer<Object> {
    Ok(if call.dry_run() { Arc::new(object) } else { world.put(key, object) })
}

fn update(world: &mut World, call: &Call<'_>, body: &Value) -> Answer<Object> {
    let old = find(world, call)?;
    if call.subresource() == "scale" {
        let replicas = body["spec"]["replicas"].clone();
        let mut new = Value::clone(&old);
        new["spec"]["replicas"] = replicas;
        return replace(world, call, &old, new).map(|object| Arc::new(scale_of(&object)));
    }
    replace(world, call, &old, body.clone())
}

/// Replaces `old` by `new`, with the validation of every write.
fn replace(world: &mut World, call: &Call<'_>, old: &Object, mut new: Value) -> Answer<Object> {
    let (resource, key) = (call.resource(), call.key());
    let sent = &new["metadata"]["resourceVersion"];
    if !sent.is_null() && *sent != old["metadata"]["resourceVersion"] {
        return Err(Failure::stale(resource, &key.name));
    }
    check_uid(resource, &key.name, old, &new)?;
    let subresource = call.subresource();
    match subresource {
        "status" => {
            let status = new["status"].clone();
            new = Value::clone(old);
            new["status"] = status;
        }
        _ => new["status"] = old["status"].clone(),
    }
    if new["status"].is_null()
        && let Some(map) = new.as_object_mut()
    {
        map.remove("status");
    }
    settle_metadata(old, &mut new);
    complete(resource, &mut new);
    validate(world, resource, old, &new)?;
    let writer = Writer { manager: &call.manager, subresource, now: world.now };
    let mut written = new;
    let owned = old["metadata"]["managedFields"].clone();
    if strip(old) == strip(&written) {
        if owned.is_null() {
            drop(written["metadata"].as_object_mut().and_then(|map| map.remove("managedFields")))
        } else {
            written["metadata"]["managedFields"] = owned
        }
    } else {
        track(old, &mut written, &writer);
    }
    store(world, call, key, written)
}

/// An object without its bookkeeping fields, to decide whether a write changes anything.
fn strip(object: &Value) -> Value {
    let mut object = object.clone();
    if let Some(metadata) = object["metadata"].as_object_mut() {
        for field in ["managedFields", "resourceVersion", "generation"] {
            metadata.remove(field);
        }
    }
    object
}

/// Sets the fields that clients cannot change: identity, and the generation, which counts changes of `spec`.
fn settle_metadata(old: &Value, new: &mut Value) {
    for field in ["uid", "creationTimestamp", "namespace", "name"] {
        new["metadata"][field] = old["metadata"][field].clone();
    }
    if new["metadata"]["namespace"].is_null()
        && let Some(metadata) = new["metadata"].as_object_mut()
    {
        metadata.remove("namespace");
    }
    let generation = number(&old["metadata"]["generation"]);
    let changed = i64::from(old["spec"] != new["spec"]);
    new["metadata"]["generation"] = json!(generation + changed);
}

fn check_uid(resource: &Resource, name: &str, old: &Value, new: &Value) -> Answer<()> {
    let (sent, live) = (&new["metadata"]["uid"], &old["metadata"]["uid"]);
    if sent.is_null() || sent == live {
        return Ok(());
    }
    let text = |uid: &Value| uid.as_str().unwrap_or_default().to_owned();
    let why = format!(
        "Precondition failed: UID in precondition: {}, UID in object meta: {}",
        text(sent),
        text(live)
    );
    Err(Failure::conflict(resource, name, &why))
}

/// Applies a patch: JSON patch, merge patch, strategic merge patch or server-side apply.
fn change(world: &mut World, call: &Call<'_>, content_type: &str, body: &[u8]) -> Answer<(u16, Value)> {
    let document = read_body(body)?;
    if content_type.starts_with("application/apply-patch") {
        return server_side_apply(world, call, document);
    }
    let old = find(world, call)?;
    let scale = call.subresource() == "scale";
    let mut new = if scale { scale_of(&old) } else { Value::clone(&old) };
    match content_type.split(';').next().unwrap_or_default() {
        "application/merge-patch+json" => patch::merge(&mut new, &document),
        "application/strategic-merge-patch+json" => patch::strategic(&mut new, &document),
        "application/json-patch+json" => patch::json_patch(&mut new, &document)?,
        other => return Err(Failure::unsupported(other)),
    }
    let stored = if scale { update(world, call, &new)? } else { replace(world, call, &old, new)? };
    Ok((200, Value::clone(&stored)))
}

fn server_side_apply(world: &mut World, call: &Call<'_>, config: Value) -> Answer<(u16, Value)> {
    let (resource, key) = (call.resource(), call.key());
    if !call.query.contains_key("fieldManager") {
        return Err(Failure::bad_request(
            "PatchOptions.meta.k8s.io \"\" is invalid: fieldManager: Required value: is required for apply patch",
        ));
    }
    if config["kind"] != resource.kind || config["apiVersion"] != resource.api_version() {
        return Err(Failure::bad_request("the kind and apiVersion of the object do not match the request"));
    }
    let writer = Writer { manager: &call.manager, subresource: call.subresource(), now: world.now };
    let Some(old) = world.store.get(&key).cloned() else {
        if let Some(uid) = config["metadata"]["uid"].as_str() {
            let why = format!(
                "uid mismatch: the provided object specified uid {uid}, and no existing object was found"
            );
            return Err(Failure::conflict(resource, &key.name, &why));
        }
        check_namespace(world, resource, call.namespace())?;
        let mut object = apply(&json!({}), &config, &writer, false)?;
        if resource.namespaced {
            object["metadata"]["namespace"] = json!(call.namespace());
        }
        object["metadata"]["uid"] = json!(uuid());
        complete(resource, &mut object);
        validate(world, resource, &Value::Null, &object)?;
        object["metadata"]["generation"] = json!(1);
        return store(world, call, key, object).map(|object| (201, Value::clone(&object)));
    };
    check_uid(resource, &key.name, &old, &config)?;
    let sent = &config["metadata"]["resourceVersion"];
    if !sent.is_null() && *sent != old["metadata"]["resourceVersion"] {
        return Err(Failure::stale(resource, &key.name));
    }
    let mut new = apply(&old, &config, &writer, call.flag("force"))?;
    settle_metadata(&old, &mut new);
    complete(resource, &mut new);
    validate(world, resource, &old, &new)?;
    // An apply that changes only the timestamp of its own entry is not a write.
    let owned = |object: &Value| {
        let entries = object["metadata"]["managedFields"].as_array().into_iter().flatten();
        entries.map(|e| (e["manager"].clone(), e["fieldsV1"].clone())).collect::<Vec<_>>()
    };
    if strip(&old) == strip(&new) && owned(&old) == owned(&new) {
        return Ok((200, Value::clone(&old)));
    }
    store(world, call, key, new).map(|object| (200, Value::clone(&object)))
}

fn delete(world: &mut World, call: &Call<'_>) -> Answer<Value> {
    let object = find(world, call)?;
    if call.dry_run() {
        return Ok(Value::clone(&object));
    }
    let deleted = world.delete(&call.key());
    Ok(match call.resource().kind {
        "Pod" => deleted.map_or(Value::Null, |object| Value::clone(&object)),
        _ => json!({
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Success",
            "details": {
                "name": call.name(),
                "group": call.resource().group,
                "kind": call.resource().plural,
                "uid": object["metadata"]["uid"],
            },
        }),
    })
}

fn scale_of(object: &Value) -> Value {
    let labels = object["spec"]["selector"]["matchLabels"].as_object().into_iter().flatten();
    let selector: Vec<String> =
        labels.map(|(k, v)| format!("{k}={}", v.as_str().unwrap_or_default())).collect();
    json!({
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": {
            "name": object["metadata"]["name"],
            "namespace": object["metadata"]["namespace"],
            "uid": object["metadata"]["uid"],
            "resourceVersion": object["metadata"]["resourceVersion"],
        },
        "spec": { "replicas": object["spec"]["replicas"] },
        "status": { "replicas": object["status"]["replicas"], "selector": selector.join(",") },
    })
}

/// The resource of a manifest.
pub(super) fn resource_of(object: &Value) -> Option<&'static Resource> {
    resource::by_kind(object["apiVersion"].as_str()?, object["kind"].as_str()?)
}
