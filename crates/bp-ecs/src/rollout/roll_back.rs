//! Rollback of a failed deployment: StopServiceDeployment, otherwise UpdateService to the recorded revision.

use bp_artifact::{
    deploy::{Revision, run::Ended},
    error::Classified,
};
use tokio::time::Instant;

use super::{
    apply::Applied,
    follow::{End, Follower, Phase},
    judge::Snapshot,
    service::primary,
};
use crate::{error::Error, names::name_of};

impl Follower<'_> {
    pub(super) fn enter_rollback(&mut self, to: Option<Revision>) {
        if matches!(self.phase, Phase::Deploying | Phase::Stabilizing) {
            self.phase = Phase::RollingBack;
            self.began = Instant::now();
            if let Some(run) = &mut self.run {
                run.rolling_back(to);
            }
        }
    }

    /// Rolls back with StopServiceDeployment; if that is rejected, deploys the recorded rollback revision. Transient
    /// errors are retried after the next poll.
    pub(super) async fn roll_back(&mut self, snapshot: &Snapshot, reason: String) -> Option<End> {
        let Some(to) = self.rollback_to.clone() else {
            return Some(self.end(snapshot, Ended::FailedInPlace, reason));
        };
        self.failure.get_or_insert_with(|| reason.clone());
        let is_transient =
            |error: &Error| error.is_retryable() || matches!(error, Error::NoCredentials { .. });
        let target = self.target;
        if let (Some(arn), None) = (&self.ours.arn, &self.not_stopped) {
            match target.api.stop_and_roll_back(arn).await {
                Ok(()) => {
                    self.enter_rollback(Some(to));
                    return None;
                }
                Err(error) if is_transient(&error) => return None,
                // Too late, not supported, or denied: the next poll shows whether ECS rolled back by itself.
                Err(error) => {
                    let why = error.in_one_line();
                    self.reporter
                        .notice(format!("cannot be stopped, deploying {} instead: {why}", to.short_id()));
                    self.not_stopped = Some(why);
                    return None;
                }
            }
        }
        let service = snapshot.service.as_ref()?;
        match target.apply(service, &to.id, false, self.phase_deadline()).await {
            Ok(Applied::Started(ours, _)) => {
                self.enter_rollback(Some(to));
                self.phase = Phase::Restoring;
                self.follow_instead(ours);
                None
            }
            // The next poll judges it.
            Ok(Applied::Replaced(_) | Applied::Gone(_))
            | Err(Error::ServiceNotActive { .. } | Error::ServiceNotFound { .. }) => None,
            Ok(Applied::Unknown(why)) => {
                let detail = format!("{reason}; {why}; run the same command again to resume");
                Some(self.end(snapshot, Ended::Unobserved, detail))
            }
            Err(error) if is_transient(&error) => {
                self.not_stopped
                    .get_or_insert_with(|| "ecs:StopServiceDeployment was not available".to_owned());
                None
            }
            Err(error) => Some(self.rollback_failed(snapshot, &error.in_one_line())),
        }
    }

    /// The end after a rollback: why, what is restored, and how.
    pub(super) fn rolled_back(&self, snapshot: &Snapshot, reason: &str) -> End {
        let why = self.failure.as_deref().filter(|failure| !reason.contains(failure));
        let to = self.rollback_to.as_ref().map_or("the previous revision", Revision::short_id);
        let how = match (&self.phase, &self.not_stopped) {
            (Phase::Restoring, Some(why)) => format!("restored {to} with ecs:UpdateService ({why})"),
            (Phase::Restoring, None) => {
                format!("restored {to} with ecs:UpdateService (the service deployment is not listed)")
            }
            (Phase::Deploying | Phase::Stabilizing | Phase::RollingBack, _) => format!("ECS restored {to}"),
        };
        let parts = [why.unwrap_or_default(), reason, &how];
        let parts: Vec<&str> = parts.into_iter().filter(|part| !part.is_empty()).collect();
        self.end(snapshot, Ended::RolledBack, parts.join("; "))
    }

    /// The end of a restore that ECS rolled back, at the request of another client or by itself: the last completed
    /// revision runs, which is the one to restore or the failed one.
    pub(super) fn restore_rolled_back(&mut self, snapshot: &Snapshot, reason: &str) -> End {
        let running = snapshot.service.as_ref().and_then(primary);
        let running = running.and_then(|primary| primary.task_definition.as_deref()).unwrap_or_default();
        if running == self.ours.definition {
            self.phase = Phase::RollingBack;
            return self.rolled_back(snapshot, reason);
        }
        let reason = if reason.is_empty() { "ECS states no reason" } else { reason };
        self.rollback_failed(snapshot, &format!("{reason}; ECS returned to {}", name_of(running)))
    }

    /// The end after a rollback that failed.
    pub(super) fn rollback_failed(&self, snapshot: &Snapshot, reason: &str) -> End {
        let to = self.rollback_to.as_ref().map_or("the previous revision", Revision::short_id);
        let failure = self.failure.as_deref().map(|failure| format!("{failure}; ")).unwrap_or_default();
        let reason = if reason.is_empty() { "ECS states no reason" } else { reason };
        let detail = format!("{failure}the rollback to {to} failed: {reason}");
        self.end(snapshot, Ended::RollbackFailed, detail)
    }
}
