//! Following one deployment to its end, and going back when it fails.

use std::{pin::pin, time::Duration};

use aws_sdk_ecs::{primitives::DateTime, types::Service};
use bp_artifact::{
    deploy::{
        Cause, Progress, Reporter, Revision,
        run::{Ended, Run},
    },
    error::Classified,
};
use futures_util::future::{Either, select};
use tokio::time::Instant;

use super::{
    ServiceRollout,
    apply::Applied,
    diagnose::Stopped,
    judge::{Standing, View, judge},
    patience::Patience,
    service::{Followed, deployment},
    strategy::{baking, needed},
};
use crate::{error::Error, names::name_of};

/// How long taking back a deployment at its deadline may take to begin.
const GRACE: Duration = Duration::from_secs(60);
/// How long a new service deployment may take to be listed.
const LISTING: Duration = Duration::from_secs(15);
/// Clocks may differ by this much between the parts of ECS.
const SLACK: i64 = 60;

/// How it ended.
#[derive(Debug)]
pub(crate) struct End {
    /// `None` when ECS calls it successful, which is still to be proven.
    pub(crate) ended: Option<Ended>,
    /// The platform's own word.
    pub(crate) detail: String,
    /// The service as it was seen last.
    pub(crate) service: Option<Service>,
    /// When what is left to do has to be done.
    pub(crate) deadline: Instant,
}

/// What we are at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Ours is being rolled out.
    Deploying,
    /// ECS is taking it back, by itself or because we asked.
    RollingBack,
    /// We are deploying the previous revision in its place.
    Restoring,
}

/// Follows one deployment.
pub(crate) struct Follower<'a> {
    pub(super) target: &'a ServiceRollout,
    pub(super) reporter: Reporter,
    /// Our own run. A deployment of somebody else's, which we wait for, has none.
    pub(super) run: Option<&'a mut Run>,
    pub(super) ours: Followed,
    /// Whether it was under way when we came.
    adopted: bool,
    /// Where to go back to on failure; `None` when we are not to.
    back_to: Option<Revision>,
    phase: Phase,
    began: Instant,
    /// The caller's deadline, and the time that the service's own strategy asks for on top.
    deadline: Duration,
    /// Whether it was seen to fail.
    pub(super) failed: bool,
    pub(super) stopped: Vec<Stopped>,
    /// Why the stopped tasks could not be read.
    pub(super) blind: Option<String>,
    /// Whether ECS could not be asked to go back.
    stop_refused: bool,
    seen: Seen,
}

/// What was told and looked at already.
#[derive(Debug, Default, PartialEq)]
struct Seen {
    newest_event: Option<String>,
    failures: (i32, i32),
    running: bool,
}

impl<'a> Follower<'a> {
    /// Follows `ours`. `service` is what was seen before it began: its events are old.
    pub(crate) fn of(
        target: &'a ServiceRollout,
        run: &'a mut Run,
        ours: Followed,
        service: &Service,
        back_to: Option<Revision>,
    ) -> Self {
        let back_to = back_to.filter(|revision| revision.id != ours.definition);
        let reporter = Reporter::clone(run);
        Follower { run: Some(run), back_to, ..Self::of_others(target, &reporter, ours, service) }
    }

