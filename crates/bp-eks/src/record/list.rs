//! List the objects of one kind in pages, and keep the most relevant ones within limits of count and size.

use std::cmp::Reverse;

use bp_artifact::recording::{OmittedPart, Recorder};
use k8s_openapi::api::core::v1::{Event, Pod};
use kube::{
    api::ListParams,
    core::{ApiResource, DynamicObject, TypeMeta},
};
use serde_json::{Value, json};

use super::note_missing;
use crate::{api::scope::Scope, error::Error, workload::Kind};

/// The number of objects in one response.
const PAGE: u32 = 250;
/// The maximum number of requests for one kind.
const PAGES: usize = 40;
/// The maximum number of recorded objects of one kind, except events.
const OBJECTS: usize = 500;
/// The maximum number of recorded events.
const EVENTS: usize = 1000;
/// The maximum size of the recorded objects of one kind, as JSON without whitespace.
const BYTES: usize = 2 << 20;

/// The relevance of an object: problems first, then the newest.
type Rank = (bool, Reverse<String>);

/// A kind of object to list.
pub(super) struct List {
    /// Its plural, the part of the recording.
    pub(super) part: String,
    resource: ApiResource,
    operation: &'static str,
    limit: usize,
    rank: fn(&Value) -> Rank,
    preferred: &'static str,
}

/// The listed objects that are kept, in the order of their names; of events, in the order of time.
#[derive(Default)]
pub(super) struct Listed {
    pub(super) objects: Vec<Value>,
    omitted: Option<OmittedPart>,
    /// The error of a request after the first one.
    error: Option<Error>,
}

impl Listed {
    /// Adds the objects to the recording as `part`.
    pub(super) fn note(self, recorder: &mut Recorder, part: &str) -> Vec<Value> {
        if let Some(error) = &self.error {
            note_missing(recorder, part, error);
        }
        if let Some(omitted) = self.omitted {
            recorder.add_omitted(OmittedPart { part: part.to_owned(), ..omitted });
        }
        self.objects
    }
}

impl List {
    /// The workloads of this kind.
    pub(super) fn workloads(kind: &Kind) -> Self {
        Self::of(
            (kind.resource)(),
            kind.calls.list,
            workload_rank,
            "those that are not ready, then the newest",
        )
    }

    /// The stored revisions of this kind of workload, if there are any.
    pub(super) fn versions(kind: &Kind) -> Option<Self> {
        let (resource, calls) = kind.versions.resource()?;
        Some(Self::of(resource, calls.list, version_rank, "those with pods, then the newest"))
    }

    pub(super) fn pods() -> Self {
        let resource = ApiResource::erase::<Pod>(&());
        Self::of(resource, "list pods", pod_rank, "those that are not ready, then the newest")
    }

    pub(super) fn events() -> Self {
        let resource = ApiResource::erase::<Event>(&());
        let events = Self::of(resource, "list events", event_rank, "warnings, then the newest");
        List { limit: EVENTS, ..events }
    }

    fn of(
        resource: ApiResource,
        operation: &'static str,
        rank: fn(&Value) -> Rank,
        preferred: &'static str,
    ) -> Self {
        List { part: resource.plural.clone(), resource, operation, limit: OBJECTS, rank, preferred }
    }

    /// Lists the objects that match the label selector and the filter.
    ///
    /// # Errors
    /// When the first request fails. An error of a later one is a part of the result.
    pub(super) async fn read(
        &self,
        scope: &Scope,
        selector: Option<&str>,
        is_wanted: impl Fn(&Value) -> bool,
    ) -> Result<Listed, Error> {
        let api = scope.dynamic(&self.resource);
        let mut params = ListParams { label_selector: selector.map(str::to_owned), ..ListParams::default() };
        params = params.limit(PAGE);
        let mut kept = Kept::default();
        let (mut error, mut more) = (None, false);
        for page in 0..PAGES {
            let list = match api.list(&params).await {
                Ok(list) => list,
                Err(e) => {
                    let e = scope.all(&self.resource.kind.to_ascii_lowercase()).error(self.operation, e);
                    if page == 0 {
                        return Err(e);
                    }
                    (error, more) = (Some(e), true);
                    break;
                }
            };
            let objects = list.items.into_iter().map(|object| self.complete(object));
            kept.add(objects.filter(&is_wanted), self);
            params.continue_token = list.metadata.continue_.filter(|token| !token.is_empty());
            more = params.continue_token.is_some();
            if !more {
                break;
            }
        }
        Ok(kept.listed(self, more, error))
    }

    /// An object with its kind, which items of lists do not have, and without field managers.
    fn complete(&self, mut object: DynamicObject) -> Value {
        let ApiResource { api_version, kind, .. } = &self.resource;
        object.types = Some(TypeMeta { api_version: api_version.clone(), kind: kind.clone() });
        object.metadata.managed_fields = None;
        json!(object)
    }
}

/// The most relevant objects so far.
#[derive(Default)]
struct Kept {
    objects: Vec<(Rank, usize, Value)>,
    seen: usize,
}

impl Kept {
    fn add(&mut self, objects: impl Iterator<Item = Value>, list: &List) {
        let before = self.objects.len();
        self.objects.extend(objects.map(|object| ((list.rank)(&object), object.to_string().len(), object)));
        self.seen += self.objects.len() - before;
        self.objects.sort_by(|(a, _, x), (b, _, y)| a.cmp(b).then_with(|| name(x).cmp(name(y))));
        self.objects.truncate(list.limit);
        let mut size = 0;
        self.objects.retain(|(_, bytes, _)| {
            let fits = size + bytes <= BYTES;
            size += if fits { *bytes } else { 0 };
            fits
        });
    }

