//! API discovery: server version, API groups, resources and OpenAPI.

use serde_json::{Value, json};

use super::{
    openapi,
    resource::{RESOURCES, Resource},
};

/// The response for a discovery path; `None` for other paths.
pub(super) fn answer(path: &str, version: &str) -> Option<Value> {
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    match parts.as_slice() {
        ["version"] => Some(server_version(version)),
        ["openapi", "v3"] => Some(openapi::index()),
        ["openapi", "v3", root @ ..] => openapi::document(&root.join("/"), version),
        ["api"] => {
            Some(json!({ "kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": [] }))
        }
        ["apis"] => Some(json!({ "kind": "APIGroupList", "apiVersion": "v1", "groups": groups() })),
        ["api", "v1"] => Some(resources("", "v1")),
        ["apis", group] => groups().into_iter().find(|g| g["name"] == *group),
        ["apis", group, version] => {
            let served = RESOURCES.iter().any(|r| r.group == *group && r.version == *version);
            served.then(|| resources(group, version))
        }
        _ => None,
    }
}

fn server_version(version: &str) -> Value {
    let (major, minor) = version.split_once('.').unwrap_or((version, ""));
    json!({
        "major": major,
        "minor": minor,
        "gitVersion": format!("v{version}.0-eks-sandbox"),
        "gitCommit": "",
        "gitTreeState": "clean",
        "buildDate": "2025-01-01T00:00:00Z",
        "goVersion": "none",
        "compiler": "none",
        "platform": "linux/amd64",
    })
}

fn groups() -> Vec<Value> {
    let mut seen = Vec::new();
    for resource in RESOURCES.iter().filter(|r| !r.group.is_empty()) {
        let version = json!({ "groupVersion": resource.api_version(), "version": resource.version });
        let group = json!({ "name": resource.group, "versions": [version], "preferredVersion": version });
        if !seen.contains(&group) {
            seen.push(group);
        }
    }
    seen
}

fn resources(group: &str, version: &str) -> Value {
    let served = RESOURCES.iter().filter(|r| r.group == group && r.version == version);
    let list: Vec<Value> = served.flat_map(with_subresources).collect();
    let group_version = if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
    json!({ "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version, "resources": list })
}

fn with_subresources(resource: &'static Resource) -> impl Iterator<Item = Value> {
    let verbs = ["create", "delete", "get", "list", "patch", "update", "watch"];
    let itself = json!({
        "name": resource.plural,
        "singularName": resource.kind.to_lowercase(),
        "namespaced": resource.namespaced,
        "kind": resource.kind,
        "verbs": verbs,
        "shortNames": resource.short,
    });
    let below = resource.subresources.iter().map(|sub| {
        let kind = if *sub == "scale" { "Scale" } else { resource.kind };
        json!({
            "name": format!("{}/{sub}", resource.plural),
            "singularName": "",
            "namespaced": resource.namespaced,
            "kind": kind,
            "verbs": ["get", "patch", "update"],
        })
    });
    std::iter::once(itself).chain(below)
}
