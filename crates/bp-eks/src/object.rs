//! The object that a call to the Kubernetes API is about.

use std::fmt;

/// An object in a cluster, as errors name it: `secret/ecr`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ObjectRef {
    /// The cluster's name.
    pub cluster: String,
    /// The namespace that the object is in.
    pub namespace: String,
    /// The kind, as kubectl takes it: `deployment`, `secret`.
    pub kind: String,
    /// The name; `None` for a call that concerns all objects of the kind.
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

    /// One of them.
    pub(crate) fn named(self, name: impl Into<String>) -> Self {
        ObjectRef { name: Some(name.into()), ..self }
    }
}
