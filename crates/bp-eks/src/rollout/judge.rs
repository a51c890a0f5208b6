//! Judge the state of a rollout from the watched objects: waiting, blocked, complete, failing or superseded.

use std::{collections::HashSet, sync::Arc, time::Duration};

use bp_artifact::deploy::Progress;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, Pod};

use crate::{
    api::{
        event::{Events, is_warning},
        symptom::Symptom,
        text::Text,
    },
    options::Registry,
    workload::{
        Live, RolloutStatus,
        template::Slot,
        version::{self, Version},
    },
};

/// The rollout that is followed.
#[derive(Debug, Clone)]
pub(super) struct Tracked {
    /// The workload's uid: a recreated workload of the same name is a different one.
    pub(super) uid: String,
    /// The generation that the apply returned.
    pub(super) generation: i64,
    pub(super) slot: Slot,
    /// The image in the template.
    pub(super) image: String,
    /// When the change was applied, by the API server's clock; earlier refusals are ignored.
    pub(super) since: Option<Timestamp>,
    /// Since when the Deployment was stalled before this rollout; the condition stays until there is progress.
    pub(super) stalled_before: Option<Timestamp>,
    /// The number of pods with the same final cause that fails the rollout; by default a share of the new pods.
    pub(super) fail_after: Option<usize>,
    /// The number of restarts after which a container in a crash loop has failed.
    pub(super) restarts: u32,
    /// Whether to count failed starts as the ECS deployment circuit breaker does.
    pub(super) circuit_breaker: bool,
    /// How long a refusal that the controllers retry may last; `None` (an undo) until the deadline.
    pub(super) grace: Option<Duration>,
    /// The image's registry, if it can be asked.
    pub(super) registry: Option<Registry>,
    /// Whether that registry has the image: nodes that do not find it may find it later.
    pub(super) image_exists: bool,
    /// The resource versions of events from before this rollout.
    pub(super) known: HashSet<String>,
}

/// The watched objects at one moment.
#[derive(Debug, Clone, Default)]
pub(super) struct Snapshot {
    pub(super) live: Option<Live>,
    pub(super) versions: Vec<Version>,
    pub(super) pods: Vec<Arc<Pod>>,
    pub(super) events: Events,
}

/// The judgement of a snapshot.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Judgement {
    /// In progress; with the progress, if known.
    Waiting(Option<Progress>),
    /// No new pod can be created or started, and the controller or the kubelet retries; the stage of the progress says
    /// which.
    Blocked(Progress, Symptom),
    /// Every pod to update is updated and available.
    Complete,
    /// The rollout fails and cannot recover.
    Failing(Symptom),
    /// Another client changed the image.
    Superseded(String),
    /// The rollout was paused.
    Paused,
    /// The workload was deleted.
    Gone,
}

impl Snapshot {
    /// The active pods of the current template, ordered by name; for a Job also the ended pods.
    pub(super) fn new_pods(&self) -> Vec<&Arc<Pod>> {
        self.pods_of_template().filter(|pod| !is_over(pod) || self.runs_to_completion()).collect()
    }

    pub(super) fn runs_to_completion(&self) -> bool {
        self.live.as_ref().is_some_and(Live::runs_to_completion)
    }

    /// All pods of the current template.
    pub(super) fn pods_of_template(&self) -> impl Iterator<Item = &Arc<Pod>> {
        let live = self.live.as_ref();
        let new = live.and_then(|live| version::new(live, &self.versions));
        let uid = live.filter(|live| live.runs_to_completion()).map(Live::uid);
        let made = move |pod: &&Arc<Pod>| match (uid, new) {
            (Some(uid), _) => version::is_owned(&***pod, uid),
            (None, Some(version)) => version.made(pod),
            (None, None) => false,
        };
        self.pods.iter().filter(made)
    }

    /// The warning events about an object.
    pub(super) fn warnings<'s>(&'s self, uid: &'s Option<String>) -> impl Iterator<Item = &'s Event> + Clone {
        self.events_about(uid).filter(|event| is_warning(event))
    }

