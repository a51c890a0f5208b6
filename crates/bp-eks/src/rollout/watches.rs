//! The live picture of a roll-out: the workload, its revisions and pods, and the events about them.

use std::sync::Arc;

use futures_util::{StreamExt, stream, stream::BoxStream};
use k8s_openapi::api::core::v1::{Event, Pod};
use kube::core::DynamicObject;

use super::{api::WorkloadApi, judge::Picture};
use crate::{
    api::watch::{News, Query, Store, nothing, watch},
    error::Error,
    workload::{Live, version::Version},
};

/// The watches, and what they have seen.
pub(super) struct Watches {
    workload: Store<DynamicObject>,
    versions: Store<DynamicObject>,
    pods: Store<Pod>,
    events: Store<Event>,
    changes: BoxStream<'static, News>,
}

impl Watches {
    /// Starts to watch what belongs to `live`; of events the warnings, or all of them.
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
        let (pods, three) = watch(cluster.pods(), labels, "watch pods", false);
        let which = if all_events { Query::all() } else { Query::fields("type=Warning") };
        let (events, four) = watch(cluster.events(), which, "watch events", true);
        let changes = stream::select_all([one, two, three, four]).boxed();
        Watches { workload, versions, pods, events, changes }
    }

    /// Waits for news.
    ///
    /// # Cancel safety
    /// Cancel safe: the stores keep what was seen.
    pub(super) async fn next(&mut self) -> Option<News> {
        self.changes.next().await
    }

    /// Whether everything was seen once. Events are not waited for.
    pub(super) fn is_ready(&self) -> bool {
        self.workload.is_ready() && self.versions.is_ready() && self.pods.is_ready()
    }

    /// What is known now.
    ///
    /// # Errors
    /// When the workload is not what its kind says.
    pub(super) fn picture(&self, cluster: &WorkloadApi) -> Result<Picture, Error> {
        let live = self.workload.state().into_iter().next();
        let versions = self.versions.state().into_iter();
        Ok(Picture {
            live: live.map(|object| cluster.read(cluster.calls().watch, object)).transpose()?,
            versions: versions.map(|object| Version::read(cluster.kind(), object)).collect(),
            pods: self.pods(),
            events: self.events.state(),
        })
    }

    pub(super) fn pods(&self) -> Vec<Arc<Pod>> {
        self.pods.state()
    }
}
