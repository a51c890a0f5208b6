//! The calls to the Kubernetes API, each with its errors read.

use std::sync::Arc;

use bp_artifact::Workload;
use k8s_openapi::api::core::v1::{Event, Pod};
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, ListParams, LogParams, Patch, PatchParams, PostParams, Preconditions},
    core::{ApiResource, DynamicObject},
};
use serde_json::{Value, json};

use super::{
    error::Error,
    live::Live,
    names::{self, Names},
    object::ObjectRef,
    template::{self, Slot},
    version::Version,
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
    /// The cluster's name.
    pub(super) name: String,
    pub(super) namespace: String,
    pub(super) workload: Workload,
}

/// How an image is applied.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Manner {
    /// Takes the fields from their owners.
    pub(super) force: bool,
    /// Lets the API server say what it would answer, and changes nothing.
    pub(super) dry_run: bool,
}

impl Cluster {
    /// The workload, as errors name it.
    pub(super) fn object(&self) -> ObjectRef {
        ObjectRef::of_workload(&self.name, &self.namespace, &self.workload)
    }

    /// All objects of another kind in its namespace.
    pub(super) fn all(&self, kind: &str) -> ObjectRef {
        ObjectRef::all(&self.name, &self.namespace, kind)
    }

    fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = kube::core::NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    pub(super) fn dynamic(&self, resource: &ApiResource) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), &self.namespace, resource)
    }

    pub(super) fn names(&self) -> Names {
        Names::of(self.workload.kind)
    }

    fn resource(&self) -> ApiResource {
        names::resource(self.workload.kind)
    }

    /// All of the workload's kind.
    pub(super) fn workloads(&self) -> Api<DynamicObject> {
        self.dynamic(&self.resource())
    }

    pub(super) fn pods(&self) -> Api<Pod> {
        self.api()
    }

    pub(super) fn events(&self) -> Api<Event> {
        self.api()
    }

    /// Reads what the API answered.
    pub(super) fn read(&self, operation: &'static str, object: Arc<DynamicObject>) -> Result<Live, Error> {
        let unexpected = |e: serde_json::Error| Error::UnexpectedAnswer {
            operation,
            cluster: self.name.clone(),
            source: e.into(),
        };
        Live::read(self.workload.kind, object).map_err(unexpected)
    }

    /// The workload as it is.
    pub(super) async fn workload(&self) -> Result<Live, Error> {
        let operation = self.names().get;
        match self.workloads().get(&self.workload.name).await {
            Ok(object) => self.read(operation, Arc::new(object)),
            Err(kube::Error::Api(status)) if status.is_not_found() => {
                Err(self.object().missing(&self.client).await)
            }
            Err(e) => Err(self.object().error(operation, e)),
        }
    }

    /// The revisions that the workload's selector finds.
    pub(super) async fn versions(&self, live: &Live) -> Result<Vec<Version>, Error> {
        let Some(resource) = names::versions(self.workload.kind) else { return Ok(Vec::new()) };
        let params = ListParams::default().labels(&live.selector());
        let list = self.dynamic(&resource).list(&params).await;
        let list = list.map_err(|e| self.object().error(self.names().list_versions, e))?;
        Ok(list.items.into_iter().map(|object| Version::read(Arc::new(object))).collect())
    }

    /// The pods that the workload's selector finds.
    pub(super) async fn list_pods(&self, live: &Live) -> Result<Vec<Arc<Pod>>, Error> {
        let params = ListParams::default().labels(&live.selector());
        let list = self.pods().list(&params).await.map_err(|e| self.all("pod").error("list pods", e))?;
        Ok(list.items.into_iter().map(Arc::new).collect())
    }

    /// Deletes this pod, and not another one of the same name.
    pub(super) async fn delete_pod(&self, pod: &Pod) -> Result<(), Error> {
        let uid = pod.metadata.uid.clone();
        let preconditions = Some(Preconditions { uid, ..Preconditions::default() });
        let params = DeleteParams { preconditions, ..DeleteParams::default() };
        match self.pods().delete(&pod.name_any(), &params).await {
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
            result => {
                result.map(drop).map_err(|e| self.all("pod").named(pod.name_any()).error("delete pods", e))
            }
        }
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

    /// Applies one container's image and variables, and nothing else. The uid keeps a workload that was deleted
    /// meanwhile from being made anew by half.
    pub(super) async fn apply(
        &self,
        live: &Live,
        slot: &Slot,
        image: &str,
        environment: &[(String, String)],
        manner: Manner,
    ) -> Result<Live, Error> {
        let mut params = PatchParams::apply(&field_manager(slot));
        (params.force, params.dry_run) = (manner.force, manner.dry_run);
        let resource = self.resource();
        let container = template::patch(slot, image, environment);
        let body = json!({
            "apiVersion": resource.api_version,
            "kind": resource.kind,
            "metadata": { "name": self.workload.name, "namespace": self.namespace, "uid": live.uid() },
            "spec": { "template": { "spec": { (slot.list): [container] } } },
        });
        let operation = self.names().patch;
        let applied = self.workloads().patch(&self.workload.name, &params, &Patch::Apply(&body)).await;
        self.read(operation, Arc::new(applied.map_err(|e| self.object().error(operation, e))?))
    }

    /// Puts a whole pod template back, as `kubectl rollout undo` does; refused if the workload has changed since it was
    /// read.
    pub(super) async fn replace_template(
        &self,
        live: &Live,
        slot: &Slot,
        template: Value,
    ) -> Result<Live, Error> {
        let mut object = DynamicObject::clone(&live.object);
        object.data["spec"]["template"] = template;
        object.metadata.managed_fields = None;
        let params = PostParams { field_manager: Some(field_manager(slot)), ..PostParams::default() };
        let operation = self.names().update;
        let replaced = self.workloads().replace(&self.workload.name, &params, &object).await;
        self.read(operation, Arc::new(replaced.map_err(|e| self.object().error(operation, e))?))
    }

    /// Creates an object of the workload's kind; `None` when there is one of that name.
    pub(super) async fn create(&self, slot: &Slot, object: &DynamicObject) -> Result<Option<Live>, Error> {
        let params = PostParams { field_manager: Some(field_manager(slot)), ..PostParams::default() };
        let operation = self.names().create;
        match self.workloads().create(&params, object).await {
            Ok(created) => self.read(operation, Arc::new(created)).map(Some),
            Err(kube::Error::Api(status)) if status.is_already_exists() => Ok(None),
            Err(e) => Err(self.object().error(operation, e)),
        }
    }
}
