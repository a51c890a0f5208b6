//! Follow a rollout until it ends: evaluate each change of the watched objects, report progress, events and logs.

use std::{collections::HashSet, time::Duration};

use bp_artifact::deploy::{Cause, Progress, Reporter};
use k8s_openapi::api::core::v1::Pod;
use tokio::time::{Instant, sleep_until};

use super::{
    api::WorkloadApi,
    judge::{Judgement, Snapshot, Tracked},
    logs::Tails,
    standstill::{Mark, Standstill},
    watches::Watches,
};
use crate::{
    api::{
        event::{is_warning, last_seen},
        symptom::Symptom,
        text::Text,
        watch_health::{WatchHealth, WatchNotice},
    },
    error::Error,
    options::LiveLogs,
};

/// The end of a followed rollout.
pub(super) enum End {
    /// Every pod to update is updated and available.
    Complete,
    /// The new pods fail.
    Failed(Symptom),
    /// The rollout was paused.
    Paused,
    /// Another client changed the image.
    Superseded(String),
    /// The workload was deleted.
    Gone,
    /// The deadline has passed while the rollout continues; with the most likely cause.
    OutOfTime(Option<Symptom>),
    /// The rollout can no longer be observed.
    Unobserved(Error),
}

/// Follows a rollout: its watches, and what was reported already.
pub(super) struct Follower<'f> {
    api: &'f WorkloadApi,
    reporter: &'f Reporter,
    pub(super) watches: Watches,
    health: WatchHealth,
    /// How long a refused watch is retried; zero before the first change.
    grace: Duration,
    reported: HashSet<String>,
    /// The uids of pods that this operation has deleted, which the watch may still show as they were.
    deleted: HashSet<String>,
    last: Option<Progress>,
    tails: Tails,
}

/// How long to wait for the last log lines of a Job that has ended, and of a container that failed.
const LAST_LINES: Duration = Duration::from_secs(1);
const FAILED_LINES: Duration = Duration::from_millis(500);

/// The number of changes after which the state is evaluated, even if more have arrived.
const BATCH: usize = 1_000;

/// Records the judgement; returns since when new pods are refused or cannot start.
fn observe(
    standstill: &mut Standstill,
    judgement: &Judgement,
    snapshot: &Snapshot,
    grace: Option<Duration>,
) -> Instant {
    let (progress, cause) = match judgement {
        Judgement::Waiting(Some(progress)) => (progress, None),
        Judgement::Blocked(progress, symptom) => (progress, Some((symptom.cause, symptom.recovery))),
        Judgement::Waiting(None)
        | Judgement::Complete
        | Judgement::Failing(_)
        | Judgement::Superseded(_)
        | Judgement::Paused
        | Judgement::Gone => return Instant::now(),
    };
    let old = snapshot.pods.len().saturating_sub(snapshot.pods_of_template().count());
    let mark = Mark { ready: progress.running, created: snapshot.new_pods().len(), old };
    standstill.observe(Instant::now(), cause, mark, grace.unwrap_or(Duration::MAX))
}

impl<'f> Follower<'f> {
    /// Starts to follow, and waits until every watch has listed its objects.
    ///
    /// # Errors
    /// When a watch is refused for longer than `grace`, or the API server is unreachable until the deadline.
    pub(super) async fn start(
        api: &'f WorkloadApi,
        reporter: &'f Reporter,
        watches: Watches,
        deadline: Instant,
        grace: Duration,
    ) -> Result<Self, Error> {
        let mut follower = Follower {
            api,
            reporter,
            watches,
            health: WatchHealth::default(),
            grace,
            reported: HashSet::new(),
            deleted: HashSet::new(),
            last: None,
            tails: Tails::default(),
        };
        while !follower.watches.is_ready() {
            match follower.next_notice(deadline).await? {
                Some(notice) => follower.report(&notice),
                None => {
                    return Err(follower.health.take().unwrap_or_else(|| Error::Unreachable {
                        operation: api.calls().watch,
                        cluster: api.scope.cluster.clone(),
                        source: "no answer before the deadline".into(),
                    }));
                }
            }
        }
        Ok(follower)
    }

