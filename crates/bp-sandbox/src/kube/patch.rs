//! Patches: JSON merge patch, JSON patch and strategic merge patch.

use serde_json::{Map, Value};

use super::{
    fields::{List, list_kind},
    status::{Answer, Failure},
};

/// Applies a JSON merge patch (RFC 7386).
pub(super) fn merge(target: &mut Value, patch: &Value) {
    let Some(patch) = patch.as_object() else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let map = target.as_object_mut().expect("made an object above");
    for (name, value) in patch {
        match value {
            Value::Null => drop(map.remove(name)),
            value => merge(map.entry(name.clone()).or_insert(Value::Null), value),
        }
    }
}

/// Applies a strategic merge patch: lists are merged by key; `$patch: delete` and `$patch: replace` are supported.
pub(super) fn strategic(target: &mut Value, patch: &Value) {
    let Some(patch) = patch.as_object() else {
        *target = patch.clone();
        return;
    };
    if patch.get("$patch").is_some_and(|p| p == "replace") {
        let mut whole = patch.clone();
        whole.remove("$patch");
        *target = Value::Object(whole);
        return;
    }
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let map = target.as_object_mut().expect("made an object above");
    for (name, value) in patch.iter().filter(|(name, _)| !name.starts_with('$')) {
        match value {
            Value::Null => drop(map.remove(name)),
            Value::Array(items) => {
                let list = map.entry(name.clone()).or_insert_with(|| Value::Array(Vec::new()));
                strategic_list(name, list, items);
            }
            value => strategic(map.entry(name.clone()).or_insert(Value::Null), value),
        }
    }
}

fn strategic_list(name: &str, target: &mut Value, items: &[Value]) {
    let (List::Keyed(keys), Some(list)) = (list_kind(name, items), target.as_array_mut()) else {
        *target = Value::Array(items.to_vec());
        return;
    };
    // The merge key is the first key: container ports are merged by number only.
    let key = keys[0];
    for item in items {
        let found = list.iter().position(|existing| existing[key] == item[key]);
        match (found, item["$patch"] == "delete") {
            (Some(at), true) => drop(list.remove(at)),
            (Some(at), false) => strategic(&mut list[at], item),
            (None, true) => {}
            (None, false) => list.push(item.clone()),
        }
    }
}

/// Applies a JSON patch (RFC 6902): `add`, `replace`, `remove` and `test`.
pub(super) fn json_patch(target: &mut Value, patch: &Value) -> Answer<()> {
    let wrong = |what: String| Failure::bad_request(what);
    for step in patch.as_array().ok_or_else(|| wrong("a JSON patch must be a list".to_owned()))? {
        let path = step["path"].as_str().unwrap_or_default();
        let (parent, last) = path.rsplit_once('/').ok_or_else(|| wrong(format!("no such path: {path}")))?;
        let last = last.replace("~1", "/").replace("~0", "~");
        if step["op"] == "test" {
            if target.pointer(path) != Some(&step["value"]) {
                return Err(Failure::patch());
            }
            continue;
        }
        let at = target.pointer_mut(parent).ok_or_else(Failure::patch)?;
        match (step["op"].as_str(), at) {
            (Some("add" | "replace"), Value::Object(map)) => drop(map.insert(last, step["value"].clone())),
            (Some("remove"), Value::Object(map)) => drop(map.remove(&last)),
            (Some(op), Value::Array(list)) => {
                let index = if last == "-" { list.len() } else { last.parse().unwrap_or(usize::MAX) };
                match op {
                    "add" if index <= list.len() => list.insert(index, step["value"].clone()),
                    "replace" if index < list.len() => list[index] = step["value"].clone(),
                    "remove" if index < list.len() => drop(list.remove(index)),
                    _ => return Err(Failure::patch()),
                }
            }
            _ => return Err(Failure::patch()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn strategic_merges_lists_by_key() {
        let mut pod = json!({ "containers": [{ "name": "a", "image": "1" }, { "name": "b", "image": "1" }] });
        let patch = json!({
            "$setElementOrder/containers": [{ "name": "a" }, { "name": "b" }],
            "containers": [{ "name": "b", "image": "2" }, { "name": "a", "$patch": "delete" }],
        });
        strategic(&mut pod, &patch);
        assert_eq!(pod, json!({ "containers": [{ "name": "b", "image": "2" }] }));
    }

    #[test]
    fn applies_merge_and_json_patches() {
        let mut object = json!({ "a": { "b": 1, "c": [1] } });
        merge(&mut object, &json!({ "a": { "b": null, "d": 2 } }));
        assert_eq!(object, json!({ "a": { "c": [1], "d": 2 } }));
        let steps = json!([
            { "op": "test", "path": "/a/d", "value": 2 },
            { "op": "replace", "path": "/a/c/0", "value": 9 },
            { "op": "remove", "path": "/a/d" },
            { "op": "add", "path": "/a/x~1y", "value": true },
        ]);
        json_patch(&mut object, &steps).unwrap();
        assert_eq!(object, json!({ "a": { "c": [9], "x/y": true } }));
        assert!(json_patch(&mut object, &json!([{ "op": "test", "path": "/a/c", "value": 0 }])).is_err());
    }
}
