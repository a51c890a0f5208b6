//! The option that fails a rollout as the ECS deployment circuit breaker does: failed starts are counted.

use k8s_openapi::api::core::v1::Pod;

use super::{
    diagnose,
    judge::{Snapshot, Tracked},
};
use crate::{api::symptom::Symptom, workload::Live};

impl Snapshot {
    /// The reason to fail because too many starts have failed, as the ECS circuit breaker counts them.
    pub(super) fn broken_circuit(&self, live: &Live, tracked: &Tracked) -> Option<Symptom> {
        if !tracked.circuit_breaker {
            return None;
        }
        let failures: u32 = self.pods_of_template().map(|pod| self.failed_starts(pod)).sum();
        let threshold = threshold(live.counts().desired);
        let message =
            format!("the circuit breaker counted {failures} failed starts, its threshold is {threshold}");
        (failures >= threshold).then(|| match self.reason(Some(tracked)) {
            Some(symptom) => Symptom { message: format!("{}; {message}", symptom.message), ..symptom },
            None => Symptom::failed(&message),
        })
    }

    fn failed_starts(&self, pod: &Pod) -> u32 {
        let Some(status) = &pod.status else { return 0 };
        let restarts = status.container_statuses.iter().flatten().map(|c| c.restart_count.max(0) as u32);
        let failed = diagnose::has_failed(pod) && !diagnose::by_its_node(pod);
        let stuck =
            diagnose::of_pod(pod, self.warnings(&pod.metadata.uid)).is_some_and(|symptom| symptom.is_final());
        let restarts: u32 = restarts.sum();
        restarts.max(u32::from(failed || stuck))
    }
}

/// The threshold of the ECS circuit breaker.
fn threshold(desired: i32) -> u32 {
    (desired.max(0) as u32).div_ceil(2).clamp(3, 200)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{
        super::judge::{
            Judgement,
            tests::{snapshot, tracked},
        },
        *,
    };

    #[test]
    fn circuit_breaker_has_the_threshold_of_ecs() {
        for (desired, expected) in [(0, 3), (1, 3), (6, 3), (7, 4), (25, 13), (400, 200), (1000, 200)] {
            assert_eq!(threshold(desired), expected, "{desired}");
        }
        // A container that ended three times and runs again: not a crash loop, and not final.
        let flapping = json!({ "phase": "Running", "containerStatuses": [{
            "name": "web", "image": "", "imageID": "", "ready": false, "restartCount": 3,
            "state": { "running": {} },
        }] });
        let snapshot = snapshot(&[flapping]);
        assert!(matches!(snapshot.judge(&tracked()), Judgement::Waiting(_)));
        let guarded = Tracked { circuit_breaker: true, ..tracked() };
        let Judgement::Failing(symptom) = snapshot.judge(&guarded) else { panic!("{snapshot:?}") };
        assert!(symptom.message.contains("counted 3 failed starts, its threshold is 3"), "{symptom:?}");
    }
}
