//! Verbs of the Kubernetes API: get, list, create, update, patch, delete, and the subresources that clients use.

use std::{sync::Arc, time::Duration};

use http::Response;
use serde_json::{Value, json};

use super::{
    Cluster,
    apply::{Writer, apply, track},
    call::Call,
    conform,
    defaults::complete,
    definition::pointer,
    deletion, disruption, log,
    negotiation::{Transform, metadata},
    objects::{find, selected, versioned},
    patch,
    payload::{self, Payload},
    resource::Resource,
    reviews,
    status::{Answer, Failure},
    store::{Key, Object, uuid},
    table,
    validate::validate,
    watch,
    world::{World, has_finalizers, number, suffix},
};
use crate::body::Body;

/// Handles an authorised request.
pub(super) fn answer(
    cluster: &Arc<Cluster>,
    call: &Call<'_>,
    content_type: &str,
    body: &[u8],
) -> Answer<Response<Body>> {
    payload::check_size(body)?;
    let mut response = answer_without_warnings(cluster, call, content_type, body)?;
    for warning in call.warnings.take() {
        let quoted = warning.replace('\\', "\\\\").replace('"', "\\\"");
        if let Ok(value) = format!("299 - \"{quoted}\"").parse() {
            response.headers_mut().append("warning", value);
        }
    }
    Ok(response)
}

fn answer_without_warnings(
    cluster: &Arc<Cluster>,
    call: &Call<'_>,
    content_type: &str,
    body: &[u8],
) -> Answer<Response<Body>> {
    let read = || payload::read(call.resource(), content_type, body);
    if call.resource().is_review() {
        if call.verb != "create" {
            return Err(Failure::method());
        }
        let review = reviews::answer(cluster, call, read()?.object);
        return Ok(call.accepted.render(201, &review));
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
        ("get", "scale") => {
            find(&world, call).map(|object| call.accepted.render(200, &scale_of(call.resource(), &object)))
        }
        ("get", _) => find(&world, call).map(|object| show(&world, call, 200, &object)),
        ("list", _) => Ok(list(&world, call)),
        ("create", "eviction") => {
            let eviction = read().and_then(|payload| disruption::evict(&mut world, call, &payload.object));
            eviction.map(|status| call.accepted.render(201, &status))
        }
        ("create", "") => {
            cluster.admit(call.resource())?;
            let object = read().and_then(|payload| conform::object(call, payload, "CreateOptions"));
            let created = object.and_then(|object| create(&mut world, call, object));
            created.map(|object| show(&world, call, 201, &object))
        }
        ("update", "scale") => {
            cluster.admit(call.resource())?;
            let scaled = read().and_then(|payload| scale(&mut world, call, &payload.object));
            scaled.map(|object| call.accepted.render(200, &scale_of(call.resource(), &object)))
        }
        ("update", _) => {
            cluster.admit(call.resource())?;
            let object = read().and_then(|payload| conform::object(call, payload, "UpdateOptions"));
            let updated = object.and_then(|object| update(&mut world, call, &object));
            updated.map(|object| show(&world, call, 200, &object))
        }
        ("patch", _) => {
            cluster.admit(call.resource())?;
            let changed = change(&mut world, call, content_type, body);
            changed.map(|(status, object)| match call.subresource() {
                "scale" => call.accepted.render(status, &scale_of(call.resource(), &object)),
                _ => show(&world, call, status, &object),
            })
        }
        ("delete", "") => {
            let options = deletion::Options::read(call, content_type, body);
            let deleted = options.and_then(|options| deletion::delete(&mut world, call, &options));
            deleted.map(|(status, object)| call.accepted.render(status, &object))
        }
        ("deletecollection", _) => {
            let options = deletion::Options::read(call, content_type, body);
            let deleted = options.and_then(|options| deletion::delete_all(&mut world, call, &options));
            deleted.map(|objects| list_of(&world, call, &objects, json!({})))
        }
        _ => Err(Failure::method()),
    };
    let after = world.store.version();
    drop(world);
    if after != before {
        cluster.changed.send_replace(after);
    }
    answer
}

/// The response with one object.
fn show(world: &World, call: &Call<'_>, status: u16, object: &Object) -> Response<Body> {
    let shown = match call.accepted.transform {
        Transform::Full => return call.accepted.render(status, &versioned(call.resource(), object)),
        Transform::Table => {
            let version = &object["metadata"]["resourceVersion"];
            table::table(call, std::slice::from_ref(object), json!({ "resourceVersion": version }), world.now)
        }
        Transform::Metadata => metadata(object),
    };
    call.accepted.render(status, &shown)
}

fn list(world: &World, call: &Call<'_>) -> Response<Body> {
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
    list_of(world, call, &selected, metadata)
}

