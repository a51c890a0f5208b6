//! The live picture of a roll-out: the Deployment, its ReplicaSets and pods, and the warnings about them.
//!
//! Four watches feed four stores. A watch that breaks is resumed where it was, or listed anew when the API has forgotten
//! where that is, and tried again for as long as the caller waits.

use std::{fmt::Debug, sync::Arc, time::Duration};

use backon::ExponentialBuilder;
use futures_util::{StreamExt, future::ready, stream, stream::BoxStream};
use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{Event, Pod},
};
use kube::{
    Api, Resource,
    runtime::{
        WatchStreamExt,
        reflector::{Store, store},
        watcher::{self, Config, ExponentialBackoff, watcher},
    },
};
use serde::de::DeserializeOwned;

use super::{
    api::{Cluster, SharedSet, selector},
    error::{Error, Place},
};

/// The watches, and what they have seen.
pub(super) struct Watches {
    deployments: Store<Deployment>,
    sets: Store<k8s_openapi::api::apps::v1::ReplicaSet>,
    pods: Store<Pod>,
    events: Store<Event>,
    changes: BoxStream<'static, Result<(), Failed>>,
}

/// A watch that does not work, for now or at all.
pub(crate) struct Failed {
    operation: &'static str,
    error: watcher::Error,
    /// Whether a roll-out can be followed without it.
    optional: bool,
}

/// What the watches have to say.
pub(crate) enum Told {
    /// Something changed.
    Changed,
    /// The API cannot be watched now; it is tried again.
    Unreachable(Error),
    /// Warnings may not be read; the roll-out is followed without them.
    NoEvents(Error),
}

impl Failed {
    /// What it means for one who watches.
    ///
    /// # Errors
    /// When the API refuses us: waiting does not help then.
    pub(crate) fn read(self, place: &Place) -> Result<Told, Error> {
        let Failed { operation, error, optional } = self;
        let error = match error {
            watcher::Error::InitialListFailed(e)
            | watcher::Error::WatchStartFailed(e)
            | watcher::Error::WatchFailed(e) => place.error(operation, e),
            watcher::Error::WatchError(status) => place.error(operation, kube::Error::Api(status)),
            other => {
                let cluster = place.cluster.clone();
                Error::UnexpectedAnswer { operation, cluster, source: other.into() }
            }
        };
        match error {
            Error::Forbidden { .. } if optional => Ok(Told::NoEvents(error)),
            Error::Forbidden { .. } | Error::Unauthorized { .. } | Error::NoCredentials { .. } => Err(error),
            _ => Ok(Told::Unreachable(error)),
        }
    }
}

impl Watches {
    /// Starts to watch what belongs to `deployment`.
    pub(super) fn start(cluster: &Cluster, deployment: &Deployment) -> Self {
        let name = format!("metadata.name={}", cluster.place.workload.name);
        let labels = selector(deployment);
        let (deployments, one) =
            watch(cluster.deployments(), Config::default().fields(&name), "watch deployments", false);
        let (sets, two) =
            watch(cluster.replica_sets(), Config::default().labels(&labels), "watch replicasets", false);
        let (pods, three) = watch(cluster.pods(), Config::default().labels(&labels), "watch pods", false);
        let (events, four) =
            watch(cluster.events(), Config::default().fields("type=Warning"), "watch events", true);
        let changes = stream::select_all([one, two, three, four]).boxed();
        Watches { deployments, sets, pods, events, changes }
    }

    /// Waits for news.
    ///
    /// # Errors
    /// When the API refuses us: waiting does not help then.
    ///
    /// # Cancel safety
    /// Cancel safe: the stores keep what was seen.
    pub(super) async fn next(&mut self, cluster: &Cluster) -> Result<Told, Error> {
        let failed = match self.changes.next().await {
            Some(Ok(())) | None => return Ok(Told::Changed),
            Some(Err(failed)) => failed,
        };
        failed.read(&cluster.place)
    }

    /// Whether everything was seen once. Warnings are not waited for.
    pub(super) fn is_ready(&self) -> bool {
        fn is_ready<K: Resource + Clone + 'static>(store: &Store<K>) -> bool
        where
            K::DynamicType: std::hash::Hash + Eq + Clone,
        {
            futures_util::FutureExt::now_or_never(store.wait_until_ready()).is_some()
        }
        is_ready(&self.deployments) && is_ready(&self.sets) && is_ready(&self.pods)
    }

    /// The Deployment, unless it is gone.
    pub(super) fn deployment(&self) -> Option<Arc<Deployment>> {
        self.deployments.state().into_iter().next()
    }

    pub(super) fn sets(&self) -> Vec<SharedSet> {
        self.sets.state()
    }

    pub(super) fn pods(&self) -> Vec<Arc<Pod>> {
        self.pods.state()
    }

    pub(super) fn events(&self) -> Vec<Arc<Event>> {
        self.events.state()
    }
}

/// What a watch has seen, and the stream of its news.
pub(crate) type Watched<K> = (Store<K>, BoxStream<'static, Result<(), Failed>>);

/// Watches one kind of object; one that is `optional` is given up when it may not be watched.
pub(crate) fn watch<K>(api: Api<K>, config: Config, operation: &'static str, optional: bool) -> Watched<K>
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
    K::DynamicType: Default + Eq + std::hash::Hash + Clone + Send + Sync,
{
    let (reader, writer) = store();
    let changes = watcher(api, config)
        .backoff(ExponentialBackoff::from(pauses()))
        .reflect(writer)
        // What may not be watched and is not needed is given up.
        .scan(false, move |over, event| {
            if *over {
                return ready(None);
            }
            *over = optional && event.as_ref().is_err_and(is_forbidden);
            ready(Some(event.map(drop).map_err(|error| Failed { operation, error, optional })))
        })
        .boxed();
    (reader, changes)
}

fn is_forbidden(error: &watcher::Error) -> bool {
    let (watcher::Error::InitialListFailed(error) | watcher::Error::WatchStartFailed(error)) = error else {
        return false;
    };
    matches!(error, kube::Error::Api(status) if status.is_forbidden())
}

/// Between half a second and five, until the caller's deadline.
fn pauses() -> ExponentialBuilder {
    ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(500))
        .with_max_delay(Duration::from_secs(5))
        .with_jitter()
        .without_max_times()
}
