//! How many failing pods fail a rollout: all new ones, or a share of them, and not those of one node.

use std::sync::Arc;

use bp_artifact::deploy::Cause;
use k8s_openapi::api::core::v1::Pod;

use super::{
    diagnose,
    judge::{Snapshot, Tracked},
};
use crate::api::{
    pod,
    symptom::{Recovery, Symptom},
};

/// The least number of pods, by default.
const LEAST: usize = 2;
/// The share of the new pods, by default a fourth: as many as the default rolling update lets be unavailable.
const FOURTH: usize = 4;

impl Snapshot {
    /// The new pods that are not ready, each with the reason; also those that failed and were replaced. A single pod
    /// that its node stopped is not evidence against the image.
    pub(super) fn findings(&self, tracked: Option<&Tracked>) -> Vec<(&Arc<Pod>, Symptom)> {
        let failed = self.failed_pods(tracked);
        let pods = self.new_pods().into_iter().chain(failed);
        let exists = tracked.is_some_and(|tracked| tracked.image_exists);
        let findings = pods.filter_map(|pod| {
            let mut symptom = diagnose::of_pod(pod, self.warnings(&pod.metadata.uid))?;
            if exists && symptom.cause == Cause::ImageNotFound {
                symptom.recovery = Recovery::Retried;
            }
            Some((pod, symptom))
        });
        let mut findings: Vec<(&Arc<Pod>, Symptom)> = findings.collect();
        if findings.iter().filter(|(pod, _)| diagnose::by_its_node(pod)).count() == 1 {
            findings.retain(|(pod, _)| !diagnose::by_its_node(pod));
        }
        findings
    }

    /// The pods of the current template that failed since the rollout began, and that the controller replaces; none of
    /// a Job, whose ended pods are its result.
    pub(super) fn failed_pods(&self, tracked: Option<&Tracked>) -> Vec<&Arc<Pod>> {
        if self.runs_to_completion() {
            return Vec::new();
        }
        let since = tracked.and_then(|tracked| tracked.since);
        let is_recent = |pod: &&Arc<Pod>| match (pod.metadata.creation_timestamp.as_ref(), since) {
            (Some(created), Some(since)) => created.0 >= since,
            (None, _) | (_, None) => true,
        };
        let failed = |pod: &&Arc<Pod>| diagnose::has_failed(pod) && pod.metadata.deletion_timestamp.is_none();
        self.pods_of_template().filter(failed).filter(is_recent).collect()
    }

    /// The reason to fail early: every new pod fails permanently, or too many for the same reason.
    pub(super) fn unrecoverable(&self, tracked: &Tracked) -> Option<Symptom> {
        self.too_many(tracked, |symptom| symptom.is_final_after(tracked.restarts), |_| true)
    }

    /// The reason to fail after the grace period, as [`unrecoverable`](Self::unrecoverable): the kubelet retries.
    pub(super) fn retried(&self, tracked: &Tracked) -> Option<Symptom> {
        let is_retried = |symptom: &Symptom| symptom.recovery == Recovery::Retried;
        self.too_many(
            tracked,
            |symptom| symptom.is_final_after(tracked.restarts) || is_retried(symptom),
            is_retried,
        )
    }

    /// The most frequent symptom of `kind` if enough new pods have one that `counts`.
    fn too_many(
        &self,
        tracked: &Tracked,
        counts: impl Fn(&Symptom) -> bool,
        kind: impl Fn(&Symptom) -> bool,
    ) -> Option<Symptom> {
        let mut failing = self.findings(Some(tracked));
        // A Job's backoffLimit decides how often its pods may fail.
        let tried_again = |cause| matches!(cause, Cause::ContainerExited | Cause::OutOfMemory);
        failing.retain(|(_, symptom)| {
            counts(symptom) && !(self.runs_to_completion() && tried_again(symptom.cause))
        });
        let alike = |symptom: &Symptom| failing.iter().filter(|(_, s)| s.cause == symptom.cause).count();
        let of_kind = failing.iter().rev().filter(|(_, symptom)| kind(symptom));
        let (_, worst) = of_kind.max_by_key(|(_, symptom)| alike(symptom))?;
        let active = self.new_pods().len();
        let is_active = |pod: &Pod| self.runs_to_completion() || !diagnose::has_failed(pod);
        let all = active > 0 && failing.iter().filter(|(pod, _)| is_active(pod)).count() == active;
        let limit = tracked.fail_after.unwrap_or_else(|| active.div_ceil(FOURTH).max(LEAST));
        let enough = alike(worst) >= limit && self.one_node(tracked, worst.cause).is_none();
        (all || enough).then(|| worst.clone())
    }

