//! Record the API responses about a workload, a Helm release or a namespace, for tests of failure causes.

mod list;
mod namespace;
mod workload;

use bp_artifact::recording::{MissingPart, Recorder};
use serde_json::{Value, json};

#[cfg(feature = "helm")]
pub(crate) use self::namespace::record_objects;
use crate::error::Error;

/// Adds a part that could not be read.
fn note_missing(recorder: &mut Recorder, part: &str, error: &Error) {
    let permission = if let Error::Forbidden { verb, resource, .. } = error {
        Some(format!("{verb} {resource}"))
    } else {
        None
    };
    let reason = format!("cannot observe: {}", error.without_advice());
    recorder.add_missing(MissingPart { part: part.to_owned(), reason, permission });
}

/// The events, each about a pod with the position of the pod in `pods`.
pub(crate) fn with_pod_positions(events: Vec<Value>, pods: &[Value]) -> Vec<Value> {
    let position = |uid: &Value| pods.iter().position(|pod| pod["metadata"]["uid"] == *uid);
    let about = |mut event: Value| {
        if let Some(about) = position(&event["involvedObject"]["uid"]) {
            event["about"] = json!(about);
        }
        event
    };
    events.into_iter().map(about).collect()
}

/// The reason why a ReplicaSet cannot create pods.
pub(crate) fn refused(sets: &[Value]) -> Value {
    let conditions = sets.iter().filter_map(|set| set["status"]["conditions"].as_array()).flatten();
    let mut failures = conditions.filter(|condition| condition["type"] == "ReplicaFailure");
    failures.next().map_or(Value::Null, |condition| condition["message"].clone())
}

/// Whether an object has an owner with one of these UIDs.
pub(crate) fn is_owned_by(object: &Value, uids: &[Value]) -> bool {
    let owners = object["metadata"]["ownerReferences"].as_array().into_iter().flatten();
    owners.into_iter().any(|owner| uids.contains(&owner["uid"]))
}