    /// Sets how long refused watches are retried; called before the first change.
    pub(super) fn set_grace(&mut self, grace: Duration) {
        self.grace = grace;
    }

    /// Follows a rollout until it ends, or until the deadline; with `logs`, reports the logs of its pods.
    ///
    /// # Errors
    /// When the operation is cancelled.
    pub(super) async fn follow(
        &mut self,
        tracked: &Tracked,
        deadline: Instant,
        logs: Option<LiveLogs>,
    ) -> Result<End, Error> {
        let end = self.watch_until_end(tracked, deadline, logs).await;
        let mut wait = Duration::ZERO;
        if let (Some(bounds), Ok(snapshot)) = (logs, self.snapshot())
            && (snapshot.runs_to_completion() || matches!(end, Ok(End::Failed(_))))
        {
            // A Job, or the last start of a failing container, may have started and ended since the last update.
            let begun = self.tails.update(self.api, self.reporter, bounds, &snapshot);
            wait = match begun {
                _ if snapshot.runs_to_completion() => LAST_LINES,
                0 => Duration::ZERO,
                1.. => FAILED_LINES,
            };
        }
        self.tails.end(wait).await;
        match end {
            Err(error) if !matches!(error, Error::Interrupted { .. }) => Ok(End::Unobserved(error)),
            end => end,
        }
    }

    /// Evaluates each change until the rollout ends, or until the deadline.
    async fn watch_until_end(
        &mut self,
        tracked: &Tracked,
        deadline: Instant,
        logs: Option<LiveLogs>,
    ) -> Result<End, Error> {
        self.last = None;
        let mut tracked = tracked.clone();
        let mut standstill = Standstill::default();
        loop {
            let snapshot = self.snapshot()?;
            let judgement = snapshot.judge(&tracked);
            let since = observe(&mut standstill, &judgement, &snapshot, tracked.grace);
            let mut wake = deadline;
            // Until the watch shows the applied change, new objects belong to an earlier rollout.
            if !matches!(judgement, Judgement::Waiting(None)) {
                self.report_events(&snapshot);
            }
            match judgement {
                Judgement::Waiting(None) => {}
                Judgement::Waiting(Some(progress)) => {
                    self.report_progress(progress);
                    if let Some(bounds) = logs {
                        let _ = self.tails.update(self.api, self.reporter, bounds, &snapshot);
                    }
                }
                Judgement::Blocked(progress, symptom) => {
                    let end =
                        symptom.may_last(tracked.grace).map(|time| bp_artifact::time::after(since, time));
                    // The state may be stale while a watch fails.
                    let end = end.filter(|_| self.health.is_healthy());
                    if end.is_some_and(|end| end <= Instant::now()) {
                        return Ok(End::Failed(symptom));
                    }
                    wake = end.map_or(deadline, |end| end.min(deadline));
                    self.report_retry(&progress.stage, &symptom);
                    self.report_progress(progress);
                }
                Judgement::Complete => return Ok(End::Complete),
                Judgement::Failing(symptom) => {
                    if !tracked.image_exists && self.is_late(&symptom, &tracked).await {
                        tracked.image_exists = true;
                        continue;
                    }
                    return Ok(End::Failed(symptom));
                }
                Judgement::Superseded(image) => return Ok(End::Superseded(image)),
                Judgement::Paused => return Ok(End::Paused),
                Judgement::Gone => return Ok(End::Gone),
            }
            match self.next_notice(wake).await? {
                Some(notice) => {
                    self.report(&notice);
                    self.report_ready();
                }
                None if wake < deadline => {}
                None if !self.health.is_healthy() => {
                    return Ok(self.health.take().map_or(End::OutOfTime(None), End::Unobserved));
                }
                None => return Ok(End::OutOfTime(self.snapshot()?.reason(Some(&tracked)))),
            }
        }
    }

