//! Reports of progress and of new service events.

use bp_artifact::deploy::Progress;

use super::{follow::Follower, judge::Snapshot, service::deployment, strategy::FailureLimit};

impl Follower<'_> {
    /// Reports progress and new events. Returns whether a change may indicate a failure.
    pub(super) fn report_changes(&mut self, snapshot: &Snapshot) -> bool {
        let Some(service) = &snapshot.service else { return false };
        let new: Vec<_> = service
            .events()
            .iter()
            .take_while(|event| {
                self.reported.newest_event.is_none() || event.id != self.reported.newest_event
            })
            .collect();
        for event in new.iter().rev() {
            let message = event.message.clone().unwrap_or_default();
            self.reporter.notice(message);
        }
        let mine = deployment(service, &self.ours.id);
        let running = mine.map_or(0, |d| d.running_count);
        let state = mine.and_then(|d| d.rollout_state.as_ref()).map(|s| s.as_str().to_owned());
        let count = |n: i32| u32::try_from(n).unwrap_or(0);
        let mut progress = Progress::default();
        // A new primary deployment starts with a desired count of 0.
        let desired = mine.map_or(0, |d| d.desired_count);
        progress.desired = count(if desired == 0 { service.desired_count } else { desired });
        progress.running = count(running);
        progress.pending = count(mine.map_or(0, |d| d.pending_count));
        progress.failed = count(mine.map_or(0, |d| d.failed_tasks));
        progress.old = count(service.running_count - running);
        progress.stage = self.stage(snapshot).or(state).unwrap_or_default();
        self.reporter.progress(progress);
        let breaker = snapshot.deployment.as_ref().and_then(|d| d.deployment_circuit_breaker.as_ref());
        let failures = (mine.map_or(0, |d| d.failed_tasks), breaker.map_or(0, |b| b.failure_count));
        let changed = !new.is_empty() || failures != self.reported.failures;
        self.reported.failures = failures;
        self.reported.running |= self.reported.ran && running > 0;
        self.reported.ran = running > 0;
        if let Some(event) = service.events().first() {
            self.reported.newest_event = event.id.clone();
        }
        if running > self.most_running {
            self.most_running = running;
            if FailureLimit::of(snapshot).resets {
                self.stopped.outweigh();
            }
        }
        changed
    }

    /// The lifecycle stage, with the traffic weight of our revision.
    fn stage(&self, snapshot: &Snapshot) -> Option<String> {
        let deployment = snapshot.deployment.as_ref()?;
        let stage = deployment.lifecycle_stage.as_ref()?.as_str();
        let ours = deployment.target_service_revision.as_ref();
        let weights = ours.map(|r| (r.requested_test_traffic_weight, r.requested_production_traffic_weight));
        Some(match weights {
            Some((_, Some(production))) if production > 0.0 => format!("{stage}, {production}% of traffic"),
            Some((Some(test), _)) if test > 0.0 => format!("{stage}, {test}% of test traffic"),
            _ => stage.to_owned(),
        })
    }
}
