//! Deletion of objects: options, preconditions, finalizers, and what happens to dependents.

use serde_json::{Value, json};

use super::{
    call::Call,
    custom,
    objects::{find, selected},
    payload, protobuf,
    status::{Answer, Failure},
    store::{Key, Object},
    world::World,
};

/// The finalizer of objects that are removed after their dependents.
pub(super) const FOREGROUND: &str = "foregroundDeletion";

/// The options of a deletion, from the body and the query.
#[derive(Debug, Default)]
pub(super) struct Options {
    dry_run: bool,
    grace: Option<i64>,
    propagation: Propagation,
    uid: Option<String>,
    version: Option<String>,
}

/// What happens to the objects that the deleted object owns.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Propagation {
    /// They are deleted afterwards.
    #[default]
    Background,
    /// They are deleted before.
    Foreground,
    /// They are kept, without an owner.
    Orphan,
}

impl Options {
    pub(super) fn read(call: &Call<'_>, content_type: &str, body: &[u8]) -> Answer<Self> {
        let body = match () {
            () if body.is_empty() => json!({}),
            () if content_type.starts_with(protobuf::MEDIA_TYPE) => {
                protobuf::decode(body).map_err(|error| Failure::bad_request(error.to_string()))?
            }
            () => payload::json(body)?.object,
        };
        let policy =
            match body["propagationPolicy"].as_str().unwrap_or_else(|| call.text("propagationPolicy")) {
                _ if body["orphanDependents"] == true => Propagation::Orphan,
                "" | "Background" => Propagation::Background,
                "Foreground" => Propagation::Foreground,
                "Orphan" => Propagation::Orphan,
                other => {
                    let supported = "\"Foreground\", \"Background\", \"Orphan\", \"nil\"";
                    let why = format!("Unsupported value: {other:?}: supported values: {supported}");
                    return Err(Failure::invalid_options("DeleteOptions", "propagationPolicy", &why));
                }
            };
        let text = |value: &Value| value.as_str().map(str::to_owned);
        Ok(Options {
            dry_run: call.dry_run() || body["dryRun"][0] == "All",
            grace: body["gracePeriodSeconds"]
                .as_i64()
                .or_else(|| call.text("gracePeriodSeconds").parse().ok()),
            propagation: policy,
            uid: text(&body["preconditions"]["uid"]),
            version: text(&body["preconditions"]["resourceVersion"]),
        })
    }

    /// Rejects the deletion of another object than the one that the client has seen.
    fn check(&self, call: &Call<'_>, name: &str, object: &Value) -> Answer<()> {
        let deleted = "The object might have been deleted and then recreated";
        let modified = "The object might have been modified";
        for (what, sent, field, hint) in [
            ("UID", &self.uid, "uid", deleted),
            ("ResourceVersion", &self.version, "resourceVersion", modified),
        ] {
            let live = object["metadata"][field].as_str().unwrap_or_default();
            if let Some(sent) = sent.as_deref().filter(|sent| *sent != live) {
                let why = format!(
                    "the {what} in the precondition ({sent}) does not match the {what} in record ({live}). {hint}"
                );
                return Err(Failure::precondition(call.resource(), name, &why));
            }
        }
        Ok(())
    }
}

/// Deletes one object; returns the status code and the object, or a Status if it is gone.
pub(super) fn delete(world: &mut World, call: &Call<'_>, options: &Options) -> Answer<(u16, Value)> {
    let object = find(world, call)?;
    options.check(call, call.name(), &object)?;
    if options.dry_run {
        return Ok((200, Value::clone(&object)));
    }
    let key = call.key();
    let removed = remove(world, &key, &object, options);
    if world.store.get(&key).is_some()
        && let Some(left) = removed
    {
        return Ok((200, Value::clone(&left)));
    }
    let resource = call.resource();
    let mut details =
        json!({ "name": call.name(), "kind": resource.plural, "uid": object["metadata"]["uid"] });
    if !resource.group.is_empty() {
        details["group"] = json!(resource.group);
    }
    Ok((
        200,
        json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details }),
    ))
}

/// Deletes all objects of a kind in a namespace that match the selectors, and returns them.
pub(super) fn delete_all(world: &mut World, call: &Call<'_>, options: &Options) -> Answer<Vec<Object>> {
    let objects = selected(world, call);
    if !options.dry_run {
        for object in &objects {
            let key = Key::of(call.resource(), object);
            remove(world, &key, object, options);
        }
    }
    Ok(objects)
}

fn remove(world: &mut World, key: &Key, object: &Object, options: &Options) -> Option<Object> {
    match options.propagation {
        Propagation::Orphan => release_dependents(world, &object["metadata"]["uid"]),
        Propagation::Foreground => {
            world.update(key, |object| {
                let finalizers = &mut object["metadata"]["finalizers"];
                if !finalizers.is_array() {
                    *finalizers = json!([]);
                }
                if let Some(list) =
                    finalizers.as_array_mut().filter(|list| !list.contains(&json!(FOREGROUND)))
                {
                    list.push(json!(FOREGROUND));
                }
            });
        }
        Propagation::Background => {}
    }
    if options.grace == Some(0) && key.plural == "pods" {
        return world.remove(key);
    }
    let left = world.delete(key);
    if key.plural == custom::DEFINITIONS {
        // Their resources are not served any more.
        custom::reconcile(world);
    }
    left
}

/// Removes the owner from the objects that it owns.
fn release_dependents(world: &mut World, uid: &Value) {
    let owns = |object: &Value| {
        let owners = object["metadata"]["ownerReferences"].as_array().into_iter().flatten();
        owners.into_iter().any(|owner| owner["uid"] == *uid)
    };
    let owned: Vec<Key> =
        world.store.all().filter(|(_, object)| owns(object)).map(|(key, _)| key.clone()).collect();
    for key in owned {
        world.update(&key, |object| {
            if let Some(owners) = object["metadata"]["ownerReferences"].as_array_mut() {
                owners.retain(|owner| owner["uid"] != *uid);
            }
        });
    }
}
