//! Record all workloads of a namespace, or those of a Helm release.

use bp_artifact::{
    config::{Workload, WorkloadKind},
    recording::{Recorder, Recording},
};
use jiff::Timestamp;
use k8s_openapi::api::core::v1;
use kube::Api;
use serde_json::Value;

use super::{is_owned_by, list::List, note_missing};
use crate::{api::scope::Scope, error::Error, namespace::Namespace, workload};

impl Namespace {
    /// Records the API's responses about the namespace: its Deployments, StatefulSets, DaemonSets and Jobs, their
    /// ReplicaSets and revisions, the pods, and the events. Redacted: see
    /// [`Redactor`](bp_artifact::recording::Redactor). Changes nothing.
    ///
    /// Lists are read in pages, and limited to 500 objects (1,000 events) and 2 MiB of each kind: what exceeds a limit
    /// is listed in [`Recording::omitted`], a kind that cannot be read in [`Recording::missing`]. Two recordings of the
    /// same state differ only in `recorded_at`.
    ///
    /// # Errors
    /// When the namespace does not exist, or nothing can be read.
    ///
    /// # Permissions
    /// RBAC in the namespace: `list` on `deployments.apps`, `statefulsets.apps`, `daemonsets.apps`, `jobs.batch`,
    /// `replicasets.apps`, `controllerrevisions.apps`, `pods` and `events`. A kind that may not be listed is a missing
    /// part.
    ///
    /// # Cancel safety
    /// Cancel safe: it only reads.
    pub async fn record(&self, recorded_at: Timestamp) -> Result<Recording, Error> {
        let mut recorder = Recorder::default();
        record_objects(&self.0, None, &mut recorder).await?;
        recorder.note("namespace", self.0.namespace.clone().into());
        Ok(recorder.finish("eks-namespace", recorded_at))
    }
}

/// The kinds to list: owners before the objects that they own, and events last.
fn lists() -> Vec<List> {
    let kinds = || WorkloadKind::ALL.iter().map(|kind| workload::of(*kind));
    let mut lists: Vec<List> = kinds().map(List::workloads).collect();
    for versions in kinds().filter_map(List::versions) {
        // StatefulSets and DaemonSets have the same kind of revisions.
        if lists.iter().all(|list| list.part != versions.part) {
            lists.push(versions);
        }
    }
    lists.extend([List::pods(), List::events()]);
    lists
}

/// Adds the objects of a namespace to a recording, a part for each kind; with `workloads`, only these workloads and
/// what belongs to them.
///
/// # Errors
/// When the namespace does not exist, or nothing can be read.
pub(crate) async fn record_objects(
    scope: &Scope,
    workloads: Option<&[Workload]>,
    recorder: &mut Recorder,
) -> Result<(), Error> {
    let (mut uids, mut first) = (Vec::new(), None);
    let mut objects = 0;
    for list in lists() {
        // If owners cannot be read, it is unknown which pods belong to the workloads: all are recorded.
        let is_complete = first.is_none();
        let is_wanted = |object: &Value| {
            workloads.is_none_or(|workloads| {
                is_one_of(object, workloads)
                    || is_owned_by(object, &uids)
                    || uids.contains(&object["involvedObject"]["uid"])
                    || (!is_complete && object["kind"] == "Pod")
            })
        };
        match list.read(scope, None, is_wanted).await {
            Ok(listed) => {
                let listed = listed.note(recorder, &list.part);
                objects += listed.len();
                uids.extend(listed.iter().map(|object| object["metadata"]["uid"].clone()));
                recorder.note(&list.part, listed.into());
            }
            Err(error @ Error::Forbidden { .. }) => {
                note_missing(recorder, &list.part, &error);
                first.get_or_insert(error);
            }
            // The other requests would fail likewise.
            Err(error) if recorder.is_empty() => return Err(error),
            Err(error) => {
                note_missing(recorder, &list.part, &error);
                first.get_or_insert(error);
            }
        }
    }
    match first {
        Some(error) if recorder.is_empty() => Err(error),
        _ if objects == 0 && workloads.is_none() => exists(scope).await,
        _ => Ok(()),
    }
}

/// Fails if the namespace does not exist: its lists are empty, not errors.
async fn exists(scope: &Scope) -> Result<(), Error> {
    match Api::<v1::Namespace>::all(scope.client.clone()).get(&scope.namespace).await {
        Err(kube::Error::Api(status)) if status.is_not_found() => {
            Err(Error::NamespaceNotFound { namespace: scope.namespace.clone() })
        }
        // It exists, or it may not be read.
        _ => Ok(()),
    }
}

fn is_one_of(object: &Value, workloads: &[Workload]) -> bool {
    workloads.iter().any(|workload| {
        object["metadata"]["name"] == workload.name.as_str()
            && object["kind"] == (workload::of(workload.kind).resource)().kind
    })
}
