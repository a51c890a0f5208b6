//! What the watches' picture means for our roll-out: a pure function.

use std::sync::Arc;

use bp_artifact::Progress;
use k8s_openapi::{
    api::{
        apps::v1::Deployment,
        core::v1::{Event, Pod},
    },
    apimachinery::pkg::apis::meta::v1::Time,
};
use kube::ResourceExt;

use super::{
    api::SharedSet,
    causes::{self, Symptom},
    status::{self, RolloutStatus},
    template,
    text::Text,
};

/// The roll-out that is followed.
#[derive(Debug, Clone)]
pub(super) struct Ours {
    /// The Deployment, by identity: one of the same name that was made anew is another.
    pub(super) uid: String,
    /// The generation that our apply was answered with.
    pub(super) generation: i64,
    pub(super) container: String,
    /// The image as it stands in the template.
    pub(super) image: String,
    /// When the Deployment was already stalled before we came. It is told so until it moves again.
    pub(super) stalled_before: Option<Time>,
    /// As many pods that fail for the same reason are enough.
    pub(super) fail_after: usize,
}

/// What the watches show at one moment.
#[derive(Debug, Clone, Default)]
pub(super) struct Picture {
    pub(super) deployment: Option<Arc<Deployment>>,
    pub(super) sets: Vec<SharedSet>,
    pub(super) pods: Vec<Arc<Pod>>,
    pub(super) events: Vec<Arc<Event>>,
}

/// What it means.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Judgement {
    /// It goes on; how far, if that is known.
    Waiting(Option<Progress>),
    /// Every replica is updated and available.
    Complete,
    /// It does not come up, and waiting does not help.
    Failing(Symptom),
    /// Somebody put another image there.
    Superseded(String),
    /// Somebody paused it.
    Paused,
    /// The Deployment was deleted.
    Gone,
}

impl Picture {
    /// The pods of the ReplicaSet of our template that are still meant to run, in the order of their names.
    pub(super) fn new_pods(&self) -> Vec<&Arc<Pod>> {
        let Some(set) = self.deployment.as_ref().and_then(|d| template::new_set(d, &self.sets)) else {
            return Vec::new();
        };
        let uid = set.metadata.uid.text();
        let over = |pod: &Pod| {
            let phase = pod.status.as_ref().map_or("", |status| status.phase.text());
            pod.metadata.deletion_timestamp.is_some() || matches!(phase, "Failed" | "Succeeded")
        };
        let mut pods: Vec<_> =
            self.pods.iter().filter(|pod| template::is_owned(&***pod, uid) && !over(pod)).collect();
        pods.sort_by_key(|pod| pod.name_any());
        pods
    }

    /// The warnings about an object.
    pub(super) fn warnings<'s>(&'s self, uid: &'s Option<String>) -> impl Iterator<Item = &'s Event> + Clone {
        let about = move |event: &&Event| uid.is_some() && event.involved_object.uid == *uid;
        self.events.iter().map(AsRef::as_ref).filter(about)
    }

    /// What keeps each new pod from coming up.
    pub(super) fn symptoms(&self) -> Vec<Symptom> {
        let pods = self.new_pods();
        pods.into_iter().filter_map(|pod| causes::of_pod(pod, self.warnings(&pod.metadata.uid))).collect()
    }

    /// The best reason for a roll-out that does not come to its end: fatal ones first, then the most frequent.
    pub(super) fn reason(&self) -> Option<Symptom> {
        let symptoms = self.symptoms();
        let frequency = |symptom: &Symptom| symptoms.iter().filter(|s| s.cause == symptom.cause).count();
        let best = symptoms.iter().rev().max_by_key(|symptom| (symptom.fatal, frequency(symptom)));
        best.cloned().or_else(|| self.refusal())
    }

    /// Why the new ReplicaSet can make no pods.
    fn refusal(&self) -> Option<Symptom> {
        let set = template::new_set(self.deployment.as_ref()?, &self.sets)?;
        causes::of_replica_set(set)
    }

