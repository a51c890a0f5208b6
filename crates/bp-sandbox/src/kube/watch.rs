//! Watches: stream changes since a resource version as JSON lines, until the timeout.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::stream;
use http::Response;
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::{
    Cluster,
    negotiation::{Accepted, Format, Transform, metadata},
    objects::versioned,
    protobuf,
    resource::Resource,
    selector::Selector,
    status::Failure,
    store::{Change, Object},
    table,
};
use crate::body::Body;

/// The parameters of a watch.
pub(super) struct Request {
    pub(super) resource: &'static Resource,
    pub(super) accepted: Accepted,
    /// The part of an object in the rows of a `Table`.
    pub(super) objects: table::Objects,
    pub(super) namespace: String,
    pub(super) selector: Selector,
    /// The resource version to start after; `None` starts with the current objects.
    pub(super) version: Option<u64>,
    pub(super) bookmarks: bool,
    /// Whether a bookmark marks the end of the initial objects.
    pub(super) initial_events: bool,
    pub(super) timeout: Duration,
}

struct Watch {
    cluster: Arc<Cluster>,
    request: Request,
    version: u64,
    queue: VecDeque<Value>,
    changed: watch::Receiver<u64>,
    restarted: watch::Receiver<()>,
    ends: Timestamp,
    bookmark: Timestamp,
    over: bool,
    /// Whether an event with the columns of a `Table` was sent.
    has_columns: bool,
}

const BOOKMARKS: Duration = Duration::from_secs(60);

/// The streaming response of a watch.
pub(super) fn open(cluster: Arc<Cluster>, request: Request) -> Response<Body> {
    let now = cluster.clock.now();
    let (changed, restarted) = (cluster.changed.subscribe(), cluster.restarted.subscribe());
    let (ends, bookmark) = (now + request.timeout, now + BOOKMARKS);
    let queue = VecDeque::new();
    let mut watch = Watch {
        cluster,
        request,
        version: 0,
        queue,
        changed,
        restarted,
        ends,
        bookmark,
        over: false,
        has_columns: false,
    };
    watch.begin();
    let media_type = match watch.request.accepted.format {
        Format::Protobuf => format!("{};stream=watch", protobuf::MEDIA_TYPE),
        Format::Json | Format::Yaml => "application/json".to_owned(),
    };
    let events = stream::unfold(watch, |mut watch| async move {
        let event = watch.next().await?;
        let bytes = watch.encode(event)?;
        Some((Ok::<_, std::convert::Infallible>(bytes), watch))
    });
    Response::builder()
        .header("content-type", media_type)
        .body(Body::stream(events))
        .expect("constant headers")
}

impl Watch {
    fn begin(&mut self) {
        let cluster = Arc::clone(&self.cluster);
        let world = cluster.enter();
        match self.request.version {
            Some(version) if version < world.store.compacted() => {
                let expired = Failure::expired(version, world.store.compacted());
                self.queue.push_back(json!({ "type": "ERROR", "object": expired.status() }));
                self.over = true;
            }
            Some(version) => self.version = version,
            None => {
                let objects = world.store.list(self.request.resource.stored, &self.request.namespace);
                let matching = objects.filter(|object| self.request.selector.matches(object));
                self.queue.extend(matching.map(|object| json!({ "type": "ADDED", "object": **object })));
                self.version = world.store.version();
                if self.request.initial_events {
                    let mut end = self.bookmark();
                    end["object"]["metadata"]["annotations"] = json!({ "k8s.io/initial-events-end": "true" });
                    self.queue.push_back(end);
                }
            }
        }
    }

    /// An event in the format of the response: a line of JSON or a frame of protobuf.
    fn encode(&mut self, mut event: Value) -> Option<Bytes> {
        let is_object = event["type"] != "ERROR";
        if is_object {
            let object = Object::new(event["object"].take());
            event["object"] = self.transform(&object, event["type"] == "BOOKMARK");
        }
        match self.request.accepted.format {
            Format::Json | Format::Yaml => Some(Bytes::from(format!("{event}\n"))),
            Format::Protobuf => {
                let document = protobuf::encode(&event["object"])?.ok()?;
                Some(Bytes::from(protobuf::frame(event["type"].as_str()?, &document)))
            }
        }
    }

    fn transform(&mut self, object: &Object, is_bookmark: bool) -> Value {
        let request = &self.request;
        match request.accepted.transform {
            Transform::Full => Value::clone(&versioned(request.resource, object)),
            Transform::Metadata => metadata(object),
            Transform::Table => {
                let rows = if is_bookmark { &[][..] } else { std::slice::from_ref(object) };
                let mut table =
                    table::rows(request.resource, rows, request.objects, self.cluster.clock.now());
                table["metadata"] = json!({ "resourceVersion": object["metadata"]["resourceVersion"] });
                if !std::mem::replace(&mut self.has_columns, true) {
                    table["columnDefinitions"] = table::columns(request.resource);
                }
                table
            }
        }
    }

    async fn next(&mut self) -> Option<Value> {
        loop {
            if let Some(line) = self.queue.pop_front() {
                return Some(line);
            }
            if self.over {
                return None;
            }
            // Marked as seen before the store is read, so that a later change wakes the wait below.
            self.changed.borrow_and_update();
            let due = self.collect();
            if !self.queue.is_empty() {
                continue;
            }
            let now = self.cluster.clock.now();
            if now >= self.ends || (now >= self.bookmark && self.request.bookmarks) {
                self.over = now >= self.ends;
                self.bookmark = now + BOOKMARKS;
                if self.request.bookmarks {
                    return Some(self.bookmark());
                }
                continue;
            }
            let until = due.into_iter().chain([self.ends, self.bookmark]).min().expect("never empty");
            tokio::select! {
                () = self.cluster.clock.sleep_until(until.max(now + Duration::from_millis(1))) => {}
                // The sender is not dropped: the watch holds the cluster.
                _ = self.changed.changed() => {}
                _ = self.restarted.changed() => self.over = true,
            }
        }
    }

    /// Queues changes; returns the time of the cluster's next transition.
    fn collect(&mut self) -> Option<Timestamp> {
        let cluster = Arc::clone(&self.cluster);
        let world = cluster.enter();
        let request = &self.request;
        let in_namespace =
            |change: &&Change| request.namespace.is_empty() || change.key.namespace == request.namespace;
        let changes = world.store.since(self.version, request.resource.stored).filter(in_namespace);
        self.queue.extend(changes.filter_map(|change| line(change, &request.selector)));
        self.version = self.version.max(world.store.version());
        world.next_due()
    }

    fn bookmark(&self) -> Value {
        let resource = self.request.resource;
        json!({
            "type": "BOOKMARK",
            "object": {
                "kind": resource.kind,
                "apiVersion": resource.api_version(),
                "metadata": { "resourceVersion": self.version.to_string() },
            },
        })
    }
}

/// The watch event of a change for this selector: an object that no longer matches is reported as DELETED.
fn line(change: &Change, selector: &Selector) -> Option<Value> {
    let matches =
        |object: &Option<super::store::Object>| object.as_ref().is_some_and(|o| selector.matches(o));
    let (kind, object) = match (matches(&change.before), matches(&change.after)) {
        (false, true) => ("ADDED", &change.after),
        (true, true) => ("MODIFIED", &change.after),
        (true, false) => ("DELETED", &change.before),
        (false, false) => return None,
    };
    let mut object = Value::clone(object.as_ref()?);
    object["metadata"]["resourceVersion"] = json!(change.version.to_string());
    Some(json!({ "type": kind, "object": object }))
}
