//! Aggregated discovery: all groups, versions and resources in one document.

use http::Response;
use serde_json::{Value, json};

use super::{
    super::{
        negotiation::Clause,
        resource::{Resource, Resources},
    },
    verbs::{Subresource, verbs},
};
use crate::body::Body;

/// The version of the document that the client prefers to a list of groups, if any.
pub(super) fn is_wanted(clauses: &[Clause<'_>]) -> Option<&'static str> {
    let preferred = clauses.iter().find_map(|clause| match clause.media_type {
        "application/json" if clause.parameter("as") == Some("APIGroupDiscoveryList") => {
            let is_group = clause.parameter("g") == Some("apidiscovery.k8s.io");
            match clause.parameter("v").filter(|_| is_group) {
                Some("v2") => Some(Some("v2")),
                Some("v2beta1") => Some(Some("v2beta1")),
                _ => None,
            }
        }
        // The client prefers the list.
        "application/json" | "*/*" | "application/*" if clause.parameter("as").is_none() => Some(None),
        _ => None,
    });
    preferred.flatten()
}

/// The document of the core group, or of all others.
pub(super) fn answer(is_core: bool, version: &str, resources: &Resources) -> Response<Body> {
    let mut groups: Vec<(&str, Vec<&'static Resource>)> = Vec::new();
    for resource in resources.all().into_iter().filter(|resource| resource.group.is_empty() == is_core) {
        match groups.iter_mut().find(|(name, _)| *name == resource.group) {
            Some((_, members)) => members.push(resource),
            None => groups.push((resource.group, vec![resource])),
        }
    }
    let document = json!({
        "kind": "APIGroupDiscoveryList",
        "apiVersion": format!("apidiscovery.k8s.io/{version}"),
        "metadata": {},
        "items": groups.iter().map(|(name, members)| group(name, members)).collect::<Vec<_>>(),
    });
    let media_type = format!("application/json;g=apidiscovery.k8s.io;v={version};as=APIGroupDiscoveryList");
    let response = Response::builder().header("content-type", media_type);
    response.body(Body::from(document.to_string())).expect("constant headers")
}

fn group(name: &str, members: &[&'static Resource]) -> Value {
    let mut versions: Vec<&str> = members.iter().map(|resource| resource.version).collect();
    versions.dedup();
    let versions: Vec<Value> = versions
        .iter()
        .map(|version| {
            let resources = members.iter().filter(|resource| resource.version == *version);
            json!({
                "version": version,
                "resources": resources.map(|resource| document(resource)).collect::<Vec<_>>(),
                "freshness": "Current",
            })
        })
        .collect();
    let metadata = if name.is_empty() { json!({}) } else { json!({ "name": name }) };
    json!({ "metadata": metadata, "versions": versions })
}

fn document(resource: &Resource) -> Value {
    let kind =
        |group: &str, version: &str, kind: &str| json!({ "group": group, "version": version, "kind": kind });
    let subresources: Vec<Value> = resource
        .subresources
        .iter()
        .map(|name| {
            let below = Subresource::of(resource, name);
            json!({
                "subresource": name,
                "responseKind": kind(below.group, below.version, below.kind),
                "verbs": below.verbs,
            })
        })
        .collect();
    json!({
        "resource": resource.plural,
        "responseKind": kind(resource.group, resource.version, resource.kind),
        "scope": if resource.namespaced { "Namespaced" } else { "Cluster" },
        "singularResource": resource.singular(),
        "verbs": verbs(resource),
        "shortNames": resource.short,
        "categories": resource.categories,
        "subresources": subresources,
    })
}
