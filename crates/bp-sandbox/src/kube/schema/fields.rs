//! Fields of objects compared with the schema: unknown fields, and values of a wrong type.

use serde_json::{Map, Value};

use super::table::{Field, Kind, Message, Shape};

/// Removes the unknown fields of an object, and adds their paths to `unknown`.
pub(in crate::kube) fn prune(message: &Message, object: &mut Value, unknown: &mut Vec<String>) {
    prune_message(message, object, "", true, unknown);
}

fn prune_message(message: &Message, value: &mut Value, path: &str, root: bool, unknown: &mut Vec<String>) {
    let Some(map) = value.as_object_mut() else { return };
    let typed = |name: &str| root && matches!(name, "apiVersion" | "kind");
    map.retain(|name, value| match message.field(name) {
        Some(field) => {
            prune_field(field, value, &join(path, name), unknown);
            true
        }
        None if typed(name) => true,
        None => {
            unknown.push(join(path, name));
            false
        }
    });
}

fn prune_field(field: &Field, value: &mut Value, path: &str, unknown: &mut Vec<String>) {
    let Some(message) = field.kind.message() else { return };
    match (field.shape, value) {
        (Shape::One, value) => prune_message(message, value, path, false, unknown),
        (Shape::List, value) => {
            for (at, item) in value.as_array_mut().into_iter().flatten().enumerate() {
                // The items of a List are objects.
                let root = message.field("metadata").is_some();
                prune_message(message, item, &format!("{path}[{at}]"), root, unknown);
            }
        }
        (Shape::Map, value) => {
            for (key, item) in value.as_object_mut().into_iter().flatten() {
                prune_message(message, item, &join(path, key), false, unknown);
            }
        }
    }
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

/// A value whose type is not that of its field.
#[derive(Debug, PartialEq)]
pub(in crate::kube) struct WrongType {
    /// The field with its message, without indexes: `EnvVar.spec.containers.env.value`.
    pub(in crate::kube) field: String,
    pub(in crate::kube) found: &'static str,
    /// The value as Go prints it in errors of server-side apply.
    pub(in crate::kube) shown: String,
    pub(in crate::kube) expected: String,
}

/// The first value of a wrong type.
pub(in crate::kube) fn check_types(message: &Message, object: &Value) -> Result<(), WrongType> {
    object.as_object().map_or(Ok(()), |map| check_message(message, map, ""))
}

fn check_message(message: &Message, map: &Map<String, Value>, path: &str) -> Result<(), WrongType> {
    for (name, value) in map {
        let Some(field) = message.field(name) else { continue };
        let path = join(path, name);
        let (fits, prefix) = match (field.shape, value) {
            (_, Value::Null) => (true, ""),
            (Shape::One, value) => (check_value(field.kind, value, &path)?, ""),
            (Shape::List, Value::Array(items)) => (check_all(field.kind, items.iter(), &path)?, ""),
            (Shape::Map, Value::Object(items)) => (check_all(field.kind, items.values(), &path)?, ""),
            (Shape::List, _) => (false, "[]"),
            (Shape::Map, _) => (false, "map[string]"),
        };
        if !fits {
            return Err(WrongType {
                field: format!("{}.{path}", message.name.rsplit('.').next().unwrap_or_default()),
                found: type_of(value),
                shown: match value {
                    Value::String(text) => format!("&{{{text}}}"),
                    value => format!("&value.valueUnstructured{{Value:{value}}}"),
                },
                expected: format!("{prefix}{}", go_type(field.kind)),
            });
        }
    }
    Ok(())
}

fn check_all<'v>(kind: Kind, items: impl Iterator<Item = &'v Value>, path: &str) -> Result<bool, WrongType> {
    for item in items {
        if !check_value(kind, item, path)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Whether the value has the type; an error is about a field of it.
fn check_value(kind: Kind, value: &Value, path: &str) -> Result<bool, WrongType> {
    let fits = match kind {
        Kind::Text | Kind::Bytes | Kind::Duration | Kind::Time | Kind::MicroTime => value.is_string(),
        Kind::Int32 | Kind::Int64 => value.is_i64() || value.is_u64(),
        Kind::Bool => value.is_boolean(),
        Kind::Double => value.is_number(),
        Kind::Quantity => value.is_string() || value.is_number(),
        Kind::IntOrString => value.is_string() || value.is_i64(),
        Kind::Strings => value.is_array(),
        Kind::Json | Kind::Any => true,
        Kind::Message(_) => match (kind.message(), value.as_object()) {
            (Some(message), Some(map)) => check_message(message, map, path).map(|()| true)?,
            (_, found) => found.is_some(),
        },
    };
    Ok(fits || value.is_null())
}

/// The name of a type in Go: `v1.Container` of a message.
fn go_type(kind: Kind) -> &'static str {
    match kind {
        Kind::Text | Kind::Duration => "string",
        Kind::Bytes => "[]uint8",
        Kind::Int32 => "int32",
        Kind::Int64 => "int64",
        Kind::Bool => "bool",
        Kind::Double => "float64",
        Kind::Quantity => "resource.Quantity",
        Kind::IntOrString => "intstr.IntOrString",
        Kind::Time => "v1.Time",
        Kind::MicroTime => "v1.MicroTime",
        Kind::Strings => "[]string",
        Kind::Json | Kind::Any => "runtime.RawExtension",
        Kind::Message(name) => name.split_once('.').map_or(name, |(_, rest)| rest),
    }
}

/// The type of a JSON value in the messages of Go.
fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{super::table::message, *};

    fn deployment(container: Value) -> Value {
        json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "web", "labels": { "x": "y" } },
            "spec": { "template": { "spec": { "containers": [container] } } },
        })
    }

    #[test]
    fn unknown_fields_are_removed_and_reported_with_their_path() {
        let mut object =
            deployment(json!({ "name": "web", "imagee": "x", "resources": { "limits": { "cpu": "1" } } }));
        object["spec"]["replica"] = json!(2);
        let mut unknown = Vec::new();
        prune(message("apps.v1.Deployment").unwrap(), &mut object, &mut unknown);
        unknown.sort();
        assert_eq!(unknown, ["spec.replica", "spec.template.spec.containers[0].imagee"]);
        let expected = deployment(json!({ "name": "web", "resources": { "limits": { "cpu": "1" } } }));
        assert_eq!(object, expected);
    }

    #[test]
    fn a_value_of_a_wrong_type_is_reported_as_go_reports_it() {
        let wrong = |container| {
            check_types(message("apps.v1.Deployment").unwrap(), &deployment(container)).unwrap_err()
        };
        let env = wrong(json!({ "name": "web", "env": [{ "name": "PORT", "value": 80 }] }));
        assert_eq!(env.field, "EnvVar.spec.template.spec.containers.env.value");
        assert_eq!((env.found, env.expected.as_str()), ("number", "string"));
        assert_eq!(wrong(json!("web")).expected, "v1.Container");
        assert_eq!(wrong(json!({ "args": "x" })).expected, "[]string");
        let fine = deployment(
            json!({ "name": "web", "ports": null, "livenessProbe": { "tcpSocket": { "port": "http" } } }),
        );
        check_types(message("apps.v1.Deployment").unwrap(), &fine).unwrap();
    }
}
