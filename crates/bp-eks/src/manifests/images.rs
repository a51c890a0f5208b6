//! The images of an object's containers: those of the deployed repository are replaced by the digest.

use bp_artifact::{ResolvedImage, reference::Repository};
use serde_json::{Value, json};

use super::object::Manifest;

/// The containers of an object.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Containers {
    /// Those that get the deployed image; containers first, then init containers.
    pub(super) ours: Vec<String>,
    /// All of them.
    pub(super) all: Vec<String>,
    /// The images of the others.
    pub(super) others: Vec<String>,
}

/// Where the pod specification of an object is. Also of custom resources with a pod template, such as a Rollout.
fn pod_spec(manifest: &Manifest) -> &'static str {
    match (manifest.group(), manifest.kind.as_str()) {
        ("", "Pod") => "/spec",
        ("batch", "CronJob") => "/spec/jobTemplate/spec/template/spec",
        _ => "/spec/template/spec",
    }
}

/// Sets the image, with these variables, in every container that has an image of its repository.
pub(super) fn replace(
    manifest: &mut Manifest,
    image: &ResolvedImage,
    environment: &[(String, String)],
) -> Containers {
    let mut found = Containers::default();
    let pointer = pod_spec(manifest);
    // What has another type than in the API is left to the API server.
    let Some(spec) = manifest.object.pointer_mut(pointer).and_then(Value::as_object_mut) else {
        return found;
    };
    for list in ["containers", "initContainers"] {
        for container in spec.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
            let name = container["name"].as_str().unwrap_or_default().to_owned();
            let Some(reference) = container["image"].as_str().map(str::to_owned) else { continue };
            found.all.push(name.clone());
            if is_of(&reference, image.reference.repository()) {
                container["image"] = json!(image.reference.to_string());
                set_environment(container, environment);
                found.ours.push(name);
            } else {
                found.others.push(reference);
            }
        }
    }
    found
}

fn set_environment(container: &mut Value, environment: &[(String, String)]) {
    let Some(fields) = container.as_object_mut() else { return };
    if environment.is_empty() {
        return;
    }
    let list = fields.entry("env").or_insert_with(|| json!([]));
    if list.is_null() {
        *list = json!([]);
    }
    let Some(list) = list.as_array_mut() else { return };
    for (name, value) in environment {
        let entry = json!({ "name": name, "value": value });
        match list.iter_mut().find(|variable| variable["name"] == *name) {
            Some(found) => *found = entry,
            None => list.push(entry),
        }
    }
}

/// Whether the reference is of this repository: with its registry, or the path alone, as bases of kustomize have it.
pub(super) fn is_of(reference: &str, repository: &Repository) -> bool {
    let name = without_tag(reference);
    name == repository.to_string() || name == repository.path()
}

/// The repository of a reference, as it is written.
fn without_tag(reference: &str) -> &str {
    let name = reference.split('@').next().unwrap_or(reference);
    match name.rsplit_once(':') {
        // A colon before the last slash is that of a port.
        Some((before, tag)) if !tag.contains('/') => before,
        _ => name,
    }
}

/// Whether a reference has no digest.
pub(super) fn is_by_tag(reference: &str) -> bool {
    reference.split_once('@').is_none_or(|(_, digest)| digest.parse::<bp_artifact::Digest>().is_err())
}

#[cfg(test)]
mod tests {
    use bp_artifact::{Digest, DigestRef};

    use super::*;

    fn image() -> ResolvedImage {
        let reference: DigestRef =
            format!("r.example.com:5000/shop/web@{}", Digest::sha256("x")).parse().unwrap();
        ResolvedImage::from(reference)
    }

    fn manifest(kind: &str, api_version: &str, spec: Value) -> Manifest {
        let object =
            json!({ "apiVersion": api_version, "kind": kind, "metadata": { "name": "web" }, "spec": spec });
        Manifest::new(object, "a").unwrap()
    }

