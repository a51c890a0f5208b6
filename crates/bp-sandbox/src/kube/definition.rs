//! What a custom resource definition says about one version of its resource.

use serde_json::Value;

/// What a definition says about one version of a custom resource.
#[derive(Debug, PartialEq)]
pub(super) struct Definition {
    pub(super) singular: String,
    pub(super) list_kind: String,
    /// The schema of the objects.
    pub(super) schema: Value,
    /// `additionalPrinterColumns`.
    pub(super) columns: Vec<Value>,
    /// The paths of the scale subresource.
    pub(super) scale: Value,
    /// The `apiVersion` in which objects are stored.
    pub(super) stored_version: String,
}

/// The value at a path like `.spec.replicas` of the scale subresource.
pub(super) fn pointer(path: &Value) -> String {
    path.as_str().unwrap_or_default().replace('.', "/")
}
