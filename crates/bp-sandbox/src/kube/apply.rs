//! Server-side apply, and tracking of field ownership (`managedFields`) for all other writes.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    fields::{self, Fields, List, fields_of, is_atomic_map, item_key, list_kind, resolve},
    status::{Answer, Failure},
    store::seconds,
};

/// The field manager of a write, the subresource (or empty), and the time.
pub(super) struct Writer<'a> {
    pub(super) manager: &'a str,
    pub(super) subresource: &'a str,
    pub(super) now: Timestamp,
}

/// One entry of `metadata.managedFields`.
struct Owner {
    entry: Value,
    fields: Fields,
}

impl Owner {
    fn is(&self, writer: &Writer<'_>, operation: &str) -> bool {
        self.entry["manager"] == writer.manager
            && self.entry["operation"] == operation
            && self.entry["subresource"].as_str().unwrap_or_default() == writer.subresource
    }

    /// The manager as shown in a conflict.
    fn display(&self) -> String {
        let name = format!("{:?}", self.entry["manager"].as_str().unwrap_or_default());
        match self.entry["operation"].as_str() {
            Some("Update") => {
                format!("{name} using {}", self.entry["apiVersion"].as_str().unwrap_or_default())
            }
            _ => name,
        }
    }
}

fn owners(object: &Value) -> Vec<Owner> {
    let entries = object["metadata"]["managedFields"].as_array().into_iter().flatten();
    entries.map(|entry| Owner { fields: fields::from_v1(&entry["fieldsV1"]), entry: entry.clone() }).collect()
}

fn write_back(object: &mut Value, owners: Vec<Owner>) {
    let entry = |mut owner: Owner| {
        owner.entry["fieldsV1"] = fields::to_v1(&owner.fields);
        owner.entry
    };
    let entries: Vec<Value> = owners.into_iter().filter(|o| !o.fields.is_empty()).map(entry).collect();
    object["metadata"]["managedFields"] = json!(entries);
}

/// The writer's own entry, created if it does not exist.
fn own<'o>(
    owners: &'o mut Vec<Owner>,
    object: &Value,
    writer: &Writer<'_>,
    operation: &str,
) -> &'o mut Owner {
    let at = owners.iter().position(|o| o.is(writer, operation)).unwrap_or_else(|| {
        let mut entry = json!({
            "manager": writer.manager,
            "operation": operation,
            "apiVersion": object["apiVersion"],
            "fieldsType": "FieldsV1",
        });
        if !writer.subresource.is_empty() {
            entry["subresource"] = json!(writer.subresource);
        }
        owners.push(Owner { entry, fields: Fields::new() });
        owners.len() - 1
    });
    owners[at].entry["time"] = json!(seconds(writer.now));
    &mut owners[at]
}

/// The field manager of `kubectl apply --server-side`, and the annotation of `kubectl apply` without it.
const KUBECTL: &str = "kubectl";
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// The fields that kubectl takes over from its own client-side apply: those of the annotation that still have the
/// values that it says. None for other field managers.
fn taken_over(live: &Value, writer: &Writer<'_>) -> Fields {
    let annotation = live["metadata"]["annotations"][LAST_APPLIED].as_str();
    let applied = annotation.filter(|_| writer.manager == KUBECTL);
    let Some(applied) = applied.and_then(|text| serde_json::from_str::<Value>(text).ok()) else {
        return Fields::new();
    };
    if applied["apiVersion"] != live["apiVersion"] {
        return Fields::new();
    }
    let is_unchanged = |path: &Vec<String>| resolve(&applied, path) == resolve(live, path);
    fields_of(&applied).into_iter().filter(is_unchanged).collect()
}

/// Writes the annotation of client-side apply, if the object has it, so that it also says what kubectl applied
/// server-side.
fn renew_last_applied(object: &mut Value, config: &Value, writer: &Writer<'_>) {
    let annotations = object.pointer_mut("/metadata/annotations");
    let Some(Value::String(annotation)) = annotations.and_then(|all| all.get_mut(LAST_APPLIED)) else {
        return;
    };
    if writer.manager != KUBECTL || annotation.is_empty() {
        return;
    }
    let mut config = config.clone();
    if let Some(metadata) = config["metadata"].as_object_mut() {
        metadata.remove("managedFields");
        if let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut) {
            annotations.remove(LAST_APPLIED);
        }
    }
    *annotation = format!("{config}\n");
}

/// Applies `config` to `live` (null for an object that does not exist yet).
pub(super) fn apply(live: &Value, config: &Value, writer: &Writer<'_>, force: bool) -> Answer<Value> {
    let mut owners = owners(live);
    let applied = fields_of(config);
    let clashes = |path: &&Vec<String>| {
        applied.contains(*path) && is_leaf(path) && resolve(live, path) != resolve(config, path)
    };
    if !force {
        let taken_over = taken_over(live, writer);
        let mut conflicts = Vec::new();
        for owner in owners.iter().filter(|o| !o.is(writer, "Apply")) {
            let clashing = owner.fields.iter().filter(clashes).filter(|path| !taken_over.contains(*path));
            conflicts.extend(clashing.map(|path| (owner.display(), fields::display(path))));
        }
        if !conflicts.is_empty() {
            return Err(Failure::apply_conflict(&conflicts));
        }
    }
    for owner in owners.iter_mut().filter(|o| !o.is(writer, "Apply")) {
        let clashing: Vec<_> = owner.fields.iter().filter(clashes).cloned().collect();
        for path in clashing {
            owner.fields.remove(&path);
        }
    }
    let mut merged = live.clone();
    if let Some(metadata) = merged["metadata"].as_object_mut() {
        metadata.remove("managedFields");
    }
    // Fields that this manager applied before, but not now, are removed unless another manager owns them.
    let before = owners.iter().find(|o| o.is(writer, "Apply")).map(|o| o.fields.clone()).unwrap_or_default();
    for path in before.difference(&applied) {
        let shared = owners.iter().any(|o| !o.is(writer, "Apply") && o.fields.contains(path));
        let below = |other: &Vec<String>| other.len() > path.len() && other.starts_with(path);
        let owned_below = owners.iter().any(|o| !o.is(writer, "Apply") && o.fields.iter().any(below));
        if !shared && !owned_below {
            fields::remove(&mut merged, path);
        }
    }
    merge(&mut merged, config, "");
    let entry = own(&mut owners, config, writer, "Apply");
    entry.fields = applied;
    write_back(&mut merged, owners);
    renew_last_applied(&mut merged, config, writer);
    Ok(merged)
}

