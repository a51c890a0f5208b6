//! Follow a deployment to its end by polling, and roll back when it fails.

use std::{pin::pin, time::Duration};

use aws_sdk_ecs::{primitives::DateTime, types::Service};
use bp_artifact::{
    deploy::{
        Cause, Reporter, Revision,
        run::{Ended, Run},
    },
    text::SingleLine,
};
use futures_util::future::{Either, select};
use tokio::time::Instant;

use super::{
    ServiceRollout,
    judge::{Judgement, Snapshot, judge},
    proof::Success,
    reported::Reported,
    retry::RetryBudget,
    service::{Followed, primary},
    stopped_tasks::StoppedTasks,
    strategy::bake_time,
};
use crate::{error::Error, names::name_of};

/// How long after the deadline a rollback may still be started.
const GRACE: Duration = Duration::from_secs(60);
/// How long after the watched time a task that failed in it may take to be replaced: start on Fargate, health checks.
pub(super) const REPLACEMENT: Duration = Duration::from_secs(120);
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
    /// When ECS reported success, if it did.
    pub(crate) success: Option<Success>,
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
    pub(super) observes: bool,
    /// The rollback revision; `None` if a failure is not rolled back.
    pub(super) rollback_to: Option<Revision>,
    pub(super) phase: Phase,
    pub(super) began: Instant,
    /// Since when `ours` is followed, in whatever phase.
    followed_since: Instant,
    /// The caller's deadline plus the bake time of the service's strategy.
    deadline: Duration,
    /// Whether a failure was reported.
    pub(super) failed: bool,
    /// Why the deployment failed, once it is rolled back.
    pub(super) failure: Option<String>,
    pub(super) stopped: StoppedTasks,
    /// The number of calls of the current poll.
    pub(super) calls: u32,
    /// The largest number of our tasks that ran at the same time.
    pub(super) most_running: i32,
    /// Why the deployment was not stopped, if StopServiceDeployment was rejected or is too late.
    pub(super) not_stopped: Option<String>,
    /// Whether the last poll returned a status that this version does not support.
    is_unknown: bool,
    /// Whether it was observed before its success.
    seen_in_progress: bool,
    /// The service when it succeeded.
    pub(super) at_success: Option<Service>,
    pub(super) reported: Reported,
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
            followed_since: Instant::now(),
            deadline: target.options.deadline.saturating_add(bake_time(service)),
            failed: false,
            failure: None,
            stopped: StoppedTasks::default(),
            calls: 0,
            most_running: 0,
            not_stopped: None,
            is_unknown: false,
            seen_in_progress: false,
            at_success: None,
            reported: Reported::after(newest_event),
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
            let (options, slow, end) = (&self.target.options, self.reported.running, self.next_end());
            let next = if self.stopped.has_unread() {
                bp_artifact::time::after(now, options.pause(false) / 4)
            } else {
                self.target.api.cluster.next_poll(slow, options.pause(slow))
            };
            tokio::time::sleep_until(if now < end { next.min(end) } else { next }).await;
        }
    }

    /// The deadline of the current phase.
    pub(super) fn phase_deadline(&self) -> Instant {
        match self.phase {
            Phase::Stabilizing => bp_artifact::time::after(self.stable_at(), REPLACEMENT + GRACE),
            Phase::Deploying | Phase::RollingBack | Phase::Restoring => {
                bp_artifact::time::after(self.began, self.deadline)
            }
        }
    }

    /// When to poll at the latest.
    fn next_end(&self) -> Instant {
        if self.phase == Phase::Stabilizing { self.stable_at() } else { self.phase_deadline() }
    }

    /// Two calls: the service, and the service deployment (a third, to list it, until its ARN is known).
    async fn poll(&mut self) -> Result<Snapshot, Error> {
        let api = &self.target.api;
        self.calls = 1;
        let service = api.find_service().await?;
        if service.is_some() && self.ours.arn.is_none() {
            self.calls += 1;
            let after = self.ours.created_at.map(|at| DateTime::from_secs(at.secs() - CLOCK_SKEW));
            let number = name_of(&self.ours.id);
            let mut listed = api.deployments(&[], after).await?.into_iter();
            let ours = listed.find(|d| d.target_service_revision_arn.as_deref().map(name_of) == Some(number));
            self.ours.arn = ours.and_then(|d| d.service_deployment_arn);
        }
        let deployment = match &self.ours.arn {
            Some(arn) if service.is_some() => {
                self.calls += 1;
                api.deployment(arn).await?
            }
            _ => None,
        };
        let unlisted = self.ours.arn.is_none() && self.followed_since.elapsed() >= LISTING;
        Ok(Snapshot { service, deployment, unlisted })
    }

    /// Reports changes and handles the judgement of a poll. Returns the end, if it is one.
    async fn act(&mut self, snapshot: &Snapshot) -> Option<End> {
        let judgement = judge(&self.ours, snapshot);
        // Its service events may already be about the rollback, which the failure precedes.
        if let Some(reason) = judgement.failure()
            && self.run.is_some()
            && self.phase != Phase::Restoring
        {
            self.fail(snapshot, reason, Cause::Unknown).await;
        }
        let changed = self.report_changes(snapshot);
        tracing::debug!(deployment = %self.ours.id, ?judgement, "polled deployment");
        self.is_unknown = matches!(judgement, Judgement::Unknown(_));
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
            // ECS returns from the revision that is being restored to the last completed one.
            Judgement::RollingBack { .. } if self.phase == Phase::Restoring => None,
            Judgement::RolledBack { reason } if self.phase == Phase::Restoring => {
                Some(self.restore_rolled_back(snapshot, &reason))
            }
            Judgement::Failed(reason) if self.phase == Phase::Restoring => {
                Some(self.rollback_failed(snapshot, &reason))
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
                Some(self.rolled_back(snapshot, &reason))
            }
            Judgement::RollbackFailed { reason } => {
                self.fail(snapshot, &reason, Cause::Unknown).await;
                Some(self.rollback_failed(snapshot, &reason))
            }
            Judgement::Stopped { reason } if reason.is_empty() => {
                Some(self.end(snapshot, Ended::Stopped, "ECS states no reason".to_owned()))
            }
            Judgement::Stopped { reason } => Some(self.end(snapshot, Ended::Stopped, reason)),
            Judgement::Superseded { .. } if self.follow_replacement(snapshot) => None,
            Judgement::Superseded { by } => {
                let theirs = snapshot.service.as_ref().and_then(primary);
                let theirs = theirs.and_then(|primary| primary.task_definition.as_deref()).map(name_of);
                let theirs = theirs.map(|name| format!(", which deploys {name}")).unwrap_or_default();
                Some(self.end(snapshot, Ended::Superseded, format!("replaced by {by}{theirs}")))
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
        if self.phase == Phase::Stabilizing {
            (self.phase, self.began, self.not_stopped) = (Phase::Deploying, Instant::now(), None);
        }
        self.follow_instead(replacement);
        true
    }

    /// Follows another deployment from here on.
    pub(super) fn follow_instead(&mut self, deployment: Followed) {
        (self.ours, self.stopped, self.most_running) = (deployment, StoppedTasks::default(), 0);
        self.followed_since = Instant::now();
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
        match self.phase {
            Phase::Deploying | Phase::Stabilizing => {
                let end = self.end(snapshot, None, if steady { "steady" } else { "successful" }.into());
                End { success: self.success(snapshot), ..end }
            }
            Phase::RollingBack | Phase::Restoring => self.rolled_back(snapshot, ""),
        }
    }

    pub(super) fn end(&self, snapshot: &Snapshot, ended: impl Into<Option<Ended>>, detail: String) -> End {
        End {
            ended: ended.into(),
            detail,
            service: snapshot.service.clone(),
            deadline: self.phase_deadline(),
            success: None,
        }
    }

    /// Handles the deadline: without a circuit breaker ECS never ends a deployment that makes no progress, so it is
    /// rolled back, unless the policy is to leave it. One whose status is not supported continues.
    async fn deadline_passed(&mut self, snapshot: &Snapshot) -> Option<End> {
        let reason = format!("not complete after {} s", self.deadline.as_secs());
        let deploying = self.phase == Phase::Deploying && self.run.is_some();
        if deploying {
            self.fail(snapshot, &reason, Cause::NoProgress).await;
        }
        let is_late = Instant::now() >= bp_artifact::time::after(self.phase_deadline(), GRACE);
        if deploying && self.rollback_to.is_some() && !self.is_unknown && !is_late {
            return self.roll_back(snapshot, reason).await;
        }
        let what = match self.phase {
            Phase::Deploying | Phase::Stabilizing => "the deployment",
            Phase::RollingBack | Phase::Restoring => "the rollback",
        };
        Some(self.end(snapshot, Ended::DeadlineExceeded, format!("{reason}; {what} continues in ECS")))
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
        let deadline = self.phase_deadline();
        End { ended: Some(Ended::Unobserved), detail, service: None, deadline, success: None }
    }
}
