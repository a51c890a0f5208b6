//! The JSON Schema of `bp.toml` for editors, generated from the keys that the parser accepts.
#![allow(clippy::indexing_slicing, reason = "the objects are those of this module")]

use serde_json::{Value, json};

use super::keys::{GATE_KINDS, Key, Keys, Kind, NAME, NAME_FORM, POLICY_TABLES, PROJECT, SERVICE_NAME};

/// The JSON Schema (draft 2020-12) of `bp.toml`.
///
/// Editors with a TOML language server use it with a first line `#:schema <path or URL>`. The schema describes a
/// complete file; an overlay may omit required keys.
///
/// ```
/// let schema = bp_artifact::config::config_schema();
/// assert_eq!(schema["required"][0], "version");
/// ```
pub fn config_schema() -> Value {
    let mut environment = section(Keys::environment().named(&NAME).iter());
    environment["required"] = json!(["name", "region", "registry"]);
    environment["properties"]["service"] = json!({
        "type": "object",
        "description": "Settings of a service in this environment, by the service's name.",
        "additionalProperties": section(Keys::service_here().iter()),
    });
    let mut gate = section(Keys::gate().iter());
    let kinds = GATE_KINDS.map(|kind| json!({ "required": [kind] }));
    gate["oneOf"] = kinds.into_iter().collect();
    gate["dependentRequired"] = json!({ "status": ["url"], "contains": ["url"], "json": ["url"] });
    let not_of_approval = ["timeout", "deploy", "verify"].map(|key| json!({ "required": [key] }));
    gate["not"] = json!({ "required": ["approval"], "anyOf": not_of_approval });
    gate["properties"]["json"]["propertyNames"] = json!({ "pattern": "^/" });
    environment["properties"]["gate"] = json!({
        "type": "object",
        "description": "Approvals and checks between the stages of a deployment, by the gate's name.",
        "propertyNames": { "pattern": NAME_FORM },
        "additionalProperties": gate,
    });
    for (name, keys) in POLICY_TABLES {
        environment["properties"]["policy"]["properties"][name] = json!({
            "type": "object",
            "propertyNames": { "pattern": NAME_FORM },
            "additionalProperties": section(keys),
        });
    }
    let mut service = section(Keys::service().named(&SERVICE_NAME).iter());
    service["required"] = json!(["name", "repository"]);
    let mut project = section(PROJECT);
    project["required"] = json!(["name"]);
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "bp.toml",
        "type": "object",
        "additionalProperties": false,
        "required": ["version", "project", "environment"],
        "properties": {
            "version": { "const": 1, "description": "The version of the format." },
            "project": project,
            "service": {
                "type": "array",
                "minItems": 1,
                "description": "The services, if there are several. Without it there is one service without a name.",
                "items": service,
            },
            "environment": {
                "type": "array",
                "minItems": 1,
                "description": "The environments, in promotion order.",
                "items": environment,
            },
        },
        "if": { "not": { "required": ["service"] } },
        "then": { "properties": {
            "project": { "required": ["repository"] },
            "environment": { "items": { "properties": {
                "ecs": { "required": ["cluster", "service"] },
                "eks": { "required": ["cluster", "namespace"] },
            } } },
        } },
    })
}

/// A table with these keys; each dot of a key separates a nested table, and `*` stands for any name in one.
fn section<'a>(keys: impl IntoIterator<Item = &'a Key>) -> Value {
    let empty = || json!({ "type": "object", "additionalProperties": false, "properties": {} });
    let mut section = empty();
    for key in keys {
        let mut table = &mut section;
        let mut segments = key.name.split('.').peekable();
        while let Some(name) = segments.next() {
            let below = &mut table["properties"][name];
            match segments.peek() {
                None => *below = value(key),
                Some(&"*") => {
                    *below = json!({ "type": "object", "additionalProperties": value(key) });
                    break;
                }
                Some(_) if below.is_null() => *below = empty(),
                Some(_) => {}
            }
            table = below;
        }
    }
    section
}

fn value(key: &Key) -> Value {
    let about = key.about;
    match key.kind {
        Kind::Text => json!({ "type": "string", "description": about }),
        Kind::Form(pattern) => json!({ "type": "string", "description": about, "pattern": pattern }),
        Kind::OneOf(words) => json!({ "enum": words, "description": about }),
        Kind::Count => json!({ "type": "integer", "minimum": 1, "description": about }),
        Kind::Number => json!({ "type": "integer", "minimum": 0, "description": about }),
        Kind::Status => json!({ "type": "integer", "minimum": 100, "maximum": 599, "description": about }),
        Kind::True => json!({ "const": true, "description": about }),
        Kind::Words => json!({
            "type": "array",
            "minItems": 1,
            "prefixItems": [{ "type": "string", "minLength": 1 }],
            "items": { "type": "string" },
            "description": about,
        }),
        Kind::CountOrPercent => json!({
            "anyOf": [{ "type": "integer", "minimum": 1 }, { "type": "string", "pattern": "^([1-9][0-9]?|100)%$" }],
            "description": about,
        }),
    }
}
