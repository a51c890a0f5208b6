//! Field sets of server-side apply: `metadata.managedFields` in `FieldsV1` format.
//!
//! A field set is a set of paths. The elements of a path have the FieldsV1 syntax: `f:<name>` for a field,
//! `k:{"name":"web"}` for an item of a keyed list, `v:"x"` for an item of a set.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

pub(super) type Path = Vec<String>;
pub(super) type Fields = BTreeSet<Path>;

/// The merge strategy of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum List {
    /// By the values of these fields.
    Keyed(&'static [&'static str]),
    /// As a set of scalars.
    Set,
    /// As a whole.
    Atomic,
}

/// The merge strategy of the list in the field `name`, as in the API schema.
pub(super) fn list_kind(name: &str, items: &[Value]) -> List {
    match name {
        "containers" | "initContainers" | "ephemeralContainers" | "env" | "volumes" | "imagePullSecrets" => {
            List::Keyed(&["name"])
        }
        "ports" if items.iter().any(|i| i.get("containerPort").is_some()) => {
            List::Keyed(&["containerPort", "protocol"])
        }
        "ports" => List::Keyed(&["port", "protocol"]),
        "volumeMounts" => List::Keyed(&["mountPath"]),
        "conditions" => List::Keyed(&["type"]),
        "ownerReferences" => List::Keyed(&["uid"]),
        "topologySpreadConstraints" => List::Keyed(&["topologyKey", "whenUnsatisfiable"]),
        "finalizers" => List::Set,
        _ => List::Atomic,
    }
}

/// Maps that are owned as a whole.
pub(super) fn is_atomic_map(name: &str) -> bool {
    matches!(name, "selector" | "nodeSelector" | "secretKeyRef" | "configMapKeyRef" | "fieldRef")
}

/// The key of an item of a keyed list: `k:{"name":"web"}`.
pub(super) fn item_key(item: &Value, keys: &[&str]) -> String {
    let mut key = Map::new();
    for name in keys {
        let value = match (&item[*name], *name) {
            (Value::Null, "protocol") => json!("TCP"),
            (value, _) => value.clone(),
        };
        key.insert((*name).to_owned(), value);
    }
    format!("k:{}", Value::Object(key))
}

/// The fields of `object` that a field manager can own.
pub(super) fn fields_of(object: &Value) -> Fields {
    let mut fields = Fields::new();
    for (name, value) in object.as_object().into_iter().flatten() {
        if !matches!(name.as_str(), "apiVersion" | "kind" | "status") {
            collect(value, name, &mut vec![format!("f:{name}")], &mut fields);
        }
    }
    let system = [
        "name",
        "namespace",
        "uid",
        "resourceVersion",
        "generation",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "managedFields",
        "selfLink",
    ];
    fields.retain(|path| {
        !(path[0] == "f:metadata" && system.iter().any(|s| path[1..].first().is_some_and(|p| p[2..] == **s)))
    });
    fields
}

fn collect(value: &Value, name: &str, path: &mut Path, fields: &mut Fields) {
    match value {
        Value::Object(map) if !map.is_empty() && !is_atomic_map(name) => {
            for (name, value) in map {
                path.push(format!("f:{name}"));
                collect(value, name, path, fields);
                path.pop();
            }
        }
        Value::Array(items) => match list_kind(name, items) {
            List::Atomic => drop(fields.insert(path.clone())),
            List::Set => {
                for item in items {
                    path.push(format!("v:{item}"));
                    fields.insert(path.clone());
                    path.pop();
                }
            }
            List::Keyed(keys) => {
                for item in items {
                    path.push(item_key(item, keys));
                    fields.insert(path.clone());
                    collect(item, "", path, fields);
                    path.pop();
                }
            }
        },
        _ => drop(fields.insert(path.clone())),
    }
}

/// The value at `path`.
pub(super) fn resolve<'v>(object: &'v Value, path: &[String]) -> Option<&'v Value> {
    let mut at = object;
    for element in path {
        at = match element.split_at(2) {
            ("f:", name) => at.get(name)?,
            ("v:", text) => {
                let wanted: Value = serde_json::from_str(text).ok()?;
                at.as_array()?.iter().find(|item| **item == wanted)?
            }
            (_, _) => &at.as_array()?[position(at, element)?],
        };
    }
    Some(at)
}

