//! The calls to the Kubernetes API, each with its errors read.

use bp_artifact::WorkloadKind;
use k8s_openapi::{
    api::{
        apps::v1::{Deployment, ReplicaSet},
        core::v1::{Event, Namespace, Pod},
    },
    apimachinery::pkg::apis::meta::v1::LabelSelector,
};
use kube::{
    Api, Client, ResourceExt,
    api::{ListParams, LogParams, Patch, PatchParams, PostParams},
    core::Selector,
};
use serde_json::json;

use super::{
    error::{APPLY, Error, Place},
    template::{self, Slot},
};

/// Our names among the owners of fields begin so.
const FIELD_MANAGER: &str = "bp-eks";

/// Our name for one container. What a manager does not apply any more is removed, so two targets in one workload must
/// not share a name.
fn field_manager(slot: &Slot) -> String {
    format!("{FIELD_MANAGER}:{}", slot.name)
}

/// Whether this field manager is us, for whatever container.
pub(crate) fn is_ours(manager: &str) -> bool {
    manager.split(':').next() == Some(FIELD_MANAGER)
}

/// The API as far as it concerns one workload.
#[derive(Clone)]
pub(super) struct Cluster {
    pub(super) client: Client,
    pub(super) place: Place,
}

impl Cluster {
    fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = kube::core::NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Api::namespaced(self.client.clone(), &self.place.namespace)
    }

    pub(super) fn deployments(&self) -> Api<Deployment> {
        self.api()
    }

    pub(super) fn replica_sets(&self) -> Api<ReplicaSet> {
        self.api()
    }

    pub(super) fn pods(&self) -> Api<Pod> {
        self.api()
    }

    pub(super) fn events(&self) -> Api<Event> {
        self.api()
    }

    fn name(&self) -> &str {
        &self.place.workload.name
    }

    /// The Deployment as it is.
    pub(super) async fn deployment(&self) -> Result<Deployment, Error> {
        if self.place.workload.kind != WorkloadKind::Deployment {
            return Err(Error::UnsupportedWorkload { workload: self.place.workload.clone() });
        }
        match self.deployments().get(self.name()).await {
            Ok(deployment) => Ok(deployment),
            Err(kube::Error::Api(status)) if status.is_not_found() => Err(self.not_found().await),
            Err(e) => Err(self.place.error("get deployments", e)),
        }
    }

    /// Whether it is the workload that is missing, or the whole namespace.
    async fn not_found(&self) -> Error {
        let Place { namespace, workload, .. } = self.place.clone();
        match Api::<Namespace>::all(self.client.clone()).get(&namespace).await {
            Err(kube::Error::Api(status)) if status.is_not_found() => Error::NamespaceNotFound { namespace },
            // It is there, or we may not look.
            _ => Error::WorkloadNotFound { namespace, workload },
        }
    }

    /// The ReplicaSets that the Deployment's selector finds.
    pub(super) async fn list_replica_sets(&self, deployment: &Deployment) -> Result<Vec<SharedSet>, Error> {
        let params = ListParams::default().labels(&selector(deployment));
        let list = self.replica_sets().list(&params).await;
        let list = list.map_err(|e| self.place.error("list replicasets", e))?;
        Ok(list.items.into_iter().map(std::sync::Arc::new).collect())
    }

    /// The pods of one ReplicaSet.
    pub(super) async fn list_pods(
        &self,
        deployment: &Deployment,
        set: &ReplicaSet,
    ) -> Result<Vec<Pod>, Error> {
        let params = ListParams::default().labels(&selector(deployment));
        let list = self.pods().list(&params).await.map_err(|e| self.place.error("list pods", e))?;
        let uid = set.metadata.uid.clone().unwrap_or_default();
        Ok(list.items.into_iter().filter(|pod| template::is_owned(pod, &uid)).collect())
    }

    /// The warnings about a pod that the API still has.
    pub(super) async fn warnings(&self, pod: &Pod) -> Result<Vec<Event>, kube::Error> {
        let uid = pod.metadata.uid.as_deref().unwrap_or_default();
        let params = ListParams::default().fields(&format!("involvedObject.uid={uid},type=Warning"));
        Ok(self.events().list(&params).await?.items)
    }

    /// The last lines that a container wrote: those of its previous run, or of the one that goes on.
    pub(super) async fn log(&self, pod: &Pod, container: &str, previous: bool, lines: i64) -> Option<String> {
        let container = Some(container.to_owned());
        let params = LogParams { container, previous, tail_lines: Some(lines), ..LogParams::default() };
        self.pods().logs(&pod.name_any(), &params).await.ok().filter(|text| !text.trim().is_empty())
    }

    /// Applies one container's image and nothing else. With `force` the field is taken from its owner.
    pub(super) async fn apply(&self, slot: &Slot, image: &str, force: bool) -> Result<Deployment, Error> {
        let mut params = PatchParams::apply(&field_manager(slot));
        params.force = force;
        let body = json!({
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": { "name": self.name(), "namespace": self.place.namespace },
            "spec": { "template": { "spec": { (slot.list): [{ "name": slot.name, "image": image }] } } },
        });
        let applied = self.deployments().patch(self.name(), &params, &Patch::Apply(&body)).await;
        applied.map_err(|e| self.place.error(APPLY, e))
    }

    /// Puts a whole pod template back, as `kubectl rollout undo` does; refused if the Deployment has changed since it
    /// was read.
    pub(super) async fn replace_template(
        &self,
        mut deployment: Deployment,
        slot: &Slot,
        template: k8s_openapi::api::core::v1::PodTemplateSpec,
    ) -> Result<Deployment, Error> {
        if let Some(spec) = &mut deployment.spec {
            spec.template = template;
        }
        deployment.metadata.managed_fields = None;
        let params = PostParams { field_manager: Some(field_manager(slot)), ..PostParams::default() };
        let replaced = self.deployments().replace(self.name(), &params, &deployment).await;
        replaced.map_err(|e| self.place.error("update deployments", e))
    }
}

/// A ReplicaSet as watches and lists hand it out.
pub(super) type SharedSet = std::sync::Arc<ReplicaSet>;

/// The Deployment's selector as the API takes it in a query.
pub(super) fn selector(deployment: &Deployment) -> String {
    let selector = deployment.spec.as_ref().map(|spec| spec.selector.clone());
    let selector: LabelSelector = selector.unwrap_or_default();
    // A Deployment's selector is validated by the API; one that cannot be read selects by its labels at least.
    let labels = selector.match_labels.clone().unwrap_or_default();
    Selector::try_from(selector).unwrap_or_else(|_| Selector::from_iter(labels)).to_string()
}
