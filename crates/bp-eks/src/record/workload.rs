//! Record one workload.

use bp_artifact::recording::{Recorder, Recording};
use jiff::Timestamp;
use kube::core::DynamicObject;
use serde_json::{Value, json};

use super::{
    list::{List, Listed},
    note_missing, refused, with_pod_positions,
};
use crate::{error::Error, target::EksTarget};

impl EksTarget {
    /// Records the API's responses about the workload: the workload, its ReplicaSets or revisions, its pods, and their
    /// events. Redacted: see [`Redactor`](bp_artifact::recording::Redactor). Changes nothing.
    ///
    /// A part that cannot be read is listed in [`Recording::missing`], one that exceeds a limit in
    /// [`Recording::omitted`].
    ///
    /// # Errors
    /// When the workload cannot be read: its selector and UID are required for everything else.
    ///
    /// # Permissions
    /// RBAC in the namespace: `get` on the workload's resource, `list` on `pods`, `events`, and `replicasets.apps` (of
    /// StatefulSets and DaemonSets `controllerrevisions.apps`). A denied read of anything but the workload is a missing
    /// part.
    ///
    /// # Cancel safety
    /// Cancel safe: it only reads.
    pub async fn record(&self, recorded_at: Timestamp) -> Result<Recording, Error> {
        let api = &self.0.api;
        let live = api.workload().await?;
        let mut recorder = Recorder::default();
        let workload = json!(DynamicObject::clone(&live.object));
        let mut uids: Vec<Value> = vec![workload["metadata"]["uid"].clone()];
        recorder.note("replicas", workload["spec"]["replicas"].clone());
        recorder.note("workload", workload);

        let selector = live.selector();
        let mut note = |part: &str, listed: Result<Listed, Error>| match listed {
            Ok(listed) => Some(listed.note(&mut recorder, part)),
            Err(error) => {
                note_missing(&mut recorder, part, &error);
                None
            }
        };
        let mut sets = None;
        if let Some(list) = List::versions(api.kind()) {
            sets = note("replicaSets", list.read(&api.scope, Some(&selector), |_| true).await);
        }
        // A CronJob selects none.
        let selects = !api.kind().is_scheduled;
        let pods = note("pods", List::pods().read(&api.scope, Some(&selector), |_| selects).await);
        let objects = sets.iter().chain(&pods).flatten();
        uids.extend(objects.map(|object| object["metadata"]["uid"].clone()));
        let is_about = |event: &Value| uids.contains(&event["involvedObject"]["uid"]);
        let events = note("events", List::events().read(&api.scope, None, is_about).await);

        if let Some(sets) = sets {
            recorder.note("refused", refused(&sets));
            recorder.note("replicaSets", sets.into());
        }
        if let Some(events) = events {
            let events = with_pod_positions(events, pods.as_deref().unwrap_or_default());
            recorder.note("events", events.into());
        }
        if let Some(pods) = pods {
            recorder.note("pods", pods.into());
        }
        Ok(recorder.finish("eks-workload", recorded_at))
    }
}
