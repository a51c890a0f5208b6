//! Kubernetes API calls for one workload, with typed errors.

use std::{collections::BTreeMap, sync::Arc};

use bp_artifact::config::Workload;
use k8s_openapi::api::core::v1::{Event, Pod};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, ListParams, LogParams, Patch, PatchParams, PostParams, Preconditions},
    core::DynamicObject,
};
use serde_json::{Value, json};

use crate::{
    api::{manager, pod, scope::Scope},
    error::Error,
    object::ObjectRef,
    workload::{
        self, Calls, Kind, Live,
        template::{self, Slot},
        version::Version,
    },
};

/// The maximum number of events of a list.
const EVENTS: u32 = 500;

/// The Kubernetes API for one workload.
#[derive(Clone)]
pub(crate) struct WorkloadApi {
    pub(crate) scope: Scope,
    pub(crate) workload: Workload,
}

/// Options of a server-side apply.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct ApplyOptions {
    /// Takes ownership of fields of other field managers.
    pub(crate) force: bool,
    /// Sends a dry run, which changes nothing.
    pub(crate) dry_run: bool,
}

/// What a server-side apply sets.
#[derive(Debug, Clone, Default)]
pub(crate) struct Content {
    pub(crate) image: String,
    /// Annotations of the workload.
    pub(crate) metadata: BTreeMap<String, String>,
    /// Annotations of the pod template: another value replaces the pods.
    pub(crate) template: BTreeMap<String, String>,
}

impl WorkloadApi {
    /// A reference to the workload, for error messages.
    pub(crate) fn object(&self) -> ObjectRef {
        self.scope.object(self.workload.kind.name(), &self.workload.name)
    }

    /// A reference to all objects of another kind in its namespace, for error messages.
    pub(crate) fn all(&self, kind: &str) -> ObjectRef {
        self.scope.all(kind)
    }

