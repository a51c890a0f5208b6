//! A StatefulSet, in kubectl's order: strategy, observed, ready, then the partition or the revisions.

use k8s_openapi::api::apps::v1::StatefulSet;

use super::{super::text::Text, RolloutStatus, Stage, wanted};

pub(super) fn status(set: &StatefulSet, generation: i64) -> RolloutStatus {
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
    let done = match strategy.rolling_update.and_then(|rolling| rolling.partition) {
        Some(partition) => status.updated_replicas.unwrap_or_default() >= wanted - partition,
        None => status.update_revision == status.current_revision,
    };
    if done { RolloutStatus::Complete } else { RolloutStatus::Progressing(Stage::Updating) }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// `(observed, ready, updated)` of three replicas, with this strategy.
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
            assert_eq!(status(&set, 2), expected, "{counts:?} {strategy}");
        }
        assert_eq!(status(&StatefulSet::default(), 0), RolloutStatus::NotObserved);
    }
}
