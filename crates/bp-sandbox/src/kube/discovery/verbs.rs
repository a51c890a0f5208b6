//! The verbs of resources and subresources.

use super::super::resource::Resource;

/// The verbs of a resource.
pub(super) fn verbs(resource: &Resource) -> &'static [&'static str] {
    if resource.is_review() {
        return &["create"];
    }
    &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"]
}

/// A subresource: the group, version and kind of its objects, and its verbs.
pub(super) struct Subresource {
    pub(super) group: &'static str,
    pub(super) version: &'static str,
    pub(super) kind: &'static str,
    pub(super) verbs: &'static [&'static str],
}

impl Subresource {
    pub(super) fn of(resource: &Resource, name: &str) -> Self {
        let own = |verbs| Subresource {
            group: resource.group,
            version: resource.version,
            kind: resource.kind,
            verbs,
        };
        match name {
            "eviction" => {
                Subresource { group: "policy", version: "v1", kind: "Eviction", verbs: &["create"] }
            }
            "log" => own(&["get"]),
            "finalize" => own(&["update"]),
            "scale" => Subresource {
                group: "autoscaling",
                version: "v1",
                kind: "Scale",
                verbs: &["get", "patch", "update"],
            },
            _ => own(&["get", "patch", "update"]),
        }
    }
}
