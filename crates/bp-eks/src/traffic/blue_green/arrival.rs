//! Decide from the watched objects whether a Service's endpoints have followed a switch of its selector.

use std::sync::Arc;

use bp_artifact::deploy::Progress;
use k8s_openapi::api::{
    core::v1::{Pod, Service},
    discovery::v1::EndpointSlice,
};

use crate::{
    api::{pod, symptom::Symptom},
    traffic::{
        labels::{Labels, format_labels},
        pods::Failing,
    },
};

/// The watched objects at one moment.
#[derive(Debug, Default)]
pub(super) struct Snapshot {
    pub(super) service: Option<Arc<Service>>,
    pub(super) slices: Vec<Arc<EndpointSlice>>,
    /// The pods of the slot that receives the traffic.
    pub(super) pods: Vec<Arc<Pod>>,
}

/// The state of a switch.
#[derive(Debug, PartialEq)]
pub(super) enum Arrival {
    /// The endpoints do not match the selector yet.
    Waiting(Progress),
    /// The ready endpoints are exactly the ready pods of the slot.
    Arrived(Progress),
    /// The pods of the slot fail.
    Failing(Symptom),
    /// Another client changed the Service's selector.
    Superseded(String),
    /// The Service was deleted.
    Gone,
}

impl Snapshot {
    /// The pods that are not being deleted.
    fn living(&self) -> impl Iterator<Item = &Arc<Pod>> {
        self.pods.iter().filter(|pod| pod.metadata.deletion_timestamp.is_none())
    }

    /// The names of the pods behind ready endpoints.
    fn endpoints(&self) -> Vec<&str> {
        let endpoints = self.slices.iter().flat_map(|slice| &slice.endpoints);
        endpoints
            // The API specifies that an unknown state counts as ready.
            .filter(|e| e.conditions.as_ref().and_then(|c| c.ready).unwrap_or(true))
            .filter_map(|e| e.target_ref.as_ref()?.name.as_deref())
            .collect()
    }

    /// The pods of the slot that receive traffic.
    pub(super) fn serving(&self) -> Vec<Arc<Pod>> {
        let endpoints = self.endpoints();
        let serves = |pod: &&Arc<Pod>| pod.metadata.name.as_deref().is_some_and(|n| endpoints.contains(&n));
        self.living().filter(serves).cloned().collect()
    }

    /// Judges a switch to `selector`; it fails when `fail_after` pods fail for the same reason.
    pub(super) fn judge(&self, selector: &Labels, fail_after: usize) -> Arrival {
        let Some(service) = &self.service else { return Arrival::Gone };
        if service.metadata.deletion_timestamp.is_some() {
            return Arrival::Gone;
        }
        let selected = service.spec.as_ref().and_then(|spec| spec.selector.clone()).unwrap_or_default();
        if selected != *selector {
            return Arrival::Superseded(format_labels(&selected));
        }
        let failing = Failing::of(&self.living().collect::<Vec<_>>(), fail_after);
        if let Some(symptom) = failing.symptom {
            return Arrival::Failing(symptom);
        }
        let (ours, all) = (self.serving().len(), self.endpoints().len());
        let ready = self.living().filter(|pod| pod::is_ready(pod)).count();
        let arrived = ours > 0 && ours == all && ours == ready;
        let mut progress = Progress::default();
        progress.desired = self.living().count() as u32;
        progress.running = ours as u32;
        progress.pending = ready.saturating_sub(ours) as u32;
        progress.failed = failing.count as u32;
        progress.old = (all - ours) as u32;
        progress.stage = if arrived { "endpoints updated" } else { "waiting for endpoints" }.to_owned();
        if arrived { Arrival::Arrived(progress) } else { Arrival::Waiting(progress) }
    }
}

#[cfg(test)]
mod tests {
    use bp_artifact::deploy::Cause;
    use serde_json::{Value, json};

    use super::*;

