//! Jobs. A Job's template never changes, so each image is a Job of its own, made after the one that was named; its name
//! tells the image, so that the same command finds it again.

use bp_artifact::{DeployEvent, Outcome, ResolvedImage, Revision, Verdict, Workload};
use kube::core::{DynamicObject, ObjectMeta};
use serde_json::Value;
use tokio::time::Instant;

use super::{
    api::Cluster,
    deploy::{Events, unobserved},
    error::Error,
    follow::Follower,
    live::Live,
    retry::{Patience, retried},
    status::RolloutStatus,
    survey::Start,
    target::Inner,
    template::{self, Slot},
    watches::Watches,
};

/// Labels that tie a template's pods to one Job.
const OWN_LABELS: [&str; 4] =
    ["controller-uid", "job-name", "batch.kubernetes.io/controller-uid", "batch.kubernetes.io/job-name"];
/// A Job of the same image that failed is left as evidence, and the next one gets a number; as many are tried.
const TRIES: usize = 99;
/// The longest name that still is a label's value, as the controller makes it one.
const LONGEST: usize = 63;

impl Inner {
    /// Runs a Job with `image` and follows it to its end. There is nothing to go back to.
    pub(super) async fn run_job(
        &self,
        image: &ResolvedImage,
        events: &Events,
        deadline: Instant,
    ) -> Result<Outcome, Error> {
        let pattern = self.cluster.workload().await?;
        let slot = self.slot(&pattern)?;
        let wanted = image.reference.to_string();
        let is_it = pattern.has(&slot, &wanted, &self.options.environment);
        let (live, made) = match is_it && !has_failed(&pattern) {
            true => (pattern, false),
            false => {
                self.not_cancelled(events)?;
                let patience = Patience::until(deadline.min(bp_artifact::time::deadline(self.options.grace)));
                self.job(&pattern, &slot, image, events, patience).await?
            }
        };
        let revision = Revision::new(live.metadata().name.clone().unwrap_or_default(), &image.reference);
        events.emit(DeployEvent::Planned {
            target: self.id.clone(),
            image: Some(image.reference.clone()),
            current: None,
            changes: made,
        });
        let cluster = self.cluster.of(&revision.id);
        let base = Outcome { image: Some(image.reference.clone()), ..self.outcome(revision.clone(), made) };
        let ours = self.ours(&live, &live, &slot);
        self.tell_applied(&revision, &ours, !made, events);
        let watches = Watches::start(&cluster, &live, self.options.live_events);
        let grace = self.options.grace;
        let follower = match Follower::start(&cluster, &self.id, events, watches, deadline, grace).await {
            Ok(follower) => follower,
            Err(error @ Error::Interrupted { .. }) => return Err(error),
            Err(error) => {
                let what = format!("job/{} was created", revision.id);
                let detail = unobserved(&what, &error);
                return Ok(self.ended(Outcome { verdict: Verdict::Unobserved, detail, ..base }, events));
            }
        };
        let mut start = Start { live, versions: Vec::new(), slot, settled: false, previous: None, follower };
        let end = start.follower.follow(&ours, deadline, self.options.live_logs).await?;
        match self.conclude(base.clone(), end, &mut start, events).await? {
            Some((outcome, _)) => Ok(self.ended(outcome, events)),
            None => {
                let picture = start.follower.picture()?;
                Ok(self.finish(base, &picture, Some(image), &start.slot, events).await)
            }
        }
    }

    /// The Job of this image that has not failed, made if there is none; and whether it was made.
    async fn job(
        &self,
        pattern: &Live,
        slot: &Slot,
        image: &ResolvedImage,
        events: &Events,
        patience: Patience,
    ) -> Result<(Live, bool), Error> {
        let name = &self.cluster.workload.name;
        let object = made_after(pattern, slot, &image.reference.to_string(), &self.options.environment);
        for attempt in 1..=TRIES {
            let name = name_of(name, image.digest().hex(), attempt);
            let mut object = object.clone();
            object.metadata.name = Some(name.clone());
            let create = || self.cluster.create(slot, &object);
            if let Some(live) = retried(patience, events, &self.id, create).await? {
                return Ok((live, true));
            }
            let there = self.cluster.of(&name).workload().await?;
            if !has_failed(&there) {
                return Ok((there, false));
            }
        }
        Err(Error::TooManyJobs { workload: self.cluster.workload.clone() })
    }
}

