//! API discovery: server version, API groups, resources and OpenAPI.

mod aggregated;
mod verbs;

use http::{Response, request};
use serde_json::{Value, json};

use self::verbs::{Subresource, verbs};
use super::{
    negotiation::{BUILT_IN, clauses, negotiate},
    openapi,
    resource::{Resource, Resources},
    status::{Answer, json_response},
};
use crate::body::Body;

/// The response for a discovery path; `None` for other paths.
pub(super) fn answer(
    parts: &request::Parts,
    version: &str,
    resources: &Resources,
) -> Option<Answer<Response<Body>>> {
    let path: Vec<&str> = parts.uri.path().split('/').filter(|part| !part.is_empty()).collect();
    if let ["api" | "apis"] = path.as_slice()
        && let Some(version) = aggregated::is_wanted(&clauses(&parts.headers))
    {
        return Some(Ok(aggregated::answer(path[0] == "api", version, resources)));
    }
    if let ["openapi", ..] = path.as_slice() {
        // These documents have formats of their own.
        return openapi::answer(&path[1..], version, resources)
            .map(|document| Ok(json_response(200, &document)));
    }
    let document = document(&path, version, resources)?;
    Some(negotiate(&parts.headers, BUILT_IN).map(|accepted| accepted.render(200, &document)))
}

fn document(path: &[&str], version: &str, all: &Resources) -> Option<Value> {
    match path {
        ["version"] => Some(server_version(version)),
        ["api"] => {
            Some(json!({ "kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": [] }))
        }
        ["apis"] => Some(json!({ "kind": "APIGroupList", "apiVersion": "v1", "groups": groups(all) })),
        ["api", "v1"] => Some(resources("", "v1", all)),
        ["apis", group] => {
            let mut found = groups(all).into_iter().find(|g| g["name"] == *group)?;
            found["kind"] = json!("APIGroup");
            found["apiVersion"] = json!("v1");
            Some(found)
        }
        ["apis", group, version] => {
            let served = all.find(|r| r.group == *group && r.version == *version);
            served.map(|_| resources(group, version, all))
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

fn groups(all: &Resources) -> Vec<Value> {
    let mut groups: Vec<Value> = Vec::new();
    for resource in all.all().into_iter().filter(|r| !r.group.is_empty()) {
        let version = json!({ "groupVersion": resource.api_version(), "version": resource.version });
        match groups.iter_mut().find(|group| group["name"] == resource.group) {
            None => groups
                .push(json!({ "name": resource.group, "versions": [version], "preferredVersion": version })),
            Some(group) => {
                if let Some(versions) = group["versions"].as_array_mut().filter(|v| !v.contains(&version)) {
                    versions.push(version);
                }
            }
        }
    }
    groups
}

fn resources(group: &str, version: &str, all: &Resources) -> Value {
    let served = all.all().into_iter().filter(|r| r.group == group && r.version == version);
    let list: Vec<Value> = served.flat_map(with_subresources).collect();
    let group_version = if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
    json!({ "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version, "resources": list })
}

fn with_subresources(resource: &'static Resource) -> impl Iterator<Item = Value> {
    let mut itself = json!({
        "name": resource.plural,
        "singularName": resource.singular(),
        "namespaced": resource.namespaced,
        "kind": resource.kind,
        "verbs": verbs(resource),
    });
    for (field, names) in [("shortNames", resource.short), ("categories", resource.categories)] {
        if !names.is_empty() {
            itself[field] = json!(names);
        }
    }
    let below = resource.subresources.iter().map(|sub| {
        let Subresource { group, version, kind, verbs } = Subresource::of(resource, sub);
        let mut below = json!({
            "name": format!("{}/{sub}", resource.plural),
            "singularName": "",
            "namespaced": resource.namespaced,
            "kind": kind,
            "verbs": verbs,
        });
        if (group, version) != (resource.group, resource.version) {
            below["group"] = json!(group);
            below["version"] = json!(version);
        }
        below
    });
    std::iter::once(itself).chain(below)
}