    /// The watched events about an object.
    pub(super) fn events_about<'s>(
        &'s self,
        uid: &'s Option<String>,
    ) -> impl Iterator<Item = &'s Event> + Clone {
        uid.as_deref().into_iter().flat_map(|uid| self.events.about(uid))
    }

    /// Judges the followed rollout.
    pub(super) fn judge(&self, tracked: &Tracked) -> Judgement {
        let Some(live) = self.live.as_ref().filter(|live| live.uid() == tracked.uid) else {
            return Judgement::Gone;
        };
        if live.metadata().deletion_timestamp.is_some() {
            return Judgement::Gone;
        }
        if live.generation() < tracked.generation {
            // The watch does not show the applied change yet.
            return Judgement::Waiting(None);
        }
        let mut images = tracked.slot.all().map(|slot| live.image(&slot.name));
        if let Some(other) = images.find(|image| *image != tracked.image) {
            return Judgement::Superseded(other.to_owned());
        }
        let status = live.status(tracked.generation);
        match &status {
            RolloutStatus::Complete => return Judgement::Complete,
            RolloutStatus::Stalled(message) if !was_stalled(live, tracked) && !self.undo_waits(tracked) => {
                return Judgement::Failing(
                    self.reason(Some(tracked)).unwrap_or_else(|| Symptom::stalled(message)),
                );
            }
            RolloutStatus::Failed(message) => {
                return Judgement::Failing(
                    self.reason(Some(tracked)).unwrap_or_else(|| Symptom::failed(message)),
                );
            }
            RolloutStatus::NotObserved
            | RolloutStatus::Progressing(_)
            | RolloutStatus::Stalled(_)
            | RolloutStatus::OnDelete => {}
        }
        if live.is_paused() {
            return Judgement::Paused;
        }
        if status == RolloutStatus::NotObserved {
            return Judgement::Waiting(Some(self.progress(tracked, live, &status)));
        }
        if let Some(symptom) = self.unrecoverable(tracked).or_else(|| self.broken_circuit(live, tracked)) {
            return Judgement::Failing(symptom);
        }
        match self.blocked(tracked) {
            Some(symptom) if symptom.is_final() => Judgement::Failing(symptom),
            Some(symptom) => {
                let mut progress = self.progress(tracked, live, &status);
                progress.stage =
                    format!("new pods are refused, the controller is retrying: {}", symptom.cause);
                Judgement::Blocked(progress, symptom)
            }
            None => match self.retried(tracked) {
                Some(symptom) => {
                    let mut progress = self.progress(tracked, live, &status);
                    progress.stage =
                        format!("new pods cannot start, the kubelet is retrying: {}", symptom.cause);
                    Judgement::Blocked(progress, symptom)
                }
                None => Judgement::Waiting(Some(self.progress(tracked, live, &status))),
            },
        }
    }

    /// Whether an undo waits although the Deployment is stalled: its pods are refused for a transient reason, and the
    /// controller retries beyond the progress deadline.
    fn undo_waits(&self, tracked: &Tracked) -> bool {
        tracked.grace.is_none() && self.blocked(tracked).is_some_and(|symptom| !symptom.is_final())
    }
}

/// Whether the Deployment was stalled before this rollout, without progress since.
fn was_stalled(live: &Live, tracked: &Tracked) -> bool {
    let since = live.stalled().and_then(|(_, since)| since);
    since.is_some() && since == tracked.stalled_before
}

fn is_over(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().map_or("", |status| status.phase.text());
    pod.metadata.deletion_timestamp.is_some() || matches!(phase, "Failed" | "Succeeded")
}

#[cfg(test)]
pub(super) mod tests {
    use bp_artifact::{config::WorkloadKind, deploy::Cause};
    use serde_json::{Value, json};

    use super::*;
    use crate::{api::symptom::RESTARTS, workload::of};

    pub(in crate::rollout) fn tracked() -> Tracked {
        Tracked {
            uid: "dep".into(),
            generation: 2,
            slot: Slot { list: "containers", name: "web".into(), also: Vec::new() },
            image: "b".into(),
            since: None,
            stalled_before: None,
            fail_after: None,
            restarts: RESTARTS,
            circuit_breaker: false,
            grace: Some(Duration::from_secs(90)),
            registry: None,
            image_exists: false,
            known: HashSet::new(),
        }
    }

    fn template(image: &str) -> Value {
        json!({ "metadata": { "labels": {} }, "spec": { "containers": [{ "name": "web", "image": image }] } })
    }

