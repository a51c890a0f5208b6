//! The order in which objects are applied: each after what it needs.

use super::object::Manifest;

/// The group of kinds that definitions of custom resources belong to.
const EXTENSIONS: &str = "apiextensions.k8s.io";

/// The position of an object: namespaces, definitions, classes, accounts and roles, limits, configuration, volumes,
/// services, workloads, autoscaling, routes, and everything else.
pub(super) fn rank(manifest: &Manifest) -> u8 {
    match (manifest.group(), manifest.kind.as_str()) {
        ("", "Namespace") => 0,
        (EXTENSIONS, "CustomResourceDefinition") => 1,
        (_, kind) if kind.ends_with("Class") && is_builtin(manifest.group()) => 2,
        ("", "ServiceAccount") => 3,
        ("rbac.authorization.k8s.io", "ClusterRole" | "Role") => 4,
        ("rbac.authorization.k8s.io", _) => 5,
        ("", "ResourceQuota" | "LimitRange") | ("networking.k8s.io", "NetworkPolicy") => 6,
        ("", "ConfigMap" | "Secret") => 7,
        ("", "PersistentVolume" | "PersistentVolumeClaim") => 8,
        ("", "Service") => 9,
        ("apps" | "batch", _) | ("", "Pod" | "ReplicationController") => 10,
        ("autoscaling" | "policy", _) => 11,
        ("networking.k8s.io" | "gateway.networking.k8s.io", _) => 12,
        // A webhook that is not ready yet would refuse the objects after it.
        ("admissionregistration.k8s.io", _) => 14,
        _ => 13,
    }
}

/// Whether it is a definition of custom resources, which must be established before its objects are applied.
pub(super) fn is_definition(manifest: &Manifest) -> bool {
    (manifest.group(), manifest.kind.as_str()) == (EXTENSIONS, "CustomResourceDefinition")
}

fn is_builtin(group: &str) -> bool {
    group.is_empty() || group.ends_with(".k8s.io")
}

#[cfg(test)]
mod tests {
    use super::{super::read::ManifestSet, *};

    #[test]
    fn applies_each_object_after_what_it_needs() {
        let kinds = [
            ("v1", "Namespace"),
            ("apiextensions.k8s.io/v1", "CustomResourceDefinition"),
            ("scheduling.k8s.io/v1", "PriorityClass"),
            ("v1", "ServiceAccount"),
            ("rbac.authorization.k8s.io/v1", "Role"),
            ("rbac.authorization.k8s.io/v1", "RoleBinding"),
            ("v1", "ResourceQuota"),
            ("v1", "Secret"),
            ("v1", "PersistentVolumeClaim"),
            ("v1", "Service"),
            ("apps/v1", "Deployment"),
            ("autoscaling/v2", "HorizontalPodAutoscaler"),
            ("gateway.networking.k8s.io/v1", "HTTPRoute"),
            ("serving.knative.dev/v1", "Service"),
            ("admissionregistration.k8s.io/v1", "ValidatingWebhookConfiguration"),
        ];
        let text = |(version, kind): &(&str, &str)| {
            format!("apiVersion: {version}\nkind: {kind}\nmetadata: {{ name: a }}\n")
        };
        let all: Vec<String> = kinds.iter().rev().map(text).collect();
        let mut set = ManifestSet::parse(&all.join("---\n"), "a").unwrap().manifests;
        set.sort_by_key(rank);
        let sorted: Vec<(&str, &str)> =
            set.iter().map(|m| (m.api_version.as_str(), m.kind.as_str())).collect();
        assert_eq!(sorted, kinds);
    }
}
