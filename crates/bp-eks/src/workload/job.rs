//! Status of a Job from its conditions (complete, failed, running), and a new Job derived from an existing one.

use k8s_openapi::api::batch::v1::Job;
use kube::core::{ApiResource, DynamicObject, ObjectMeta};
use serde_json::json;

use super::{
    kind::{Counts, Kind, RolloutStatus, Stage, State, Versions, calls},
    live::Live,
    template::{self, Slot},
};
use crate::api::text::Text;

pub(super) static KIND: Kind = Kind {
    resource: || ApiResource::erase::<Job>(&()),
    calls: calls!("jobs"),
    versions: Versions::None,
    template: &["template"],
    writes: &[("create", true)],
    runs_to_completion: true,
    is_scheduled: false,
    deletes_pods: false,
    read: |json| Ok(Box::new(serde_json::from_value::<Job>(json)?)),
};

/// Labels that bind pods to one Job.
const OWN_LABELS: [&str; 4] =
    ["controller-uid", "job-name", "batch.kubernetes.io/controller-uid", "batch.kubernetes.io/job-name"];
/// The label of derived Jobs: the name of the configured Job. They outlive it, and serve as a pattern without it.
pub(crate) const DERIVED_FROM: &str = "bp-eks/derived-from";
/// The limit of label values; the controller uses the Job's name as one.
const LONGEST: usize = 63;

impl RolloutStatus {
    /// The status of a Job. Its template is immutable, so generations do not matter.
    pub fn of_job(job: &Job) -> Self {
        let conditions = job.status.iter().flat_map(|status| status.conditions.iter().flatten());
        let mut holding = conditions.filter(|condition| condition.status.text() == "True");
        let end = holding.find(|condition| matches!(condition.type_.text(), "Complete" | "Failed"));
        match end {
            Some(end) if end.type_.text() == "Complete" => RolloutStatus::Complete,
            Some(end) => RolloutStatus::Failed(format!("{}: {}", end.reason.text(), end.message.text())),
            None => RolloutStatus::Progressing(Stage::Working),
        }
    }
}

impl State for Job {
    fn status(&self, _: i64) -> RolloutStatus {
        RolloutStatus::of_job(self)
    }

    fn counts(&self) -> Counts {
        let spec = self.spec.clone().unwrap_or_default();
        let active = self.status.as_ref().and_then(|status| status.active).unwrap_or_default();
        let desired = spec.completions.or(spec.parallelism).unwrap_or(1);
        Counts { desired, total: active, updated: active }
    }

    fn is_paused(&self) -> bool {
        self.spec.as_ref().and_then(|spec| spec.suspend).unwrap_or_default()
    }
}

/// The name of a derived Job: `migrate-44136fa355`, or `migrate-44136fa355-2` after a failed one.
pub(crate) fn name_of(pattern: &str, hex: &str, attempt: usize) -> String {
    let number = if attempt > 1 { format!("-{attempt}") } else { String::new() };
    let hash = &hex[..10];
    let room = LONGEST - hash.len() - 1 - number.len();
    let stem = pattern.get(..room).unwrap_or(pattern).trim_end_matches(['-', '.']);
    format!("{stem}-{hash}{number}")
}

/// A copy of the Job's labels, annotations and specification, without the fields that bind them to this Job.
pub(crate) fn unbound(pattern: &DynamicObject) -> DynamicObject {
    let mut labels = pattern.metadata.labels.clone();
    for label in OWN_LABELS {
        labels.as_mut().and_then(|labels| labels.remove(label));
    }
    let mut annotations = pattern.metadata.annotations.clone();
    annotations.as_mut().and_then(|all| all.remove("kubectl.kubernetes.io/last-applied-configuration"));
    let mut spec = pattern.data["spec"].clone();
    if let Some(spec) = spec.as_object_mut() {
        for field in ["selector", "manualSelector", "suspend"] {
            spec.remove(field);
        }
    }
    if let Some(labels) = spec["template"]["metadata"]["labels"].as_object_mut() {
        OWN_LABELS.iter().for_each(|label| drop(labels.remove(*label)));
    }
    let namespace = pattern.metadata.namespace.clone();
    DynamicObject {
        types: pattern.types.clone(),
        metadata: ObjectMeta { namespace, labels, annotations, ..ObjectMeta::default() },
        data: json!({ "spec": spec }),
    }
}

