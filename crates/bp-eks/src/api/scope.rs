//! One namespace of a cluster.

use bp_artifact::deploy::TargetId;
use kube::{
    Api, Client, Resource,
    core::{ApiResource, DynamicObject, NamespaceResourceScope},
};

use crate::object::ObjectRef;

/// One namespace of a cluster, with the cluster's name for messages. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Scope {
    pub(crate) client: Client,
    pub(crate) cluster: String,
    pub(crate) namespace: String,
}

impl Scope {
    /// All objects of a type.
    pub(crate) fn api<K>(&self) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// All objects of a resource.
    pub(crate) fn dynamic(&self, resource: &ApiResource) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), &self.namespace, resource)
    }

    /// The object of this kind and name, as errors name it.
    pub(crate) fn object(&self, kind: &str, name: &str) -> ObjectRef {
        self.all(kind).named(name)
    }

    /// All objects of this kind.
    pub(crate) fn all(&self, kind: &str) -> ObjectRef {
        ObjectRef::all(&self.cluster, &self.namespace, kind)
    }

    /// `eks/<cluster>/<namespace>/<what>`
    pub(crate) fn target(&self, what: &str) -> TargetId {
        TargetId::new(format!("eks/{}/{}/{what}", self.cluster, self.namespace))
    }
}