    /// Whether the nodes do not find an image that its registry has.
    async fn is_late(&mut self, symptom: &Symptom, tracked: &Tracked) -> bool {
        let Some(registry) = tracked.registry.as_ref().filter(|_| symptom.cause == Cause::ImageNotFound)
        else {
            return false;
        };
        let has = tokio::select! {
            has = registry.has(&tracked.image) => has,
            // Continues to the end of the operation.
            () = self.reporter.cancelled() => return true,
        };
        if has {
            self.notice(
                "the nodes do not find the image, which its registry has; waiting for them".to_owned(),
            );
        }
        has
    }

    /// The current state.
    pub(super) fn snapshot(&self) -> Result<Snapshot, Error> {
        let mut snapshot = self.watches.snapshot(self.api)?;
        let is_deleted = |pod: &Pod| pod.metadata.uid.as_ref().is_some_and(|uid| self.deleted.contains(uid));
        snapshot.pods.retain(|pod| !is_deleted(pod));
        Ok(snapshot)
    }

    /// Ignores a pod that was deleted.
    pub(super) fn ends(&mut self, pod: &Pod) {
        self.deleted.extend(pod.metadata.uid.clone());
    }

    /// The next event of the watches; `None` at the deadline.
    ///
    /// # Errors
    /// When the operation is cancelled, or a watch was refused for too long.
    async fn next_notice(&mut self, deadline: Instant) -> Result<Option<WatchNotice>, Error> {
        let gives_up_at = self.health.gives_up_at(self.grace).unwrap_or(deadline);
        let time = tokio::select! {
            news = self.watches.next() => return Ok(Some(self.health.read(news, &self.api.object()))),
            refused = self.tails.refusal() => return Ok(Some(WatchNotice::NoLogs(refused))),
            () = sleep_until(deadline.min(gives_up_at)) => Instant::now(),
            () = self.reporter.cancelled() => {
                return Err(Error::Interrupted { workload: self.api.workload.clone() });
            }
        };
        match self.health.gives_up_at(self.grace).filter(|end| *end <= time).and_then(|_| self.health.take())
        {
            Some(error) => Err(error),
            None => Ok(None),
        }
    }

    /// Takes the changes that have arrived already: the state is evaluated once for all of them, so that the evaluation
    /// of thousands of pods does not fall behind the watches.
    fn report_ready(&mut self) {
        for _ in 0..BATCH {
            let Some(update) = self.watches.next_ready() else { break };
            let notice = self.health.read(Some(update), &self.api.object());
            self.report(&notice);
        }
    }

    fn report(&mut self, notice: &WatchNotice) {
        match notice {
            WatchNotice::Changed => {}
            WatchNotice::Lost(message) => self.notice(message.clone()),
            WatchNotice::NoLogs(error) => self.notice(format!("cannot follow logs: {error}")),
            WatchNotice::NoEvents(error) => {
                self.notice(format!("cannot read events, failure causes will be less exact: {error}"))
            }
        }
    }

    /// Reports once why new pods are refused or cannot start, independent of the pod's name.
    fn report_retry(&mut self, stage: &str, symptom: &Symptom) {
        let message = format!("{stage}: {}", symptom.message);
        let generic: String = message.split('"').step_by(2).collect();
        if self.reported.insert(format!("retried: {generic}")) {
            self.notice(message);
        }
    }

    /// Reports a message once.
    pub(super) fn notice(&mut self, message: String) {
        if self.reported.insert(message.clone()) {
            self.reporter.notice(message);
        }
    }

    /// Reports each event of the new pods once: warnings as notices, other events as logs.
    fn report_events(&mut self, snapshot: &Snapshot) {
        for pod in snapshot.new_pods() {
            for event in snapshot.events_about(&pod.metadata.uid) {
                let source = format!("pod/{}", pod.metadata.name.text());
                let line = format!("{}: {}", event.reason.text(), event.message.text());
                if is_warning(event) {
                    self.notice(format!("{source}: {line}"));
                } else if self.reported.insert(format!("{source}: {line}")) {
                    self.reporter.log(source, line, last_seen(event), 0);
                }
            }
        }
    }

    fn report_progress(&mut self, progress: Progress) {
        if self.last.as_ref() != Some(&progress) {
            self.last = Some(progress.clone());
            self.reporter.progress(progress);
        }
    }
}