/// A new Job derived from `pattern`, with this image and these variables; `name` is the configured Job's.
pub(crate) fn derive_job(
    pattern: &Live,
    name: &str,
    slot: &Slot,
    image: &str,
    environment: &[(String, String)],
) -> DynamicObject {
    let mut job = unbound(&pattern.object);
    if let Some(spec) = job.data["spec"].as_object_mut() {
        // The Job is the record that this image has run.
        spec.remove("ttlSecondsAfterFinished");
    }
    job.metadata.labels.get_or_insert_default().insert(DERIVED_FROM.to_owned(), name.to_owned());
    let template = job.data["spec"]["template"].take();
    job.data["spec"]["template"] = template::with(template, slot, image, environment);
    job
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn status_follows_the_conditions() {
        let working = RolloutStatus::Progressing(Stage::Working);
        let failed = RolloutStatus::Failed("BackoffLimitExceeded: said".into());
        for (conditions, expected) in [
            (json!([]), working.clone()),
            (json!([{ "type": "Suspended", "status": "True" }]), working.clone()),
            // The pods are still terminating.
            (json!([{ "type": "FailureTarget", "status": "True" }]), working.clone()),
            (json!([{ "type": "SuccessCriteriaMet", "status": "True" }]), working.clone()),
            (json!([{ "type": "Complete", "status": "False" }]), working),
            (
                json!([{ "type": "SuccessCriteriaMet", "status": "True" }, { "type": "Complete", "status": "True" }]),
                RolloutStatus::Complete,
            ),
            (
                json!([{ "type": "Failed", "status": "True", "reason": "BackoffLimitExceeded", "message": "said" }]),
                failed,
            ),
        ] {
            let job: Job = serde_json::from_value(json!({ "status": { "conditions": conditions } })).unwrap();
            assert_eq!(job.status(0), expected, "{conditions}");
        }
        assert_eq!(Job::default().status(0), RolloutStatus::Progressing(Stage::Working));
    }

    #[test]
    fn name_contains_pattern_digest_and_attempt() {
        let hex = "44136fa355b3678a";
        assert_eq!(name_of("migrate", hex, 1), "migrate-44136fa355");
        assert_eq!(name_of("migrate", hex, 12), "migrate-44136fa355-12");
        let long = format!("{}-x", "m".repeat(50));
        let name = name_of(&long, hex, 2);
        assert!(name.len() <= LONGEST && name.ends_with("m-44136fa355-2"), "{name}");
    }

    #[test]
    fn derived_job_is_not_bound_to_the_old_one() {
        let pattern = json!({
            "apiVersion": "batch/v1", "kind": "Job",
            "metadata": { "name": "migrate", "namespace": "shop", "uid": "1", "labels": { "app": "web", "job-name": "migrate" } },
            "spec": {
                "backoffLimit": 2, "suspend": true, "ttlSecondsAfterFinished": 60,
                "selector": { "matchLabels": { "batch.kubernetes.io/controller-uid": "1" } },
                "template": {
                    "metadata": { "labels": { "app": "web", "batch.kubernetes.io/controller-uid": "1" } },
                    "spec": { "restartPolicy": "Never", "containers": [{ "name": "migrate", "image": "a" }] },
                },
            },
            "status": { "failed": 1 },
        });
        let pattern = Live::read(&KIND, Arc::new(serde_json::from_value(pattern).unwrap())).unwrap();
        let slot = Slot { list: "containers", name: "migrate".into(), also: Vec::new() };
        let made = serde_json::to_value(derive_job(&pattern, "migrate", &slot, "b", &[])).unwrap();
        assert_eq!(
            made,
            json!({
                "apiVersion": "batch/v1", "kind": "Job",
                "metadata": { "namespace": "shop", "labels": { "app": "web", (DERIVED_FROM): "migrate" } },
                "spec": { "backoffLimit": 2, "template": {
                    "metadata": { "labels": { "app": "web" } },
                    "spec": { "restartPolicy": "Never", "containers": [{ "name": "migrate", "image": "b" }] },
                } },
            })
        );
    }
}
