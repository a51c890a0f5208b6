//! The JSON Schema of `bp.toml`, for editors: made of the keys that the reader knows, so that it cannot tell others.

use serde_json::{Map, Value, json};

use super::layer::{ENVIRONMENT, Keys, PROJECT};

/// The JSON Schema (draft 2020-12) of `bp.toml`.
///
/// Editors with a TOML language server take it by a first line `#:schema <path or URL>`.
pub fn config_schema() -> Value {
    let mut environment = section(ENVIRONMENT);
    environment["properties"]["name"] = json!({
        "type": "string",
        "description": "The environment's name.",
        "pattern": "^[a-z]([a-z0-9-]*[a-z0-9])?$",
    });
    environment["properties"]["account"]["pattern"] = json!("^[0-9]{12}$");
    environment["required"] = json!(["name", "region", "registry"]);
    environment["properties"]["ecs"]["required"] = json!(["cluster", "service"]);
    environment["properties"]["eks"]["required"] = json!(["cluster", "namespace", "workload"]);
    let mut project = section(PROJECT);
    project["required"] = json!(["name", "repository"]);
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "bp.toml",
        "type": "object",
        "additionalProperties": false,
        "required": ["version", "project", "environment"],
        "properties": {
            "version": { "const": 1, "description": "The version of the format." },
            "project": project,
            "environment": {
                "type": "array",
                "minItems": 1,
                "description": "The environments, in the order in which an image passes through them.",
                "items": environment,
            },
        },
    })
}

/// A table with these keys; a key with a dot is of a table below it.
fn section(keys: &Keys) -> Value {
    let mut properties = Map::new();
    for (key, description) in keys {
        let text = json!({ "type": "string", "description": description });
        match key.split_once('.') {
            None => drop(properties.insert((*key).to_owned(), text)),
            Some((table, "*")) => {
                let tags = json!({ "type": "object", "additionalProperties": text });
                properties.insert(table.to_owned(), tags);
            }
            Some((table, key)) => {
                let empty = || json!({ "type": "object", "additionalProperties": false, "properties": {} });
                properties.entry(table).or_insert_with(empty)["properties"][key] = text;
            }
        }
    }
    json!({ "type": "object", "additionalProperties": false, "properties": properties })
}