    fn pod(name: &str, ready: bool) -> Value {
        let status = if ready { "True" } else { "False" };
        json!({ "metadata": { "name": name }, "status": { "conditions": [{ "type": "Ready", "status": status }] } })
    }

    fn crashing(name: &str) -> Value {
        let mut pod = pod(name, false);
        pod["status"]["containerStatuses"] = json!([{
            "name": "web", "image": "", "imageID": "", "ready": false, "restartCount": 3,
            "state": { "waiting": { "reason": "CrashLoopBackOff" } },
            "lastState": { "terminated": { "exitCode": 3, "reason": "Error" } },
        }]);
        pod
    }

    fn snapshot(slot: &str, endpoints: &[(&str, Value)], pods: Vec<Value>) -> Snapshot {
        let endpoint = |(pod, ready): &(&str, Value)| json!({ "addresses": ["10.0.0.1"], "conditions": { "ready": ready }, "targetRef": { "kind": "Pod", "name": pod } });
        let endpoints: Vec<Value> = endpoints.iter().map(endpoint).collect();
        let service = json!({ "metadata": { "name": "web" }, "spec": { "selector": { "slot": slot } } });
        let slice = json!({ "metadata": {}, "addressType": "IPv4", "endpoints": endpoints });
        let read = |pod: Value| Arc::new(serde_json::from_value(pod).unwrap());
        Snapshot {
            service: Some(Arc::new(serde_json::from_value(service).unwrap())),
            slices: vec![Arc::new(serde_json::from_value(slice).unwrap())],
            pods: pods.into_iter().map(read).collect(),
        }
    }

    fn green() -> Labels {
        [("slot".to_owned(), "green".to_owned())].into()
    }

    #[test]
    fn arrives_when_the_ready_endpoints_are_exactly_the_ready_pods() {
        let yes = || json!(true);
        for (endpoints, pods, arrived) in [
            (vec![("g1", yes()), ("g2", yes())], vec![pod("g1", true), pod("g2", true)], true),
            // Unknown readiness counts as ready.
            (vec![("g1", json!(null))], vec![pod("g1", true)], true),
            // A pod of the slot that is not ready does not matter.
            (vec![("g1", yes()), ("g2", json!(false))], vec![pod("g1", true), pod("g2", false)], true),
            (vec![("b1", yes()), ("g1", yes())], vec![pod("g1", true)], false),
            (vec![("b1", yes())], vec![pod("g1", true)], false),
            (vec![("g1", yes())], vec![pod("g1", true), pod("g2", true)], false),
            (vec![], vec![pod("g1", false)], false),
            (vec![], vec![], false),
        ] {
            let found = snapshot("green", &endpoints, pods).judge(&green(), 2);
            assert_eq!(matches!(found, Arrival::Arrived(_)), arrived, "{endpoints:?} {found:?}");
            assert!(matches!(found, Arrival::Arrived(_) | Arrival::Waiting(_)));
        }
    }

    #[test]
    fn ends_on_foreign_changes_and_failing_pods() {
        let found = snapshot("blue", &[], vec![]).judge(&green(), 2);
        assert_eq!(found, Arrival::Superseded("slot=blue".into()));
        assert_eq!(Snapshot::default().judge(&green(), 2), Arrival::Gone);
        let found = snapshot("green", &[], vec![crashing("g1"), crashing("g2"), pod("g3", true)]);
        let Arrival::Failing(symptom) = found.judge(&green(), 2) else { panic!() };
        assert_eq!((symptom.cause, symptom.exit_code), (Cause::ContainerExited, Some(3)));
        // One failing pod of two is below the limit; the only pod failing is not.
        let one = snapshot("green", &[("g2", json!(true))], vec![crashing("g1"), pod("g2", true)]);
        assert!(matches!(one.judge(&green(), 2), Arrival::Arrived(_)));
        assert!(matches!(
            snapshot("green", &[], vec![crashing("g1")]).judge(&green(), 2),
            Arrival::Failing(_)
        ));
    }
}
