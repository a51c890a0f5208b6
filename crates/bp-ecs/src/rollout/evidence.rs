//! Failure reports with evidence, collected before the rollback.

use aws_sdk_ecs::types::DesiredStatus;
use bp_artifact::deploy::{Cause, Evidence, EvidenceKind};

use super::{
    diagnose::{self, Stopped, report, timestamp},
    follow::Follower,
    judge::Snapshot,
};

/// The maximum number of starting tasks in a report.
const MAX_STARTING: usize = 5;

impl Follower<'_> {
    /// Reads our stopped tasks. If that fails, the failure report states the error.
    pub(super) async fn read_stopped(&mut self) {
        match self.target.api.tasks(DesiredStatus::Stopped).await {
            Ok(tasks) => {
                let ours = tasks.iter().filter(|t| t.started_by.as_deref() == Some(&self.ours.id));
                self.stopped = ours.filter_map(|t| Stopped::of(t, self.target.container())).collect();
                if let Some(success) = &self.success {
                    self.stopped.retain(|stopped| !success.failed_before.contains(&stopped.task));
                }
                self.task_list_error = None;
            }
            Err(error) => self.task_list_error = Some(error.to_string()),
        }
    }

    /// Reports the failure, once, before the rollback.
    pub(super) async fn fail(&mut self, snapshot: &Snapshot, reason: &str, otherwise: Cause) {
        if self.failed {
            return;
        }
        self.failed = true;
        self.read_stopped().await;
        let mut failure =
            report(&self.stopped, snapshot, self.ours.created_at.and_then(timestamp), reason, otherwise);
        #[cfg(feature = "logs")]
        if let Some(task) = diagnose::most_frequent(&self.stopped) {
            // The program's own output comes first.
            let lines = self.target.last_lines(&self.ours.definition, task).await;
            failure.evidence.splice(0..0, lines);
        }
        if otherwise == Cause::NoProgress {
            failure.evidence.extend(self.not_started().await);
        }
        if let Some(message) = self.task_list_error.clone() {
            failure.evidence.push(Evidence::new(EvidenceKind::Task, message).source("stopped tasks"));
        }
        match &mut self.run {
            Some(run) => run.failing(failure),
            None => {
                self.reporter.notice(format!("another deployment, {}, is failing: {failure}", self.ours.id))
            }
        }
    }

    /// Our tasks that are still starting, which a deployment without a failure waits for.
    async fn not_started(&self) -> Vec<Evidence> {
        let tasks = self.target.api.tasks(DesiredStatus::Running).await.unwrap_or_default();
        let ours = tasks.iter().filter(|task| task.started_by.as_deref() == Some(&self.ours.id));
        let starting = ours.filter(|task| task.last_status.as_deref() != Some("RUNNING"));
        starting.take(MAX_STARTING).map(diagnose::starting).collect()
    }
}