    fn listed(self, list: &List, more: bool, error: Option<Error>) -> Listed {
        let mut objects: Vec<Value> = self.objects.into_iter().map(|(.., object)| object).collect();
        objects.sort_by_key(|object| (time(object), name(object).to_owned()));
        let (recorded, omitted) = (objects.len(), self.seen - objects.len());
        let (limit, preferred) = (list.limit, list.preferred);
        let reason =
            format!("the limits are {limit} objects and {} MiB; preferred: {preferred}", BYTES >> 20);
        let omitted = OmittedPart { part: list.part.clone(), recorded, omitted, more, reason };
        Listed { objects, omitted: (omitted.omitted > 0 || more).then_some(omitted), error }
    }
}

fn name(object: &Value) -> &str {
    object["metadata"]["name"].as_str().unwrap_or_default()
}

fn text(value: &Value) -> Option<String> {
    value.as_str().map(str::to_owned)
}

/// The time of an event; `None` for other objects, which are ordered by name.
fn time(object: &Value) -> Option<String> {
    if object["kind"] != "Event" {
        return None;
    }
    let times = [&object["lastTimestamp"], &object["series"]["lastObservedTime"], &object["eventTime"]];
    times.into_iter().find_map(text).or_else(|| created(object))
}

fn created(object: &Value) -> Option<String> {
    text(&object["metadata"]["creationTimestamp"])
}

fn newest_after(is_fine: bool, object: &Value) -> Rank {
    (is_fine, Reverse(created(object).unwrap_or_default()))
}

fn workload_rank(object: &Value) -> Rank {
    let (spec, status) = (&object["spec"], &object["status"]);
    let count = |value: &Value| value.as_i64().unwrap_or_default();
    let is_ready = match object["kind"].as_str() {
        Some("Job") => count(&status["succeeded"]) > 0,
        Some("DaemonSet") => count(&status["desiredNumberScheduled"]) == count(&status["numberReady"]),
        _ => {
            let updated = status["updatedReplicas"].as_i64();
            let wanted = count(&spec["replicas"]);
            wanted == count(&status["readyReplicas"]) && updated.is_none_or(|updated| updated == wanted)
        }
    };
    newest_after(is_ready, object)
}

fn version_rank(object: &Value) -> Rank {
    let is_idle = object["spec"]["replicas"] == 0 && object["status"]["replicas"].as_i64().unwrap_or(0) == 0;
    newest_after(is_idle, object)
}

fn pod_rank(object: &Value) -> Rank {
    let conditions = object["status"]["conditions"].as_array().into_iter().flatten();
    let is_ready = conditions.into_iter().any(|c| c["type"] == "Ready" && c["status"] == "True");
    newest_after(is_ready || object["status"]["phase"] == "Succeeded", object)
}

fn event_rank(object: &Value) -> Rank {
    (object["type"] != "Warning", Reverse(time(object).unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(name: usize, ready: bool, padding: usize) -> Value {
        let status = if ready { "True" } else { "False" };
        json!({
            "kind": "Pod",
            "metadata": { "name": format!("web-{name:05}"), "annotations": { "x": "x".repeat(padding) } },
            "status": { "conditions": [{ "type": "Ready", "status": status }] },
        })
    }

    fn listed(pages: &[Vec<Value>]) -> Listed {
        let (list, mut kept) = (List::pods(), Kept::default());
        pages.iter().for_each(|page| kept.add(page.iter().cloned(), &list));
        kept.listed(&list, false, None)
    }

    #[test]
    fn keeps_what_is_not_ready_within_the_limit_of_count() {
        let pages: Vec<Vec<Value>> =
            (0..3).map(|page| (0..250).map(|n| pod(page * 250 + n, n % 250 != 249, 0)).collect()).collect();
        let listed = listed(&pages);
        let names: Vec<&str> = listed.objects.iter().map(name).collect();
        assert_eq!(names.len(), OBJECTS);
        assert!(names.is_sorted() && names.contains(&"web-00749"), "{names:?}");
        let omitted = listed.omitted.unwrap();
        assert_eq!((omitted.recorded, omitted.omitted, omitted.more), (500, 250, false));
    }

    #[test]
    fn keeps_the_recording_within_the_limit_of_size() {
        let large = pod(0, true, BYTES);
        let listed = listed(&[vec![
            large,
            pod(1, true, BYTES / 2),
            pod(2, false, BYTES / 3),
            pod(3, true, BYTES / 2),
        ]]);
        let names: Vec<&str> = listed.objects.iter().map(name).collect();
        assert_eq!(names, ["web-00001", "web-00002"]);
        assert_eq!(listed.omitted.unwrap().omitted, 2);
        assert!(super::Listed::default().omitted.is_none());
    }

    #[test]
    fn orders_events_by_time_and_prefers_warnings() {
        let event = |name: &str, kind: &str, at: &str| json!({ "kind": "Event", "type": kind, "metadata": { "name": name }, "lastTimestamp": at });
        let (old, new) = ("2026-11-28T12:00:00Z", "2026-11-28T12:00:09Z");
        let (a, b, c) = (event("a", "Normal", new), event("b", "Warning", old), event("c", "Warning", new));
        let mut ranked = [&a, &b, &c];
        ranked.sort_by_key(|event| event_rank(event));
        assert_eq!(ranked.map(name), ["c", "b", "a"]);
        let (list, mut kept) = (List::events(), Kept::default());
        kept.add([a, b, c].into_iter(), &list);
        let listed = kept.listed(&list, false, None);
        assert_eq!(listed.objects.iter().map(name).collect::<Vec<_>>(), ["b", "a", "c"]);
        assert!(listed.omitted.is_none());
    }
}