    pub(crate) fn kind(&self) -> &'static Kind {
        workload::of(self.workload.kind)
    }

    pub(crate) fn calls(&self) -> &'static Calls {
        &self.kind().calls
    }

    /// The API of the workload's kind.
    pub(crate) fn workloads(&self) -> Api<DynamicObject> {
        self.scope.dynamic(&(self.kind().resource)())
    }

    pub(crate) fn pods(&self) -> Api<Pod> {
        self.scope.api()
    }

    pub(crate) fn events(&self) -> Api<Event> {
        self.scope.api()
    }

    /// Parses an object of the workload's kind.
    pub(crate) fn read(&self, operation: &'static str, object: Arc<DynamicObject>) -> Result<Live, Error> {
        let unexpected = |e: serde_json::Error| Error::UnexpectedResponse {
            operation,
            cluster: self.scope.cluster.clone(),
            source: e.into(),
        };
        Live::read(self.kind(), object).map_err(unexpected)
    }

    /// Gets the workload.
    pub(crate) async fn workload(&self) -> Result<Live, Error> {
        let operation = self.calls().get;
        match self.workloads().get(&self.workload.name).await {
            Ok(object) => self.read(operation, Arc::new(object)),
            Err(kube::Error::Api(status)) if status.is_not_found() => {
                Err(self.object().missing(&self.scope.client).await)
            }
            Err(e) => Err(self.object().error(operation, e)),
        }
    }

    /// The revisions that the workload's selector matches.
    pub(crate) async fn versions(&self, live: &Live) -> Result<Vec<Version>, Error> {
        let Some((resource, calls)) = self.kind().versions.resource() else { return Ok(Vec::new()) };
        let params = ListParams::default().labels(&live.selector());
        let list = self.scope.dynamic(&resource).list(&params).await;
        let list = list.map_err(|e| self.object().error(calls.list, e))?;
        Ok(list.items.into_iter().map(|object| Version::read(self.kind(), Arc::new(object))).collect())
    }

    /// The pods that the workload's selector matches.
    pub(crate) async fn list_pods(&self, live: &Live) -> Result<Vec<Arc<Pod>>, Error> {
        if self.kind().is_scheduled {
            return Ok(Vec::new());
        }
        let params = ListParams::default().labels(&live.selector());
        let list = self.pods().list(&params).await.map_err(|e| self.all("pod").error("list pods", e))?;
        let trimmed = |mut pod: Pod| {
            pod::trim(&mut pod);
            Arc::new(pod)
        };
        Ok(list.items.into_iter().map(trimmed).collect())
    }

    /// Deletes this pod, but not a different pod with the same name.
    pub(crate) async fn delete_pod(&self, pod: &Pod) -> Result<(), Error> {
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

    /// The warning events about a pod.
    pub(crate) async fn warnings(&self, pod: &Pod) -> Result<Vec<Event>, kube::Error> {
        let uid = pod.metadata.uid.as_deref().unwrap_or_default();
        let params = ListParams::default().fields(&format!("involvedObject.uid={uid},type=Warning"));
        Ok(self.events().list(&params).await?.items)
    }

    /// One page of the warning events of the namespace.
    pub(crate) async fn recent_warnings(&self) -> Result<Vec<Event>, kube::Error> {
        let params = ListParams::default().fields("type=Warning").limit(EVENTS);
        Ok(self.events().list(&params).await?.items)
    }

    /// The last log lines of a container, of its previous or its current run.
    pub(crate) async fn log(&self, pod: &Pod, container: &str, previous: bool, lines: i64) -> Option<String> {
        let container = Some(container.to_owned());
        let params = LogParams { container, previous, tail_lines: Some(lines), ..LogParams::default() };
        self.pods().logs(&pod.name_any(), &params).await.ok().filter(|text| !text.trim().is_empty())
    }

    /// Applies only one container's image and variables, and annotations. The uid prevents that a workload deleted in the meantime is
    /// created again with these fields only.
    pub(crate) async fn apply(
        &self,
        live: &Live,
        slot: &Slot,
        content: &Content,
        environment: &[(String, String)],
        apply_options: ApplyOptions,
    ) -> Result<Live, Error> {
        let mut params = PatchParams::apply(&manager::of_slot(slot));
        (params.force, params.dry_run) = (apply_options.force, apply_options.dry_run);
        let resource = (self.kind().resource)();
        let mut template = json!({ "spec": template::patch(slot, &content.image, environment) });
        if !content.template.is_empty() {
            template["metadata"] = json!({ "annotations": content.template });
        }
        let path = self.kind().template.iter().rev();
        let mut body = json!({
            "apiVersion": resource.api_version,
            "kind": resource.kind,
            "metadata": { "name": self.workload.name, "namespace": self.scope.namespace, "uid": live.uid() },
            "spec": path.fold(template, |inner, field| json!({ *field: inner })),
        });
        if !content.metadata.is_empty() {
            body["metadata"]["annotations"] = json!(content.metadata);
        }
        let operation = self.calls().patch;
        let applied = self.workloads().patch(&self.workload.name, &params, &Patch::Apply(&body)).await;
        self.read(operation, Arc::new(applied.map_err(|e| self.object().error(operation, e))?))
    }

    /// Replaces the whole pod template, as `kubectl rollout undo` does, and sets these annotations; those without a value
    /// are removed. Fails if the workload has changed since it was read.
    pub(crate) async fn replace_template(
        &self,
        live: &Live,
        slot: &Slot,
        template: Value,
        annotations: BTreeMap<String, Option<String>>,
    ) -> Result<Live, Error> {
        let mut object = DynamicObject::clone(&live.object);
        object.data["spec"]["template"] = template;
        for (name, value) in annotations {
            match (value, &mut object.metadata.annotations) {
                (Some(value), all) => drop(all.get_or_insert_default().insert(name, value)),
                (None, Some(all)) => drop(all.remove(&name)),
                (None, None) => {}
            }
        }
        object.metadata.managed_fields = None;
        let params = PostParams { field_manager: Some(manager::of_slot(slot)), ..PostParams::default() };
        let operation = self.calls().update;
        let replaced = self.workloads().replace(&self.workload.name, &params, &object).await;
        self.read(operation, Arc::new(replaced.map_err(|e| self.object().error(operation, e))?))
    }

    /// Creates an object of the workload's kind; `None` when the name is in use.
    pub(crate) async fn create(&self, slot: &Slot, object: &DynamicObject) -> Result<Option<Live>, Error> {
        let params = PostParams { field_manager: Some(manager::of_slot(slot)), ..PostParams::default() };
        let operation = self.calls().create;
        match self.workloads().create(&params, object).await {
            Ok(created) => self.read(operation, Arc::new(created)).map(Some),
            Err(kube::Error::Api(status)) if status.is_already_exists() => Ok(None),
            Err(e) => Err(self.object().error(operation, e)),
        }
    }
}
