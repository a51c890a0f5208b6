//! The members of a JSON response, without their values.

use std::collections::BTreeSet;

use serde_json::Value;

/// The paths of all members; all elements of a list have the same path. Empty values are omitted: clients treat an
/// empty list like a missing one.
pub(super) fn shape(value: &Value) -> BTreeSet<String> {
    let mut paths = BTreeSet::new();
    collect(value, String::new(), &mut paths);
    paths
}

fn collect(value: &Value, path: String, paths: &mut BTreeSet<String>) {
    match value {
        Value::Null => {}
        Value::Object(members) => {
            for (name, member) in members {
                let name = if is_uuid(name) { "*" } else { name };
                collect(member, format!("{path}.{name}"), paths);
            }
        }
        Value::Array(elements) => {
            for element in elements {
                collect(element, format!("{path}[]"), paths);
            }
        }
        _ => {
            paths.insert(path);
        }
    }
}

/// Whether the name of a member is a generated UUID.
fn is_uuid(name: &str) -> bool {
    name.len() == 36 && name.split('-').map(str::len).eq([8, 4, 4, 4, 12])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contains_every_path_once() {
        let value = serde_json::json!({ "a": [{ "b": 1 }, { "b": 2, "c": {}, "f": "" }], "d": null, "e": [],
                                       "2afc95a3-e26a-4cc6-9b9e-50394357c507": 1 });
        assert_eq!(shape(&value).into_iter().collect::<Vec<_>>(), [".*", ".a[].b", ".a[].f"]);
    }
}
