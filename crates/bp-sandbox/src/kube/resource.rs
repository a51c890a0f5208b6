//! The resources of the API, and parsing of their paths.

use std::sync::{Arc, Mutex};

use super::definition::Definition;
use crate::sync::lock;

/// A resource type of the API.
#[derive(Debug, PartialEq)]
pub(super) struct Resource {
    pub(super) group: &'static str,
    pub(super) version: &'static str,
    pub(super) plural: &'static str,
    pub(super) kind: &'static str,
    pub(super) short: &'static [&'static str],
    pub(super) namespaced: bool,
    pub(super) subresources: &'static [&'static str],
    pub(super) categories: &'static [&'static str],
    /// The name in the store, the same for all versions of a custom resource.
    pub(super) stored: &'static str,
    /// The definition of a custom resource.
    pub(super) custom: Option<&'static Definition>,
}

impl Resource {
    const fn core(plural: &'static str, kind: &'static str, short: &'static [&'static str]) -> Self {
        Resource::new("", "v1", plural, kind, short)
    }

    const fn new(
        group: &'static str,
        version: &'static str,
        plural: &'static str,
        kind: &'static str,
        short: &'static [&'static str],
    ) -> Self {
        Resource {
            group,
            version,
            plural,
            kind,
            short,
            namespaced: true,
            subresources: &[],
            categories: &[],
            stored: plural,
            custom: None,
        }
    }

    const fn cluster_wide(self) -> Self {
        Resource { namespaced: false, ..self }
    }

    const fn with(self, subresources: &'static [&'static str]) -> Self {
        Resource { subresources, ..self }
    }

    /// In the category `all` of `kubectl get all`.
    const fn in_all(self) -> Self {
        Resource { categories: &["all"], ..self }
    }

    pub(super) fn is_custom(&self) -> bool {
        self.custom.is_some()
    }

    /// Whether objects can only be posted, and are not stored.
    pub(super) fn is_review(&self) -> bool {
        matches!(self.group, "authorization.k8s.io" | "authentication.k8s.io")
    }

    pub(super) fn singular(&self) -> String {
        self.custom.map_or_else(|| self.kind.to_lowercase(), |definition| definition.singular.clone())
    }

    pub(super) fn list_kind(&self) -> String {
        self.custom.map_or_else(|| format!("{}List", self.kind), |definition| definition.list_kind.clone())
    }

    /// `apps/v1`, or `v1` for the core group.
    pub(super) fn api_version(&self) -> String {
        match self.group {
            "" => self.version.to_owned(),
            group => format!("{group}/{}", self.version),
        }
    }

    /// `deployments.apps`, or `pods` for the core group, as in error messages.
    pub(super) fn qualified(&self) -> String {
        match self.group {
            "" => self.plural.to_owned(),
            group => format!("{}.{group}", self.plural),
        }
    }
}

const RBAC: &str = "rbac.authorization.k8s.io";
const HOOKS: &str = "admissionregistration.k8s.io";