    /// What this means for our roll-out.
    pub(super) fn judge(&self, ours: &Ours) -> Judgement {
        let Some(deployment) = self.deployment.as_deref().filter(|d| d.metadata.uid.text() == ours.uid)
        else {
            return Judgement::Gone;
        };
        if deployment.metadata.deletion_timestamp.is_some() {
            return Judgement::Gone;
        }
        if deployment.metadata.generation.unwrap_or_default() < ours.generation {
            // The watch has not brought our own change yet.
            return Judgement::Waiting(None);
        }
        let image = template::deployed_image(deployment, &ours.container);
        if image != ours.image {
            return Judgement::Superseded(image.to_owned());
        }
        let status = RolloutStatus::of(deployment, ours.generation);
        match &status {
            RolloutStatus::Complete => return Judgement::Complete,
            RolloutStatus::Stalled(message) if !self.was_stalled(ours) => {
                return Judgement::Failing(self.reason().unwrap_or_else(|| Symptom::stalled(message)));
            }
            _ => {}
        }
        if deployment.spec.as_ref().and_then(|spec| spec.paused) == Some(true) {
            return Judgement::Paused;
        }
        if status != RolloutStatus::NotObserved
            && let Some(symptom) = self.doom(ours)
        {
            return Judgement::Failing(symptom);
        }
        Judgement::Waiting(Some(self.progress(deployment, &status)))
    }

    /// Whether the controller only repeats what it said before we came.
    fn was_stalled(&self, ours: &Ours) -> bool {
        let since = self.deployment.as_deref().and_then(status::stalled).and_then(|(_, since)| since);
        since.is_some() && since == ours.stalled_before
    }

    /// The reason to end it early: every new pod is lost, or several are for the same reason, or none can be made.
    fn doom(&self, ours: &Ours) -> Option<Symptom> {
        let pods = self.new_pods().len();
        if pods == 0 {
            return self.refusal();
        }
        let fatal: Vec<Symptom> = self.symptoms().into_iter().filter(|symptom| symptom.fatal).collect();
        let alike = |symptom: &Symptom| fatal.iter().filter(|s| s.cause == symptom.cause).count();
        let worst = fatal.iter().rev().max_by_key(|symptom| alike(symptom))?;
        (fatal.len() == pods || alike(worst) >= ours.fail_after).then(|| worst.clone())
    }

