//! Parse a Helm release's manifest: its workloads, their containers and images.

use bp_artifact::{Digest, DigestRef, config::Workload};
use serde::Deserialize;
use serde_json::Value;

use super::error::HelmError;
use crate::workload;

/// A container in a workload of the manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ManifestContainer {
    /// `None` for kinds without a rollout, such as a CronJob.
    pub(super) workload: Option<Workload>,
    /// The object's own namespace; `None` for that of the release.
    pub(super) namespace: Option<String>,
    pub(super) container: String,
    pub(super) image: String,
    /// Its environment variables with plain values.
    pub(super) environment: Vec<(String, String)>,
}

impl ManifestContainer {
    /// Whether it is the same container of the same object, whatever its image.
    pub(super) fn is_of(&self, other: &ManifestContainer) -> bool {
        (&self.workload, &self.namespace, &self.container)
            == (&other.workload, &other.namespace, &other.container)
    }

    /// Whether the image has this digest.
    pub(super) fn is(&self, digest: &Digest) -> bool {
        self.image.parse::<DigestRef>().is_ok_and(|image| image.digest() == digest)
    }
}

/// The containers of all workloads in a multi-document manifest.
pub(super) fn parse_manifest(
    manifest: &str,
    verb: &'static str,
) -> Result<Vec<ManifestContainer>, HelmError> {
    Ok(parse_objects(manifest, verb)?.iter().flat_map(containers).collect())
}

/// The workloads in a multi-document manifest, including Jobs.
pub(super) fn parse_workloads(manifest: &str, verb: &'static str) -> Result<Vec<Workload>, HelmError> {
    let workloads = parse_objects(manifest, verb)?.iter().filter_map(workload).collect::<Vec<_>>();
    Ok(workloads.into_iter().filter(|workload| !workload::of(workload.kind).is_scheduled).collect())
}

/// The objects in a multi-document manifest.
pub(super) fn parse_objects(manifest: &str, verb: &'static str) -> Result<Vec<Value>, HelmError> {
    let documents: Vec<Value> = serde_saphyr::from_multiple(manifest)
        .map_err(|e| HelmError::Unreadable { verb, source: e.to_string().into() })?;
    // A `List` contains objects.
    let objects = documents.into_iter().flat_map(|document| match document["items"].as_array() {
        Some(items) if document["kind"] == "List" => items.clone(),
        _ => vec![document],
    });
    Ok(objects.collect())
}

/// The workload that the object is, if any.
pub(super) fn workload(object: &Value) -> Option<Workload> {
    let kind = object["kind"].as_str()?.to_ascii_lowercase();
    format!("{kind}/{}", object["metadata"]["name"].as_str()?).parse().ok()
}

/// The object's own namespace.
pub(super) fn namespace(object: &Value) -> Option<String> {
    object["metadata"]["namespace"].as_str().filter(|namespace| !namespace.is_empty()).map(str::to_owned)
}

/// The containers of an object with a pod template, or of a pod.
pub(super) fn containers(object: &Value) -> Vec<ManifestContainer> {
    let spec = match object["kind"].as_str() {
        Some("Pod") => &object["spec"],
        Some("CronJob") => &object["spec"]["jobTemplate"]["spec"]["template"]["spec"],
        _ => &object["spec"]["template"]["spec"],
    };
    // The Jobs of a chart run once, and helm itself waits for hooks. A CronJob has no rollout.
    let has_rollout = |workload: &Workload| {
        let kind = workload::of(workload.kind);
        !kind.runs_to_completion && !kind.is_scheduled
    };
    let workload = workload(object).filter(has_rollout);
    let list = |field: &str| Vec::<Container>::deserialize(&spec[field]).unwrap_or_default();
    let all = list("containers").into_iter().chain(list("initContainers"));
    all.map(|Container { name, image, env }| ManifestContainer {
        workload: workload.clone(),
        namespace: namespace(object),
        container: name,
        image,
        environment: env.into_iter().flatten().filter_map(|one| Some((one.name, one.value?))).collect(),
    })
    .collect()
}

#[derive(Deserialize)]
struct Container {
    #[serde(default)]
    name: String,
    #[serde(default)]
    image: String,
    #[serde(default)]
    env: Option<Vec<Variable>>,
}

#[derive(Deserialize)]
struct Variable {
    #[serde(default)]
    name: String,
    #[serde(default)]
    value: Option<String>,
}

/// The plain data of all ConfigMaps and Secrets in a manifest.
pub(super) fn values_of_maps(manifest: &str, verb: &'static str) -> Result<Vec<(String, String)>, HelmError> {
    let objects = parse_objects(manifest, verb)?;
    let data = objects.iter().filter_map(|object| match object["kind"].as_str() {
        Some("ConfigMap") => object["data"].as_object(),
        Some("Secret") => object["stringData"].as_object(),
        _ => None,
    });
    let pairs = data.flatten().filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned())));
    Ok(pairs.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_every_workload_and_container() {
        let digest = Digest::sha256("web");
        let manifest = format!(
            "---\n# Source: web/templates/sa.yaml\napiVersion: v1\nkind: ServiceAccount\nmetadata: {{ name: web }}\n\
             ---\napiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: web\nspec:\n  template:\n    spec:\n      \
             initContainers:\n      - {{ name: migrate, image: \"r.example.com/web@{digest}\" }}\n      containers:\n      \
             - name: web\n        image: r.example.com/web:1.0@{digest}\n      - name: proxy\n        image: envoy:1\n\
             ---\nkind: CronJob\nmetadata: {{ name: nightly }}\nspec: {{ jobTemplate: {{ spec: {{ template: {{ spec: \
             {{ containers: [ {{ name: job, image: \"r.example.com/web@{digest}\" }} ] }} }} }} }} }}\n"
        );
        let found = parse_manifest(&manifest, "template").unwrap();
        let seen: Vec<(Option<String>, &str, bool)> = found
            .iter()
            .map(|p| (p.workload.as_ref().map(ToString::to_string), p.container.as_str(), p.is(&digest)))
            .collect();
        let web = || Some("deployment/web".to_owned());
        assert_eq!(
            seen,
            [(web(), "web", true), (web(), "proxy", false), (web(), "migrate", true), (None, "job", true)]
        );
        assert_eq!(parse_manifest("", "template").unwrap(), []);
        let job = "kind: List\nitems:\n- kind: Job\n  metadata: { name: migrate }\n";
        let workloads = parse_workloads(&format!("{manifest}---\n{job}"), "get manifest").unwrap();
        assert_eq!(workloads, ["deployment/web".parse().unwrap(), "job/migrate".parse().unwrap()]);
        assert!(parse_manifest("a: [", "template").is_err());
    }
}
