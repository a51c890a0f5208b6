//! OpenAPI v3 documents: the schemas that `kubectl explain` shows, and the parameters by which kubectl detects that the
//! server validates fields and supports dry runs.

use serde_json::{Map, Value, json};

use super::{
    resource::{Resource, Resources},
    schema::{self, Field, Kind, Message, Shape, Strategy},
};

/// The response for a path below `/openapi`.
pub(super) fn answer(path: &[&str], version: &str, resources: &Resources) -> Option<Value> {
    match path {
        ["v3"] => Some(index(resources)),
        ["v3", root @ ..] => document(&root.join("/"), version, resources),
        _ => None,
    }
}

/// The index of documents, one per group and version.
fn index(resources: &Resources) -> Value {
    let entry = |resource: &Resource| {
        let root = root(resource);
        // Clients cache a document by its URL, so that it changes with the custom resources.
        let hash = resource.custom.map(|definition| format!("?hash={:016X}", hash(&definition.schema)));
        let url = format!("/openapi/v3/{root}{}", hash.unwrap_or_default());
        (root, json!({ "serverRelativeURL": url }))
    };
    json!({ "paths": resources.all().into_iter().map(entry).collect::<Map<_, _>>() })
}

fn hash(value: &Value) -> u64 {
    value
        .to_string()
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// The document at `apis/apps/v1` or `api/v1`.
fn document(wanted: &str, version: &str, resources: &Resources) -> Option<Value> {
    let members: Vec<_> = resources.all().into_iter().filter(|resource| root(resource) == wanted).collect();
    if members.is_empty() {
        return None;
    }
    let mut schemas = Map::new();
    let mut paths = Map::new();
    for resource in members {
        let name = match (resource.custom, schema::of(&resource.api_version(), resource.kind)) {
            (None, Some(message)) => {
                add_message(message, &mut schemas);
                add_kind(&mut schemas, message.name, resource);
                message.name.to_owned()
            }
            (custom, _) => {
                let name = format!("{}.{}.{}", resource.group, resource.version, resource.kind);
                let schema = custom.map_or_else(
                    || json!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true }),
                    |definition| definition.schema.clone(),
                );
                schemas.insert(name.clone(), schema);
                if let Some(metadata) = schema::message("meta.v1.ObjectMeta") {
                    add_message(metadata, &mut schemas);
                }
                add_kind(&mut schemas, &name, resource);
                name
            }
        };
        let (path, operations) = path(resource, &name);
        paths.insert(path, operations);
    }
    let info = json!({ "title": "Kubernetes", "version": format!("v{version}.0") });
    Some(json!({
        "openapi": "3.0.0",
        "info": info,
        "paths": paths,
        "components": { "schemas": schemas },
    }))
}

fn root(resource: &Resource) -> String {
    let prefix = if resource.group.is_empty() { "api" } else { "apis" };
    format!("{prefix}/{}", resource.api_version())
}

fn group_version_kind(resource: &Resource) -> Value {
    json!({ "group": resource.group, "version": resource.version, "kind": resource.kind })
}

/// The path of a resource, with the parameters of PATCH.
fn path(resource: &Resource, schema: &str) -> (String, Value) {
    let namespace = if resource.namespaced { "namespaces/{namespace}/" } else { "" };
    let parameter = |name: &str| json!({ "name": name, "in": "query", "schema": { "type": "string" } });
    let reference = json!({ "$ref": format!("#/components/schemas/{schema}") });
    let content = json!({ "application/json": { "schema": reference } });
    let parameters = ["dryRun", "fieldManager", "fieldValidation"].map(parameter);
    let operation = |action: &str| {
        json!({
            "parameters": parameters,
            "responses": { "200": { "description": "OK", "content": content } },
            "x-kubernetes-action": action,
            "x-kubernetes-group-version-kind": group_version_kind(resource),
        })
    };
    let operations = json!({ "get": operation("get"), "patch": operation("patch"), "put": operation("put") });
    (format!("/{}/{namespace}{}/{{name}}", root(resource), resource.plural), operations)
}