    fn progress(&self, deployment: &Deployment, status: &RolloutStatus) -> Progress {
        let counts = deployment.status.clone().unwrap_or_default();
        let count = |n: Option<i32>| n.unwrap_or_default().max(0) as u32;
        let new = self.new_pods();
        let set = template::new_set(deployment, &self.sets).and_then(|set| set.status.as_ref());
        let running = set.map_or(0, |status| count(status.available_replicas));
        let failed = self.symptoms().iter().filter(|symptom| symptom.fatal).count() as u32;
        Progress {
            desired: status::wanted(deployment).max(0) as u32,
            running,
            pending: (new.len() as u32).saturating_sub(running + failed),
            failed,
            old: count(counts.replicas).saturating_sub(count(counts.updated_replicas)),
            stage: match status {
                RolloutStatus::Progressing(stage) => stage.to_string(),
                _ => "the controller has not looked yet".to_owned(),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use bp_artifact::Cause;
    use serde_json::{Value, json};

    use super::*;

    fn ours() -> Ours {
        Ours {
            uid: "dep".into(),
            generation: 2,
            container: "web".into(),
            image: "b".into(),
            stalled_before: None,
            fail_after: 2,
        }
    }

    fn template(image: &str) -> Value {
        json!({ "metadata": { "labels": {} }, "spec": { "containers": [{ "name": "web", "image": image }] } })
    }

    /// Three replicas, of which one is being replaced by `pods`.
    fn picture(pods: &[Value]) -> Picture {
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
        Picture {
            deployment: Some(Arc::new(serde_json::from_value(deployment).unwrap())),
            sets: vec![Arc::new(serde_json::from_value(set).unwrap())],
            pods: pods.iter().enumerate().map(pod).collect(),
            events: vec![],
        }
    }

    fn change(picture: &mut Picture, change: impl FnOnce(&mut Deployment)) {
        change(Arc::make_mut(picture.deployment.as_mut().unwrap()));
    }

    fn doomed() -> Value {
        json!({ "containerStatuses": [{
            "name": "web", "image": "", "imageID": "", "ready": false, "restartCount": 0,
            "state": { "waiting": { "reason": "ErrImagePull", "message": "rpc error: x: not found" } },
        }] })
    }

    fn starting() -> Value {
        json!({ "phase": "Pending" })
    }

    fn failing(picture: &Picture) -> Option<Cause> {
        match picture.judge(&ours()) {
            Judgement::Failing(symptom) => Some(symptom.cause),
            _ => None,
        }
    }

    #[test]
    fn it_fails_early_when_all_new_pods_are_lost_or_several_for_one_reason() {
        for (pods, expected) in [
            (vec![], None),
            (vec![starting()], None),
            (vec![doomed()], Some(Cause::ImageNotFound)),
            (vec![doomed(), starting(), starting()], None),
            (vec![doomed(), doomed(), starting()], Some(Cause::ImageNotFound)),
            (vec![json!({ "phase": "Failed", "reason": "Evicted" })], None),
        ] {
            assert_eq!(failing(&picture(&pods)), expected, "{pods:?}");
        }
    }

    #[test]
    fn nothing_is_judged_before_the_controller_has_looked() {
        let mut early = picture(&[doomed()]);
        change(&mut early, |d| d.status.as_mut().unwrap().observed_generation = Some(1));
        assert!(matches!(early.judge(&ours()), Judgement::Waiting(_)));
        let mut stale = picture(&[doomed()]);
        change(&mut stale, |d| d.metadata.generation = Some(1));
        assert_eq!(stale.judge(&ours()), Judgement::Waiting(None));
    }

    #[test]
    fn somebody_else_may_come_between() {
        let mut other = picture(&[]);
        change(&mut other, |d| {
            let template = &mut d.spec.as_mut().unwrap().template;
            *template = template::with_image(template.clone(), "web", "c");
        });
        assert_eq!(other.judge(&ours()), Judgement::Superseded("c".into()));

        let mut paused = picture(&[]);
        change(&mut paused, |d| d.spec.as_mut().unwrap().paused = Some(true));
        assert_eq!(paused.judge(&ours()), Judgement::Paused);

        let mut again = picture(&[]);
        change(&mut again, |d| d.metadata.uid = Some("other".into()));
        assert_eq!(again.judge(&ours()), Judgement::Gone);
        assert_eq!(Picture::default().judge(&ours()), Judgement::Gone);

        // An autoscaler changes the generation, and nothing else of ours.
        let mut scaled = picture(&[]);
        change(&mut scaled, |d| {
            d.metadata.generation = Some(3);
            d.spec.as_mut().unwrap().replicas = Some(5);
        });
        let Judgement::Waiting(Some(progress)) = scaled.judge(&ours()) else { panic!("{scaled:?}") };
        assert_eq!((progress.desired, progress.old), (5, 3));
    }

    #[test]
    fn a_stall_has_the_best_reason_known_and_an_old_one_does_not_count() {
        let stall = |picture: &mut Picture| {
            change(picture, |d| {
                d.status.as_mut().unwrap().conditions = serde_json::from_value(json!([{
                    "type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded",
                    "message": "late", "lastUpdateTime": "2026-03-01T12:00:00Z",
                }]))
                .unwrap();
            });
        };
        let mut late = picture(&[starting()]);
        stall(&mut late);
        assert_eq!(failing(&late), Some(Cause::NoProgress));
        let mut doomed = picture(&[doomed(), starting()]);
        stall(&mut doomed);
        assert_eq!(failing(&doomed), Some(Cause::ImageNotFound));

        let before = Some(Time("2026-03-01T12:00:00Z".parse().unwrap()));
        let ours = Ours { stalled_before: before, ..ours() };
        assert!(matches!(late.judge(&ours), Judgement::Waiting(_)));
    }
}