fn has_failed(live: &Live) -> bool {
    matches!(live.status(0), RolloutStatus::Failed(_))
}

/// `migrate-44136fa355`, and `migrate-44136fa355-2` after one that failed.
fn name_of(pattern: &str, hex: &str, attempt: usize) -> String {
    let number = if attempt > 1 { format!("-{attempt}") } else { String::new() };
    let hash = &hex[..10];
    let room = LONGEST - hash.len() - 1 - number.len();
    let stem = pattern.get(..room).unwrap_or(pattern).trim_end_matches(['-', '.']);
    format!("{stem}-{hash}{number}")
}

/// A new Job with the pattern's labels, annotations and specification, without what ties those to the pattern.
fn made_after(pattern: &Live, slot: &Slot, image: &str, environment: &[(String, String)]) -> DynamicObject {
    let mut labels = pattern.metadata().labels.clone();
    for label in OWN_LABELS {
        labels.as_mut().and_then(|labels| labels.remove(label));
    }
    let mut annotations = pattern.metadata().annotations.clone();
    annotations.as_mut().and_then(|all| all.remove("kubectl.kubernetes.io/last-applied-configuration"));
    let mut spec = pattern.spec().clone();
    if let Some(spec) = spec.as_object_mut() {
        for field in ["selector", "manualSelector", "suspend"] {
            spec.remove(field);
        }
    }
    if let Some(labels) = spec["template"]["metadata"]["labels"].as_object_mut() {
        OWN_LABELS.iter().for_each(|label| drop(labels.remove(*label)));
    }
    spec["template"] = template::with(spec["template"].take(), slot, image, environment);
    let mut data = Value::Object(serde_json::Map::new());
    data["spec"] = spec;
    DynamicObject {
        types: pattern.object.types.clone(),
        metadata: ObjectMeta {
            namespace: pattern.metadata().namespace.clone(),
            labels,
            annotations,
            ..ObjectMeta::default()
        },
        data,
    }
}

impl Cluster {
    /// The same for another workload of the same kind.
    fn of(&self, name: &str) -> Self {
        let mut other = self.clone();
        other.workload = Workload { kind: self.workload.kind, name: name.to_owned() };
        other
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bp_artifact::WorkloadKind;
    use serde_json::json;

    use super::*;

    #[test]
    fn the_name_tells_pattern_image_and_attempt() {
        let hex = "44136fa355b3678a";
        assert_eq!(name_of("migrate", hex, 1), "migrate-44136fa355");
        assert_eq!(name_of("migrate", hex, 12), "migrate-44136fa355-12");
        let long = format!("{}-x", "m".repeat(50));
        let name = name_of(&long, hex, 2);
        assert!(name.len() <= LONGEST && name.ends_with("m-44136fa355-2"), "{name}");
    }

    #[test]
    fn a_new_job_has_nothing_of_the_old_ones_identity() {
        let pattern = json!({
            "apiVersion": "batch/v1", "kind": "Job",
            "metadata": { "name": "migrate", "namespace": "shop", "uid": "1", "labels": { "app": "web", "job-name": "migrate" } },
            "spec": {
                "backoffLimit": 2, "suspend": true,
                "selector": { "matchLabels": { "batch.kubernetes.io/controller-uid": "1" } },
                "template": {
                    "metadata": { "labels": { "app": "web", "batch.kubernetes.io/controller-uid": "1" } },
                    "spec": { "restartPolicy": "Never", "containers": [{ "name": "migrate", "image": "a" }] },
                },
            },
            "status": { "failed": 1 },
        });
        let pattern =
            Live::read(WorkloadKind::Job, Arc::new(serde_json::from_value(pattern).unwrap())).unwrap();
        let slot = Slot { list: "containers", name: "migrate".into() };
        let made = serde_json::to_value(made_after(&pattern, &slot, "b", &[])).unwrap();
        assert_eq!(
            made,
            json!({
                "apiVersion": "batch/v1", "kind": "Job",
                "metadata": { "namespace": "shop", "labels": { "app": "web" } },
                "spec": { "backoffLimit": 2, "template": {
                    "metadata": { "labels": { "app": "web" } },
                    "spec": { "restartPolicy": "Never", "containers": [{ "name": "migrate", "image": "b" }] },
                } },
            })
        );
    }
}
