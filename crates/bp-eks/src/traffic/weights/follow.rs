//! Watch the object with the weights and the pods of a Service while a step is in effect.

use std::{sync::Arc, time::Duration};

use bp_artifact::deploy::{Cause, Reporter};
use futures_util::{StreamExt, stream, stream::BoxStream};
use k8s_openapi::api::core::v1::{Event, Pod};
use kube::core::DynamicObject;
use tokio::time::{Instant, sleep_until};

use super::{
    WeightedPair,
    judge::{Expected, Snapshot, State},
    split::Verb,
    targets::TargetHealth,
};
use crate::{
    api::{
        symptom::{Recovery, Symptom},
        watch::{Query, Store, WatchUpdate, nothing, watch},
    },
    error::Error,
    traffic::{
        error::TrafficError,
        labels::{Labels, format_labels},
        watched::Watched,
    },
};

/// How long to watch.
#[derive(Debug, Clone, Copy)]
pub(super) enum Until {
    /// Until the weights are in effect and all pods and targets are ready.
    Settled,
    /// For this time under traffic.
    Baked(Duration),
    /// Until something fails.
    Failure,
}

/// The result of watching a step.
#[derive(Debug)]
pub(super) enum End {
    /// It is as expected.
    Good,
    /// The pods, the targets or the controller fail.
    Failed(Symptom),
    /// Another client changed the weights.
    Superseded(String),
    /// The object was deleted.
    Gone,
    /// The deadline has passed; what was awaited.
    OutOfTime(String),
    /// The state can no longer be observed.
    Unobserved(Error),
}

/// Watches one step.
pub(super) struct Follower<'f> {
    pair: &'f WeightedPair,
    expected: Expected,
    watched: Watched<'f>,
    object: Store<DynamicObject>,
    events: Store<Event>,
    pods: Store<Pod>,
    changes: BoxStream<'static, WatchUpdate>,
    targets: TargetHealth,
    polls: BoxStream<'static, TargetHealth>,
    /// Since when the controller has refused the object.
    refused: Option<Instant>,
}

impl<'f> Follower<'f> {
    /// Starts to watch the pods that `selector` matches, those of the service with this position.
    pub(super) fn start(
        pair: &'f WeightedPair,
        service: usize,
        selector: &Labels,
        expected: Expected,
        reporter: &'f Reporter,
    ) -> Self {
        let name = format!("metadata.name={}", pair.object.name());
        let (object, one) = watch(pair.api(), Query::fields(&name), pair.operation(Verb::Watch), false);
        let (events, two) = match pair.events_of() {
            Some(about) => watch(pair.namespace.api(), Query::fields(&about), "watch events", false),
            None => nothing(),
        };
        let labels = format_labels(selector);
        let (pods, three) = watch(pair.namespace.pods(), Query::labels(&labels), "watch pods", false);
        let (targets, polls) = pair.target_health(service, expected.is_return);
        Follower {
            pair,
            expected,
            watched: Watched::new(pair.reference(), reporter),
            object,
            events,
            pods,
            changes: stream::select_all([one, two, three]).boxed(),
            targets,
            polls,
            refused: None,
        }
    }

    /// The ready pods.
    pub(super) fn serving(&self) -> Vec<Arc<Pod>> {
        self.snapshot().serving()
    }

    /// Watches until the state is as `until` requires or it fails. Waiting ends at the deadline of the options, and
    /// failing watches are retried for their grace period.
    pub(super) async fn hold(&mut self, until: Until) -> Result<End, TrafficError> {
        let options = &self.pair.options;
        let baked = match until {
            Until::Settled => None,
            Until::Baked(time) => Some(bp_artifact::time::deadline(time)),
            Until::Failure => Some(bp_artifact::time::deadline(Duration::MAX)),
        };
        let limit = bp_artifact::time::after(baked.unwrap_or_else(Instant::now), options.deadline);
        let fail_after = options.fail_after.map_or(2, |pods| pods.get() as usize);
        let mut awaited = "the state of the object and its pods is not known yet".to_owned();
        loop {
            let now = Instant::now();
            let mut wake = limit;
            // The state may be stale while a watch fails.
            if self.is_ready() && self.watched.health.is_healthy() {
                let snapshot = self.snapshot();
                let state = snapshot.judge(self.pair, &self.expected, fail_after);
                self.watched.report(snapshot.progress(&state));
                if !matches!(state, State::Refused(_)) {
                    self.refused = None;
                }
                match state {
                    State::Good if baked.is_none_or(|until| until <= now) => return Ok(End::Good),
                    State::Good => wake = baked.unwrap_or(limit),
                    State::Waiting(why) => awaited = why,
                    State::Refused(why) => {
                        let since = *self.refused.get_or_insert(now);
                        let patient = bp_artifact::time::after(since, options.grace);
                        if now >= patient.min(limit) {
                            return Ok(End::Failed(refusal(self.pair, why)));
                        }
                        wake = patient;
                        awaited = why;
                    }
                    State::Unfit(symptom) if baked.is_some() || now >= limit => {
                        return Ok(End::Failed(symptom));
                    }
                    State::Unfit(symptom) => awaited = symptom.message,
                    State::Failing(symptom) => return Ok(End::Failed(symptom)),
                    State::Superseded(found) => return Ok(End::Superseded(found)),
                    State::Gone => return Ok(End::Gone),
                }
            }
            let gives_up_at = self.watched.health.gives_up_at(options.grace).unwrap_or(limit);
            if now >= limit.min(gives_up_at) {
                return Ok(self.watched.health.take().map_or(End::OutOfTime(awaited), End::Unobserved));
            }
            tokio::select! {
                news = self.changes.next() => self.watched.handle(news),
                Some(health) = self.polls.next() => self.targets = health,
                () = sleep_until(wake.min(limit).min(gives_up_at)) => {}
                () = self.watched.reporter.cancelled() => {
                    return Err(TrafficError::Interrupted { object: self.pair.object() });
                }
            }
        }
    }

    fn snapshot(&self) -> Snapshot {
        Snapshot {
            object: self.object.state().into_iter().next(),
            events: self.events.state(),
            pods: self.pods.state(),
            targets: self.targets.clone(),
        }
    }

    fn is_ready(&self) -> bool {
        self.object.is_ready() && self.events.is_ready() && self.pods.is_ready()
    }
}

/// The failure of an object that its controller refuses.
fn refusal(pair: &WeightedPair, why: String) -> Symptom {
    Symptom::new(Cause::DeploymentConfiguration, Recovery::Never, format!("{}: {why}", pair.object))
}
