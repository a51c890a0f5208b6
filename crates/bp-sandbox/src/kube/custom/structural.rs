//! Structural schemas of custom resources: pruning, defaults and validation.

use serde_json::Value;

use crate::kube::{definition::Definition, schema};

/// The nesting of objects that is compared with a schema.
const DEPTH: usize = 64;

/// Removes the fields that the schema does not have, and adds their paths to `unknown`.
pub(in crate::kube) fn prune(definition: &Definition, object: &mut Value, unknown: &mut Vec<String>) {
    prune_object(&definition.schema, object, "", true, DEPTH, unknown);
}

fn prune_object(
    schema: &Value,
    value: &mut Value,
    path: &str,
    is_resource: bool,
    depth: usize,
    unknown: &mut Vec<String>,
) {
    let Some(depth) = depth.checked_sub(1) else { return };
    match value {
        Value::Object(map) => {
            let (properties, more) = (&schema["properties"], &schema["additionalProperties"]);
            let keeps_unknown = schema["x-kubernetes-preserve-unknown-fields"] == true
                || *more == true
                || schema["x-kubernetes-embedded-resource"] == true && properties.is_null();
            map.retain(|name, value| {
                let path = join(path, name);
                if is_resource && name == "metadata" {
                    if let Some(message) = schema::message("meta.v1.ObjectMeta") {
                        let mut below = Vec::new();
                        schema::prune(message, value, &mut below);
                        unknown.extend(below.iter().map(|name| join(&path, name)));
                    }
                    return true;
                }
                if is_resource && matches!(name.as_str(), "apiVersion" | "kind") {
                    return true;
                }
                let below = if properties[name].is_object() { &properties[name] } else { more };
                if below.is_object() {
                    let embedded = below["x-kubernetes-embedded-resource"] == true;
                    prune_object(below, value, &path, embedded, depth, unknown);
                } else if !keeps_unknown {
                    unknown.push(path);
                    return false;
                }
                true
            });
        }
        Value::Array(items) => {
            let schema = &schema["items"];
            let embedded = schema["x-kubernetes-embedded-resource"] == true;
            for (at, item) in items.iter_mut().enumerate() {
                if schema.is_object() {
                    prune_object(schema, item, &format!("{path}[{at}]"), embedded, depth, unknown);
                }
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

/// Sets the defaults of the schema.
pub(in crate::kube) fn complete(definition: &Definition, object: &mut Value) {
    complete_value(&definition.schema, object, DEPTH);
}

fn complete_value(schema: &Value, value: &mut Value, depth: usize) {
    let Some(depth) = depth.checked_sub(1) else { return };
    match value {
        Value::Object(map) => {
            for (name, schema) in schema["properties"].as_object().into_iter().flatten() {
                if !schema["default"].is_null() && map.get(name).is_none_or(Value::is_null) {
                    map.insert(name.clone(), schema["default"].clone());
                }
            }
            for (name, value) in map {
                let own = &schema["properties"][name];
                complete_value(
                    if own.is_object() { own } else { &schema["additionalProperties"] },
                    value,
                    depth,
                );
            }
        }
        Value::Array(items) => {
            items.iter_mut().for_each(|item| complete_value(&schema["items"], item, depth))
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// The fields that violate the schema, with the reasons: types, required fields, enumerations and limits.
pub(in crate::kube) fn violations(definition: &Definition, object: &Value) -> Vec<(String, String)> {
    let mut wrong = Vec::new();
    check(&definition.schema, object, "", DEPTH, &mut wrong);
    wrong
}

fn check(schema: &Value, value: &Value, path: &str, depth: usize, wrong: &mut Vec<(String, String)>) {
    let Some(depth) = depth.checked_sub(1) else { return };
    if value.is_null() && schema["nullable"] == true {
        return;
    }
    let either = schema["x-kubernetes-int-or-string"] == true;
    let fits = match schema["type"].as_str().unwrap_or_default() {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        _ => !either || value.is_string() || value.is_i64(),
    };
    let shown = if path.is_empty() { "<nil>" } else { path };
    if !fits {
        let (expected, found) = (schema["type"].as_str().unwrap_or("integer,string"), type_of(value));
        let why = format!("Invalid value: {found:?}: {path} in body must be of type {expected}: {found:?}");
        wrong.push((shown.to_owned(), why));
        return;
    }
    let mut invalid = |why: String| wrong.push((shown.to_owned(), why));
    if let Some(allowed) = schema["enum"].as_array()
        && !allowed.contains(value)
    {
        let supported: Vec<String> = allowed.iter().map(Value::to_string).collect();
        invalid(format!("Unsupported value: {value}: supported values: {}", supported.join(", ")));
    }
    if let Some(number) = value.as_f64() {
        for (limit, violated, what) in [
            (&schema["minimum"], schema["minimum"].as_f64().is_some_and(|limit| number < limit), "greater"),
            (&schema["maximum"], schema["maximum"].as_f64().is_some_and(|limit| number > limit), "less"),
        ] {
            if violated {
                let why = format!(
                    "Invalid value: {value}: {path} in body should be {what} than or equal to {limit}"
                );
                invalid(why);
            }
        }
    }
    if let Some(text) = value.as_str() {
        let length = text.chars().count() as u64;
        if schema["minLength"].as_u64().is_some_and(|limit| length < limit) {
            let limit = &schema["minLength"];
            invalid(format!("Invalid value: {text:?}: {path} in body should be at least {limit} chars long"));
        }
        if let Some(limit) = schema["maxLength"].as_u64().filter(|limit| length > *limit) {
            invalid(format!("Too long: may not be more than {limit} bytes"));
        }
    }
    for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        if value.get(name).is_none() {
            wrong.push((join(path, name), "Required value".to_owned()));
        }
    }
    for (name, value) in value.as_object().into_iter().flatten() {
        let own = &schema["properties"][name];
        let schema = if own.is_object() { own } else { &schema["additionalProperties"] };
        if schema.is_object() && !(path.is_empty() && name == "metadata") {
            check(schema, value, &join(path, name), depth, wrong);
        }
    }
    for (at, item) in value.as_array().into_iter().flatten().enumerate() {
        if schema["items"].is_object() {
            check(&schema["items"], item, &format!("{path}[{at}]"), depth, wrong);
        }
    }
}

fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn definition() -> Definition {
        let schema = json!({
            "type": "object",
            "properties": {
                "spec": {
                    "type": "object",
                    "required": ["size"],
                    "properties": {
                        "size": { "type": "integer", "minimum": 1, "maximum": 9 },
                        "mode": { "type": "string", "enum": ["fast", "safe"], "default": "safe" },
                        "labels": { "type": "object", "additionalProperties": { "type": "string" } },
                        "parts": { "type": "array", "items": {
                            "type": "object", "properties": { "name": { "type": "string", "minLength": 2 } },
                        } },
                        "any": { "type": "object", "x-kubernetes-preserve-unknown-fields": true },
                        "port": { "x-kubernetes-int-or-string": true },
                        "template": { "type": "object", "x-kubernetes-embedded-resource": true,
                            "properties": { "spec": { "type": "object" } } },
                    },
                },
            },
        });
        Definition {
            singular: String::new(),
            list_kind: String::new(),
            schema,
            columns: Vec::new(),
            scale: Value::Null,
            stored_version: String::new(),
        }
    }

    #[test]
    fn prunes_what_the_schema_does_not_have() {
        let mut object = json!({
            "apiVersion": "example.com/v1", "kind": "Widget", "metadata": { "name": "a", "colour": "red" }, "extra": 1,
            "spec": {
                "size": 1, "sise": 1, "labels": { "a": "b" }, "any": { "x": { "y": 1 } },
                "parts": [{ "name": "ab", "nome": 1 }],
                "template": { "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "x" }, "status": {} },
            },
        });
        let mut unknown = Vec::new();
        prune(&definition(), &mut object, &mut unknown);
        unknown.sort();
        let expected =
            ["extra", "metadata.colour", "spec.parts[0].nome", "spec.sise", "spec.template.status"];
        assert_eq!(unknown, expected);
        assert_eq!(object["spec"]["any"], json!({ "x": { "y": 1 } }));
        assert_eq!(object["spec"]["template"]["metadata"]["name"], "x");
    }

    #[test]
    fn sets_defaults_and_reports_violations() {
        let mut object = json!({ "spec": { "size": 2 } });
        complete(&definition(), &mut object);
        assert_eq!(object, json!({ "spec": { "size": 2, "mode": "safe" } }));
        assert_eq!(violations(&definition(), &object), []);
        let bad = json!({ "spec": {
            "size": "big", "mode": "wild", "labels": { "a": 1 }, "parts": [{ "name": "x" }], "port": true,
        } });
        let wrong = violations(&definition(), &bad);
        let of = |field: &str| wrong.iter().find(|(found, _)| found == field).map(|(_, why)| why.as_str());
        assert_eq!(
            of("spec.size"),
            Some("Invalid value: \"string\": spec.size in body must be of type integer: \"string\"")
        );
        assert_eq!(
            of("spec.mode"),
            Some("Unsupported value: \"wild\": supported values: \"fast\", \"safe\"")
        );
        for field in ["spec.labels.a", "spec.parts[0].name", "spec.port"] {
            assert!(of(field).is_some(), "{field}: {wrong:?}");
        }
        let missing = violations(&definition(), &json!({ "spec": {} }));
        assert_eq!(missing, [("spec.size".to_owned(), "Required value".to_owned())]);
        let large = violations(&definition(), &json!({ "spec": { "size": 10 } }));
        assert!(large[0].1.ends_with("spec.size in body should be less than or equal to 9"), "{large:?}");
    }
}
