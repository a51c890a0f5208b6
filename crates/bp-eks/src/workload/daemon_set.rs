//! Rollout status of a DaemonSet by the rules of `kubectl rollout status`: strategy, observed, updated, available.

use k8s_openapi::api::apps::v1::DaemonSet;
use kube::core::ApiResource;

use super::kind::{Counts, Kind, RolloutStatus, Stage, State, Versions, calls};
use crate::api::text::Text;

pub(super) static KIND: Kind = Kind {
    resource: || ApiResource::erase::<DaemonSet>(&()),
    calls: calls!("daemonsets"),
    versions: Versions::ControllerRevisions,
    template: &["template"],
    writes: &[("patch", true), ("update", false)],
    runs_to_completion: false,
    is_scheduled: false,
    deletes_pods: false,
    read: |json| Ok(Box::new(serde_json::from_value::<DaemonSet>(json)?)),
};

impl RolloutStatus {
    /// The rollout status of `generation` of a DaemonSet.
    pub fn of_daemon_set(set: &DaemonSet, generation: i64) -> Self {
        let strategy = set.spec.as_ref().and_then(|spec| spec.update_strategy.as_ref());
        if strategy.is_some_and(|strategy| strategy.type_.text() == "OnDelete") {
            return RolloutStatus::OnDelete;
        }
        let status = set.status.clone().unwrap_or_default();
        if status.observed_generation.unwrap_or_default() < generation.max(1) {
            return RolloutStatus::NotObserved;
        }
        let desired = status.desired_number_scheduled;
        if status.updated_number_scheduled.unwrap_or_default() < desired {
            return RolloutStatus::Progressing(Stage::Updating);
        }
        if status.number_available.unwrap_or_default() < desired {
            return RolloutStatus::Progressing(Stage::BecomingAvailable);
        }
        RolloutStatus::Complete
    }
}

impl State for DaemonSet {
    fn status(&self, generation: i64) -> RolloutStatus {
        RolloutStatus::of_daemon_set(self, generation)
    }

    fn replaces_pods_in_place(&self) -> bool {
        true
    }

    fn counts(&self) -> Counts {
        let status = self.status.clone().unwrap_or_default();
        Counts {
            desired: status.desired_number_scheduled,
            total: status.current_number_scheduled,
            updated: status.updated_number_scheduled.unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn follows_kubectl() {
        let progressing = RolloutStatus::Progressing;
        for ((observed, desired, updated, available), strategy, expected) in [
            ((1, 3, 3, 3), "RollingUpdate", RolloutStatus::NotObserved),
            ((2, 3, 2, 3), "RollingUpdate", progressing(Stage::Updating)),
            ((2, 3, 3, 2), "RollingUpdate", progressing(Stage::BecomingAvailable)),
            ((2, 3, 3, 3), "RollingUpdate", RolloutStatus::Complete),
            // No node is selected.
            ((2, 0, 0, 0), "RollingUpdate", RolloutStatus::Complete),
            ((2, 3, 0, 3), "OnDelete", RolloutStatus::OnDelete),
        ] {
            let set: DaemonSet = serde_json::from_value(json!({
                "metadata": { "name": "agent", "generation": 2 },
                "spec": { "selector": {}, "template": {}, "updateStrategy": { "type": strategy } },
                "status": {
                    "observedGeneration": observed, "currentNumberScheduled": desired, "numberMisscheduled": 0,
                    "desiredNumberScheduled": desired, "numberReady": available,
                    "updatedNumberScheduled": updated, "numberAvailable": available,
                },
            }))
            .unwrap();
            assert_eq!(set.status(2), expected, "{observed} {desired} {updated} {available} {strategy}");
        }
        assert_eq!(DaemonSet::default().status(0), RolloutStatus::NotObserved);
    }
}
