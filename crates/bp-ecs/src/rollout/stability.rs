//! Watch the tasks of a successful deployment for new failures.
//!
//! A task without a health check is healthy for ECS as soon as it runs: a deployment of a program that exits seconds
//! after its start succeeds.

use bp_artifact::deploy::Cause;
use tokio::time::Instant;

use super::{
    diagnose::timestamp,
    follow::{End, Follower, Phase, REPLACEMENT},
    judge::Snapshot,
    proof::Success,
    service::deployment,
    strategy::required_tasks,
};
use crate::error::Error;

impl Follower<'_> {
    /// When the deployment is stable, unless its tasks fail.
    pub(super) fn stable_at(&self) -> Instant {
        bp_artifact::time::after(self.began, self.target.options.stable_for)
    }

    /// Handles a poll of a successful deployment. Returns the end when the time has passed. New failures are a failure
    /// of the deployment if as many tasks as fail a rollout, or all of a smaller service, have failed. Fewer failed tasks
    /// are replaced, which is awaited for [`REPLACEMENT`].
    pub(super) async fn stabilize(
        &mut self,
        snapshot: &Snapshot,
        steady: bool,
        changed: bool,
    ) -> Option<End> {
        let api = &self.target.api;
        if self.phase != Phase::Stabilizing {
            // A task that ran when ECS reported success may have exited before this poll.
            let success = snapshot.deployment.as_ref().and_then(|d| d.finished_at).and_then(timestamp);
            self.stopped.count_from(api, success).await;
            self.at_success.clone_from(&snapshot.service);
            (self.phase, self.began, self.failed) = (Phase::Stabilizing, Instant::now(), false);
            self.not_stopped = Some("ECS had already reported success".to_owned());
            self.reporter.notice(format!(
                "successful; watching for failing tasks for {:?}",
                self.target.options.stable_for
            ));
            return None;
        }
        let mine = snapshot.service.as_ref().and_then(|service| deployment(service, &self.ours.id));
        let (running, desired) = mine.map_or((0, 0), |d| (d.running_count, d.desired_count));
        let required = snapshot.service.as_ref().map_or(0, required_tasks);
        let is_short = usize::try_from(running).unwrap_or(0) < required;
        let is_over = Instant::now() >= self.stable_at();
        if !self.failed {
            self.read_some_stopped(snapshot, changed || is_short || is_over).await;
        }
        if is_over && running == 0 && desired > 0 && self.stopped.failed.is_empty() {
            self.stopped.count_all();
        }
        let failures = self.stopped.failed.len();
        let all = usize::try_from(desired).unwrap_or(0).max(1);
        let threshold = all.min(self.failure_limit(snapshot));
        if self.failed || failures >= threshold {
            let word = if failures == 1 { "task" } else { "tasks" };
            let reason = format!("{failures} {word} failed after the deployment had succeeded");
            self.fail(snapshot, "", Cause::Unknown).await;
            return self.roll_back(snapshot, reason).await;
        }
        let is_read = self.stopped.is_read_since(self.stable_at()) || self.stopped.error.is_some();
        let is_being_replaced = failures > 0
            && is_short
            && Instant::now() < bp_artifact::time::after(self.stable_at(), REPLACEMENT);
        if !is_over || !is_read || is_being_replaced {
            return None;
        }
        let mut end = self.complete(snapshot, steady);
        if let Some(stopped) = self.stopped.failed.first() {
            let then = if is_short { "and has not been replaced" } else { "and was replaced" };
            end.detail = format!("{}; task {} failed {then}: {}", end.detail, stopped.task, stopped.cause);
        }
        if let Some(error) = &self.stopped.error {
            end.detail = format!("{}; failed tasks could not be read: {error}", end.detail);
        }
        Some(end)
    }

    /// The end of a successful deployment whose tasks can no longer be watched. `None` if it has not succeeded.
    pub(super) fn not_watched(&mut self, error: &Error) -> Option<End> {
        if self.phase != Phase::Stabilizing || self.failed {
            return None;
        }
        let detail =
            format!("successful; its tasks could not be watched after that: {}", error.in_one_line());
        let service = self.at_success.take();
        Some(End { ended: None, detail, service, deadline: self.phase_deadline(), success: None })
    }

    /// The success of the deployment.
    pub(super) fn success(&self, snapshot: &Snapshot) -> Option<Success> {
        let at = snapshot.deployment.as_ref().and_then(|deployment| deployment.finished_at);
        let services = [&self.at_success, &snapshot.service];
        let required = services.into_iter().flatten().map(required_tasks).min()?;
        Some(Success { at: at.and_then(timestamp), required })
    }
}
