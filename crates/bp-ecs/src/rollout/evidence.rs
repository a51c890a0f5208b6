//! The report of a failure: what can be read before anything is torn down.

use aws_sdk_ecs::types::DesiredStatus;
use bp_artifact::deploy::{Cause, Evidence, EvidenceKind};

use super::{
    diagnose::{self, Stopped, report, timestamp},
    follow::Follower,
    judge::View,
};

/// How many tasks that do not start are shown.
const SHOWN: usize = 5;

impl Follower<'_> {
    /// The tasks of ours that stopped. That they cannot be read is told in the report, and is no reason to give up.
    pub(super) async fn read_stopped(&mut self) {
        match self.target.api.tasks(DesiredStatus::Stopped).await {
            Ok(tasks) => {
                let ours = tasks.iter().filter(|t| t.started_by.as_deref() == Some(&self.ours.id));
                self.stopped = ours.filter_map(|t| Stopped::of(t, self.target.container())).collect();
                self.blind = None;
            }
            Err(error) => self.blind = Some(error.to_string()),
        }
    }

    /// Reports the failure, once, with what can be seen before anything is torn down.
    pub(super) async fn fail(&mut self, view: &View, reason: &str, otherwise: Cause) {
        if self.failed {
            return;
        }
        self.failed = true;
        self.read_stopped().await;
        let mut failure =
            report(&self.stopped, view, self.ours.created_at.and_then(timestamp), reason, otherwise);
        #[cfg(feature = "logs")]
        if let Some(worst) = diagnose::worst(&self.stopped) {
            // What the program itself said is the most telling.
            let lines = self.target.last_lines(&self.ours.definition, worst).await;
            failure.evidence.splice(0..0, lines);
        }
        if otherwise == Cause::NoProgress {
            failure.evidence.extend(self.not_started().await);
        }
        if let Some(message) = self.blind.clone() {
            failure.evidence.push(Evidence::new(EvidenceKind::Task, message).source("stopped tasks"));
        }
        match &mut self.run {
            Some(run) => run.failing(failure),
            None => self.reporter.notice(format!("{}, of somebody else, fails: {failure}", self.ours.id)),
        }
    }

    /// The tasks of ours that are still starting: what a deployment without a failure waits for.
    async fn not_started(&self) -> Vec<Evidence> {
        let tasks = self.target.api.tasks(DesiredStatus::Running).await.unwrap_or_default();
        let ours = tasks.iter().filter(|task| task.started_by.as_deref() == Some(&self.ours.id));
        let starting = ours.filter(|task| task.last_status.as_deref() != Some("RUNNING"));
        starting.take(SHOWN).map(diagnose::starting).collect()
    }
}