    /// Follows a deployment of somebody else's.
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
            back_to: None,
            ours,
            adopted: false,
            phase: Phase::Deploying,
            began: Instant::now(),
            deadline: target.options.deadline.saturating_add(baking(service)),
            failed: false,
            stopped: Vec::new(),
            blind: None,
            stop_refused: false,
            seen: Seen { newest_event, ..Seen::default() },
        }
    }

    /// The same, for a deployment that somebody began before.
    pub(crate) fn adopted(self, adopted: bool) -> Self {
        Follower { adopted, ..self }
    }

    /// The same, at most until then.
    pub(crate) fn until(self, deadline: Instant) -> Self {
        Follower { deadline: deadline.saturating_duration_since(self.began), ..self }
    }

    /// Looks again and again, until the deployment has ended, the deadline has passed or the caller has gone: then, also
    /// in the middle of a call, says what goes on. What can no longer be observed is an end too: the deployment
    /// continues without us.
    pub(crate) async fn run(mut self) -> Result<End, Error> {
        match self.until_cancelled().await {
            Err(error @ Error::Interrupted { .. }) => Err(error),
            Err(error) => Ok(self.out_of_sight(&error)),
            Ok(end) => Ok(end),
        }
    }

    /// The same for a deployment of somebody else's: what cannot be observed is an error.
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
        let mut patience = Patience::default();
        loop {
            let view = match self.look().await {
                Ok(view) => {
                    patience.answered();
                    if let Some(end) = self.act(&view).await {
                        return Ok(end);
                    }
                    Some(view)
                }
                Err(error) if patience.is_over(&error, self.end_of_time()) => return Err(error),
                Err(error) => {
                    tracing::warn!(%error, "failed to poll the deployment, retrying");
                    None
                }
            };
            let now = Instant::now();
            if let Some(view) = view.filter(|_| now >= self.end_of_time())
                && let Some(end) = self.out_of_time(&view).await
            {
                return Ok(end);
            }
            let (calm, cluster) = (self.seen.running, &self.target.api.cluster);
            let (next, end) = (cluster.next_look(calm, self.target.options.pause(calm)), self.end_of_time());
            tokio::time::sleep_until(if now < end { next.min(end) } else { next }).await;
        }
    }

    /// When the present phase has to be over.
    fn end_of_time(&self) -> Instant {
        bp_artifact::time::after(self.began, self.deadline)
    }

    /// Two calls: the service, and the service deployment (listed first, until it is known).
    async fn look(&mut self) -> Result<View, Error> {
        let api = &self.target.api;
        let service = api.find_service().await?;
        if service.is_some() && self.ours.arn.is_none() {
            let after = self.ours.created_at.map(|at| DateTime::from_secs(at.secs() - SLACK));
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
        Ok(View { service, deployment, unlisted })
    }

    /// Tells what is new and does what it calls for. An end, if it is one.
    async fn act(&mut self, view: &View) -> Option<End> {
        let moved = self.tell(view);
        let standing = judge(&self.ours, view);
        tracing::debug!(deployment = %self.ours.id, ?standing, "looked");
        match standing {
            // Nothing is done about what belongs to somebody else, and it may pause and fail as long as it likes.
            Standing::Going
            | Standing::Unknown(_)
            | Standing::AwaitingApproval { .. }
            | Standing::RollingBack { .. }
                if self.run.is_none() =>
            {
                None
            }
            Standing::Going | Standing::Unknown(_) => self.go_on(view, moved).await,
            Standing::Done { steady } => Some(self.done(view, steady)),
            Standing::Failed(reason) if self.phase == Phase::Restoring => {
                Some(self.end(view, Ended::RollbackFailed, reason))
            }
            Standing::Failed(reason) => {
                self.fail(view, &reason, Cause::Unknown).await;
                self.go_back(view, reason).await
            }
            Standing::RollingBack { reason } => {
                self.fail(view, &reason, Cause::Unknown).await;
                self.enter_rollback(self.back_to.clone());
                None
            }
            Standing::RolledBack { reason } => {
                self.fail(view, &reason, Cause::Unknown).await;
                Some(self.end(view, Ended::RolledBack, reason))
            }
            Standing::RollbackFailed { reason } => {
                self.fail(view, &reason, Cause::Unknown).await;
                Some(self.end(view, Ended::RollbackFailed, reason))
            }
            Standing::Stopped { reason } => Some(self.end(view, Ended::Stopped, reason)),
            Standing::Superseded { .. } if self.is_replaced_by_its_like(view) => None,
            Standing::Superseded { by } => {
                Some(self.end(view, Ended::Superseded, format!("{by} took its place")))
            }
            Standing::Gone { status } => {
                Some(self.end(view, Ended::Gone, format!("the service is {status}")))
            }
            Standing::AwaitingApproval { hook, stage, expires, otherwise } => {
                let (expires, otherwise) =
                    (expires.unwrap_or_else(|| "no time".into()), otherwise.unwrap_or_else(|| "?".into()));
                let detail = format!("{stage}: hook {hook} awaits an answer; at {expires} it is {otherwise}");
                Some(self.end(view, Ended::AwaitingApproval, detail))
            }
        }
    }

    /// Whether somebody started a deployment of the same definition in place of ours, as a forced one: it is followed.
    fn is_replaced_by_its_like(&mut self, view: &View) -> bool {
        let like = view.service.as_ref().and_then(Followed::primary);
        let Some(like) =
            like.filter(|like| self.phase != Phase::RollingBack && like.definition == self.ours.definition)
        else {
            return false;
        };
        self.reporter.notice(format!("{} of the same revision took the place of {}", like.id, self.ours.id));
        (self.ours, self.stopped) = (like, Vec::new());
        true
    }

    fn done(&mut self, view: &View, steady: bool) -> End {
        let ended = match self.phase {
            Phase::Deploying => None,
            Phase::RollingBack | Phase::Restoring => Some(Ended::RolledBack),
        };
        self.end(view, ended, if steady { "steady" } else { "successful" }.into())
    }

    fn end(&self, view: &View, ended: impl Into<Option<Ended>>, detail: String) -> End {
        End { ended: ended.into(), detail, service: view.service.clone(), deadline: self.end_of_time() }
    }

    /// The deadline has passed. A deployment with a visible reason has failed and is taken back; one without continues.
    async fn out_of_time(&mut self, view: &View) -> Option<End> {
        let reason = format!("not done after {} s", self.deadline.as_secs());
        if self.phase == Phase::Deploying && self.run.is_some() {
            self.fail(view, &reason, Cause::NoProgress).await;
        }
        let failure = self.run.as_ref().and_then(|run| run.outcome().failure.as_ref());
        let is_explained = failure.is_some_and(|f| !matches!(f.cause, Cause::NoProgress | Cause::Unknown));
        let is_late = Instant::now() >= bp_artifact::time::after(self.end_of_time(), GRACE);
        if self.phase == Phase::Deploying && is_explained && self.back_to.is_some() && !is_late {
            return self.go_back(view, reason).await;
        }
        Some(self.end(view, Ended::DeadlineExceeded, format!("{reason}; it continues in ECS")))
    }

    /// The end of watching a deployment that goes on and can no longer be observed.
    fn out_of_sight(&mut self, error: &Error) -> End {
        let (id, definition) = (&self.ours.id, name_of(&self.ours.definition));
        let begun = if self.adopted { "followed" } else { "started" };
        let state = match (self.phase, self.failed) {
            (Phase::Deploying, false) => format!("{begun} {id} ({definition}), which continues in ECS"),
            (Phase::Deploying, true) => {
                format!("{begun} {id} ({definition}), which fails and may not have been rolled back")
            }
            (Phase::RollingBack, _) => {
                format!("{id} ({definition}) failed and ECS continues to roll it back")
            }
            (Phase::Restoring, _) => {
                format!("started {id} to restore {definition} after a failure, which continues in ECS")
            }
        };
        let why = error.in_one_line();
        let detail = format!(
            "{state}; it could not be observed any longer: {why}; run the same command again to resume"
        );
        End { ended: Some(Ended::Unobserved), detail, service: None, deadline: self.end_of_time() }
    }

    /// Progress and new events. Whether anything moved that may be a failure.
    fn tell(&mut self, view: &View) -> bool {
        let Some(service) = &view.service else { return false };
        let new: Vec<_> = service
            .events()
            .iter()
            .take_while(|event| self.seen.newest_event.is_none() || event.id != self.seen.newest_event)
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
        progress.stage = self.stage(view).or(state).unwrap_or_default();
        self.reporter.progress(progress);
        let breaker = view.deployment.as_ref().and_then(|d| d.deployment_circuit_breaker.as_ref());
        let failures = (mine.map_or(0, |d| d.failed_tasks), breaker.map_or(0, |b| b.failure_count));
        let moved = !new.is_empty() || failures != self.seen.failures;
        self.seen.failures = failures;
        self.seen.running |= running > 0;
        if let Some(event) = service.events().first() {
            self.seen.newest_event = event.id.clone();
        }
        moved
    }

    /// The lifecycle stage, with the traffic that our revision gets.
    fn stage(&self, view: &View) -> Option<String> {
        let deployment = view.deployment.as_ref()?;
        let stage = deployment.lifecycle_stage.as_ref()?.as_str();
        let ours = deployment.target_service_revision.as_ref();
        let weights = ours.map(|r| (r.requested_test_traffic_weight, r.requested_production_traffic_weight));
        Some(match weights {
            Some((_, Some(production))) if production > 0.0 => format!("{stage}, {production}% of traffic"),
            Some((Some(test), _)) if test > 0.0 => format!("{stage}, {test}% of test traffic"),
            _ => stage.to_owned(),
        })
    }

    /// It goes on: but have enough tasks of one class failed?
    async fn go_on(&mut self, view: &View, moved: bool) -> Option<End> {
        let at_least = self.target.options.fail_after.get();
        let mine = view.service.as_ref().and_then(|service| deployment(service, &self.ours.id));
        let needed = needed(at_least, mine, view.deployment.as_ref()) as usize;
        let reason = format!("{needed} tasks stopped for the same reason");
        match self.phase {
            Phase::RollingBack => return None,
            Phase::Deploying if self.failed => return self.go_back(view, reason).await,
            Phase::Deploying | Phase::Restoring => {}
        }
        if moved {
            self.read_stopped().await;
        }
        let same = |cause| self.stopped.iter().filter(|stopped| stopped.cause == cause).count();
        if !self.stopped.iter().any(|stopped| same(stopped.cause) >= needed) {
            return None;
        }
        if self.phase == Phase::Restoring {
            return Some(self.end(view, Ended::RollbackFailed, reason));
        }
        self.fail(view, "", Cause::Unknown).await;
        self.go_back(view, reason).await
    }

    fn enter_rollback(&mut self, to: Option<Revision>) {
        if self.phase == Phase::Deploying {
            self.phase = Phase::RollingBack;
            self.began = Instant::now();
            if let Some(run) = &mut self.run {
                run.rolling_back(to);
            }
        }
    }

    /// Goes back: ECS is asked to; where it cannot, the revision that we noted is deployed. What may pass is tried again
    /// after the next look.
    async fn go_back(&mut self, view: &View, reason: String) -> Option<End> {
        let Some(to) = self.back_to.clone() else {
            return Some(self.end(view, Ended::FailedInPlace, reason));
        };
        let may_pass = |error: &Error| error.is_retryable() || matches!(error, Error::NoCredentials { .. });
        let target = self.target;
        if let (Some(arn), false) = (&self.ours.arn, self.stop_refused) {
            match target.api.stop_and_roll_back(arn).await {
                Ok(true) => {
                    self.enter_rollback(Some(to));
                    return None;
                }
                Err(error) if may_pass(&error) => return None,
                // Too late, not possible here, or not allowed: the next look tells whether ECS went back by itself.
                refused => {
                    if let Err(error) = refused {
                        tracing::warn!(%error, "cannot stop the deployment; restoring the recorded revision");
                    }
                    self.stop_refused = true;
                    return None;
                }
            }
        }
        let service = view.service.as_ref()?;
        match target.apply(service, &to.id, false, self.end_of_time()).await {
            Ok(Applied::Begun(ours, _)) => {
                self.enter_rollback(Some(to));
                self.phase = Phase::Restoring;
                (self.ours, self.stopped) = (ours, Vec::new());
                None
            }
            Ok(Applied::Unknown(why)) => {
                let detail = format!("{reason}; {why}; run the same command again to resume");
                Some(self.end(view, Ended::Unobserved, detail))
            }
            Err(error) if may_pass(&error) => {
                self.stop_refused = true;
                None
            }
            Err(error) => Some(self.end(view, Ended::RollbackFailed, error.in_one_line())),
        }
    }
}
