//! A namespace of a cluster: typed and dynamic Kubernetes APIs, and references to its objects.

use bp_artifact::deploy::TargetId;
use kube::{
    Api, Client, Resource,
    core::{ApiResource, DynamicObject, NamespaceResourceScope},
};

use crate::object::ObjectRef;

/// A namespace of a cluster, with the cluster's name for messages. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Scope {
    pub(crate) client: Client,
    pub(crate) cluster: String,
    pub(crate) namespace: String,
}

impl Scope {
    /// The API of a type.
    pub(crate) fn api<K>(&self) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// The API of a resource known at run time.
    pub(crate) fn dynamic(&self, resource: &ApiResource) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), &self.namespace, resource)
    }

    /// A reference to an object, for error messages.
    pub(crate) fn object(&self, kind: &str, name: &str) -> ObjectRef {
        self.all(kind).named(name)
    }

    /// A reference to all objects of a kind, for error messages.
    pub(crate) fn all(&self, kind: &str) -> ObjectRef {
        ObjectRef::all(&self.cluster, &self.namespace, kind)
    }

    /// `eks/<cluster>/<namespace>/<what>`
    pub(crate) fn target(&self, what: &str) -> TargetId {
        TargetId::new(format!("eks/{}/{}/{what}", self.cluster, self.namespace))
    }
}
