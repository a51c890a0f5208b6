//! The Secrets and ConfigMaps that a pod template refers to.

use std::collections::BTreeSet;

use serde_json::Value;

/// A Secret or ConfigMap that a pod template refers to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Reference {
    pub(crate) is_secret: bool,
    pub(crate) name: String,
    pub(crate) key: Option<String>,
    /// Whether the pods start without it.
    pub(crate) is_optional: bool,
}

/// The references of the template.
pub(crate) fn references(template: &Value) -> Vec<Reference> {
    let mut found = BTreeSet::new();
    let mut note = |is_secret: bool, reference: &Value, name: &str| {
        if let Some(name) = reference[name].as_str() {
            let key = reference["key"].as_str().map(str::to_owned);
            let is_optional = reference["optional"] == true;
            found.insert(Reference { is_secret, name: name.to_owned(), key, is_optional });
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
    fn finds_references_everywhere() {
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
        let names: Vec<_> =
            references(&template).into_iter().map(|r| (r.is_secret, r.name, r.key, r.is_optional)).collect();
        let of = |secret, name: &str, key: Option<&str>, optional| {
            (secret, name.to_owned(), key.map(str::to_owned), optional)
        };
        assert_eq!(
            names,
            [
                of(false, "ca", None, false),
                of(false, "settings", None, false),
                of(false, "web", Some("b"), true),
                of(true, "db", Some("url"), false),
                of(true, "init", None, false),
                of(true, "tls", None, false),
            ]
        );
        assert!(references(&json!({})).is_empty());
    }
}
