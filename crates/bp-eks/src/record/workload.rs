//! Recording of the API responses about a workload, for tests of failure causes.

use bp_artifact::{
    error::chain,
    recording::{Recorder, Recording},
};
use jiff::Timestamp;
use kube::api::ListParams;
use serde_json::{Value, json};

use crate::{error::Error, target::EksTarget};

impl EksTarget {
    /// Records the API's responses about the workload: the workload, its ReplicaSets or revisions, its pods, and their
    /// events. Redacted: see [`Redactor`](bp_artifact::recording::Redactor). Changes nothing.
    ///
    /// A part that cannot be read is listed in [`Recording::missing`].
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
        let workload = json!(&*live.object);
        let mut uids: Vec<Value> = vec![workload["metadata"]["uid"].clone()];
        recorder.note("replicas", workload["spec"]["replicas"].clone());
        recorder.note("workload", workload);

        let params = ListParams::default().labels(&live.selector());
        if let Some((resource, calls)) = api.kind().versions.resource() {
            match api.scope.dynamic(&resource).list(&params).await {
                Ok(list) => {
                    let sets: Vec<Value> = list.items.iter().map(|set| json!(set)).collect();
                    uids.extend(sets.iter().map(|set| set["metadata"]["uid"].clone()));
                    recorder.note("refused", refused(&sets));
                    recorder.note("replicaSets", sets.into());
                }
                Err(e) => recorder.missing("replicaSets", chain(&api.object().error(calls.list, e))),
            }
        }
        let mut pods: Vec<Value> = Vec::new();
        match api.pods().list(&params).await {
            Ok(list) => {
                pods = list.items.iter().map(|pod| json!(pod)).collect();
                recorder.note("pods", pods.clone().into());
            }
            Err(e) => recorder.missing("pods", chain(&api.all("pod").error("list pods", e))),
        }
        match api.events().list(&ListParams::default()).await {
            Ok(list) => {
                let position = |uid: &Value| pods.iter().position(|pod| pod["metadata"]["uid"] == *uid);
                let about = |event: Value| {
                    let uid = &event["involvedObject"]["uid"];
                    let about = position(uid);
                    (about.is_some() || uids.contains(uid)).then(|| match about {
                        Some(about) => merged(event.clone(), "about", json!(about)),
                        None => event.clone(),
                    })
                };
                let events: Vec<Value> = list.items.iter().filter_map(|event| about(json!(event))).collect();
                recorder.note("events", events.into());
            }
            Err(e) => recorder.missing("events", chain(&api.all("event").error("list events", e))),
        }
        Ok(recorder.finish("eks-workload", recorded_at))
    }
}

fn merged(mut object: Value, key: &str, value: Value) -> Value {
    object[key] = value;
    object
}

/// The reason why a ReplicaSet cannot create pods.
fn refused(sets: &[Value]) -> Value {
    let conditions = sets.iter().filter_map(|set| set["status"]["conditions"].as_array()).flatten();
    let mut failures = conditions.filter(|condition| condition["type"] == "ReplicaFailure");
    failures.next().map_or(Value::Null, |condition| condition["message"].clone())
}
