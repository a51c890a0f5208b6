//! The API resources of the objects: plural and scope, from discovery, or from a definition in the manifests themselves.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::APIResourceList;
use kube::core::ApiResource;
use serde_json::Value;

use super::{error::ManifestsError, object::Manifest, order::is_definition};
use crate::api::scope::Scope;

/// The resource of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Resource {
    pub(super) api: ApiResource,
    pub(super) is_namespaced: bool,
    /// Whether the cluster does not serve it yet: its definition is one of the objects.
    pub(super) is_pending: bool,
}

/// The resources by API version and kind.
pub(super) type Resources = BTreeMap<(String, String), Resource>;

/// Finds the resource of every object.
///
/// # Errors
/// When the cluster cannot be asked, or serves a kind neither now nor after the definitions are applied.
pub(super) async fn find(scope: &Scope, manifests: &[Manifest]) -> Result<Resources, ManifestsError> {
    let versions: BTreeSet<&str> = manifests.iter().map(|manifest| manifest.api_version.as_str()).collect();
    let mut found = Resources::new();
    for version in versions {
        if let Some(served) = served(scope, version).await? {
            for resource in served.resources.iter().filter(|resource| !resource.name.contains('/')) {
                let (plural, kind) = (resource.name.clone(), resource.kind.clone());
                let resource = Resource {
                    api: api_resource(version, &kind, plural),
                    is_namespaced: resource.namespaced,
                    is_pending: false,
                };
                found.insert((version.to_owned(), kind), resource);
            }
        }
    }
    for definition in manifests.iter().filter(|manifest| is_definition(manifest)) {
        for (key, resource) in defined(&definition.object) {
            found.entry(key).or_insert(resource);
        }
    }
    let is_unknown =
        |manifest: &&Manifest| !found.contains_key(&(manifest.api_version.clone(), manifest.kind.clone()));
    match manifests.iter().find(is_unknown) {
        Some(unknown) => Err(ManifestsError::UnknownKind {
            at: unknown.at.clone(),
            api_version: unknown.api_version.clone(),
            kind: unknown.kind.clone(),
        }),
        None => Ok(found),
    }
}

/// The resources of an API version; `None` if it is not served.
async fn served(scope: &Scope, version: &str) -> Result<Option<APIResourceList>, ManifestsError> {
    let listed = if version.contains('/') {
        scope.client.list_api_group_resources(version).await
    } else {
        scope.client.list_core_api_resources(version).await
    };
    match listed {
        Ok(list) => Ok(Some(list)),
        // A plain text, not a `Status`.
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(None),
        Err(error) => Err(scope.all("resource").error("list API resources", error).into()),
    }
}

fn api_resource(api_version: &str, kind: &str, plural: String) -> ApiResource {
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    ApiResource {
        group: group.to_owned(),
        version: version.to_owned(),
        api_version: api_version.to_owned(),
        kind: kind.to_owned(),
        plural,
    }
}

/// The resources that a definition of custom resources adds, one for each version.
fn defined(definition: &Value) -> Vec<((String, String), Resource)> {
    let spec = &definition["spec"];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (group, kind, plural) =
        (text(&spec["group"]), text(&spec["names"]["kind"]), text(&spec["names"]["plural"]));
    let versions = spec["versions"].as_array().into_iter().flatten();
    let versions = versions.filter(|version| version["served"] != false);
    let resource = |version: &Value| {
        let api_version = format!("{group}/{}", text(&version["name"]));
        let resource = Resource {
            api: api_resource(&api_version, &kind, plural.clone()),
            is_namespaced: spec["scope"] != "Cluster",
            is_pending: true,
        };
        ((api_version, kind.clone()), resource)
    };
    versions.map(resource).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn reads_the_resources_of_a_definition() {
        let definition = json!({ "spec": {
            "group": "example.com", "scope": "Cluster", "names": { "kind": "Shop", "plural": "shops" },
            "versions": [{ "name": "v1", "served": true }, { "name": "v1beta1", "served": false }],
        } });
        let key = |text: &str| ("example.com/".to_owned() + text, "Shop".to_owned());
        let [(found, resource)] = defined(&definition).try_into().unwrap();
        assert_eq!(found, key("v1"));
        assert_eq!(
            (resource.api.plural.as_str(), resource.is_namespaced, resource.is_pending),
            ("shops", false, true)
        );
        assert_eq!(defined(&json!({})), []);
    }
}
