//! Kubernetes API calls for Services, EndpointSlices, Ingresses, pods and the Deployments of blue/green slots.

use std::{fmt::Debug, time::Duration};

use backon::ExponentialBuilder;
use bp_artifact::{Operation, Outcome, deploy::DeployEvent};
use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{Pod, Service},
    discovery::v1::EndpointSlice,
    networking::v1::Ingress,
};
use kube::{
    Api, Resource,
    api::{ListParams, Patch, PatchParams, PostParams},
    core::NamespaceResourceScope,
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use super::{
    error::TrafficError,
    labels::{Labels, format_labels},
};
use crate::{
    answer::conflicts,
    api::{manager::is_ours, scope::Scope},
    error::Error,
    object::ObjectRef,
};

/// The field manager for changes of traffic.
pub(super) const MANAGER: &str = "bp-eks:traffic";
/// The label that marks objects created by bp-eks.
pub(super) const MANAGED_BY: (&str, &str) = ("app.kubernetes.io/managed-by", "bp-eks");

impl Scope {
    pub(super) fn services(&self) -> Api<Service> {
        self.api()
    }

    pub(super) fn slices(&self) -> Api<EndpointSlice> {
        self.api()
    }

    pub(super) fn pods(&self) -> Api<Pod> {
        self.api()
    }

    fn deployments(&self) -> Api<Deployment> {
        self.api()
    }

    /// Reads an object that must exist.
    async fn get<K>(&self, operation: &'static str, object: ObjectRef, name: &str) -> Result<K, TrafficError>
    where
        K: Resource<Scope = NamespaceResourceScope> + Clone + DeserializeOwned + Debug,
        K::DynamicType: Default,
    {
        match self.api::<K>().get(name).await {
            Ok(found) => Ok(found),
            Err(kube::Error::Api(status)) if status.is_not_found() => {
                Err(object.missing(&self.client).await.into())
            }
            Err(e) => Err(object.error(operation, e).into()),
        }
    }

    pub(super) async fn service(&self, name: &str) -> Result<Service, TrafficError> {
        self.get("get services", self.object("service", name), name).await
    }

    pub(super) async fn ingress(&self, name: &str) -> Result<Ingress, TrafficError> {
        self.get("get ingresses", self.object("ingress", name), name).await
    }

    pub(super) async fn deployment(&self, name: &str) -> Result<Option<Deployment>, TrafficError> {
        let got = self.deployments().get_opt(name).await;
        got.map_err(|e| self.object("deployment", name).error("get deployments", e).into())
    }

    /// Creates a Deployment; one that exists already is kept unchanged.
    pub(super) async fn create(&self, deployment: &Deployment) -> Result<(), TrafficError> {
        let params = PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() };
        match self.deployments().create(&params, deployment).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.is_already_exists() => Ok(()),
            Err(e) => {
                let name = deployment.metadata.name.as_deref().unwrap_or_default();
                Err(self.object("deployment", name).error("create deployments", e).into())
            }
        }
    }

    /// Sets the number of replicas; other fields keep their field managers.
    pub(super) async fn scale(&self, deployment: &str, replicas: i32) -> Result<(), TrafficError> {
        let patch = Patch::Merge(json!({ "spec": { "replicas": replicas } }));
        let params = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
        let scaled = self.deployments().patch_scale(deployment, &params, &patch).await;
        let read = |e| self.object("deployment", deployment).error("patch deployments/scale", e).into();
        scaled.map(drop).map_err(read)
    }

    pub(super) async fn pods_of(&self, selector: &Labels) -> Result<Vec<Pod>, TrafficError> {
        let params = ListParams::default().labels(&format_labels(selector));
        let listed = self.pods().list(&params).await;
        listed.map(|list| list.items).map_err(|e| self.all("pod").error("list pods", e).into())
    }

    /// Applies `object` with [`MANAGER`] as field manager. Conflicts with other field managers of bp-eks are forced;
    /// conflicts with foreign field managers only with `take_over`.
    pub(super) async fn apply<K>(
        &self,
        operation: &'static str,
        object: &ObjectRef,
        config: &Value,
        take_over: bool,
    ) -> Result<Applied<K>, TrafficError>
    where
        K: Resource<Scope = NamespaceResourceScope> + Clone + DeserializeOwned + Serialize + Debug,
        K::DynamicType: Default,
    {
        self.apply_with(&self.api::<K>(), operation, object, config, take_over).await
    }

    /// As [`apply`](Self::apply), for a resource known at run time.
    pub(super) async fn apply_with<K>(
        &self,
        api: &Api<K>,
        operation: &'static str,
        object: &ObjectRef,
        config: &Value,
        take_over: bool,
    ) -> Result<Applied<K>, TrafficError>
    where
        K: Clone + DeserializeOwned + Serialize + Debug,
    {
        let name = object.name.as_deref().unwrap_or_default();
        let mut params = PatchParams::apply(MANAGER);
        loop {
            let refused = match api.patch(name, &params, &Patch::Apply(config)).await {
                Ok(applied) => return Ok(Applied::Done(applied)),
                Err(kube::Error::Api(status)) if status.code == 409 => status,
                Err(e) => return Err(object.error(operation, e).into()),
            };
            let owners = conflicts(&refused);
            match () {
                // No field conflict: the object changed since it was read.
                () if owners.is_empty() => return Ok(Applied::Stale),
                () if !params.force && (take_over || owners.iter().all(|c| is_ours(&c.manager))) => {
                    params = params.force();
                }
                () => {
                    return Err(
                        Error::Conflict { object: Box::new(object.clone()), conflicts: owners }.into()
                    );
                }
            }
        }
    }
}

/// A running switch of traffic: emits [`DeployEvent`]s and ends in an [`Outcome`].
pub type Switch = Operation<DeployEvent, Result<Outcome, TrafficError>>;

/// The result of an apply with a precondition.
pub(super) enum Applied<K> {
    /// The object was applied.
    Done(K),
    /// The object changed since it was read.
    Stale,
}

/// The message for a change that was sent and not answered.
///
/// # Errors
/// When the request was answered with an error: nothing was changed.
pub(super) fn may_be_applied(object: &str, error: TrafficError) -> Result<String, TrafficError> {
    let TrafficError::Rollout(error) = error else { return Err(error) };
    Ok(error.may_be_applied(&object)?)
}

/// The backoff between attempts of a patch that met a concurrent change: controllers write often, in short bursts.
pub(super) fn pauses() -> ExponentialBuilder {
    ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(20))
        .with_max_delay(Duration::from_millis(500))
        .with_max_times(6)
        .with_jitter()
}
