//! Follow a deployment to its end by polling, and roll back when it fails.

use std::{pin::pin, time::Duration};

use aws_sdk_ecs::{primitives::DateTime, types::Service};
use bp_artifact::{
    deploy::{
        Cause, Progress, Reporter, Revision,
        run::{Ended, Run},
    },
    error::Classified,
    text::SingleLine,
};
use futures_util::future::{Either, select};
use tokio::time::Instant;

use super::{
    ServiceRollout,
    apply::Applied,
    diagnose::Stopped,
    judge::{Judgement, Snapshot, judge},
    retry::RetryBudget,
    service::{Followed, deployment},
    stability::Success,
    strategy::{bake_time, failure_threshold, rolls_back},
};
use crate::{error::Error, names::name_of};

/// How long after the deadline a rollback may still be started.
const GRACE: Duration = Duration::from_secs(60);
/// How long a new service deployment may take to be listed.
const LISTING: Duration = Duration::from_secs(15);
/// The maximum clock skew between parts of ECS, in seconds.
const CLOCK_SKEW: i64 = 60;

/// The end of a followed deployment.
#[derive(Debug)]
pub(crate) struct End {
    /// `None` when ECS reports success, which is then verified by the running digests.
    pub(crate) ended: Option<Ended>,
    /// The reason from ECS.
    pub(crate) detail: String,
    /// The service as of the last poll.
    pub(crate) service: Option<Service>,
    /// The deadline of the remaining work.
    pub(crate) deadline: Instant,
}

/// The phase of the rollout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// The new revision is being rolled out.
    Deploying,
    /// ECS reports success; the tasks are watched for new failures.
    Stabilizing,
    /// ECS is rolling back, on its own or at our request.
    RollingBack,
    /// We are deploying the rollback revision with UpdateService.
    Restoring,
}

/// Follows one deployment.
pub(crate) struct Follower<'a> {
    pub(super) target: &'a ServiceRollout,
    pub(super) reporter: Reporter,
    /// Our run; `None` while waiting for another deployment.
    pub(super) run: Option<&'a mut Run>,
    pub(super) ours: Followed,
    /// Whether it was already in progress.
    adopted: bool,
    /// Whether nothing is changed, so that a rollback by ECS is awaited.
    observes: bool,
    /// The rollback revision; `None` if a failure is not rolled back.
    rollback_to: Option<Revision>,
    pub(super) phase: Phase,
    pub(super) began: Instant,
    /// The caller's deadline plus the bake time of the service's strategy.
    deadline: Duration,
    /// Whether a failure was reported.
    pub(super) failed: bool,
    pub(super) stopped: Vec<Stopped>,
    /// Why the stopped tasks could not be read.
    pub(super) task_list_error: Option<String>,
    /// Whether StopServiceDeployment was rejected, or is too late.
    pub(super) stop_rejected: bool,
    /// Whether it was observed before its success.
    seen_in_progress: bool,
    /// The service when it succeeded, and the tasks that had failed before.
    pub(super) success: Option<Success>,
    reported: Reported,
}

/// The state that was already reported.
#[derive(Debug, Default, PartialEq)]
struct Reported {
    newest_event: Option<String>,
    failures: (i32, i32),
    running: bool,
}

impl<'a> Follower<'a> {
    /// Follows `ours`. `service` is the service before its start: its events belong to earlier deployments.
    pub(crate) fn of(
        target: &'a ServiceRollout,
        run: &'a mut Run,
        ours: Followed,
        service: &Service,
        rollback_to: Option<Revision>,
    ) -> Self {
        let rollback_to = rollback_to.filter(|revision| revision.id != ours.definition);
        let reporter = Reporter::clone(run);
        Follower { run: Some(run), rollback_to, ..Self::of_others(target, &reporter, ours, service) }
    }

    /// Follows a deployment of another client.
    pub(crate) fn of_others(
        target: &'a ServiceRollout,
        reporter: &Reporter,
        ours: Followed,
        service: &Service,
    ) -> Self {
        let newest_event = service.events().first().and_then(|e| e.id.clone());
        Follower {
            target,
            reporter: reporter.clone(),
            run: None,
            rollback_to: None,
            ours,
            adopted: false,
            observes: false,
            phase: Phase::Deploying,
            began: Instant::now(),
            deadline: target.options.deadline.saturating_add(bake_time(service)),
            failed: false,
            stopped: Vec::new(),
            task_list_error: None,
            stop_rejected: false,
            seen_in_progress: false,
            success: None,
            reported: Reported { newest_event, ..Reported::default() },
        }
    }

    /// Sets whether the deployment was already in progress.
    pub(crate) fn adopted(self, adopted: bool) -> Self {
        Follower { adopted, ..self }
    }

