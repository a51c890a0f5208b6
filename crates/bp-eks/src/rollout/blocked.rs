//! Detect why the controller cannot create new pods, and whether that can change without intervention.

use k8s_openapi::api::core::v1::Event;

use super::{
    judge::{Snapshot, Tracked},
    quota,
};
use crate::{
    api::{
        event::last_seen,
        pod, refusal,
        symptom::{Recovery, Symptom},
        text::Text,
    },
    workload::{
        Live,
        version::{self, Version},
    },
};

impl Snapshot {
    /// Why no new pod can be created, when every new pod so far is ready.
    pub(super) fn blocked(&self, tracked: &Tracked) -> Option<Symptom> {
        let is_waiting = self.new_pods().iter().all(|pod| pod::is_ready(pod));
        is_waiting.then(|| self.refusal(Some(tracked))).flatten()
    }

    /// Why the latest new pod could not be created: a condition of a ReplicaSet, an event of the other controllers.
    /// Events from before the tracked rollout are ignored.
    pub(super) fn refusal(&self, tracked: Option<&Tracked>) -> Option<Symptom> {
        let live = self.live.as_ref()?;
        let said = version::new(live, &self.versions).and_then(Version::refusal).map(str::to_owned);
        let message = said.or_else(|| self.refused_in_events(live, tracked))?;
        let symptom = refusal::symptom(&message);
        if symptom.recovery != Recovery::Soon {
            return Some(symptom);
        }
        let recovery = if Self::takes_away(live) {
            // The rollout continues with every old pod that it removes. The controller's pauses between two attempts grow
            // to minutes: its own progress deadline ends them.
            Recovery::Sometime
        } else if self.may_be_freed(live, &message) {
            Recovery::Retried
        } else {
            Recovery::Soon
        };
        Some(Symptom { recovery, ..symptom })
    }

    fn refused_in_events(&self, live: &Live, tracked: Option<&Tracked>) -> Option<String> {
        let since = tracked.and_then(|tracked| tracked.since);
        // Events are kept for an hour: a pod created later shows that an event no longer applies.
        let made = self.pods_of_template().filter_map(|pod| pod.metadata.creation_timestamp.as_ref());
        let made = made.map(|time| time.0).max();
        let holds = |event: &&Event| {
            let is_known = tracked.is_some_and(|tracked| {
                event
                    .metadata
                    .resource_version
                    .as_ref()
                    .is_some_and(|version| tracked.known.contains(version))
            });
            let at = last_seen(event);
            let is_late = at.is_none_or(|at| since.is_none_or(|since| at >= since));
            !is_known && is_late && at.is_none_or(|at| made.is_none_or(|made| at > made))
        };
        let refused =
            self.warnings(&live.metadata().uid).filter(|event| event.reason.text() == "FailedCreate");
        refused
            .filter(holds)
            .max_by_key(|event| last_seen(event))
            .map(|event| event.message.text().to_owned())
    }

    /// Whether the rollout itself frees quota: it removes old pods before it creates new ones.
    fn takes_away(live: &Live) -> bool {
        let counts = live.counts();
        counts.total > counts.updated && live.removes_pods_first()
    }

    /// Whether an exceeded quota may become free without being raised: by terminating pods or by other workloads.
    fn may_be_freed(&self, live: &Live, message: &str) -> bool {
        let is_ending = self.pods.iter().any(|pod| pod.metadata.deletion_timestamp.is_some());
        is_ending || live.runs_to_completion() || !quota::is_used_by(message, live.counts().total)
    }
}