static RESOURCES: &[Resource] = &[
    Resource::core("namespaces", "Namespace", &["ns"]).cluster_wide().with(&["finalize", "status"]),
    Resource::core("nodes", "Node", &["no"]).cluster_wide().with(&["status"]),
    Resource::core("pods", "Pod", &["po"]).with(&["eviction", "log", "status"]).in_all(),
    Resource::core("services", "Service", &["svc"]).with(&["status"]).in_all(),
    Resource::core("configmaps", "ConfigMap", &["cm"]),
    Resource::core("secrets", "Secret", &[]),
    Resource::core("events", "Event", &["ev"]),
    Resource::core("serviceaccounts", "ServiceAccount", &["sa"]),
    Resource::core("resourcequotas", "ResourceQuota", &["quota"]).with(&["status"]),
    Resource::core("limitranges", "LimitRange", &["limits"]),
    Resource::core("endpoints", "Endpoints", &["ep"]),
    Resource::core("persistentvolumeclaims", "PersistentVolumeClaim", &["pvc"]).with(&["status"]),
    Resource::core("persistentvolumes", "PersistentVolume", &["pv"]).cluster_wide().with(&["status"]),
    Resource::core("replicationcontrollers", "ReplicationController", &["rc"])
        .with(&["scale", "status"])
        .in_all(),
    Resource::new("apps", "v1", "deployments", "Deployment", &["deploy"]).with(&["scale", "status"]).in_all(),
    Resource::new("apps", "v1", "replicasets", "ReplicaSet", &["rs"]).with(&["scale", "status"]).in_all(),
    Resource::new("apps", "v1", "statefulsets", "StatefulSet", &["sts"]).with(&["scale", "status"]).in_all(),
    Resource::new("apps", "v1", "daemonsets", "DaemonSet", &["ds"]).with(&["status"]).in_all(),
    Resource::new("apps", "v1", "controllerrevisions", "ControllerRevision", &[]),
    Resource::new("batch", "v1", "jobs", "Job", &[]).with(&["status"]).in_all(),
    Resource::new("batch", "v1", "cronjobs", "CronJob", &["cj"]).with(&["status"]).in_all(),
    Resource::new("networking.k8s.io", "v1", "ingresses", "Ingress", &["ing"]).with(&["status"]),
    Resource::new("networking.k8s.io", "v1", "ingressclasses", "IngressClass", &[]).cluster_wide(),
    Resource::new("networking.k8s.io", "v1", "networkpolicies", "NetworkPolicy", &["netpol"]),
    Resource::new("gateway.networking.k8s.io", "v1", "gateways", "Gateway", &["gtw"]).with(&["status"]),
    Resource::new("gateway.networking.k8s.io", "v1", "httproutes", "HTTPRoute", &[]).with(&["status"]),
    Resource::new("discovery.k8s.io", "v1", "endpointslices", "EndpointSlice", &[]),
    // Custom resource of the AWS Load Balancer Controller.
    Resource::new("elbv2.k8s.aws", "v1beta1", "targetgroupbindings", "TargetGroupBinding", &[]),
    Resource::new("autoscaling", "v2", "horizontalpodautoscalers", "HorizontalPodAutoscaler", &["hpa"])
        .with(&["status"])
        .in_all(),
    Resource::new("coordination.k8s.io", "v1", "leases", "Lease", &[]),
    Resource::new("policy", "v1", "poddisruptionbudgets", "PodDisruptionBudget", &["pdb"]).with(&["status"]),
    Resource::new(RBAC, "v1", "roles", "Role", &[]),
    Resource::new(RBAC, "v1", "rolebindings", "RoleBinding", &[]),
    Resource::new(RBAC, "v1", "clusterroles", "ClusterRole", &[]).cluster_wide(),
    Resource::new(RBAC, "v1", "clusterrolebindings", "ClusterRoleBinding", &[]).cluster_wide(),
    Resource::new("storage.k8s.io", "v1", "storageclasses", "StorageClass", &["sc"]).cluster_wide(),
    Resource::new("scheduling.k8s.io", "v1", "priorityclasses", "PriorityClass", &["pc"]).cluster_wide(),
    Resource::new(HOOKS, "v1", "validatingwebhookconfigurations", "ValidatingWebhookConfiguration", &[])
        .cluster_wide(),
    Resource::new(HOOKS, "v1", "mutatingwebhookconfigurations", "MutatingWebhookConfiguration", &[])
        .cluster_wide(),
    Resource::new(
        "apiextensions.k8s.io",
        "v1",
        "customresourcedefinitions",
        "CustomResourceDefinition",
        &["crd", "crds"],
    )
    .cluster_wide()
    .with(&["status"]),
    Resource::new("authorization.k8s.io", "v1", "selfsubjectaccessreviews", "SelfSubjectAccessReview", &[])
        .cluster_wide(),
    Resource::new("authorization.k8s.io", "v1", "selfsubjectrulesreviews", "SelfSubjectRulesReview", &[])
        .cluster_wide(),
    Resource::new("authorization.k8s.io", "v1", "subjectaccessreviews", "SubjectAccessReview", &[])
        .cluster_wide(),
    Resource::new("authentication.k8s.io", "v1", "selfsubjectreviews", "SelfSubjectReview", &[])
        .cluster_wide(),
];

