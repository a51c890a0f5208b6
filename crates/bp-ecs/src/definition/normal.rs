//! Normal form of a task definition, for comparison: defaults, empty members and irrelevant order are removed.

use serde_json::{Map, Value, json};

/// Lists of objects whose order is significant.
const ORDERED: [&str; 1] = ["environmentFiles"];
/// Lists of strings whose order is not significant.
const SETS: [&str; 1] = ["requiresCompatibilities"];

/// The normal form.
pub(super) fn form(input: &Map<String, Value>) -> Value {
    let mut definition = Value::Object(input.clone());
    for field in ["cpu", "memory"] {
        if let Some(units) = units(&definition[field]) {
            definition[field] = json!(units);
        }
    }
    // In these modes the host port equals the container port; in others the runtime chooses an unspecified one.
    let is_same_port = matches!(definition["networkMode"].as_str(), Some("awsvpc" | "host"));
    let containers = definition["containerDefinitions"].as_array_mut();
    containers.into_iter().flatten().for_each(|container| drop_defaults(container, is_same_port));
    compact("", definition).unwrap_or_default()
}

/// Converts CPU units and MiB: `"1GB"`, `"1 vCPU"`, `"1024"` and `1024` are the same.
pub(super) fn units(value: &Value) -> Option<u64> {
    if let Some(number) = value.as_u64() {
        return Some(number);
    }
    let text = value.as_str()?.trim().to_ascii_lowercase();
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic() || c == ' ');
    match &text[digits.len()..].trim() {
        &"" => digits.parse().ok(),
        &"gb" | &"vcpu" => Some((digits.parse::<f64>().ok()? * 1024.0) as u64),
        _ => None,
    }
}

/// Removes members that equal the service's defaults.
fn drop_defaults(container: &mut Value, is_same_port: bool) {
    drop_if(container, "essential", |v| *v == true);
    drop_if(container, "cpu", |v| *v == 0);
    for port in container["portMappings"].as_array_mut().into_iter().flatten() {
        let inner = port["containerPort"].clone();
        drop_if(port, "protocol", |v| *v == "tcp");
        drop_if(port, "hostPort", |v| *v == 0 || (is_same_port && *v == inner));
    }
    let check = &mut container["healthCheck"];
    for (field, default) in [("interval", 30), ("timeout", 5), ("retries", 3), ("startPeriod", 0)] {
        drop_if(check, field, |v| *v == default);
    }
}

fn drop_if(object: &mut Value, field: &str, is_default: impl Fn(&Value) -> bool) {
    if let Some(object) = object.as_object_mut()
        && object.get(field).is_some_and(is_default)
    {
        object.remove(field);
    }
}

/// Removes null, empty and `false` members (except `essential: false` and empty strings), and sorts unordered lists.
fn compact(name: &str, value: Value) -> Option<Value> {
    match value {
        Value::Null => None,
        Value::Bool(false) if name != "essential" => None,
        Value::Array(items) => {
            let mut items: Vec<Value> = items.into_iter().filter_map(|item| compact("", item)).collect();
            let objects = items.iter().all(Value::is_object) && !ORDERED.contains(&name);
            if objects || SETS.contains(&name) {
                items.sort_by_cached_key(Value::to_string);
            }
            (!items.is_empty()).then_some(Value::Array(items))
        }
        Value::Object(fields) => {
            let mut fields: Vec<(String, Value)> = fields
                .into_iter()
                .filter_map(|(name, value)| Some((name.clone(), compact(&name, value)?)))
                .collect();
            fields.sort_by(|a, b| a.0.cmp(&b.0));
            (!fields.is_empty()).then(|| fields.into_iter().collect())
        }
        Value::Bool(_) | Value::Number(_) | Value::String(_) => Some(value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn same(a: Value, b: Value) -> bool {
        form(a.as_object().unwrap()) == form(b.as_object().unwrap())
    }

    #[test]
    fn ignores_the_defaults_of_the_service() {
        assert!(same(
            json!({ "family": "web", "networkMode": "awsvpc", "memory": "1GB", "cpu": ".5 vCPU", "containerDefinitions": [
                { "name": "b", "image": "i" },
                { "name": "a", "image": "i", "portMappings": [{ "containerPort": 80 }],
                  "healthCheck": { "command": ["CMD", "x"] }, "environment": [{ "name": "B", "value": "" }, { "name": "A", "value": "1" }] },
            ] }),
            json!({ "family": "web", "networkMode": "awsvpc", "memory": "1024", "cpu": "512", "volumes": [], "containerDefinitions": [
                { "name": "a", "image": "i", "essential": true, "cpu": 0, "mountPoints": [],
                  "portMappings": [{ "containerPort": 80, "hostPort": 80, "protocol": "tcp" }],
                  "healthCheck": { "command": ["CMD", "x"], "interval": 30, "timeout": 5, "retries": 3 },
                  "environment": [{ "name": "A", "value": "1" }, { "name": "B", "value": "" }] },
                { "name": "b", "image": "i", "readonlyRootFilesystem": false },
            ] }),
        ));
    }

    #[test]
    fn detects_significant_differences() {
        let with = |container: Value| json!({ "family": "web", "containerDefinitions": [container] });
        for (a, b) in [
            (json!({ "name": "a", "essential": false }), json!({ "name": "a" })),
            (json!({ "name": "a", "command": ["a", "b"] }), json!({ "name": "a", "command": ["b", "a"] })),
            (json!({ "name": "a", "environment": [{ "name": "A", "value": "" }] }), json!({ "name": "a" })),
            (
                json!({ "name": "a", "environmentFiles": [{ "value": "1" }, { "value": "2" }] }),
                json!({ "name": "a", "environmentFiles": [{ "value": "2" }, { "value": "1" }] }),
            ),
            (
                json!({ "name": "a", "portMappings": [{ "containerPort": 80, "hostPort": 8080 }] }),
                json!({ "name": "a", "portMappings": [{ "containerPort": 80 }] }),
            ),
        ] {
            assert!(!same(with(a.clone()), with(b.clone())), "{a} {b}");
        }
    }

    #[test]
    fn the_host_port_is_significant_only_in_bridge_mode() {
        let with = |mode: &str, port: Value| {
            json!({ "family": "web", "networkMode": mode, "containerDefinitions": [
                { "name": "web", "image": "i", "portMappings": [{ "containerPort": 80, "hostPort": port }] },
            ] })
        };
        for (mode, expected) in [("awsvpc", true), ("host", true), ("bridge", false)] {
            assert_eq!(same(with(mode, json!(80)), with(mode, json!(0))), expected, "{mode}");
        }
    }
}
