//! Rollout status of a StatefulSet by the rules of `kubectl rollout status`: strategy, observed, ready, then partition
//! or revisions.

use k8s_openapi::api::apps::v1::StatefulSet;
use kube::core::ApiResource;

use super::kind::{Counts, Kind, RolloutStatus, Stage, State, Versions, calls, wanted};
use crate::api::text::Text;

pub(super) static KIND: Kind = Kind {
    resource: || ApiResource::erase::<StatefulSet>(&()),
    calls: calls!("statefulsets"),
    versions: Versions::ControllerRevisions,
    template: &["template"],
    writes: &[("patch", true), ("update", false)],
    runs_to_completion: false,
    is_scheduled: false,
    deletes_pods: true,
    read: |json| Ok(Box::new(serde_json::from_value::<StatefulSet>(json)?)),
};

impl RolloutStatus {
    /// The rollout status of `generation` of a StatefulSet; with a partition, of the pods from that ordinal on.
    pub fn of_stateful_set(set: &StatefulSet, generation: i64) -> Self {
        let strategy = set.spec.as_ref().and_then(|spec| spec.update_strategy.clone()).unwrap_or_default();
        if strategy.type_.text() == "OnDelete" {
            return RolloutStatus::OnDelete;
        }
        let status = set.status.clone().unwrap_or_default();
        let observed = status.observed_generation.unwrap_or_default();
        if observed == 0 || observed < generation {
            return RolloutStatus::NotObserved;
        }
        let wanted = wanted(set.spec.as_ref().and_then(|spec| spec.replicas));
        if status.ready_replicas.unwrap_or_default() < wanted {
            return RolloutStatus::Progressing(Stage::BecomingAvailable);
        }
        // Pods that are being removed count as updated, but are none of those that stay.
        if status.replicas > wanted {
            return RolloutStatus::Progressing(Stage::EndingOld);
        }
        let done = match strategy.rolling_update.and_then(|rolling| rolling.partition) {
            Some(partition) => status.updated_replicas.unwrap_or_default() >= wanted - partition,
            None => status.update_revision == status.current_revision,
        };
        if done { RolloutStatus::Complete } else { RolloutStatus::Progressing(Stage::Updating) }
    }
}

impl State for StatefulSet {
    fn status(&self, generation: i64) -> RolloutStatus {
        RolloutStatus::of_stateful_set(self, generation)
    }

    fn replaces_pods_in_place(&self) -> bool {
        true
    }

    fn counts(&self) -> Counts {
        let status = self.status.clone().unwrap_or_default();
        Counts {
            desired: wanted(self.spec.as_ref().and_then(|spec| spec.replicas)),
            total: status.replicas,
            updated: status.updated_replicas.unwrap_or_default(),
        }
    }

    fn is_ordered(&self) -> bool {
        self.spec.as_ref().is_none_or(|spec| spec.pod_management_policy.text() != "Parallel")
    }

    fn partition(&self) -> i32 {
        let strategy = self.spec.as_ref().and_then(|spec| spec.update_strategy.as_ref());
        strategy.and_then(|strategy| strategy.rolling_update.as_ref()?.partition).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// Three replicas with `(observed, ready, updated)` and this strategy.
    fn set(counts: (i64, i32, i32), strategy: Value, revisions: (&str, &str)) -> StatefulSet {
        let (observed, ready, updated) = counts;
        serde_json::from_value(json!({
            "metadata": { "name": "db", "generation": 2 },
            "spec": { "replicas": 3, "selector": {}, "template": {}, "updateStrategy": strategy },
            "status": {
                "observedGeneration": observed,
                "replicas": 3,
                "readyReplicas": ready,
                "updatedReplicas": updated,
                "currentRevision": revisions.0,
                "updateRevision": revisions.1,
            },
        }))
        .unwrap()
    }

    #[test]
    fn follows_kubectl() {
        let rolling = || json!({ "type": "RollingUpdate" });
        let partition = |n: i32| json!({ "type": "RollingUpdate", "rollingUpdate": { "partition": n } });
        let (old, new) = (("a", "b"), ("b", "b"));
        let progressing = RolloutStatus::Progressing;
        for (counts, strategy, revisions, expected) in [
            ((0, 3, 3), rolling(), new, RolloutStatus::NotObserved),
            ((1, 3, 3), rolling(), new, RolloutStatus::NotObserved),
            ((2, 2, 3), rolling(), new, progressing(Stage::BecomingAvailable)),
            ((2, 3, 2), rolling(), old, progressing(Stage::Updating)),
            ((2, 3, 3), rolling(), new, RolloutStatus::Complete),
            ((2, 3, 2), partition(0), old, progressing(Stage::Updating)),
            ((2, 3, 3), partition(0), old, RolloutStatus::Complete),
            ((2, 3, 0), partition(2), old, progressing(Stage::Updating)),
            ((2, 3, 1), partition(2), old, RolloutStatus::Complete),
            ((2, 3, 0), partition(3), old, RolloutStatus::Complete),
            ((2, 3, 0), json!({ "type": "OnDelete" }), old, RolloutStatus::OnDelete),
        ] {
            let set = set(counts, strategy.clone(), revisions);
            assert_eq!(set.status(2), expected, "{counts:?} {strategy}");
        }
        assert_eq!(StatefulSet::default().status(0), RolloutStatus::NotObserved);
    }
}