    /// Sets whether the deployment is only observed.
    pub(crate) fn observing(self, observes: bool) -> Self {
        Follower { observes, ..self }
    }

    /// Limits the follower to `deadline`.
    pub(crate) fn until(self, deadline: Instant) -> Self {
        Follower { deadline: deadline.saturating_duration_since(self.began), ..self }
    }

    /// Polls until the deployment has ended, the deadline has passed or the caller has cancelled; cancellation, also
    /// during a call, returns an error with the deployment that continues. If it can no longer be observed, that is an
    /// end too.
    pub(crate) async fn run(mut self) -> Result<End, Error> {
        match self.until_cancelled().await {
            Err(error @ Error::Interrupted { .. }) => Err(error),
            Err(error) => Ok(self.not_watched(&error).unwrap_or_else(|| self.unobserved(&error))),
            Ok(end) => Ok(end),
        }
    }

    /// As [`run`](Self::run), for a deployment of another client: if it cannot be observed, returns an error.
    pub(crate) async fn wait(mut self) -> Result<End, Error> {
        self.until_cancelled().await
    }

    async fn until_cancelled(&mut self) -> Result<End, Error> {
        let (reporter, deployment) = (self.reporter.clone(), Some(self.ours.id.clone()));
        match select(pin!(self.follow()), pin!(reporter.cancelled())).await {
            Either::Left((end, _)) => end,
            Either::Right(_) => Err(Error::Interrupted { deployment }),
        }
    }

    async fn follow(&mut self) -> Result<End, Error> {
        let mut retries = RetryBudget::default();
        loop {
            let snapshot = match self.poll().await {
                Ok(snapshot) => {
                    retries.succeeded();
                    if let Some(end) = self.act(&snapshot).await {
                        return Ok(end);
                    }
                    Some(snapshot)
                }
                Err(error) if retries.is_exhausted(&error, self.phase_deadline()) => return Err(error),
                Err(error) => {
                    tracing::warn!(error = %SingleLine(&error), "failed to poll the deployment, retrying");
                    None
                }
            };
            let now = Instant::now();
            if let Some(snapshot) = snapshot.filter(|_| now >= self.phase_deadline())
                && let Some(end) = self.deadline_passed(&snapshot).await
            {
                return Ok(end);
            }
            let (slow, cluster) = (self.reported.running, &self.target.api.cluster);
            let (next, end) = (cluster.next_poll(slow, self.target.options.pause(slow)), self.next_end());
            tokio::time::sleep_until(if now < end { next.min(end) } else { next }).await;
        }
    }

    /// The deadline of the current phase.
    pub(super) fn phase_deadline(&self) -> Instant {
        match self.phase {
            Phase::Stabilizing => bp_artifact::time::after(self.stable_at(), GRACE),
            Phase::Deploying | Phase::RollingBack | Phase::Restoring => {
                bp_artifact::time::after(self.began, self.deadline)
            }
        }
    }

    /// When to poll at the latest.
    fn next_end(&self) -> Instant {
        if self.phase == Phase::Stabilizing { self.stable_at() } else { self.phase_deadline() }
    }

    /// Two calls: the service, and the service deployment (listed until its ARN is known).
    async fn poll(&mut self) -> Result<Snapshot, Error> {
        let api = &self.target.api;
        let service = api.find_service().await?;
        if service.is_some() && self.ours.arn.is_none() {
            let after = self.ours.created_at.map(|at| DateTime::from_secs(at.secs() - CLOCK_SKEW));
            let number = name_of(&self.ours.id);
            let mut listed = api.deployments(&[], after).await?.into_iter();
            let ours = listed.find(|d| d.target_service_revision_arn.as_deref().map(name_of) == Some(number));
            self.ours.arn = ours.and_then(|d| d.service_deployment_arn);
        }
        let deployment = match &self.ours.arn {
            Some(arn) if service.is_some() => api.deployment(arn).await?,
            _ => None,
        };
        let unlisted = self.ours.arn.is_none() && self.began.elapsed() >= LISTING;
        Ok(Snapshot { service, deployment, unlisted })
    }