    /// A rolling update of three replicas; `pods` are the status of each new pod.
    pub(in crate::rollout) fn snapshot(pods: &[Value]) -> Snapshot {
        let owner = |uid: &str| json!([{ "apiVersion": "apps/v1", "kind": "x", "name": "x", "uid": uid }]);
        let deployment = json!({
            "metadata": { "name": "web", "uid": "dep", "generation": 2 },
            "spec": { "replicas": 3, "selector": {}, "template": template("b") },
            "status": { "observedGeneration": 2, "replicas": 4, "updatedReplicas": 1, "availableReplicas": 3 },
        });
        let set = json!({
            "metadata": { "name": "web-2", "uid": "set", "ownerReferences": owner("dep") },
            "spec": { "selector": {}, "template": template("b") },
            "status": { "replicas": pods.len() },
        });
        let pod = |(n, status): (usize, &Value)| {
            let pod = json!({
                "metadata": { "name": format!("web-{n}"), "uid": format!("pod-{n}"), "ownerReferences": owner("set") },
                "status": status,
            });
            Arc::new(serde_json::from_value(pod).unwrap())
        };
        Snapshot {
            live: Some(read(WorkloadKind::Deployment, deployment)),
            versions: vec![Version::read(
                of(WorkloadKind::Deployment),
                Arc::new(serde_json::from_value(set).unwrap()),
            )],
            pods: pods.iter().enumerate().map(pod).collect(),
            events: Events::default(),
        }
    }

    fn read(kind: WorkloadKind, json: Value) -> Live {
        Live::read(of(kind), Arc::new(serde_json::from_value(json).unwrap())).unwrap()
    }

    fn change(snapshot: &mut Snapshot, change: impl FnOnce(&mut Value)) {
        let mut json = serde_json::to_value(&*snapshot.live.as_ref().unwrap().object).unwrap();
        change(&mut json);
        snapshot.live = Some(read(WorkloadKind::Deployment, json));
    }

    fn failing_pull() -> Value {
        json!({ "containerStatuses": [{
            "name": "web", "image": "", "imageID": "", "ready": false, "restartCount": 0,
            "state": { "waiting": { "reason": "ErrImagePull", "message": "rpc error: code = NotFound desc = r.example.com/x:1: not found" } },
        }] })
    }

    fn starting() -> Value {
        json!({ "phase": "Pending" })
    }

    fn failing(snapshot: &Snapshot) -> Option<Cause> {
        let Judgement::Failing(symptom) = snapshot.judge(&tracked()) else { return None };
        Some(symptom.cause)
    }

    #[test]
    fn fails_early_when_all_new_pods_or_several_for_one_cause_fail() {
        for (pods, expected) in [
            (vec![], None),
            (vec![starting()], None),
            (vec![failing_pull()], Some(Cause::ImageNotFound)),
            (vec![failing_pull(), starting(), starting()], None),
            (vec![failing_pull(), failing_pull(), starting()], Some(Cause::ImageNotFound)),
            (vec![json!({ "phase": "Failed", "reason": "Evicted" })], None),
        ] {
            assert_eq!(failing(&snapshot(&pods)), expected, "{pods:?}");
        }
    }

    #[test]
    fn waits_until_the_controller_has_observed_the_generation() {
        let mut early = snapshot(&[failing_pull()]);
        change(&mut early, |d| d["status"]["observedGeneration"] = json!(1));
        assert!(matches!(early.judge(&tracked()), Judgement::Waiting(_)));
        let mut stale = snapshot(&[failing_pull()]);
        change(&mut stale, |d| d["metadata"]["generation"] = json!(1));
        assert_eq!(stale.judge(&tracked()), Judgement::Waiting(None));
    }

    #[test]
    fn detects_changes_by_other_clients() {
        let mut other = snapshot(&[]);
        change(&mut other, |d| d["spec"]["template"] = template("c"));
        assert_eq!(other.judge(&tracked()), Judgement::Superseded("c".into()));

        let mut paused = snapshot(&[]);
        change(&mut paused, |d| d["spec"]["paused"] = json!(true));
        assert_eq!(paused.judge(&tracked()), Judgement::Paused);

        let mut again = snapshot(&[]);
        change(&mut again, |d| d["metadata"]["uid"] = json!("other"));
        assert_eq!(again.judge(&tracked()), Judgement::Gone);
        assert_eq!(Snapshot::default().judge(&tracked()), Judgement::Gone);

        // An autoscaler changes the generation and the replicas only.
        let mut scaled = snapshot(&[]);
        change(&mut scaled, |d| {
            d["metadata"]["generation"] = json!(3);
            d["spec"]["replicas"] = json!(5);
        });
        let Judgement::Waiting(Some(progress)) = scaled.judge(&tracked()) else { panic!("{scaled:?}") };
        assert_eq!((progress.desired, progress.old), (5, 3));
    }