/// The resources of a cluster: the built-in ones, and those of its custom resource definitions.
#[derive(Debug, Clone, Default)]
pub(super) struct Resources(Arc<Mutex<Vec<&'static Resource>>>);

impl Resources {
    pub(super) fn all(&self) -> Vec<&'static Resource> {
        RESOURCES.iter().chain(self.custom()).collect()
    }

    /// The resources of custom resource definitions.
    pub(super) fn custom(&self) -> Vec<&'static Resource> {
        lock(&self.0).clone()
    }

    pub(super) fn set_custom(&self, resources: Vec<&'static Resource>) {
        *lock(&self.0) = resources;
    }

    pub(super) fn find(&self, matches: impl Fn(&Resource) -> bool) -> Option<&'static Resource> {
        self.all().into_iter().find(|resource| matches(resource))
    }

    /// The resource with this plural name, in any group.
    pub(super) fn by_plural(&self, plural: &str) -> Option<&'static Resource> {
        self.find(|resource| resource.plural == plural)
    }

    /// The resource of an object by its `apiVersion` and `kind`.
    pub(super) fn by_kind(&self, api_version: &str, kind: &str) -> Option<&'static Resource> {
        self.find(|resource| resource.kind == kind && resource.api_version() == api_version)
    }
}

/// The built-in resource with this plural name, in any group.
pub(super) fn by_plural(plural: &str) -> Option<&'static Resource> {
    RESOURCES.iter().find(|r| r.plural == plural)
}

/// The target of a request path.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Target {
    pub(super) resource: &'static Resource,
    pub(super) namespace: Option<String>,
    pub(super) name: Option<String>,
    pub(super) subresource: Option<String>,
}

impl Target {
    /// Reads `/api/v1/…` or `/apis/<group>/<version>/…`.
    pub(super) fn read(path: &str, resources: &Resources) -> Option<Self> {
        let parts: Vec<&str> = path.split('/').filter(|p| !p.is_empty()).collect();
        let (group, version, rest) = match parts.as_slice() {
            ["api", version, rest @ ..] => ("", *version, rest),
            ["apis", group, version, rest @ ..] => (*group, *version, rest),
            _ => return None,
        };
        // `namespaces` is a resource itself, and the path prefix of namespaced resources.
        let (namespace, rest) = match rest {
            ["namespaces", namespace, plural, rest @ ..] if !matches!(*plural, "status" | "finalize") => {
                (Some((*namespace).to_owned()), [&[*plural], rest].concat())
            }
            rest => (None, rest.to_vec()),
        };
        let (plural, name, subresource) = match rest.as_slice() {
            [plural] => (*plural, None, None),
            [plural, name] => (*plural, Some(*name), None),
            [plural, name, sub] => (*plural, Some(*name), Some(*sub)),
            _ => return None,
        };
        let resource = resources
            .find(|r| r.plural == plural && r.group == group && r.version == version)
            .filter(|r| subresource.is_none_or(|s| r.subresources.contains(&s)))?;
        let owned = |text: Option<&str>| text.map(str::to_owned);
        Some(Target { resource, namespace, name: owned(name), subresource: owned(subresource) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_paths() {
        for (path, plural, namespace, name, sub) in [
            ("/api/v1/namespaces", "namespaces", None, None, None),
            ("/api/v1/namespaces/shop", "namespaces", None, Some("shop"), None),
            ("/api/v1/namespaces/shop/pods", "pods", Some("shop"), None, None),
            ("/api/v1/namespaces/shop/pods/web/log", "pods", Some("shop"), Some("web"), Some("log")),
            ("/apis/apps/v1/deployments", "deployments", None, None, None),
            ("/apis/apps/v1/namespaces/shop/deployments/web", "deployments", Some("shop"), Some("web"), None),
        ] {
            let target = Target::read(path, &Resources::default()).unwrap();
            assert_eq!(target.resource.plural, plural, "{path}");
            assert_eq!(target.namespace.as_deref(), namespace, "{path}");
            assert_eq!(target.name.as_deref(), name, "{path}");
            assert_eq!(target.subresource.as_deref(), sub, "{path}");
        }
        for path in ["/", "/api/v1", "/apis/apps/v1", "/apis/apps/v2/deployments", "/api/v1/pods/x/exec"] {
            assert_eq!(Target::read(path, &Resources::default()), None, "{path}");
        }
    }
}
