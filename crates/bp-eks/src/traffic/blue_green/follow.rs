//! Watch Service, EndpointSlices and pods until the endpoints have followed the selector for the bake time.

use std::{sync::Arc, time::Duration};

use bp_artifact::deploy::Reporter;
use futures_util::{StreamExt, stream, stream::BoxStream};
use k8s_openapi::api::{
    core::v1::{Pod, Service},
    discovery::v1::EndpointSlice,
};
use tokio::time::{Instant, sleep_until};

use super::arrival::{Arrival, Snapshot};
use crate::{
    api::{
        scope::Scope,
        symptom::Symptom,
        watch::{Query, Store, WatchUpdate, watch},
    },
    error::Error,
    traffic::{
        error::TrafficError,
        labels::{Labels, format_labels},
        watched::Watched,
    },
};

/// The result of watching a switch.
pub(super) enum End {
    /// These pods receive the traffic.
    Arrived(Vec<Arc<Pod>>),
    /// The pods that receive the traffic fail.
    Failed(Option<Symptom>),
    /// Another client changed the selector.
    Superseded(String),
    /// The Service was deleted.
    Gone,
    /// The deadline has passed; `ready` is whether the slot has a ready pod.
    OutOfTime { ready: bool },
    /// The state can no longer be observed.
    Unobserved(Error),
}

/// Watches the traffic of a Service move to the pods that `selector` matches.
pub(super) struct Follower<'f> {
    selector: &'f Labels,
    watched: Watched<'f>,
    service: Store<Service>,
    slices: Store<EndpointSlice>,
    pods: Store<Pod>,
    changes: BoxStream<'static, WatchUpdate>,
}

impl<'f> Follower<'f> {
    pub(super) fn start(
        namespace: &'f Scope,
        service: &str,
        selector: &'f Labels,
        reporter: &'f Reporter,
    ) -> Self {
        let name = format!("metadata.name={service}");
        let of_service = format!("kubernetes.io/service-name={service}");
        let labels = format_labels(selector);
        let (services, one) = watch(namespace.services(), Query::fields(&name), "watch services", false);
        let (slices, two) =
            watch(namespace.slices(), Query::labels(&of_service), "watch endpointslices", false);
        let (pods, three) = watch(namespace.pods(), Query::labels(&labels), "watch pods", false);
        let changes = stream::select_all([one, two, three]).boxed();
        let object = namespace.object("service", service);
        Follower {
            selector,
            watched: Watched::new(object, reporter),
            service: services,
            slices,
            pods,
            changes,
        }
    }

    /// Watches until the endpoints have matched for `bake`, or until the deadline; failing watches are retried for
    /// `grace`.
    pub(super) async fn follow(
        mut self,
        deadline: Instant,
        bake: Duration,
        grace: Duration,
        fail_after: usize,
    ) -> Result<End, TrafficError> {
        let mut baked: Option<Instant> = None;
        loop {
            let snapshot = self.snapshot();
            // The state may be stale while a watch fails.
            if self.is_ready() && self.watched.health.is_healthy() {
                match snapshot.judge(self.selector, fail_after) {
                    Arrival::Arrived(progress) => {
                        let until = *baked.get_or_insert_with(|| bp_artifact::time::deadline(bake));
                        self.watched.report(progress);
                        if until <= Instant::now() {
                            return Ok(End::Arrived(snapshot.serving()));
                        }
                    }
                    // No pod receives the traffic any more.
                    Arrival::Waiting(progress) if baked.is_some() && progress.running == 0 => {
                        return Ok(End::Failed(None));
                    }
                    Arrival::Waiting(progress) => self.watched.report(progress),
                    Arrival::Failing(symptom) => return Ok(End::Failed(Some(symptom))),
                    Arrival::Superseded(selected) => return Ok(End::Superseded(selected)),
                    Arrival::Gone => return Ok(End::Gone),
                }
            }
            let end = baked.map_or(deadline, |until| until.max(Instant::now()));
            let end = if self.watched.health.is_healthy() { end } else { end.max(deadline) };
            let gives_up_at = self.watched.health.gives_up_at(grace).unwrap_or(end);
            tokio::select! {
                news = self.changes.next() => self.watched.handle(news),
                () = sleep_until(end.min(gives_up_at)) => match (self.watched.health.take(), baked) {
                    (Some(error), _) => return Ok(End::Unobserved(error)),
                    // Some pods may be missing for a moment; the present ones receive the traffic.
                    (None, Some(_)) => return Ok(End::Arrived(self.snapshot().serving())),
                    (None, None) => return Ok(self.late()),
                },
                () = self.watched.reporter.cancelled() => {
                    return Err(TrafficError::Interrupted { object: self.watched.object.to_string() });
                }
            }
        }
    }

    fn late(&self) -> End {
        let ready = self.snapshot().pods.iter().any(|pod| crate::api::pod::is_ready(pod));
        End::OutOfTime { ready }
    }

    fn snapshot(&self) -> Snapshot {
        Snapshot {
            service: self.service.state().into_iter().next(),
            slices: self.slices.state(),
            pods: self.pods.state(),
        }
    }

    fn is_ready(&self) -> bool {
        self.service.is_ready() && self.slices.is_ready() && self.pods.is_ready()
    }
}