    #[test]
    fn replaces_every_container_of_the_repository() {
        let wanted = image().reference.to_string();
        let other = format!("r.example.com:5000/shop/web@{}", Digest::sha256("older"));
        let pod = || {
            json!({
                "initContainers": [{ "name": "migrate", "image": other }, { "name": "wait", "image": "busybox:1" }],
                "containers": [
                    { "name": "web", "image": "shop/web", "env": [{ "name": "A", "value": "1" }] },
                    { "name": "tag", "image": "r.example.com:5000/shop/web:1.4" },
                    { "name": "admin", "image": "r.example.com:5000/shop/web-admin:1" },
                    { "name": "else", "image": "r.example.com/shop/web:1" },
                    { "name": "none" },
                ],
            })
        };
        for (kind, version, spec) in [
            ("Deployment", "apps/v1", json!({ "template": { "spec": pod() } })),
            ("Rollout", "argoproj.io/v1alpha1", json!({ "template": { "spec": pod() } })),
            ("CronJob", "batch/v1", json!({ "jobTemplate": { "spec": { "template": { "spec": pod() } } } })),
            ("Pod", "v1", pod()),
        ] {
            let mut manifest = manifest(kind, version, spec);
            let environment = [("A".to_owned(), "2".to_owned()), ("B".to_owned(), "3".to_owned())];
            let found = replace(&mut manifest, &image(), &environment);
            assert_eq!(found.ours, ["web", "tag", "migrate"], "{kind}");
            assert_eq!(
                found.others,
                ["r.example.com:5000/shop/web-admin:1", "r.example.com/shop/web:1", "busybox:1"]
            );
            let spec = manifest.object.pointer(pod_spec(&manifest)).unwrap();
            let set = json!([{ "name": "A", "value": "2" }, { "name": "B", "value": "3" }]);
            assert_eq!(spec["containers"][0], json!({ "name": "web", "image": wanted, "env": set }));
            assert_eq!(spec["initContainers"][0]["image"], json!(wanted));
            assert_eq!(spec["containers"][2]["image"], "r.example.com:5000/shop/web-admin:1");
        }
    }

    #[test]
    fn objects_without_pods_are_unchanged() {
        let mut config = manifest("Service", "v1", json!({ "selector": { "app": "web" } }));
        let before = config.object.clone();
        assert_eq!(replace(&mut config, &image(), &[]), Containers::default());
        assert_eq!(config.object, before);
        let mut one =
            manifest("Deployment", "apps/v1", json!({ "template": { "spec": { "containers": [] } } }));
        replace(&mut one, &image(), &[]);
        assert_eq!(one.object["spec"]["template"]["spec"], json!({ "containers": [] }));
    }

    #[test]
    fn leaves_fields_of_other_types_to_the_api_server() {
        for spec in [
            json!("text"),
            json!({ "template": "text" }),
            json!({ "template": { "spec": [1] } }),
            json!({ "template": { "spec": { "containers": "text", "initContainers": { "a": 1 } } } }),
            json!({ "template": { "spec": { "containers": ["text", 1, null, [], { "image": 1 }] } } }),
        ] {
            let mut odd = manifest("Deployment", "apps/v1", spec.clone());
            assert_eq!(replace(&mut odd, &image(), &[]), Containers::default());
            assert_eq!(odd.object["spec"], spec);
        }
        let env = json!({ "template": { "spec": { "containers": [{ "name": "a", "image": "shop/web", "env": "text" }] } } });
        let mut odd = manifest("Deployment", "apps/v1", env);
        let variable = [("A".to_owned(), "1".to_owned())];
        assert_eq!(replace(&mut odd, &image(), &variable).ours, ["a"]);
    }

    #[test]
    fn distinguishes_tags_from_digests() {
        let digest = Digest::sha256("x");
        assert!(!is_by_tag(&format!("envoy@{digest}")) && !is_by_tag(&format!("envoy:1@{digest}")));
        assert!(is_by_tag("envoy") && is_by_tag("envoy:1") && is_by_tag("envoy@sha256:0"));
    }
}
