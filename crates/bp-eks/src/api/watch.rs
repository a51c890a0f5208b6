//! Watch Kubernetes objects of one kind: list, then watch, and keep a store up to date.
//!
//! An interrupted watch resumes from the last resource version; when that has expired (410), all objects are listed
//! again. Attempts without events are retried with exponential backoff, until the caller stops.

use std::{
    collections::BTreeMap,
    fmt::Debug,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use bp_artifact::sync::lock;
use futures_util::{StreamExt, stream, stream::BoxStream};
use kube::{
    Api, Resource,
    api::{ListParams, WatchEvent, WatchParams},
};
use serde::de::DeserializeOwned;

/// The page size of lists.
const PAGE: u32 = 500;

/// The objects of a watch. Cheap to clone; clones share the state.
#[derive(Debug)]
pub(crate) struct Store<K>(Arc<Mutex<Seen<K>>>);

#[derive(Debug)]
struct Seen<K> {
    objects: BTreeMap<String, Arc<K>>,
    listed: bool,
}

impl<K> Clone for Store<K> {
    fn clone(&self) -> Self {
        Store(Arc::clone(&self.0))
    }
}

impl<K> Store<K> {
    fn new() -> Self {
        Store(Arc::new(Mutex::new(Seen { objects: BTreeMap::new(), listed: false })))
    }

    fn seen(&self) -> MutexGuard<'_, Seen<K>> {
        lock(&self.0)
    }

    /// All objects, ordered by name.
    pub(crate) fn state(&self) -> Vec<Arc<K>> {
        self.seen().objects.values().cloned().collect()
    }

    /// Whether the initial list is complete.
    pub(crate) fn is_ready(&self) -> bool {
        self.seen().listed
    }
}