    /// The node of all new pods with this cause, if new pods on other nodes are ready: the node is the reason.
    fn one_node(&self, tracked: &Tracked, cause: Cause) -> Option<String> {
        let findings = self.findings(Some(tracked));
        let mut nodes =
            findings.iter().filter(|(_, symptom)| symptom.cause == cause).map(|(pod, _)| node(pod));
        let first = nodes.next()??;
        let is_elsewhere =
            |pod: &&&Arc<Pod>| pod::is_ready(pod) && node(pod).is_some_and(|node| node != first);
        let pods = self.new_pods();
        let elsewhere = pods.iter().filter(is_elsewhere).count();
        (elsewhere > 0 && nodes.all(|node| node == Some(first))).then(|| first.to_owned())
    }

    /// The most likely cause of an incomplete rollout: final symptoms first, then the most frequent.
    pub(super) fn reason(&self, tracked: Option<&Tracked>) -> Option<Symptom> {
        let findings = self.findings(tracked);
        let frequency = |symptom: &Symptom| findings.iter().filter(|(_, s)| s.cause == symptom.cause).count();
        let best = findings.iter().rev().max_by_key(|(_, symptom)| (symptom.rank(), frequency(symptom)));
        let best = best.map(|(_, symptom)| {
            let node = tracked.and_then(|tracked| self.one_node(tracked, symptom.cause));
            let message = match node {
                Some(node) => {
                    format!("{} (only on {node}; new pods on other nodes are ready)", symptom.message)
                }
                None => symptom.message.clone(),
            };
            Symptom { message, ..symptom.clone() }
        });
        best.or_else(|| self.refusal(tracked)).or_else(|| self.held_up())
    }

    /// What an ordered or a per-node update waits for, when no new pod has a symptom: a pod that does not end, as on a
    /// node that is not reachable.
    fn held_up(&self) -> Option<Symptom> {
        let live = self.live.as_ref()?;
        if live.is_settled() || !live.replaces_pods_in_place() {
            return None;
        }
        let new: Vec<&Option<String>> = self.new_pods().into_iter().map(|pod| &pod.metadata.uid).collect();
        let waits = |pod: &&Arc<Pod>| {
            let is_ending = pod.metadata.deletion_timestamp.is_some();
            is_ending || !pod::is_ready(pod) && !new.contains(&&pod.metadata.uid)
        };
        let named = self.pods.iter().filter(waits).take(3).map(|pod| {
            let ending =
                if pod.metadata.deletion_timestamp.is_some() { ", terminating" } else { ", not ready" };
            let node = node(pod).map(|node| format!(" on {node}")).unwrap_or_default();
            format!("pod/{}{node}{ending}", pod.metadata.name.as_deref().unwrap_or_default())
        });
        let named: Vec<String> = named.collect();
        let counts = live.counts();
        let mut message = format!("{} of {} pods are updated", counts.updated, counts.desired);
        if !named.is_empty() {
            message.push_str(&format!("; waiting for {}", named.join("; ")));
        }
        Some(Symptom::new(Cause::NoProgress, Recovery::Starting, message))
    }
}

