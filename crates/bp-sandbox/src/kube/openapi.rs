//! Minimal OpenAPI v3 documents, which kubectl reads before an apply to detect server-side field validation.
//!
//! With them kubectl does not validate manifests itself. The model stores unknown fields.

use serde_json::{Map, Value, json};

use super::resource::{RESOURCES, Resource};

/// The index of documents, one per group and version.
pub(super) fn index() -> Value {
    let entry = |resource: &Resource| {
        let root = root(resource);
        let url = json!({ "serverRelativeURL": format!("/openapi/v3/{root}") });
        (root, url)
    };
    json!({ "paths": RESOURCES.iter().map(entry).collect::<Map<_, _>>() })
}

/// The document at `apis/apps/v1` or `api/v1`.
pub(super) fn document(wanted: &str, version: &str) -> Option<Value> {
    let paths: Map<_, _> = RESOURCES.iter().filter(|resource| root(resource) == wanted).map(path).collect();
    let info = json!({ "title": "Kubernetes", "version": format!("v{version}.0") });
    (!paths.is_empty()).then(|| json!({ "openapi": "3.0.0", "info": info, "paths": paths }))
}

fn root(resource: &Resource) -> String {
    let prefix = if resource.group.is_empty() { "api" } else { "apis" };
    format!("{prefix}/{}", resource.api_version())
}

/// The path of a resource, with the parameters of PATCH.
fn path(resource: &Resource) -> (String, Value) {
    let namespace = if resource.namespaced { "namespaces/{namespace}/" } else { "" };
    let patch = json!({
        "parameters": [{ "name": "fieldValidation", "in": "query", "schema": { "type": "string" } }],
        "responses": { "200": { "description": "OK" } },
        "x-kubernetes-action": "patch",
        "x-kubernetes-group-version-kind":
            { "group": resource.group, "version": resource.version, "kind": resource.kind },
    });
    (format!("/{}/{namespace}{}/{{name}}", root(resource), resource.plural), json!({ "patch": patch }))
}
