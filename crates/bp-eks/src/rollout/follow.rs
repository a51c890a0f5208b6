//! Follow a rollout until it ends: evaluate each change of the watched objects, report progress, events and logs.

use std::{collections::HashSet, time::Duration};

use bp_artifact::deploy::{Progress, Reporter};
use tokio::time::{Instant, sleep_until};

use super::{
    api::WorkloadApi,
    judge::{Judgement, Ours, Picture, is_warning},
    logs::Tails,
    watches::Watches,
};
use crate::{
    api::{
        sight::{Sight, Told},
        symptom::Symptom,
        text::Text,
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
    sight: Sight,
    /// How long a refused watch is retried; zero before the first change.
    grace: Duration,
    told: HashSet<String>,
    last: Option<Progress>,
    tails: Tails,
}

/// How long to wait for the last log lines of a Job that has ended.
const LAST_LINES: Duration = Duration::from_secs(1);

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
            sight: Sight::default(),
            grace,
            told: HashSet::new(),
            last: None,
            tails: Tails::default(),
        };
        while !follower.watches.is_ready() {
            match follower.news(deadline).await? {
                Some(told) => follower.tell(&told),
                None => {
                    return Err(follower.sight.take().unwrap_or_else(|| Error::Unreachable {
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
    pub(super) fn is_patient(&mut self, grace: Duration) {
        self.grace = grace;
    }

    /// Follows a rollout until it ends, or until the deadline; with `logs`, reports the logs of its pods.
    ///
    /// # Errors
    /// When the operation is cancelled.
    pub(super) async fn follow(
        &mut self,
        ours: &Ours,
        deadline: Instant,
        logs: Option<LiveLogs>,
    ) -> Result<End, Error> {
        let end = self.look_on(ours, deadline, logs).await;
        let mut patience = Duration::ZERO;
        if let (Some(bounds), Ok(picture)) = (logs, self.picture())
            && picture.runs_to_completion()
        {
            // A Job may have started and ended since the last update.
            self.tails.look(self.api, self.reporter, bounds, &picture);
            patience = LAST_LINES;
        }
        self.tails.end(patience).await;
        match end {
            Err(error) if !matches!(error, Error::Interrupted { .. }) => Ok(End::Unobserved(error)),
            end => end,
        }
    }

    /// Evaluates each change until the rollout ends, or until the deadline.
    async fn look_on(
        &mut self,
        ours: &Ours,
        deadline: Instant,
        logs: Option<LiveLogs>,
    ) -> Result<End, Error> {
        self.last = None;
        // The state while new pods are refused, and since when it is unchanged.
        let mut standstill = None;
        loop {
            let picture = self.picture()?;
            let judgement = picture.judge(ours);
            let before = standstill.take();
            let mut wake = deadline;
            // Until the watch shows the applied change, new objects belong to an earlier rollout.
            if !matches!(judgement, Judgement::Waiting(None)) {
                self.tell_events(&picture);
            }
            match judgement {
                Judgement::Waiting(None) => {}
                Judgement::Waiting(Some(progress)) => {
                    self.tell_progress(progress);
                    if let Some(bounds) = logs {
                        self.tails.look(self.api, self.reporter, bounds, &picture);
                    }
                }
                Judgement::Blocked(progress, symptom) => {
                    let now =
                        (picture.live.as_ref().map(|live| live.counts()), progress.clone(), symptom.recovery);
                    let since = match before {
                        Some((before, since)) if before == now => since,
                        _ => Instant::now(),
                    };
                    let end = symptom.may_last(ours.grace).map(|time| bp_artifact::time::after(since, time));
                    // The state may be stale while a watch fails.
                    let end = end.filter(|_| self.sight.is_clear());
                    if end.is_some_and(|end| end <= Instant::now()) {
                        return Ok(End::Failed(symptom));
                    }
                    wake = end.map_or(deadline, |end| end.min(deadline));
                    standstill = Some((now, since));
                    self.tell_refusal(&symptom);
                    self.tell_progress(progress);
                }
                Judgement::Complete => return Ok(End::Complete),
                Judgement::Failing(symptom) => return Ok(End::Failed(symptom)),
                Judgement::Superseded(image) => return Ok(End::Superseded(image)),
                Judgement::Paused => return Ok(End::Paused),
                Judgement::Gone => return Ok(End::Gone),
            }
            match self.news(wake).await? {
                Some(told) => self.tell(&told),
                None if wake < deadline => {}
                None if !self.sight.is_clear() => {
                    return Ok(self.sight.take().map_or(End::OutOfTime(None), End::Unobserved));
                }
                None => return Ok(End::OutOfTime(self.picture()?.reason(Some(ours)))),
            }
        }
    }

    /// The current state.
    pub(super) fn picture(&self) -> Result<Picture, Error> {
        self.watches.picture(self.api)
    }

    /// The next event of the watches; `None` at the deadline.
    ///
    /// # Errors
    /// When the operation is cancelled, or a watch was refused for too long.
    async fn news(&mut self, deadline: Instant) -> Result<Option<Told>, Error> {
        let blind = self.sight.ends(self.grace).unwrap_or(deadline);
        let time = tokio::select! {
            news = self.watches.next() => return Ok(Some(self.sight.read(news, &self.api.object()))),
            refused = self.tails.refusal() => return Ok(Some(Told::NoLogs(refused))),
            () = sleep_until(deadline.min(blind)) => Instant::now(),
            () = self.reporter.cancelled() => {
                return Err(Error::Interrupted { workload: self.api.workload.clone() });
            }
        };
        match self.sight.ends(self.grace).filter(|end| *end <= time).and_then(|_| self.sight.take()) {
            Some(error) => Err(error),
            None => Ok(None),
        }
    }

    fn tell(&mut self, told: &Told) {
        match told {
            Told::Changed => {}
            Told::Lost(message) => self.notice(message.clone()),
            Told::NoLogs(error) => self.notice(format!("cannot follow logs: {error}")),
            Told::NoEvents(error) => {
                self.notice(format!("cannot read events, failure causes will be less exact: {error}"))
            }
        }
    }

    /// Reports once why new pods are refused, independent of the pod's name.
    fn tell_refusal(&mut self, symptom: &Symptom) {
        let message = format!("new pods are refused, the controller is retrying: {}", symptom.message);
        let generic: String = message.split('"').step_by(2).collect();
        if self.told.insert(format!("refused: {generic}")) {
            self.notice(message);
        }
    }

    /// Reports a message once.
    pub(super) fn notice(&mut self, message: String) {
        if self.told.insert(message.clone()) {
            self.reporter.notice(message);
        }
    }

    /// Reports each event of the new pods once: warnings as notices, other events as logs.
    fn tell_events(&mut self, picture: &Picture) {
        for pod in picture.new_pods() {
            for event in picture.events_about(&pod.metadata.uid) {
                let source = format!("pod/{}", pod.metadata.name.text());
                let line = format!("{}: {}", event.reason.text(), event.message.text());
                if is_warning(event) {
                    self.notice(format!("{source}: {line}"));
                } else if self.told.insert(format!("{source}: {line}")) {
                    // Events of `events.k8s.io` have only `eventTime`.
                    let last = event.last_timestamp.as_ref().map(|time| time.0);
                    let at = last.or_else(|| event.event_time.as_ref().map(|time| time.0));
                    self.reporter.log(source, line, at, 0);
                }
            }
        }
    }

    fn tell_progress(&mut self, progress: Progress) {
        if self.last.as_ref() != Some(&progress) {
            self.last = Some(progress.clone());
            self.reporter.progress(progress);
        }
    }
}
