//! Watch a workload, its revisions, its pods and their events.

use std::sync::Arc;

use futures_util::{FutureExt, StreamExt, stream, stream::BoxStream};
use k8s_openapi::api::core::v1::{Event, Pod};
use kube::core::DynamicObject;

use super::{api::WorkloadApi, judge::Snapshot};
use crate::{
    api::{
        pod,
        watch::{Query, Store, WatchUpdate, nothing, watch, watch_trimmed},
    },
    error::Error,
    workload::{Live, version::Version},
};

/// The watches of a workload and their stores.
pub(super) struct Watches {
    workload: Store<DynamicObject>,
    versions: Store<DynamicObject>,
    pods: Store<Pod>,
    events: Store<Event>,
    changes: BoxStream<'static, WatchUpdate>,
}

impl Watches {
    /// Starts the watches of `live`; of events only warnings, unless `all_events`.
    pub(super) fn start(cluster: &WorkloadApi, live: &Live, all_events: bool) -> Self {
        let name = live.metadata().name.clone().unwrap_or_default();
        let labels = Query::labels(&live.selector());
        let itself = Query::fields(&format!("metadata.name={name}"));
        let (workload, one) = watch(cluster.workloads(), itself, cluster.calls().watch, false);
        let (versions, two) = match cluster.kind().versions.resource() {
            Some((resource, calls)) => {
                watch(cluster.scope.dynamic(&resource), labels.clone(), calls.watch, false)
            }
            None => nothing(),
        };
        let (pods, three) = watch_trimmed(cluster.pods(), labels, "watch pods", false, pod::trim);
        let which = if all_events { Query::all() } else { Query::fields("type=Warning") };
        let untracked = |event: &mut Event| event.metadata.managed_fields = None;
        let (events, four) = watch_trimmed(cluster.events(), which, "watch events", true, untracked);
        let changes = stream::select_all([one, two, three, four]).boxed();
        Watches { workload, versions, pods, events, changes }
    }

    /// The next event of any watch.
    ///
    /// # Cancel safety
    /// Cancel safe: the stores keep the state.
    pub(super) async fn next(&mut self) -> Option<WatchUpdate> {
        self.changes.next().await
    }

    /// The next event, if there is one already.
    pub(super) fn next_ready(&mut self) -> Option<WatchUpdate> {
        self.changes.next().now_or_never().flatten()
    }

    /// Whether all initial lists are complete, except for events.
    pub(super) fn is_ready(&self) -> bool {
        self.workload.is_ready() && self.versions.is_ready() && self.pods.is_ready()
    }

    /// The current state.
    ///
    /// # Errors
    /// When the workload does not match its kind.
    pub(super) fn snapshot(&self, cluster: &WorkloadApi) -> Result<Snapshot, Error> {
        let live = self.workload.state().into_iter().next();
        let versions = self.versions.state().into_iter();
        Ok(Snapshot {
            live: live.map(|object| cluster.read(cluster.calls().watch, object)).transpose()?,
            versions: versions.map(|object| Version::read(cluster.kind(), object)).collect(),
            pods: self.pods(),
            events: self.events.state().into_iter().collect(),
        })
    }

    pub(super) fn pods(&self) -> Vec<Arc<Pod>> {
        self.pods.state()
    }
}
