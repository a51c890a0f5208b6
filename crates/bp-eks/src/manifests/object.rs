//! One object of a manifest: its identity, and the fields to apply.

use std::fmt;

use base64::{Engine, engine::general_purpose::STANDARD};
use bp_artifact::{config::Workload, text};
use serde_json::{Map, Value};

use super::error::ManifestsError;

/// A copy of the applied object that client-side apply leaves behind.
pub(super) const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// The maximum length of names in the API.
const LONGEST: usize = 253;

/// An object of a manifest. Its `Debug` form does not contain its fields, which may be those of a Secret.
#[derive(Clone)]
pub(super) struct Manifest {
    /// File and document.
    pub(super) at: String,
    pub(super) api_version: String,
    pub(super) kind: String,
    pub(super) name: String,
    pub(super) namespace: Option<String>,
    pub(super) object: Value,
}

impl fmt::Debug for Manifest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self} ({})", self.at)
    }
}

/// Kind and name, as kubectl accepts them.
impl fmt::Display for Manifest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.kind.to_ascii_lowercase(), self.name)
    }
}

impl Manifest {
    /// Reads the identity of an object, and removes what the API server sets.
    pub(super) fn new(mut object: Value, at: &str) -> Result<Self, ManifestsError> {
        let wrong = |reason: &str| ManifestsError::Malformed { at: at.to_owned(), reason: reason.to_owned() };
        if !object.is_object() {
            return Err(wrong("is not a Kubernetes object"));
        }
        let text = |value: &Value| value.as_str().filter(|text| !text.is_empty()).map(str::to_owned);
        let api_version = text(&object["apiVersion"]).ok_or_else(|| wrong("the object has no apiVersion"))?;
        let kind = text(&object["kind"]).ok_or_else(|| wrong("the object has no kind"))?;
        let metadata = &object["metadata"];
        if !metadata["generateName"].is_null() {
            return Err(wrong(
                "metadata.generateName would create another object at each run; set metadata.name instead",
            ));
        }
        for field in ["uid", "resourceVersion"] {
            if !metadata[field].is_null() {
                let reason = format!(
                    "metadata.{field} is of an exported object; remove it, and other fields that the cluster sets"
                );
                return Err(wrong(&reason));
            }
        }
        let name = text(&metadata["name"]).ok_or_else(|| wrong("the object has no metadata.name"))?;
        let namespace = text(&metadata["namespace"]);
        for (what, value) in [("name", Some(&name)), ("namespace", namespace.as_ref()), ("kind", Some(&kind))]
        {
            // RBAC objects have names with colons.
            let is_valid = |value: &String| {
                value.len() <= LONGEST
                    && value.bytes().all(|b| b.is_ascii_alphanumeric() || b"-.:_".contains(&b))
            };
            if value.is_some_and(|value| !is_valid(value)) {
                return Err(wrong(&format!("the object has an invalid {what}")));
            }
        }
        if !api_version.bytes().all(|b| b.is_ascii_alphanumeric() || b"-./".contains(&b)) {
            return Err(wrong("the object has an invalid apiVersion"));
        }
        clean(&mut object);
        let at = text::single_line(at);
        Ok(Manifest { at, api_version, kind, name, namespace, object })
    }

    /// Group, kind, namespace and name.
    pub(super) fn identity(&self) -> (String, String, Option<String>, String) {
        (self.group().to_owned(), self.kind.clone(), self.namespace.clone(), self.name.clone())
    }

    /// The API group; empty for the core group.
    pub(super) fn group(&self) -> &str {
        self.api_version.split_once('/').map_or("", |(group, _)| group)
    }

    /// The workload, if it is of a kind whose rollout is watched.
    pub(super) fn workload(&self) -> Option<Workload> {
        let is_watched = matches!(
            (self.group(), self.kind.as_str()),
            ("apps", "Deployment" | "StatefulSet" | "DaemonSet") | ("batch", "Job" | "CronJob")
        );
        is_watched.then(|| self.to_string().parse().ok()).flatten()
    }

    /// Whether it is a Secret: its values are never shown.
    pub(super) fn is_secret(&self) -> bool {
        (self.group(), self.kind.as_str()) == ("", "Secret")
    }
}

/// Removes the fields that the API server sets, and stores the values of a Secret as the API server does, so that a value
/// that is removed from the file is removed from the Secret.
fn clean(object: &mut Value) {
    let is_secret = object["apiVersion"] == "v1" && object["kind"] == "Secret";
    let Some(fields) = object.as_object_mut() else { return };
    fields.remove("status");
    if let Some(metadata) = fields.get_mut("metadata").and_then(Value::as_object_mut) {
        for field in ["managedFields", "creationTimestamp", "generation", "selfLink"] {
            metadata.remove(field);
        }
        if let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut) {
            annotations.remove(LAST_APPLIED);
        }
    }
    if is_secret && let Some(Value::Object(plain)) = fields.remove("stringData") {
        let data = fields.entry("data").or_insert_with(|| Value::Object(Map::new()));
        if data.is_null() {
            *data = Value::Object(Map::new());
        }
        for (key, value) in plain {
            if let (Some(data), Some(text)) = (data.as_object_mut(), value.as_str()) {
                data.insert(key, STANDARD.encode(text).into());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn removes_what_the_cluster_sets_and_encodes_secrets() {
        let secret = Manifest::new(
            json!({
                "apiVersion": "v1", "kind": "Secret",
                "metadata": {
                    "name": "db", "creationTimestamp": null, "generation": 3, "managedFields": [],
                    "annotations": { (LAST_APPLIED): "{}", "a": "b" },
                },
                "stringData": { "url": "hunter2" }, "data": { "port": "MQ==" }, "status": {},
            }),
            "a.yaml",
        )
        .unwrap();
        assert_eq!(
            secret.object,
            json!({
                "apiVersion": "v1", "kind": "Secret",
                "metadata": { "name": "db", "annotations": { "a": "b" } },
                "data": { "url": "aHVudGVyMg==", "port": "MQ==" },
            })
        );
        assert_eq!(format!("{secret:?}"), "secret/db (a.yaml)");
    }

    #[test]
    fn watches_workloads_of_their_own_group_only() {
        let workload = |api_version: &str, kind: &str| {
            let object = json!({ "apiVersion": api_version, "kind": kind, "metadata": { "name": "web" } });
            Manifest::new(object, "a").unwrap().workload().map(|workload| workload.to_string())
        };
        assert_eq!(workload("apps/v1", "Deployment").as_deref(), Some("deployment/web"));
        assert_eq!(workload("batch/v1", "CronJob").as_deref(), Some("cronjob/web"));
        for (api_version, kind) in
            [("v1", "Pod"), ("example.com/v1", "Deployment"), ("apps/v1", "ReplicaSet")]
        {
            assert_eq!(workload(api_version, kind), None, "{kind}");
        }
    }
}