/// Adds the fields of every kind, and its group, version and kind.
fn add_kind(schemas: &mut Map<String, Value>, name: &str, resource: &Resource) {
    let Some(schema) = schemas.get_mut(name) else { return };
    for field in ["apiVersion", "kind"] {
        schema["properties"][field] = json!({ "type": "string" });
    }
    schema["properties"]["metadata"] = reference("meta.v1.ObjectMeta");
    schema["x-kubernetes-group-version-kind"] = json!([group_version_kind(resource)]);
}

/// A reference to a message; a reference has no members of its own.
fn reference(name: &str) -> Value {
    json!({ "allOf": [{ "$ref": format!("#/components/schemas/{name}") }], "default": {} })
}

/// Adds a message and everything that it consists of.
fn add_message(message: &Message, schemas: &mut Map<String, Value>) {
    if schemas.contains_key(message.name) {
        return;
    }
    // Before its fields: messages may contain themselves.
    schemas.insert(message.name.to_owned(), Value::Null);
    let mut properties = Map::new();
    let mut required = Vec::new();
    for field in message.properties() {
        if let Some(below) = field.kind.message() {
            add_message(below, schemas);
        }
        if let Some((name, schema)) = named(field.kind) {
            schemas.insert(name.to_owned(), schema);
        }
        properties.insert(field.json.to_owned(), property(field));
        if field.always && field.kind.message().is_none() {
            required.push(field.json);
        }
    }
    let mut schema = json!({ "type": "object", "properties": properties });
    if !required.is_empty() {
        schema["required"] = json!(required);
    }
    if message.atomic {
        schema["x-kubernetes-map-type"] = json!("atomic");
    }
    schemas.insert(message.name.to_owned(), schema);
}

const QUANTITY: &str = "resource.Quantity";
const INT_OR_STRING: &str = "intstr.IntOrString";

/// The schema of a kind of value that has a name, which `kubectl explain` shows.
fn named(kind: Kind) -> Option<(&'static str, Value)> {
    match kind {
        Kind::Quantity => Some((QUANTITY, json!({ "oneOf": [{ "type": "string" }, { "type": "number" }] }))),
        Kind::IntOrString => {
            let schema =
                json!({ "oneOf": [{ "type": "integer" }, { "type": "string" }], "format": "int-or-string" });
            Some((INT_OR_STRING, schema))
        }
        Kind::Text
        | Kind::Duration
        | Kind::Int32
        | Kind::Int64
        | Kind::Bool
        | Kind::Bytes
        | Kind::Double
        | Kind::Time
        | Kind::MicroTime
        | Kind::Json
        | Kind::Any
        | Kind::Strings
        | Kind::Message(_) => None,
    }
}

fn property(field: &Field) -> Value {
    let one = match field.kind {
        Kind::Text | Kind::Duration => json!({ "type": "string" }),
        Kind::Int32 => json!({ "type": "integer", "format": "int32" }),
        Kind::Int64 => json!({ "type": "integer", "format": "int64" }),
        Kind::Bool => json!({ "type": "boolean" }),
        Kind::Bytes => json!({ "type": "string", "format": "byte" }),
        Kind::Double => json!({ "type": "number", "format": "double" }),
        Kind::Quantity => reference(QUANTITY),
        Kind::IntOrString => reference(INT_OR_STRING),
        Kind::Time | Kind::MicroTime => json!({ "type": "string", "format": "date-time" }),
        Kind::Json | Kind::Any => json!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true }),
        Kind::Strings => json!({ "type": "array", "items": { "type": "string" } }),
        Kind::Message(name) => reference(name),
    };
    let mut property = match field.shape {
        Shape::One => one,
        Shape::List => json!({ "type": "array", "items": one }),
        Shape::Map => json!({ "type": "object", "additionalProperties": one }),
    };
    let kind = if field.shape == Shape::Map { "x-kubernetes-map-type" } else { "x-kubernetes-list-type" };
    match &field.strategy {
        Some(Strategy::Keys(keys)) => {
            property["x-kubernetes-list-type"] = json!("map");
            property["x-kubernetes-list-map-keys"] = json!(keys);
        }
        Some(Strategy::Set) => property[kind] = json!("set"),
        Some(Strategy::Atomic) => property[kind] = json!("atomic"),
        None => {}
    }
    if let Some(key) = field.merge_key {
        property["x-kubernetes-patch-strategy"] = json!("merge");
        if !key.is_empty() {
            property["x-kubernetes-patch-merge-key"] = json!(key);
        }
    }
    property
}
