//! Rollout status of a Deployment by the rules of `kubectl rollout status`: observed, stalled, updated, old pods
//! terminated, available.

use jiff::Timestamp;
use k8s_openapi::{api::apps::v1::Deployment, apimachinery::pkg::util::intstr::IntOrString};
use kube::core::ApiResource;

use super::kind::{Counts, Kind, RolloutStatus, Stage, State, Versions, calls, wanted};
use crate::api::text::Text;

pub(super) static KIND: Kind = Kind {
    resource: || ApiResource::erase::<Deployment>(&()),
    calls: calls!("deployments"),
    versions: Versions::ReplicaSets {
        number: "deployment.kubernetes.io/revision",
        history: "deployment.kubernetes.io/revision-history",
        hash: "pod-template-hash",
    },
    template: &["template"],
    writes: &[("patch", true), ("update", false)],
    runs_to_completion: false,
    is_scheduled: false,
    deletes_pods: false,
    read: |json| Ok(Box::new(serde_json::from_value::<Deployment>(json)?)),
};

impl RolloutStatus {
    /// The rollout status of `generation` of a Deployment.
    pub fn of_deployment(deployment: &Deployment, generation: i64) -> Self {
        let status = deployment.status.clone().unwrap_or_default();
        if status.observed_generation.unwrap_or_default() < generation {
            return RolloutStatus::NotObserved;
        }
        if let Some((message, _)) = deployment.stalled() {
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
}

impl State for Deployment {
    fn status(&self, generation: i64) -> RolloutStatus {
        RolloutStatus::of_deployment(self, generation)
    }

    fn counts(&self) -> Counts {
        let status = self.status.clone().unwrap_or_default();
        Counts {
            desired: wanted(self.spec.as_ref().and_then(|spec| spec.replicas)),
            total: status.replicas.unwrap_or_default(),
            updated: status.updated_replicas.unwrap_or_default(),
        }
    }

    fn is_paused(&self) -> bool {
        self.spec.as_ref().and_then(|spec| spec.paused).unwrap_or_default()
    }

    fn stalled(&self) -> Option<(String, Option<Timestamp>)> {
        let conditions = self.status.as_ref()?.conditions.as_ref()?;
        conditions
            .iter()
            .find(|c| c.type_.text() == "Progressing" && c.reason.text() == "ProgressDeadlineExceeded")
            .map(|c| (c.message.text().to_owned(), c.last_update_time.as_ref().map(|time| time.0)))
    }

    fn removes_pods_first(&self) -> bool {
        let strategy = self.spec.as_ref().and_then(|spec| spec.strategy.clone()).unwrap_or_default();
        if strategy.type_.text() == "Recreate" {
            return true;
        }
        let rolling = strategy.rolling_update.unwrap_or_default();
        let bound = |bound: Option<IntOrString>, round: fn(f64) -> f64| match bound {
            Some(IntOrString::Int(number)) => f64::from(number),
            other => {
                let percent = match other {
                    Some(IntOrString::String(text)) => text.trim_end_matches('%').parse().ok(),
                    Some(IntOrString::Int(_)) | None => None,
                };
                round(f64::from(self.counts().desired) * percent.unwrap_or(25.0) / 100.0)
            }
        };
        // If both round to zero, the controller allows one unavailable pod.
        bound(rolling.max_unavailable, f64::floor) > 0.0 || bound(rolling.max_surge, f64::ceil) <= 0.0
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

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
            // Complete, but for an earlier generation.
            ((2, 1, 3, 3, 3, 3), "NewReplicaSetAvailable", RolloutStatus::NotObserved),
            ((2, 1, 3, 3, 3, 3), late, RolloutStatus::NotObserved),
            ((2, 2, 3, 3, 3, 3), late, stalled()),
            ((2, 2, 3, 3, 1, 3), updated, RolloutStatus::Progressing(Stage::Updating)),
            ((2, 2, 3, 4, 3, 3), updated, RolloutStatus::Progressing(Stage::EndingOld)),
            ((2, 2, 3, 3, 3, 2), updated, RolloutStatus::Progressing(Stage::BecomingAvailable)),
            ((2, 2, 3, 3, 3, 3), updated, RolloutStatus::Complete),
            ((2, 2, 0, 0, 0, 0), "NewReplicaSetAvailable", RolloutStatus::Complete),
            // Scaled later: the controller has observed a later generation.
            ((3, 3, 3, 3, 3, 3), updated, RolloutStatus::Complete),
        ] {
            assert_eq!(deployment(counts, reason).status(2), expected, "{counts:?} {reason}");
        }
    }

    #[test]
    fn missing_status_is_not_observed() {
        assert_eq!(Deployment::default().status(1), RolloutStatus::NotObserved);
    }

    #[test]
    fn rolling_update_removes_pods_first_if_some_may_be_unavailable() {
        let rolling = |unavailable: Value, surge: Value| {
            json!({ "strategy": { "type": "RollingUpdate", "rollingUpdate": {
                "maxUnavailable": unavailable, "maxSurge": surge,
            } } })
        };
        for (strategy, desired, expected) in [
            (json!({}), 3, false),
            (json!({}), 4, true),
            (rolling(json!(1), json!(0)), 3, true),
            (rolling(json!(0), json!(1)), 30, false),
            (rolling(json!("0%"), json!("0%")), 3, true),
            (rolling(json!("50%"), json!("25%")), 2, true),
            (rolling(json!("50%"), json!("25%")), 1, false),
            (json!({ "strategy": { "type": "Recreate" } }), 1, true),
        ] {
            let mut spec = json!({ "replicas": desired, "selector": {}, "template": {} });
            spec["strategy"] = strategy["strategy"].clone();
            let deployment: Deployment =
                serde_json::from_value(json!({ "metadata": {}, "spec": spec })).unwrap();
            assert_eq!(deployment.removes_pods_first(), expected, "{strategy} {desired}");
        }
    }
}
