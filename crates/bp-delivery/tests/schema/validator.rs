//! Validate a value against a JSON Schema (draft 2020-12), as far as the schemas of this project use it. A keyword that it
//! does not know is an error, so that none is ignored.

use serde_json::{Map, Value};

/// The keywords without effect on validity.
const ANNOTATIONS: [&str; 8] =
    ["$schema", "$defs", "title", "description", "format", "default", "minimum", "maximum"];

/// Why `value` is invalid; empty if it is valid.
pub(crate) fn errors(schema: &Value, value: &Value) -> Vec<String> {
    let mut found = Vec::new();
    validate(schema, schema, value, "", &mut found);
    found
}

fn is_valid(root: &Value, schema: &Value, value: &Value) -> bool {
    let mut found = Vec::new();
    validate(root, schema, value, "", &mut found);
    found.is_empty()
}

fn validate(root: &Value, schema: &Value, value: &Value, path: &str, found: &mut Vec<String>) {
    let keywords = match schema {
        Value::Bool(true) => return,
        Value::Object(keywords) => keywords,
        _ => return found.push(format!("{path}: nothing is valid here")),
    };
    for (keyword, wanted) in keywords {
        let mut fail = || found.push(format!("{path}: {keyword} {wanted}"));
        match keyword.as_str() {
            "$ref" => {
                let pointer = wanted.as_str().unwrap().strip_prefix('#').unwrap();
                let schema = root.pointer(pointer).unwrap_or_else(|| panic!("no {pointer}"));
                validate(root, schema, value, path, found);
            }
            "type" => {
                let kinds = wanted.as_array().cloned().unwrap_or_else(|| vec![wanted.clone()]);
                if !kinds.iter().any(|kind| is_of(value, kind.as_str().unwrap())) {
                    fail();
                }
            }
            "const" => {
                if value != wanted {
                    fail();
                }
            }
            "enum" => {
                if !wanted.as_array().unwrap().contains(value) {
                    fail();
                }
            }
            "anyOf" | "oneOf" => {
                let count = wanted.as_array().unwrap().iter().filter(|s| is_valid(root, s, value)).count();
                if count == 0 || (keyword == "oneOf" && count > 1) {
                    found.push(format!("{path}: {keyword}: {count} are valid"));
                }
            }
            "allOf" => wanted
                .as_array()
                .unwrap()
                .iter()
                .for_each(|schema| validate(root, schema, value, path, found)),
            "required" => {
                let names = wanted.as_array().unwrap().iter().filter_map(Value::as_str);
                let object = value.as_object();
                let missing = names.filter(|name| object.is_some_and(|object| !object.contains_key(*name)));
                missing.for_each(|name| found.push(format!("{path}: {name} is missing")));
            }
            "properties" => {
                for (name, schema) in wanted.as_object().unwrap() {
                    if let Some(value) = value.get(name) {
                        validate(root, schema, value, &format!("{path}/{name}"), found);
                    }
                }
            }
            "additionalProperties" => {
                let known = keywords.get("properties").and_then(Value::as_object);
                for (name, value) in value.as_object().unwrap_or(&Map::new()) {
                    if !known.is_some_and(|known| known.contains_key(name)) {
                        validate(root, wanted, value, &format!("{path}/{name}"), found);
                    }
                }
            }
            "items" => {
                let prefix = keywords.get("prefixItems").and_then(Value::as_array).map_or(0, Vec::len);
                for (at, value) in value.as_array().into_iter().flatten().enumerate().skip(prefix) {
                    validate(root, wanted, value, &format!("{path}/{at}"), found);
                }
            }
            "prefixItems" => {
                for (at, schema) in wanted.as_array().unwrap().iter().enumerate() {
                    if let Some(value) = value.get(at) {
                        validate(root, schema, value, &format!("{path}/{at}"), found);
                    }
                }
            }
            "minItems" | "maxItems" => {
                let (count, limit) = (value.as_array().map(Vec::len), wanted.as_u64().unwrap() as usize);
                if count.is_some_and(|n| if keyword == "minItems" { n < limit } else { n > limit }) {
                    fail();
                }
            }
            annotation => assert!(ANNOTATIONS.contains(&annotation), "unknown keyword {annotation}"),
        }
    }
}

fn is_of(value: &Value, kind: &str) -> bool {
    match kind {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        other => panic!("unknown type {other}"),
    }
}