/// The store of a watch, and the stream of its events.
pub(crate) type Watched<K> = (Store<K>, BoxStream<'static, WatchUpdate>);

/// Selects the objects to watch.
#[derive(Debug, Clone, Default)]
pub(crate) struct Query {
    pub(crate) labels: Option<String>,
    pub(crate) fields: Option<String>,
}

impl Query {
    pub(crate) fn all() -> Self {
        Query { labels: None, fields: None }
    }

    pub(crate) fn labels(text: &str) -> Self {
        Query { labels: Some(text.to_owned()), fields: None }
    }

    pub(crate) fn fields(text: &str) -> Self {
        Query { labels: None, fields: Some(text.to_owned()) }
    }
}

/// Watches objects of one kind; an `optional` watch ends when it is forbidden.
pub(crate) fn watch<K>(api: Api<K>, query: Query, operation: &'static str, optional: bool) -> Watched<K>
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
{
    watch_trimmed(api, query, operation, optional, |_| {})
}

/// As [`watch`]; `trim` removes what need not be kept of each object.
pub(crate) fn watch_trimmed<K>(
    api: Api<K>,
    query: Query,
    operation: &'static str,
    optional: bool,
    trim: fn(&mut K),
) -> Watched<K>
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
{
    let store = Store::new();
    let watcher = Watcher {
        api,
        query,
        trim,
        store: store.clone(),
        position: Position::Unlisted,
        pauses: pauses().build(),
        pause: None,
        failing: false,
        over: false,
    };
    let news = stream::unfold(watcher, move |mut watcher| async move {
        let news = watcher.next(optional).await?;
        let failed = |error| Failed { operation, error: Box::new(error), optional };
        Some((news.map(|()| operation).map_err(failed), watcher))
    });
    (store, news.boxed())
}

/// A watch without objects.
pub(crate) fn nothing<K>() -> Watched<K> {
    let store = Store::new();
    store.seen().listed = true;
    (store, stream::pending().boxed())
}

/// An event of a watch: its operation when an object changed, or its failure.
pub(crate) type WatchUpdate = Result<&'static str, Failed>;

/// A failure of a watch.
pub(crate) struct Failed {
    pub(crate) operation: &'static str,
    pub(crate) error: Box<kube::Error>,
    /// Whether a rollout can be followed without it.
    pub(crate) optional: bool,
}

/// The position of a watch.
enum Position<K> {
    /// Not listed yet, or the resource version has expired.
    Unlisted,
    /// Up to date with this resource version.
    At(String),
    /// A watch is open; `fruitful` is whether it has delivered an event yet.
    Open { stream: BoxStream<'static, kube::Result<WatchEvent<K>>>, version: String, fruitful: bool },
}

struct Watcher<K> {
    api: Api<K>,
    query: Query,
    trim: fn(&mut K),
    store: Store<K>,
    position: Position<K>,
    pauses: ExponentialBackoff,
    /// The pause before the next attempt.
    pause: Option<Duration>,
    /// Whether the last attempt failed; the first success after that is reported as an event.
    failing: bool,
    over: bool,
}

impl<K> Watcher<K>
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
{
    /// The next event; `None` when the watch has ended.
    async fn next(&mut self, optional: bool) -> Option<Result<(), kube::Error>> {
        while !self.over {
            if let Some(pause) = self.pause.take() {
                tokio::time::sleep(pause).await;
            }
            match self.step().await {
                Ok(news) => {
                    if std::mem::take(&mut self.failing) || news {
                        return Some(Ok(()));
                    }
                }
                Err(error) => {
                    self.failing = true;
                    self.over =
                        optional && matches!(&error, kube::Error::Api(status) if status.is_forbidden());
                    self.pause = self.pauses.next();
                    return Some(Err(error));
                }
            }
        }
        None
    }

    /// Performs one step; returns whether an object changed.
    async fn step(&mut self) -> kube::Result<bool> {
        match std::mem::replace(&mut self.position, Position::Unlisted) {
            Position::Unlisted => {
                self.position = Position::At(self.list().await?);
                Ok(true)
            }
            Position::At(version) => self.open(version).await.map(|()| false),
            Position::Open { mut stream, version, fruitful } => match stream.next().await {
                Some(event) => self.take(event, stream, version),
                None => {
                    // The server ends every watch after some minutes; back off when it ends without an event.
                    if !fruitful {
                        self.pause = self.pauses.next();
                    }
                    self.position = Position::At(version);
                    Ok(false)
                }
            },
        }
    }

    async fn list(&mut self) -> kube::Result<String> {
        let mut objects = BTreeMap::new();
        let mut params = ListParams {
            label_selector: self.query.labels.clone(),
            field_selector: self.query.fields.clone(),
            limit: Some(PAGE),
            ..ListParams::default()
        };
        loop {
            let mut page = self.api.list(&params).await?;
            page.items.iter_mut().for_each(self.trim);
            objects.extend(page.items.into_iter().map(|object| (name(&object), Arc::new(object))));
            params.continue_token = page.metadata.continue_.filter(|token| !token.is_empty());
            if params.continue_token.is_none() {
                *self.store.seen() = Seen { objects, listed: true };
                return Ok(page.metadata.resource_version.unwrap_or_default());
            }
        }
    }

    async fn open(&mut self, version: String) -> kube::Result<()> {
        let params = WatchParams {
            label_selector: self.query.labels.clone(),
            field_selector: self.query.fields.clone(),
            ..WatchParams::default()
        };
        match self.api.watch(&params, &version).await {
            Ok(stream) => {
                self.position = Position::Open { stream: stream.boxed(), version, fruitful: false };
                Ok(())
            }
            Err(kube::Error::Api(status)) if status.code == 410 => {
                self.pause = self.pauses.next();
                Ok(())
            }
            Err(error) => {
                self.position = Position::At(version);
                Err(error)
            }
        }
    }

    fn take(
        &mut self,
        event: kube::Result<WatchEvent<K>>,
        stream: BoxStream<'static, kube::Result<WatchEvent<K>>>,
        before: String,
    ) -> kube::Result<bool> {
        let (version, news) = match event {
            Ok(WatchEvent::Added(mut object) | WatchEvent::Modified(mut object)) => {
                (self.trim)(&mut object);
                let version = object.meta().resource_version.clone();
                self.store.seen().objects.insert(name(&object), Arc::new(object));
                (version, true)
            }
            Ok(WatchEvent::Deleted(object)) => {
                self.store.seen().objects.remove(&name(&object));
                (object.meta().resource_version.clone(), true)
            }
            Ok(WatchEvent::Bookmark(mark)) => (Some(mark.metadata.resource_version), false),
            Ok(WatchEvent::Error(status)) if status.code == 410 => {
                self.pause = self.pauses.next();
                return Ok(false);
            }
            Ok(WatchEvent::Error(status)) => {
                self.position = Position::At(before);
                return Err(kube::Error::Api(status));
            }
            Err(error) => {
                self.position = Position::At(before);
                return Err(error);
            }
        };
        self.pauses = pauses().build();
        self.position = Position::Open { stream, version: version.unwrap_or(before), fruitful: true };
        Ok(news)
    }
}

/// The key of an object: namespace and name.
fn name<K: Resource>(object: &K) -> String {
    let metadata = object.meta();
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    format!("{}/{}", text(&metadata.namespace), text(&metadata.name))
}

/// Exponential backoff from 0.5 s to 5 s, without a limit of attempts.
pub(crate) fn pauses() -> ExponentialBuilder {
    ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(500))
        .with_max_delay(Duration::from_secs(5))
        .with_jitter()
        .without_max_times()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use http::{Request, Response};
    use k8s_openapi::api::core::v1::Pod;
    use kube::{Client, client::Body};
    use serde_json::{Value, json};
    use tokio::time::Instant;

    use super::*;

    /// Answers as scripted, and records the requests.
    fn scripted(answers: Vec<(u16, String)>) -> (Api<Pod>, Arc<Mutex<Vec<String>>>) {
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (noted, at) = (Arc::clone(&asked), Arc::new(AtomicUsize::new(0)));
        let service = tower::service_fn(move |request: Request<Body>| {
            let uri = request.uri().to_string();
            noted.lock().unwrap().push(uri);
            let answer = answers.get(at.fetch_add(1, Ordering::SeqCst)).cloned();
            async move {
                let Some((status, body)) = answer else { return std::future::pending().await };
                Ok::<_, std::convert::Infallible>(
                    Response::builder().status(status).body(Body::from(body.into_bytes())).unwrap(),
                )
            }
        });
        (Api::namespaced(Client::new(service, "shop"), "shop"), asked)
    }

    fn pod(name: &str, version: u32) -> Value {
        json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": { "name": name, "namespace": "shop", "resourceVersion": version.to_string() },
        })
    }

    fn list(version: u32, next: &str, pods: &[Value]) -> (u16, String) {
        let list = json!({
            "apiVersion": "v1", "kind": "PodList", "items": pods,
            "metadata": { "resourceVersion": version.to_string(), "continue": next },
        });
        (200, list.to_string())
    }

    fn events(events: &[(&str, Value)]) -> (u16, String) {
        let line =
            |(kind, object): &(&str, Value)| format!("{}\n", json!({ "type": kind, "object": object }));
        (200, events.iter().map(line).collect())
    }

    fn gone() -> Value {
        json!({ "kind": "Status", "code": 410, "reason": "Expired", "message": "too old resource version" })
    }

    fn names(store: &Store<Pod>) -> Vec<String> {
        store.state().iter().map(|pod| pod.metadata.name.clone().unwrap()).collect()
    }

    /// Runs until the script has ended; returns the failures.
    async fn run(news: &mut BoxStream<'static, WatchUpdate>) -> Vec<String> {
        let mut failures = Vec::new();
        while let Ok(Some(news)) = tokio::time::timeout(Duration::from_secs(600), news.next()).await {
            failures.extend(news.err().map(|failed| failed.error.to_string()));
        }
        failures
    }

    #[tokio::test(start_paused = true)]
    async fn lists_pages_and_follows_changes_and_bookmarks() {
        let bookmark = json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "resourceVersion": "9" } });
        let (api, asked) = scripted(vec![
            list(4, "next", &[pod("a", 1)]),
            list(4, "", &[pod("b", 2)]),
            events(&[("ADDED", pod("c", 5)), ("DELETED", pod("a", 6)), ("BOOKMARK", bookmark)]),
            events(&[("MODIFIED", pod("b", 10))]),
        ]);
        let (store, mut news) = watch(api, Query::labels("app=web"), "watch pods", false);
        assert!(!store.is_ready());
        assert!(news.next().await.unwrap().is_ok() && store.is_ready());
        assert_eq!(names(&store), ["a", "b"]);
        assert_eq!(run(&mut news).await, [""; 0]);
        assert_eq!(names(&store), ["b", "c"]);
        let asked = asked.lock().unwrap();
        assert!(
            asked[1].contains("continue=next") && asked[0].contains("labelSelector=app%3Dweb"),
            "{asked:?}"
        );
        assert!(asked[2].contains("watch=true") && asked[2].contains("resourceVersion=4"), "{asked:?}");
        assert!(asked[2].contains("allowWatchBookmarks=true"), "{asked:?}");
        assert!(asked[3].contains("resourceVersion=9"), "resumes from the bookmark: {asked:?}");
        assert!(asked[4].contains("resourceVersion=10"), "{asked:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn lists_again_after_an_expired_resource_version() {
        let (api, asked) = scripted(vec![
            list(1, "", &[pod("a", 1)]),
            events(&[("ERROR", gone())]),
            list(7, "", &[pod("b", 7)]),
            (410, gone().to_string()),
            list(8, "", &[pod("c", 8)]),
        ]);
        let (store, mut news) = watch(api, Query::default(), "watch pods", false);
        assert_eq!(run(&mut news).await, [""; 0], "reports no failure");
        assert_eq!(names(&store), ["c"], "removes objects deleted in the meantime");
        assert_eq!(asked.lock().unwrap().len(), 6);
    }

    #[tokio::test(start_paused = true)]
    async fn resumes_a_broken_watch_with_backoff() {
        let begun = Instant::now();
        let mut cut = events(&[("ADDED", pod("b", 2))]);
        cut.1.push_str("{\"type\":\"ADD");
        let failing = json!({ "kind": "Status", "code": 500, "message": "etcd" }).to_string();
        let (api, asked) = scripted(vec![
            list(1, "", &[]),
            cut,
            (500, failing.clone()),
            (500, failing),
            // Ends immediately without an event: must back off.
            events(&[]),
            events(&[("ADDED", pod("c", 3))]),
        ]);
        let (store, mut news) = watch(api, Query::default(), "watch pods", false);
        let failures = run(&mut news).await;
        assert!(failures.len() >= 2 && failures.iter().any(|said| said.contains("etcd")), "{failures:?}");
        assert_eq!(names(&store), ["b", "c"]);
        let asked = asked.lock().unwrap();
        assert!(asked[2..6].iter().all(|uri| uri.contains("resourceVersion=2")), "{asked:?}");
        assert!(
            begun.elapsed() - Duration::from_secs(600) >= Duration::from_millis(2000),
            "backs off between attempts"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn ends_an_optional_watch_that_is_forbidden() {
        let denied =
            json!({ "kind": "Status", "code": 403, "reason": "Forbidden", "message": "no" }).to_string();
        for (optional, asks) in [(true, 1), (false, 2)] {
            let (api, asked) = scripted(vec![(403, denied.clone()), (403, denied.clone())]);
            let (_, mut news) = watch(api, Query::default(), "watch events", optional);
            assert!(news.next().await.unwrap().is_err());
            if optional {
                assert!(news.next().await.is_none());
            } else {
                assert!(news.next().await.unwrap().is_err());
            }
            assert_eq!(asked.lock().unwrap().len(), asks);
        }
    }
}
