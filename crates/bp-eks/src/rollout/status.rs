//! How far a roll-out is: kubectl's rules, as a pure function.

use k8s_openapi::{api::apps::v1::Deployment, apimachinery::pkg::apis::meta::v1::Time};

use super::text::Text;

/// How far the roll-out of a Deployment is, by the rules of `kubectl rollout status`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum RolloutStatus {
    /// The controller has not looked at this generation yet: whatever the status says is about an earlier one.
    NotObserved,
    /// Under way, in this stage.
    Progressing(Stage),
    /// `progressDeadlineSeconds` have passed without progress.
    Stalled(String),
    /// Every replica is updated and available, and no old one is left.
    Complete,
}

/// The stages of a roll-out, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// New pods are being made.
    Updating,
    /// Old pods are ending.
    EndingOld,
    /// New pods are becoming available.
    BecomingAvailable,
}

impl std::fmt::Display for Stage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Stage::Updating => "new pods are being made",
            Stage::EndingOld => "old pods are ending",
            Stage::BecomingAvailable => "new pods are becoming available",
        })
    }
}

impl RolloutStatus {
    /// How far the roll-out of `generation` is: the one that our own apply was answered with, never the one that
    /// happens to be there.
    pub fn of(deployment: &Deployment, generation: i64) -> Self {
        let status = deployment.status.clone().unwrap_or_default();
        if status.observed_generation.unwrap_or_default() < generation {
            return RolloutStatus::NotObserved;
        }
        if let Some((message, _)) = stalled(deployment) {
            return RolloutStatus::Stalled(message);
        }
        let wanted = wanted(deployment);
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
}

/// How many replicas are wanted.
pub(super) fn wanted(deployment: &Deployment) -> i32 {
    deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1)
}

/// What the controller says when the progress deadline has passed, and since when it says so.
pub(super) fn stalled(deployment: &Deployment) -> Option<(String, Option<Time>)> {
    let conditions = deployment.status.as_ref()?.conditions.as_ref()?;
    conditions
        .iter()
        .find(|c| c.type_.text() == "Progressing" && c.reason.text() == "ProgressDeadlineExceeded")
        .map(|c| (c.message.text().to_owned(), c.last_update_time.clone()))
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
            assert_eq!(RolloutStatus::of(&deployment(counts, reason), 2), expected, "{counts:?} {reason}");
        }
    }

    #[test]
    fn a_deployment_without_status_is_not_observed() {
        assert_eq!(RolloutStatus::of(&Deployment::default(), 1), RolloutStatus::NotObserved);
    }
}
