//! Reference to a Kubernetes object, for error messages.

use std::fmt;

/// A reference to an object in a cluster, displayed as `secret/ecr`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ObjectRef {
    /// The cluster's name.
    pub cluster: String,
    /// The object's namespace.
    pub namespace: String,
    /// The kind, as kubectl accepts it: `deployment`, `secret`.
    pub kind: String,
    /// The name; `None` for all objects of the kind.
    pub name: Option<String>,
}

impl fmt::Display for ObjectRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => write!(f, "{}/{name}", self.kind),
            None => f.write_str(&self.kind),
        }
    }
}

impl ObjectRef {
    /// All objects of this kind in a namespace.
    pub(crate) fn all(cluster: &str, namespace: &str, kind: &str) -> Self {
        let (cluster, namespace, kind) = (cluster.to_owned(), namespace.to_owned(), kind.to_owned());
        ObjectRef { cluster, namespace, kind, name: None }
    }

    /// The object with this name.
    pub(crate) fn named(self, name: impl Into<String>) -> Self {
        ObjectRef { name: Some(name.into()), ..self }
    }
}
