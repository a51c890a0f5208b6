//! A Deployment, in kubectl's order: observed, stalled, updated, old ones ended, available.

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::Deployment;

use super::{super::text::Text, RolloutStatus, Stage, wanted};

pub(super) fn status(deployment: &Deployment, generation: i64) -> RolloutStatus {
    let status = deployment.status.clone().unwrap_or_default();
    if status.observed_generation.unwrap_or_default() < generation {
        return RolloutStatus::NotObserved;
    }
    if let Some((message, _)) = stalled(deployment) {
        return RolloutStatus::Stalled(message);
    }
    let wanted = wanted(deployment.spec.as_ref().and_then(|spec| spec.replicas));
    let updated = status.updated_replicas.unwrap_or_default();
    if updated < wanted {
        return RolloutStatus::Progressing(Stage::Updating);
    }
    if status.replicas.unwrap_or_default() > updated {
        return RolloutStatus::Progressing(Stage::EndingOld);
    }
    if status.available_replicas.unwrap_or_default() < updated {
        return RolloutStatus::Progressing(Stage::BecomingAvailable);
    }
    RolloutStatus::Complete
}

/// What the controller says when the progress deadline has passed, and since when it says so.
pub(in super::super) fn stalled(deployment: &Deployment) -> Option<(String, Option<Timestamp>)> {
    let conditions = deployment.status.as_ref()?.conditions.as_ref()?;
    conditions
        .iter()
        .find(|c| c.type_.text() == "Progressing" && c.reason.text() == "ProgressDeadlineExceeded")
        .map(|c| (c.message.text().to_owned(), c.last_update_time.as_ref().map(|time| time.0)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// `(generation, observed, spec.replicas, replicas, updated, available)`
    fn deployment(counts: (i64, i64, i32, i32, i32, i32), reason: &str) -> Deployment {
        let (generation, observed, wanted, replicas, updated, available) = counts;
        serde_json::from_value(json!({
            "metadata": { "name": "web", "generation": generation },
            "spec": { "replicas": wanted, "selector": {}, "template": {} },
            "status": {
                "observedGeneration": observed,
                "replicas": replicas,
                "updatedReplicas": updated,
                "availableReplicas": available,
                "conditions": [
                    { "type": "Available", "status": "True" },
                    { "type": "Progressing", "status": "True", "reason": reason, "message": "it says" },
                ],
            },
        }))
        .unwrap()
    }

    #[test]
    fn follows_kubectl() {
        let updated = "ReplicaSetUpdated";
        let late = "ProgressDeadlineExceeded";
        let stalled = || RolloutStatus::Stalled("it says".into());
        for (counts, reason, expected) in [
            // Complete, but of the generation before ours.
            ((2, 1, 3, 3, 3, 3), "NewReplicaSetAvailable", RolloutStatus::NotObserved),
            ((2, 1, 3, 3, 3, 3), late, RolloutStatus::NotObserved),
            ((2, 2, 3, 3, 3, 3), late, stalled()),
            ((2, 2, 3, 3, 1, 3), updated, RolloutStatus::Progressing(Stage::Updating)),
            ((2, 2, 3, 4, 3, 3), updated, RolloutStatus::Progressing(Stage::EndingOld)),
            ((2, 2, 3, 3, 3, 2), updated, RolloutStatus::Progressing(Stage::BecomingAvailable)),
            ((2, 2, 3, 3, 3, 3), updated, RolloutStatus::Complete),
            ((2, 2, 0, 0, 0, 0), "NewReplicaSetAvailable", RolloutStatus::Complete),
            // Somebody scaled after us: the controller looked at a later generation.
            ((3, 3, 3, 3, 3, 3), updated, RolloutStatus::Complete),
        ] {
            assert_eq!(status(&deployment(counts, reason), 2), expected, "{counts:?} {reason}");
        }
    }

    #[test]
    fn without_a_status_it_is_not_observed() {
        assert_eq!(status(&Deployment::default(), 1), RolloutStatus::NotObserved);
    }
}