    #[test]
    fn stall_reports_the_best_cause_and_an_earlier_stall_is_ignored() {
        let stall = |snapshot: &mut Snapshot| {
            change(snapshot, |d| {
                d["status"]["conditions"] = json!([{
                    "type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded",
                    "message": "late", "lastUpdateTime": "2026-03-01T12:00:00Z",
                }]);
            });
        };
        let mut late = snapshot(&[starting()]);
        stall(&mut late);
        assert_eq!(failing(&late), Some(Cause::NoProgress));
        let mut failing_pull = snapshot(&[failing_pull(), starting()]);
        stall(&mut failing_pull);
        assert_eq!(failing(&failing_pull), Some(Cause::ImageNotFound));

        let before = Some("2026-03-01T12:00:00Z".parse().unwrap());
        let tracked = Tracked { stalled_before: before, ..tracked() };
        assert!(matches!(late.judge(&tracked), Judgement::Waiting(_)));
    }

    #[test]
    fn reads_refusals_of_stateful_sets_from_recent_events() {
        let set = read(
            WorkloadKind::StatefulSet,
            json!({
                "metadata": { "name": "web", "uid": "sts", "generation": 2 },
                "spec": { "replicas": 3, "selector": {}, "serviceName": "web", "template": template("b") },
                "status": { "observedGeneration": 2, "replicas": 2, "readyReplicas": 2 },
            }),
        );
        let event = |at: &str| {
            Arc::new(serde_json::from_value(json!({
                "metadata": { "name": at }, "involvedObject": { "uid": "sts" }, "reason": "FailedCreate",
                "message": "create Pod web-2 in StatefulSet web failed error: pods \"web-2\" is forbidden: exceeded quota: pods",
                "lastTimestamp": at,
            })).unwrap())
        };
        let tracked =
            Tracked { uid: "sts".into(), since: Some("2026-03-01T12:00:00Z".parse().unwrap()), ..tracked() };
        for (at, expected) in
            [("2026-03-01T11:59:59Z", None), ("2026-03-01T12:00:00Z", Some(Cause::QuotaExceeded))]
        {
            let snapshot = Snapshot {
                live: Some(set.clone()),
                events: [event(at)].into_iter().collect(),
                ..Snapshot::default()
            };
            let judgement = snapshot.judge(&tracked);
            let blocked =
                if let Judgement::Blocked(_, symptom) = judgement { Some(symptom.cause) } else { None };
            assert_eq!(blocked, expected, "{at}");
        }
    }

    #[test]
    fn pods_of_a_job_may_fail_until_its_backoff_limit() {
        let crash = json!({ "phase": "Running", "containerStatuses": [{
            "name": "web", "image": "", "imageID": "", "ready": false, "restartCount": 2,
            "state": { "waiting": { "reason": "CrashLoopBackOff" } },
            "lastState": { "terminated": { "exitCode": 1, "reason": "Error" } },
        }] });
        for (status, conditions, expected) in [
            (crash.clone(), json!([]), None),
            (failing_pull(), json!([]), Some(Cause::ImageNotFound)),
            (
                crash,
                json!([{ "type": "Failed", "status": "True", "reason": "BackoffLimitExceeded" }]),
                Some(Cause::ContainerExited),
            ),
        ] {
            let job = read(
                WorkloadKind::Job,
                json!({
                    "metadata": { "name": "web", "uid": "set", "generation": 1 },
                    "spec": { "template": template("b") }, "status": { "conditions": conditions },
                }),
            );
            let of_deployment = snapshot(&[status]);
            let snapshot = Snapshot { live: Some(job), versions: vec![], ..of_deployment };
            let tracked = Tracked { uid: "set".into(), generation: 1, ..tracked() };
            let judgement = snapshot.judge(&tracked);
            let failing =
                if let Judgement::Failing(symptom) = judgement { Some(symptom.cause) } else { None };
            assert_eq!(failing, expected, "{conditions}");
        }
    }
}