fn list_of(world: &World, call: &Call<'_>, objects: &[Object], list_metadata: Value) -> Response<Body> {
    let resource = call.resource();
    let list = match call.accepted.transform {
        Transform::Table => table::table(call, objects, list_metadata, world.now),
        Transform::Metadata => json!({
            "kind": "PartialObjectMetadataList",
            "apiVersion": "meta.k8s.io/v1",
            "metadata": list_metadata,
            "items": objects.iter().map(|object| metadata(object)).collect::<Vec<_>>(),
        }),
        Transform::Full => {
            let items: Vec<Object> = objects.iter().map(|object| versioned(resource, object)).collect();
            let items: Vec<&Value> = items.iter().map(|object| &**object).collect();
            json!({
                "kind": resource.list_kind(),
                "apiVersion": resource.api_version(),
                "metadata": list_metadata,
                "items": items,
            })
        }
    };
    call.accepted.render(200, &list)
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
        accepted: call.accepted,
        objects: table::Objects::of(call),
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
    if resource.namespaced {
        check_same(&object["metadata"]["namespace"], call.namespace(), "namespace")?;
    }
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
    check_namespace(world, resource, call.namespace(), &key.name)?;
    if world.store.get(&key).is_some() {
        return Err(Failure::exists(resource, &key.name));
    }
    object["metadata"]["uid"] = json!(uuid());
    if resource.is_custom() && resource.subresources.contains(&"status") {
        remove_status(&mut object);
    }
    complete(resource, &mut object);
    validate(world, resource, &Value::Null, &object)?;
    let writer = Writer { manager: &call.manager, subresource: "", now: world.now };
    track(&Value::Null, &mut object, &writer);
    object["metadata"]["generation"] = json!(1);
    store(world, call, key, object)
}

fn remove_status(object: &mut Value) {
    if let Some(map) = object.as_object_mut() {
        map.remove("status");
    }
}

/// Rejects an object whose name or namespace is not that of the URL.
fn check_same(sent: &Value, expected: &str, what: &str) -> Answer<()> {
    match sent.as_str() {
        None | Some("") => Ok(()),
        Some(sent) if sent == expected => Ok(()),
        Some(_) if what == "namespace" => Err(Failure::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        )),
        Some(sent) => Err(Failure::bad_request(format!(
            "the {what} of the object ({sent}) does not match the {what} on the URL ({expected})"
        ))),
    }
}

/// Rejects an object in a namespace that does not exist or is being deleted.
fn check_namespace(world: &World, resource: &Resource, namespace: &str, name: &str) -> Answer<()> {
    if resource.namespaced && world.store.get(&Key::new("namespaces", "", namespace)).is_none() {
        return Err(Failure::no_namespace(namespace));
    }
    if resource.namespaced && world.is_terminating(namespace) {
        return Err(Failure::terminating_namespace(resource, name, namespace));
    }
    Ok(())
}

fn store(world: &mut World, call: &Call<'_>, key: Key, object: Value) -> Answer<Object> {
    Ok(if call.dry_run() { Arc::new(object) } else { world.put(key, object) })
}

fn update(world: &mut World, call: &Call<'_>, body: &Value) -> Answer<Object> {
    check_same(&body["metadata"]["name"], call.name(), "name")?;
    check_same(&body["metadata"]["namespace"], call.namespace(), "namespace")?;
    let old = find(world, call)?;
    if call.subresource() == "finalize" {
        // Namespaces are finalized by the model's own controller.
        return Ok(old);
    }
    replace(world, call, &old, body.clone())
}

