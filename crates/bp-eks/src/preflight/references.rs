//! Check that the Secrets and ConfigMaps referenced by the pods exist and have the referenced keys.

use std::collections::{BTreeMap, BTreeSet};

use bp_artifact::deploy::{
    Cause,
    preflight::{Finding, FindingState},
};
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use serde_json::Value;

use crate::{rollout::api::WorkloadApi, workload::Live};

impl WorkloadApi {
    /// Whether the referenced Secrets and ConfigMaps exist, with their keys.
    pub(super) async fn references(&self, live: &Live) -> Vec<Finding> {
        let mut findings = Vec::new();
        for reference in references(live.template()) {
            findings.push(self.reference(&reference).await);
        }
        findings
    }

    async fn reference(&self, reference: &Reference) -> Finding {
        let Reference { is_secret, name, key } = reference;
        let (kind, cause) =
            if *is_secret { ("secret", Cause::SecretMissing) } else { ("config map", Cause::ConfigInvalid) };
        let found = if *is_secret {
            let found = self.scope.api::<Secret>().get_opt(name).await;
            found.map(|found| found.map(|s| keys(&s.data, &s.string_data)))
        } else {
            let found = self.scope.api::<ConfigMap>().get_opt(name).await;
            found.map(|found| found.map(|m| keys(&m.data, &m.binary_data)))
        };
        let finding = |state, message: String| Finding::new(format!("{kind} {name}"), state, message);
        match (found, key) {
            (Ok(None), _) => {
                let message = "does not exist; create it, or correct its name in the pod template";
                finding(FindingState::Missing, message.to_owned()).cause(cause)
            }
            (Ok(Some(keys)), Some(key)) if !keys.contains(key) => {
                let message = format!("has no key {key:?}; add it, or correct it in the pod template");
                finding(FindingState::Invalid, message).cause(cause)
            }
            (Ok(Some(_)), _) => finding(FindingState::Present, String::new()),
            (Err(_), _) => finding(FindingState::Unknown, "cannot be read".to_owned()).cause(cause),
        }
    }
}

fn keys<V, W>(one: &Option<BTreeMap<String, V>>, two: &Option<BTreeMap<String, W>>) -> BTreeSet<String> {
    one.iter().flat_map(|map| map.keys()).chain(two.iter().flat_map(|map| map.keys())).cloned().collect()
}

/// A Secret or ConfigMap that a pod requires.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Reference {
    is_secret: bool,
    name: String,
    key: Option<String>,
}

/// The references of the template, except for optional ones.
fn references(template: &Value) -> Vec<Reference> {
    let mut found = BTreeSet::new();
    let mut note = |is_secret: bool, reference: &Value, name: &str| {
        if let (Some(name), false) = (reference[name].as_str(), reference["optional"] == true) {
            let key = reference["key"].as_str().map(str::to_owned);
            found.insert(Reference { is_secret, name: name.to_owned(), key });
        }
    };
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let spec = &template["spec"];
    for container in list(&spec["containers"]).into_iter().chain(list(&spec["initContainers"])) {
        for variable in list(&container["env"]) {
            note(true, &variable["valueFrom"]["secretKeyRef"], "name");
            note(false, &variable["valueFrom"]["configMapKeyRef"], "name");
        }
        for source in list(&container["envFrom"]) {
            note(true, &source["secretRef"], "name");
            note(false, &source["configMapRef"], "name");
        }
    }
    for volume in list(&spec["volumes"]) {
        note(true, &volume["secret"], "secretName");
        note(false, &volume["configMap"], "name");
        for source in list(&volume["projected"]["sources"]) {
            note(true, &source["secret"], "name");
            note(false, &source["configMap"], "name");
        }
    }
    found.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn finds_references_everywhere_except_optional_ones() {
        let template = json!({ "spec": {
            "containers": [{
                "env": [
                    { "name": "A", "valueFrom": { "secretKeyRef": { "name": "db", "key": "url" } } },
                    { "name": "B", "valueFrom": { "configMapKeyRef": { "name": "web", "key": "b", "optional": true } } },
                ],
                "envFrom": [{ "configMapRef": { "name": "settings" } }],
            }],
            "initContainers": [{ "envFrom": [{ "secretRef": { "name": "init" } }] }],
            "volumes": [
                { "secret": { "secretName": "tls" } },
                { "projected": { "sources": [{ "configMap": { "name": "ca" } }] } },
                { "emptyDir": {} },
            ],
        } });
        let names: Vec<_> = references(&template).into_iter().map(|r| (r.is_secret, r.name, r.key)).collect();
        let of = |secret, name: &str, key: Option<&str>| (secret, name.to_owned(), key.map(str::to_owned));
        assert_eq!(
            names,
            [
                of(false, "ca", None),
                of(false, "settings", None),
                of(true, "db", Some("url")),
                of(true, "init", None),
                of(true, "tls", None),
            ]
        );
        assert!(references(&json!({})).is_empty());
    }
}