fn node(pod: &Pod) -> Option<&str> {
    pod.spec.as_ref()?.node_name.as_deref()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{
        super::judge::{
            Judgement,
            tests::{snapshot, tracked},
        },
        *,
    };

    fn crash(restarts: u32) -> Value {
        json!({ "phase": "Running", "containerStatuses": [{
            "name": "web", "image": "", "imageID": "", "ready": false, "restartCount": restarts,
            "state": { "waiting": { "reason": "CrashLoopBackOff" } },
            "lastState": { "terminated": { "exitCode": 1, "reason": "Error" } },
        }] })
    }

    fn ready() -> Value {
        json!({ "phase": "Running", "conditions": [{ "type": "Ready", "status": "True" }] })
    }

    fn failing(snapshot: &Snapshot, tracked: &Tracked) -> Option<Symptom> {
        if let Judgement::Failing(symptom) = snapshot.judge(tracked) { Some(symptom) } else { None }
    }

    #[test]
    fn a_fourth_of_the_new_pods_fails_the_rollout_unless_a_number_is_given() {
        let pods = |failing: usize| {
            let mut pods = vec![ready(); 20 - failing];
            pods.extend(vec![crash(5); failing]);
            snapshot(&pods)
        };
        assert_eq!(failing(&pods(4), &tracked()), None);
        assert!(failing(&pods(5), &tracked()).is_some());
        let strict = Tracked { fail_after: Some(2), ..tracked() };
        assert!(failing(&pods(2), &strict).is_some());
        assert_eq!(failing(&pods(1), &strict), None);
    }

    #[test]
    fn a_container_may_be_restarted_a_few_times() {
        for (restarts, allowed, fails) in
            [(1, 3, false), (2, 3, false), (3, 3, true), (1, 1, true), (5, 6, false)]
        {
            let tracked = Tracked { restarts: allowed, ..tracked() };
            let failure = failing(&snapshot(&[crash(restarts)]), &tracked);
            assert_eq!(failure.is_some(), fails, "{restarts} of {allowed}");
        }
    }

    #[test]
    fn pods_that_fail_on_one_node_do_not_fail_the_rollout() {
        let on = |nodes: [&str; 3]| {
            let mut snapshot = snapshot(&[crash(5), crash(5), ready()]);
            for (pod, node) in snapshot.pods.iter_mut().zip(nodes) {
                let spec = json!({ "nodeName": node, "containers": [] });
                Arc::make_mut(pod).spec = serde_json::from_value(spec).unwrap();
            }
            snapshot
        };
        let one_node = on(["a", "a", "b"]);
        assert_eq!(failing(&one_node, &tracked()), None);
        let reason = one_node.reason(Some(&tracked())).unwrap();
        assert!(reason.message.ends_with("(only on a; new pods on other nodes are ready)"), "{reason}");
        assert!(failing(&on(["a", "c", "b"]), &tracked()).is_some());
        // No new pod is ready on another node.
        assert!(failing(&on(["a", "a", "a"]), &tracked()).is_some());
    }

    #[test]
    fn counts_failed_pods_since_the_rollout_began() {
        let evicted = json!({ "phase": "Failed", "reason": "Evicted", "message":
            "Pod ephemeral local storage usage exceeds the total limit of containers 1Gi. " });
        let mut snapshot = snapshot(&[evicted.clone(), evicted, json!({ "phase": "Pending" })]);
        let symptom = failing(&snapshot, &tracked()).unwrap();
        assert_eq!(symptom.cause, Cause::ConfigInvalid);
        for pod in &mut snapshot.pods {
            let created = json!({ "name": "web", "creationTimestamp": "2026-03-01T11:59:00Z" });
            Arc::make_mut(pod).metadata.creation_timestamp =
                serde_json::from_value(created["creationTimestamp"].clone()).unwrap();
        }
        let tracked = Tracked { since: Some("2026-03-01T12:00:00Z".parse().unwrap()), ..tracked() };
        let Judgement::Waiting(Some(progress)) = snapshot.judge(&tracked) else { panic!("{snapshot:?}") };
        assert_eq!((progress.failed, progress.pending), (0, 1), "of an earlier rollout");
    }

    #[test]
    fn identifies_the_pod_that_holds_up_an_update() {
        let set = json!({
            "metadata": { "name": "agent", "uid": "set", "generation": 2 },
            "spec": { "selector": {}, "template": {} },
            "status": {
                "observedGeneration": 2, "currentNumberScheduled": 3, "numberMisscheduled": 0, "numberReady": 2,
                "desiredNumberScheduled": 3, "updatedNumberScheduled": 2, "numberAvailable": 2,
            },
        });
        let pod = json!({
            "metadata": { "name": "agent-x", "uid": "x", "deletionTimestamp": "2026-03-01T12:00:00Z" },
            "spec": { "nodeName": "ip-10-0-0-7", "containers": [] },
            "status": { "conditions": [{ "type": "Ready", "status": "False", "reason": "NodeStatusUnknown" }] },
        });
        let kind = crate::workload::of(bp_artifact::config::WorkloadKind::DaemonSet);
        let live = crate::workload::Live::read(kind, Arc::new(serde_json::from_value(set).unwrap())).unwrap();
        let pods = vec![Arc::new(serde_json::from_value(pod).unwrap())];
        let snapshot = Snapshot { live: Some(live), pods, ..Snapshot::default() };
        let reason = snapshot.reason(None).unwrap();
        assert_eq!((reason.cause, reason.recovery), (Cause::NoProgress, Recovery::Starting));
        assert_eq!(
            reason.message,
            "2 of 3 pods are updated; waiting for pod/agent-x on ip-10-0-0-7, terminating"
        );
    }

    #[test]
    fn waits_for_the_grace_period_while_the_kubelet_retries() {
        let missing = json!({ "phase": "Pending", "containerStatuses": [{
            "name": "web", "image": "", "imageID": "", "ready": false, "restartCount": 0,
            "state": { "waiting": { "reason": "CreateContainerConfigError", "message": "secret \"db\" not found" } },
        }] });
        let Judgement::Blocked(progress, symptom) = snapshot(&[missing]).judge(&tracked()) else { panic!() };
        assert_eq!((symptom.cause, symptom.recovery), (Cause::SecretMissing, Recovery::Retried));
        assert_eq!(progress.stage, "new pods cannot start, the kubelet is retrying: a secret is missing");
    }
}
