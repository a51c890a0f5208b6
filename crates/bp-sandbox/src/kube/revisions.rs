//! ControllerRevisions: the template history of StatefulSets and DaemonSets.

use serde_json::{Value, json};

use super::{
    store::{Key, Object},
    world::{World, number, owner, template_hash},
};

/// The label that links pods to their revision.
pub(super) const HASH: &str = "controller-revision-hash";

/// The ControllerRevision of the current template, with the highest revision number. It is created for a new template,
/// and renumbered for an earlier one.
pub(super) fn current(world: &mut World, controller: &Object) -> Object {
    let metadata = &controller["metadata"];
    let (namespace, name) =
        (metadata["namespace"].as_str().unwrap_or_default(), metadata["name"].as_str().unwrap_or_default());
    let stored = world.controlled_by("controllerrevisions", namespace, &metadata["uid"]);
    let highest = stored.iter().map(|revision| number(&revision["revision"])).max().unwrap_or_default();
    let data = data(&controller["spec"]["template"]);
    match stored.into_iter().find(|revision| revision["data"] == data) {
        Some(revision) if number(&revision["revision"]) == highest => revision,
        Some(revision) => {
            let key = Key::new("controllerrevisions", namespace, name_of(&revision));
            world.update(&key, |revision| revision["revision"] = json!(highest + 1)).unwrap_or(revision)
        }
        None => {
            let hash = template_hash(&controller["spec"]["template"]);
            let name = format!("{name}-{hash}");
            let mut labels = controller["spec"]["template"]["metadata"]["labels"].clone();
            labels[HASH] = json!(hash);
            let mut revision = json!({
                "apiVersion": "apps/v1",
                "kind": "ControllerRevision",
                "metadata": {
                    "name": name, "namespace": namespace, "labels": labels, "ownerReferences": owner(controller),
                },
                "data": data,
                "revision": highest + 1,
            });
            if metadata["annotations"].is_object() {
                revision["metadata"]["annotations"] = metadata["annotations"].clone();
            }
            world.put(Key::new("controllerrevisions", namespace, &name), revision)
        }
    }
}

/// A patch that restores the template, in the format of the controllers.
fn data(template: &Value) -> Value {
    let mut template = template.clone();
    template["$patch"] = json!("replace");
    json!({ "spec": { "template": template } })
}

pub(super) fn name_of(revision: &Value) -> &str {
    revision["metadata"]["name"].as_str().unwrap_or_default()
}

/// The controller with the template of an earlier revision.
pub(super) fn with_template(world: &World, controller: &Object, revision: &str) -> Object {
    let namespace = controller["metadata"]["namespace"].as_str().unwrap_or_default();
    let Some(stored) = world.store.get(&Key::new("controllerrevisions", namespace, revision)) else {
        return controller.clone();
    };
    let mut earlier = Value::clone(controller);
    earlier["spec"]["template"] = stored["data"]["spec"]["template"].clone();
    if let Some(template) = earlier["spec"]["template"].as_object_mut() {
        template.remove("$patch");
    }
    Object::new(earlier)
}