/// Whether a path refers to a value, not only to the presence of a list item.
fn is_leaf(path: &[String]) -> bool {
    path.last().is_some_and(|element| element.starts_with("f:"))
}

fn merge(live: &mut Value, config: &Value, name: &str) {
    match config {
        Value::Object(_) if is_atomic_map(name) => *live = config.clone(),
        Value::Object(map) => {
            if !live.is_object() {
                *live = json!({});
            }
            for (name, value) in map {
                merge(&mut live[name.as_str()], value, name);
            }
        }
        Value::Array(items) => match (list_kind(name, items), live.as_array_mut()) {
            (List::Keyed(keys), Some(list)) => {
                for item in items {
                    let key = item_key(item, keys);
                    match list.iter().position(|existing| item_key(existing, keys) == key) {
                        Some(at) => merge(&mut list[at], item, ""),
                        None => list.push(item.clone()),
                    }
                }
            }
            (List::Set, Some(list)) => {
                for item in items.iter().filter(|item| !list.contains(item)).cloned().collect::<Vec<_>>() {
                    list.push(item);
                }
            }
            _ => *live = config.clone(),
        },
        _ => *live = config.clone(),
    }
}

/// Records in `new` that the writer owns the fields that this write changed.
pub(super) fn track(old: &Value, new: &mut Value, writer: &Writer<'_>) {
    let mut owners = owners(old);
    let (before, after) = (fields_of(old), fields_of(new));
    let changed: Fields = after
        .iter()
        .filter(|path| !before.contains(*path) || is_leaf(path) && resolve(old, path) != resolve(new, path))
        .cloned()
        .collect();
    for owner in &mut owners {
        let own_entry = owner.is(writer, "Update");
        owner.fields.retain(|path| {
            let gone = before.contains(path) && !after.contains(path);
            !gone && (own_entry || !(changed.contains(path) && is_leaf(path)))
        });
    }
    if !changed.is_empty() {
        own(&mut owners, new, writer, "Update").fields.extend(changed);
    }
    write_back(new, owners);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn writer(manager: &str) -> Writer<'_> {
        Writer { manager, subresource: "", now: Timestamp::UNIX_EPOCH }
    }

    fn config(image: &str) -> Value {
        json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "web" },
            "spec": { "template": { "spec": { "containers": [{ "name": "web", "image": image }] } } },
        })
    }

    fn image(object: &Value) -> &str {
        object["spec"]["template"]["spec"]["containers"][0]["image"].as_str().unwrap_or_default()
    }

    #[test]
    fn conflicts_report_owner_and_field_and_force_takes_ownership() {
        let mut live = config("a");
        live["spec"]["replicas"] = json!(3);
        track(&Value::Null, &mut live, &writer("kubectl-create"));

        let refused = apply(&live, &config("b"), &writer("bp-eks"), false).unwrap_err();
        assert_eq!(
            refused.message(),
            "Apply failed with 1 conflict: conflict with \"kubectl-create\" using apps/v1: \
             .spec.template.spec.containers[name=\"web\"].image"
        );
        let same = apply(&live, &config("a"), &writer("bp-eks"), false).unwrap();
        assert_eq!(image(&same), "a", "an equal value is owned by both managers");

        let forced = apply(&live, &config("b"), &writer("bp-eks"), true).unwrap();
        assert_eq!((image(&forced), &forced["spec"]["replicas"]), ("b", &json!(3)));
        let again = apply(&forced, &config("c"), &writer("bp-eks"), false).unwrap();
        assert_eq!(image(&again), "c", "bp-eks owns the field after force");
    }

    #[test]
    fn fields_that_are_no_longer_applied_are_removed() {
        let mut both = config("a");
        both["spec"]["replicas"] = json!(3);
        let live = apply(&json!({}), &both, &writer("ci"), false).unwrap();
        let live = apply(&live, &config("a"), &writer("ci"), false).unwrap();
        assert_eq!(live["spec"]["replicas"], Value::Null);
    }

    #[test]
    fn an_update_takes_ownership_of_the_fields_that_it_changes() {
        let live = apply(&json!({}), &config("a"), &writer("ci"), false).unwrap();
        let mut edited = live.clone();
        edited["spec"]["template"]["spec"]["containers"][0]["image"] = json!("b");
        track(&live, &mut edited, &writer("kubectl-edit"));
        let refused = apply(&edited, &config("c"), &writer("ci"), false).unwrap_err();
        assert!(refused.message().contains("kubectl-edit"), "{}", refused.message());
    }
}