    /// Reports changes and handles the judgement of a poll. Returns the end, if it is one.
    async fn act(&mut self, snapshot: &Snapshot) -> Option<End> {
        let changed = self.report_changes(snapshot);
        let judgement = judge(&self.ours, snapshot);
        tracing::debug!(deployment = %self.ours.id, ?judgement, "polled deployment");
        match judgement {
            // A deployment of another client is only observed.
            Judgement::InProgress
            | Judgement::Unknown(_)
            | Judgement::AwaitingApproval { .. }
            | Judgement::RollingBack { .. }
                if self.run.is_none() =>
            {
                None
            }
            Judgement::InProgress | Judgement::Unknown(_) => {
                self.seen_in_progress = true;
                self.check_stopped_tasks(snapshot, changed).await
            }
            Judgement::Complete { steady } if self.must_stabilize() => {
                self.stabilize(snapshot, steady, changed).await
            }
            Judgement::Complete { steady } => Some(self.complete(snapshot, steady)),
            Judgement::Failed(reason) if self.phase == Phase::Restoring => {
                Some(self.end(snapshot, Ended::RollbackFailed, reason))
            }
            Judgement::Failed(reason) => {
                self.fail(snapshot, &reason, Cause::Unknown).await;
                self.roll_back(snapshot, reason).await
            }
            Judgement::RollingBack { reason } => {
                self.fail(snapshot, &reason, Cause::Unknown).await;
                self.enter_rollback(self.rollback_to.clone());
                None
            }
            Judgement::RolledBack { reason } => {
                self.fail(snapshot, &reason, Cause::Unknown).await;
                Some(self.end(snapshot, Ended::RolledBack, reason))
            }
            Judgement::RollbackFailed { reason } => {
                self.fail(snapshot, &reason, Cause::Unknown).await;
                Some(self.end(snapshot, Ended::RollbackFailed, reason))
            }
            Judgement::Stopped { reason } => Some(self.end(snapshot, Ended::Stopped, reason)),
            Judgement::Superseded { .. } if self.follow_replacement(snapshot) => None,
            Judgement::Superseded { by } => {
                Some(self.end(snapshot, Ended::Superseded, format!("replaced by {by}")))
            }
            Judgement::Gone { status } => {
                Some(self.end(snapshot, Ended::Gone, format!("the service is {status}")))
            }
            Judgement::AwaitingApproval { hook, stage, expires, otherwise } => {
                let (expires, otherwise) = (
                    expires.unwrap_or_else(|| "unknown time".into()),
                    otherwise.unwrap_or_else(|| "?".into()),
                );
                let detail =
                    format!("{stage}: hook {hook} awaits approval; timeout action {otherwise} at {expires}");
                Some(self.end(snapshot, Ended::AwaitingApproval, detail))
            }
        }
    }

    /// Follows a deployment of the same definition that replaced ours, such as a forced one. `false` if it is
    /// different.
    fn follow_replacement(&mut self, snapshot: &Snapshot) -> bool {
        let replacement = snapshot.service.as_ref().and_then(Followed::primary);
        let Some(replacement) = replacement.filter(|replacement| {
            self.phase != Phase::RollingBack && replacement.definition == self.ours.definition
        }) else {
            return false;
        };
        self.reporter.notice(format!("{} of the same revision replaced {}", replacement.id, self.ours.id));
        (self.ours, self.stopped) = (replacement, Vec::new());
        true
    }

    /// Whether the tasks are watched after the success: not for a deployment that had succeeded before it was found.
    fn must_stabilize(&self) -> bool {
        let is_new = self.seen_in_progress || !self.adopted;
        match self.phase {
            Phase::Deploying => self.run.is_some() && is_new && !self.target.options.stable_for.is_zero(),
            Phase::Stabilizing => true,
            Phase::RollingBack | Phase::Restoring => false,
        }
    }

    pub(super) fn complete(&mut self, snapshot: &Snapshot, steady: bool) -> End {
        let ended = match self.phase {
            Phase::Deploying | Phase::Stabilizing => None,
            Phase::RollingBack | Phase::Restoring => Some(Ended::RolledBack),
        };
        self.end(snapshot, ended, if steady { "steady" } else { "successful" }.into())
    }

    fn end(&self, snapshot: &Snapshot, ended: impl Into<Option<Ended>>, detail: String) -> End {
        End {
            ended: ended.into(),
            detail,
            service: snapshot.service.clone(),
            deadline: self.phase_deadline(),
        }
    }

    /// Handles the deadline: a deployment with a known failure cause is rolled back; any other continues in ECS.
    async fn deadline_passed(&mut self, snapshot: &Snapshot) -> Option<End> {
        let reason = format!("not complete after {} s", self.deadline.as_secs());
        if self.phase == Phase::Deploying && self.run.is_some() {
            self.fail(snapshot, &reason, Cause::NoProgress).await;
        }
        let failure = self.run.as_ref().and_then(|run| run.outcome().failure.as_ref());
        let is_explained = failure.is_some_and(|f| !matches!(f.cause, Cause::NoProgress | Cause::Unknown));
        let is_late = Instant::now() >= bp_artifact::time::after(self.phase_deadline(), GRACE);
        if self.phase == Phase::Deploying && is_explained && self.rollback_to.is_some() && !is_late {
            return self.roll_back(snapshot, reason).await;
        }
        Some(self.end(
            snapshot,
            Ended::DeadlineExceeded,
            format!("{reason}; the deployment continues in ECS"),
        ))
    }