/// Sets the replicas from a Scale.
fn scale(world: &mut World, call: &Call<'_>, scale: &Value) -> Answer<Object> {
    let old = find(world, call)?;
    let path = call
        .resource()
        .custom
        .map_or_else(|| "/spec/replicas".to_owned(), |own| pointer(&own.scale["specReplicasPath"]));
    let mut new = Value::clone(&old);
    if let Some(replicas) = new.pointer_mut(&path) {
        *replicas = scale["spec"]["replicas"].clone();
    }
    new["metadata"]["resourceVersion"] = scale["metadata"]["resourceVersion"].clone();
    replace(world, call, &old, new)
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
    let has_status = !resource.is_custom() || resource.subresources.contains(&"status");
    match subresource {
        "status" => {
            let status = new["status"].clone();
            new = Value::clone(old);
            new["status"] = status;
        }
        _ if has_status => new["status"] = old["status"].clone(),
        _ => {}
    }
    if new["status"].is_null() {
        remove_status(&mut new);
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
    let is_deleted = !old["metadata"]["deletionTimestamp"].is_null();
    let is_running = world.pods.contains_key(&key);
    if is_deleted && has_finalizers(old) && !has_finalizers(&written) && !is_running && !call.dry_run() {
        // The last finalizer was removed.
        world.remove(&key);
        return Ok(Arc::new(written));
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
    let fixed =
        ["uid", "creationTimestamp", "namespace", "name", "deletionTimestamp", "deletionGracePeriodSeconds"];
    for field in fixed {
        new["metadata"][field] = old["metadata"][field].clone();
    }
    if let Some(metadata) = new["metadata"].as_object_mut() {
        metadata.retain(|field, value| !(value.is_null() && fixed.contains(&field.as_str())));
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

/// The content types of patches; those of custom resources lack strategic merge patches.
const PATCHES: &[&str] = &[
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/apply-patch+yaml",
    "application/strategic-merge-patch+json",
];

/// Applies a patch: JSON patch, merge patch, strategic merge patch or server-side apply.
fn change(world: &mut World, call: &Call<'_>, content_type: &str, body: &[u8]) -> Answer<(u16, Object)> {
    let offered = if call.resource().is_custom() { &PATCHES[..3] } else { PATCHES };
    let media_type = content_type.split(';').next().unwrap_or_default().trim();
    if !offered.contains(&media_type) {
        return Err(if call.resource().is_custom() {
            Failure::unsupported(offered)
        } else {
            Failure::unsupported_patch()
        });
    }
    let document = payload::json(body)?;
    if media_type == "application/apply-patch+yaml" {
        return server_side_apply(world, call, document);
    }
    let old = find(world, call)?;
    let is_scale = call.subresource() == "scale";
    let mut new = if is_scale { scale_of(call.resource(), &old) } else { Value::clone(&old) };
    match media_type {
        "application/merge-patch+json" => patch::merge(&mut new, &document.object),
        "application/strategic-merge-patch+json" => patch::strategic(&mut new, &document.object),
        _ => patch::json_patch(&mut new, &document.object)?,
    }
    if is_scale {
        return scale(world, call, &new).map(|object| (200, object));
    }
    conform::patched(call, &document, media_type == "application/strategic-merge-patch+json", &mut new)?;
    replace(world, call, &old, new).map(|object| (200, object))
}

fn server_side_apply(world: &mut World, call: &Call<'_>, document: Payload) -> Answer<(u16, Object)> {
    let (resource, key, config) = (call.resource(), call.key(), document.object);
    if !call.query.contains_key("fieldManager") {
        let why = "Required value: is required for apply patch";
        return Err(Failure::invalid_options("PatchOptions", "fieldManager", why));
    }
    if config["kind"] != resource.kind || config["apiVersion"] != resource.api_version() {
        let text = |field: &str| config[field].as_str().unwrap_or_default();
        let slash = if text("apiVersion").contains('/') { "" } else { "/" };
        let why = format!("invalid object type: {slash}{}, Kind={}", text("apiVersion"), text("kind"));
        return Err(Failure::bad_request(why));
    }
    conform::applied(call, &config)?;
    let writer = Writer { manager: &call.manager, subresource: call.subresource(), now: world.now };
    let Some(old) = world.store.get(&key).cloned() else {
        if let Some(uid) = config["metadata"]["uid"].as_str() {
            let why = format!(
                "uid mismatch: the provided object specified uid {uid}, and no existing object was found"
            );
            return Err(Failure::conflict(resource, &key.name, &why));
        }
        check_namespace(world, resource, call.namespace(), &key.name)?;
        let mut object = apply(&json!({}), &config, &writer, false)?;
        if resource.namespaced {
            object["metadata"]["namespace"] = json!(call.namespace());
        }
        object["metadata"]["uid"] = json!(uuid());
        complete(resource, &mut object);
        validate(world, resource, &Value::Null, &object)?;
        object["metadata"]["generation"] = json!(1);
        return store(world, call, key, object).map(|object| (201, object));
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
        return Ok((200, old));
    }
    store(world, call, key, new).map(|object| (200, object))
}

fn scale_of(resource: &Resource, object: &Value) -> Value {
    let labels = object["spec"]["selector"]["matchLabels"].as_object().into_iter().flatten();
    let selector: Vec<String> =
        labels.map(|(k, v)| format!("{k}={}", v.as_str().unwrap_or_default())).collect();
    let at = |name: &str, built_in: &str| {
        let path = resource.custom.map_or_else(|| built_in.to_owned(), |own| pointer(&own.scale[name]));
        object.pointer(&path).cloned().unwrap_or_else(|| json!(0))
    };
    json!({
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": {
            "name": object["metadata"]["name"],
            "namespace": object["metadata"]["namespace"],
            "uid": object["metadata"]["uid"],
            "resourceVersion": object["metadata"]["resourceVersion"],
        },
        "spec": { "replicas": at("specReplicasPath", "/spec/replicas") },
        "status": {
            "replicas": at("statusReplicasPath", "/status/replicas"),
            "selector": selector.join(","),
        },
    })
}