/// The index of the item with this key in a keyed list.
fn position(list: &Value, element: &str) -> Option<usize> {
    let key: Map<String, Value> = serde_json::from_str(element.strip_prefix("k:")?).ok()?;
    let names: Vec<&str> = key.keys().map(String::as_str).collect();
    list.as_array()?.iter().position(|item| item_key(item, &names) == *element)
}

/// Removes the value at `path`.
pub(super) fn remove(object: &mut Value, path: &[String]) {
    let Some((last, parents)) = path.split_last() else { return };
    let mut at = object;
    for element in parents {
        let next = match element.strip_prefix("f:") {
            Some(name) => at.get_mut(name),
            None => position(at, element).and_then(|i| at.get_mut(i)),
        };
        match next {
            Some(next) => at = next,
            None => return,
        }
    }
    match last.split_at(2) {
        ("f:", name) => drop(at.as_object_mut().and_then(|map| map.remove(name))),
        ("v:", text) => {
            if let (Some(list), Ok(unwanted)) = (at.as_array_mut(), serde_json::from_str::<Value>(text)) {
                list.retain(|item| *item != unwanted);
            }
        }
        _ => {
            if let (Some(index), Some(list)) = (position(at, last), at.as_array_mut()) {
                list.remove(index);
            }
        }
    }
}

/// A path as shown in errors: `.spec.template.spec.containers[name="web"].image`.
pub(super) fn display(path: &[String]) -> String {
    let mut text = String::new();
    for element in path {
        match element.split_at(2) {
            ("f:", name) => {
                text.push('.');
                text.push_str(name);
            }
            ("v:", value) => text.push_str(&format!("[={value}]")),
            (_, key) => {
                let key: Map<String, Value> = serde_json::from_str(key).unwrap_or_default();
                let parts: Vec<String> = key.iter().map(|(k, v)| format!("{k}={v}")).collect();
                text.push_str(&format!("[{}]", parts.join(",")));
            }
        }
    }
    text
}

/// Converts a field set to the nested format of `managedFields[].fieldsV1`.
pub(super) fn to_v1(fields: &Fields) -> Value {
    let mut root = json!({});
    for path in fields {
        let mut at = &mut root;
        for element in path {
            at = &mut at[element.as_str()];
            if at.is_null() {
                *at = json!({});
            }
        }
        at["."] = json!({});
    }
    remove_leaf_markers(&mut root);
    root
}

/// Removes the `.` member of leaves: a leaf is `{}`, only a member with children has a `.`.
fn remove_leaf_markers(node: &mut Value) {
    let Some(map) = node.as_object_mut() else { return };
    if map.len() == 1 {
        map.remove(".");
    }
    map.values_mut().for_each(remove_leaf_markers);
}

/// Parses a field set from the nested format.
pub(super) fn from_v1(nested: &Value) -> Fields {
    fn walk(node: &Value, path: &mut Path, fields: &mut Fields) {
        let Some(map) = node.as_object() else { return };
        if !path.is_empty() && (map.is_empty() || map.contains_key(".")) {
            fields.insert(path.clone());
        }
        for (element, below) in map.iter().filter(|(element, _)| *element != ".") {
            path.push(element.clone());
            walk(below, path, fields);
            path.pop();
        }
    }
    let mut fields = Fields::new();
    walk(nested, &mut Vec::new(), &mut fields);
    fields
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn field_sets_round_trip_through_the_nested_format() {
        let object = json!({
            "metadata": { "name": "web", "labels": { "app": "web" } },
            "spec": { "replicas": 2, "template": { "spec": { "containers": [
                { "name": "web", "image": "a", "args": ["x"], "ports": [{ "containerPort": 80 }] },
            ] } } },
        });
        let fields = fields_of(&object);
        let nested = to_v1(&fields);
        let container = &nested["f:spec"]["f:template"]["f:spec"]["f:containers"]["k:{\"name\":\"web\"}"];
        assert_eq!(container["."], json!({}));
        assert_eq!(container["f:image"], json!({}));
        assert_eq!(nested["f:metadata"], json!({ "f:labels": { "f:app": {} } }));
        assert_eq!(from_v1(&nested), fields);
        assert!(fields.iter().all(|path| resolve(&object, path).is_some()));
        let image = fields.iter().find(|path| path.last().is_some_and(|e| e == "f:image")).unwrap();
        assert_eq!(display(image), ".spec.template.spec.containers[name=\"web\"].image");
    }
}