    /// The end for a deployment that continues and can no longer be observed.
    fn unobserved(&mut self, error: &Error) -> End {
        let (id, definition) = (&self.ours.id, name_of(&self.ours.definition));
        let started = if self.adopted { "followed" } else { "started" };
        let state = match (self.phase, self.failed) {
            (Phase::Deploying | Phase::Stabilizing, false) => {
                format!("{started} {id} ({definition}), which continues in ECS")
            }
            (Phase::Deploying | Phase::Stabilizing, true) => {
                format!("{started} {id} ({definition}), which is failing and may not have been rolled back")
            }
            (Phase::RollingBack, _) => {
                format!("{id} ({definition}) failed and ECS continues to roll it back")
            }
            (Phase::Restoring, _) => {
                format!("started {id} to restore {definition} after a failure, which continues in ECS")
            }
        };
        let reason = error.in_one_line();
        let detail = format!(
            "{state}; it could not be observed any longer: {reason}; run the same command again to resume"
        );
        End { ended: Some(Ended::Unobserved), detail, service: None, deadline: self.phase_deadline() }
    }

    /// Reports progress and new events. Returns whether a change may indicate a failure.
    fn report_changes(&mut self, snapshot: &Snapshot) -> bool {
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
        progress.desired = count(mine.map_or(service.desired_count, |d| d.desired_count));
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
        self.reported.running |= running > 0;
        if let Some(event) = service.events().first() {
            self.reported.newest_event = event.id.clone();
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

    /// Fails the deployment if enough tasks stopped for the same cause.
    async fn check_stopped_tasks(&mut self, snapshot: &Snapshot, changed: bool) -> Option<End> {
        let at_least = self.target.options.fail_after.get();
        let mine = snapshot.service.as_ref().and_then(|service| deployment(service, &self.ours.id));
        let threshold = failure_threshold(at_least, mine, snapshot.deployment.as_ref()) as usize;
        let reason = format!("{threshold} tasks stopped for the same reason");
        let ecs_rolls_back = self.observes && snapshot.service.as_ref().is_some_and(rolls_back);
        match self.phase {
            Phase::RollingBack | Phase::Stabilizing => return None,
            Phase::Deploying if self.failed && ecs_rolls_back => return None,
            Phase::Deploying if self.failed => return self.roll_back(snapshot, reason).await,
            Phase::Deploying | Phase::Restoring => {}
        }
        if changed {
            self.read_stopped().await;
        }
        let same = |cause| self.stopped.iter().filter(|stopped| stopped.cause == cause).count();
        if !self.stopped.iter().any(|stopped| same(stopped.cause) >= threshold) {
            return None;
        }
        if self.phase == Phase::Restoring {
            return Some(self.end(snapshot, Ended::RollbackFailed, reason));
        }
        self.fail(snapshot, "", Cause::Unknown).await;
        if ecs_rolls_back { None } else { self.roll_back(snapshot, reason).await }
    }

    fn enter_rollback(&mut self, to: Option<Revision>) {
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
        let is_transient =
            |error: &Error| error.is_retryable() || matches!(error, Error::NoCredentials { .. });
        let target = self.target;
        if let (Some(arn), false) = (&self.ours.arn, self.stop_rejected) {
            match target.api.stop_and_roll_back(arn).await {
                Ok(true) => {
                    self.enter_rollback(Some(to));
                    return None;
                }
                Err(error) if is_transient(&error) => return None,
                // Too late, not supported, or denied: the next poll shows whether ECS rolled back by itself.
                rejected => {
                    if let Err(error) = rejected {
                        let error = SingleLine(&error);
                        tracing::warn!(%error, "failed to stop the deployment, updating the service");
                    }
                    self.stop_rejected = true;
                    return None;
                }
            }
        }
        let service = snapshot.service.as_ref()?;
        match target.apply(service, &to.id, false, self.phase_deadline()).await {
            Ok(Applied::Started(ours, _)) => {
                self.enter_rollback(Some(to));
                self.phase = Phase::Restoring;
                (self.ours, self.stopped) = (ours, Vec::new());
                None
            }
            Ok(Applied::Unknown(why)) => {
                let detail = format!("{reason}; {why}; run the same command again to resume");
                Some(self.end(snapshot, Ended::Unobserved, detail))
            }
            Err(error) if is_transient(&error) => {
                self.stop_rejected = true;
                None
            }
            Err(error) => Some(self.end(snapshot, Ended::RollbackFailed, error.in_one_line())),
        }
    }
}
