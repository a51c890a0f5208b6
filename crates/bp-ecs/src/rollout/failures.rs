//! Whether stopped tasks fail the deployment: they are read with at most one call per poll.

use bp_artifact::deploy::Cause;

use super::{
    follow::{End, Follower, Phase},
    judge::Snapshot,
    service::deployment,
    strategy::{FailureLimit, rolls_back},
};

/// The maximum number of calls of a poll.
const MAX_CALLS: u32 = 3;

impl Follower<'_> {
    /// Reads stopped tasks if there may be new ones: one call, if the poll has one left.
    pub(super) async fn read_some_stopped(&mut self, snapshot: &Snapshot, changed: bool) {
        let mine = snapshot.service.as_ref().and_then(|service| deployment(service, &self.ours.id));
        // ECS may count a failure before it lists the task.
        let counted = mine.map_or(0, |mine| usize::try_from(mine.failed_tasks).unwrap_or(0));
        self.stopped.expect(changed, counted);
        if self.calls >= MAX_CALLS || !self.stopped.has_work() {
            return;
        }
        self.calls += 1;
        let target = self.target;
        self.stopped.read_some(&target.api, &self.ours.id, target.container()).await;
    }

    /// The number of failed tasks that fails the deployment.
    pub(super) fn failure_limit(&self, snapshot: &Snapshot) -> usize {
        FailureLimit::of(snapshot).tasks(self.target.options.fail_after.get(), self.most_running) as usize
    }

    /// Fails the deployment if enough tasks stopped for the same cause.
    pub(super) async fn check_stopped_tasks(&mut self, snapshot: &Snapshot, changed: bool) -> Option<End> {
        let limit = self.failure_limit(snapshot);
        let reason = format!("{limit} tasks stopped for the same reason");
        let ecs_rolls_back = self.observes && snapshot.service.as_ref().is_some_and(rolls_back);
        match self.phase {
            Phase::RollingBack | Phase::Stabilizing => return None,
            Phase::Deploying if self.failed && ecs_rolls_back => return None,
            Phase::Deploying if self.failed => return self.roll_back(snapshot, reason).await,
            Phase::Deploying | Phase::Restoring => {}
        }
        self.read_some_stopped(snapshot, changed).await;
        if !self.stopped.reach(limit) {
            return None;
        }
        if self.phase == Phase::Restoring {
            return Some(self.rollback_failed(snapshot, &reason));
        }
        self.fail(snapshot, "", Cause::Unknown).await;
        if ecs_rolls_back { None } else { self.roll_back(snapshot, reason).await }
    }
}
