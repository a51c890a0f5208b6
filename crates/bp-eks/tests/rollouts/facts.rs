//! The model's history and the requests: all that the checker knows.

use std::{collections::BTreeMap, sync::Arc};

use bp_artifact::{ResolvedImage, Verdict, error::ErrorClass};
use bp_sandbox::{
    Effect, Entry,
    kube::{Cluster, ObjectChange},
};
use serde_json::Value;

use crate::schedule::{Kind, Policy, Schedule};

/// How the rollout ended.
#[derive(Debug, Clone)]
pub(crate) enum Ending {
    Verdict { verdict: Verdict, changed: bool, detail: String },
    Error { class: ErrorClass, message: String },
}

/// When `deploy` was called, and when it ended.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Times {
    pub(crate) start: f64,
    pub(crate) now: f64,
}

/// An object over time; `None` while it does not exist.
type Life = Vec<(f64, Option<Arc<Value>>)>;

/// A change of the image of the workload's container.
#[derive(Debug, Clone)]
pub(crate) struct ImageChange {
    pub(crate) at: f64,
    pub(crate) image: String,
    pub(crate) before: String,
    pub(crate) generation: i64,
    pub(crate) ours: bool,
}

/// The history. Times are Unix seconds.
#[derive(Debug)]
pub(crate) struct Facts {
    pub(crate) ending: Ending,
    pub(crate) policy: Policy,
    pub(crate) kind: Kind,
    pub(crate) times: Times,
    /// The image to deploy.
    pub(crate) image: String,
    pub(crate) digest: String,
    /// Whether anything but the workload itself disturbed the rollout: faults, restarts of the API server.
    pub(crate) is_disturbed: bool,
    pub(crate) workload: Life,
    /// The changes of its image since the start, in order.
    pub(crate) changes: Vec<ImageChange>,
    pods: BTreeMap<String, Life>,
    sets: BTreeMap<String, Life>,
    events: BTreeMap<String, Life>,
    pub(crate) requests: Vec<Entry>,
    /// What others did, and when.
    pub(crate) others: Vec<(f64, &'static str)>,
}

pub(crate) fn seconds(at: jiff::Timestamp) -> f64 {
    at.as_microsecond() as f64 / 1e6
}

/// The kind of a request's fault, if it took effect.
pub(crate) fn fault_of(request: &Entry) -> Option<&'static str> {
    Some(match request.fault.as_ref()? {
        Effect::Answer { status: 403, .. } => "denied",
        Effect::Answer { status: 429, .. } => "throttled",
        Effect::Answer { status: 401, .. } => "expired",
        Effect::Answer { .. } => "5xx",
        Effect::LoseAnswer => "lost answer",
        Effect::Reset => "reset",
        Effect::CutBody(at) if request.response_bytes >= *at => "answer cut",
        _ => return None,
    })
}

/// Whether the client received the response.
pub(crate) fn is_answered(request: &Entry) -> bool {
    request.status.is_some_and(|status| status < 300) && fault_of(request).is_none()
}

/// Whether the request is one of our changes of the workload.
pub(crate) fn is_change(request: &Entry) -> bool {
    let verb = request.operation.split(' ').next().unwrap_or_default();
    ["patch", "update"].contains(&verb)
}

/// The image of the container in a workload, a ReplicaSet or a pod.
pub(crate) fn image_of(object: &Value) -> &str {
    let template = &object["spec"]["template"];
    let pod = if template.is_null() { &object["spec"] } else { &template["spec"] };
    pod["containers"][0]["image"].as_str().unwrap_or_default()
}

fn lives(changes: Vec<ObjectChange>) -> BTreeMap<String, Life> {
    let mut lives: BTreeMap<String, Life> = BTreeMap::new();
    for change in changes {
        lives.entry(change.name).or_default().push((seconds(change.at), change.object));
    }
    lives
}

fn at(life: &Life, time: f64) -> Option<&Arc<Value>> {
    let next = life.partition_point(|(since, _)| *since <= time);
    life[..next].last()?.1.as_ref()
}

impl Facts {
    pub(crate) fn read(
        cluster: &Cluster,
        schedule: &Schedule,
        ending: Ending,
        times: Times,
        ours: &ResolvedImage,
        requests: Vec<Entry>,
        others: Vec<(f64, &'static str, [u64; 2])>,
    ) -> Result<Facts, String> {
        let kind = schedule.workload.kind;
        let of_workload = cluster.history(kind.plural(), "prod");
        let first = of_workload.iter().position(|change| seconds(change.at) >= times.start);
        if of_workload.first().is_none_or(|change| seconds(change.at) >= times.start) {
            return Err("the history is too short".to_owned());
        }
        let first = first.unwrap_or(of_workload.len());
        let mut changes = Vec::new();
        for pair in of_workload[first - 1..].windows(2) {
            let (Some(before), Some(after)) = (&pair[0].object, &pair[1].object) else { continue };
            if image_of(before) != image_of(after) {
                let by_others =
                    others.iter().any(|(.., [from, to])| (*from + 1..=*to).contains(&pair[1].version));
                changes.push(ImageChange {
                    at: seconds(pair[1].at),
                    image: image_of(after).to_owned(),
                    before: image_of(before).to_owned(),
                    generation: after["metadata"]["generation"].as_i64().unwrap_or_default(),
                    ours: !by_others,
                });
            }
        }
        let disturbing = ["API server restart", "expired watches (410)"];
        Ok(Facts {
            is_disturbed: !schedule.faults.is_empty()
                || others.iter().any(|(_, what, _)| disturbing.contains(what)),
            ending,
            policy: schedule.policy,
            kind,
            times,
            image: ours.reference.to_string(),
            digest: ours.reference.digest().to_string(),
            workload: lives(of_workload).remove("web").unwrap_or_default(),
            changes,
            pods: lives(cluster.history("pods", "prod")),
            sets: lives(cluster.history(kind.versions(), "prod")),
            events: lives(cluster.history("events", "prod")),
            requests,
            others: others.into_iter().map(|(at, what, _)| (at, what)).collect(),
        })
    }

    pub(crate) fn workload_at(&self, time: f64) -> Option<&Arc<Value>> {
        at(&self.workload, time)
    }

    /// The pods that exist at a time.
    pub(crate) fn pods_at(&self, time: f64) -> impl Iterator<Item = &Arc<Value>> {
        self.pods.values().filter_map(move |life| at(life, time))
    }

    /// The pods of our image.
    pub(crate) fn our_pods(&self, time: f64) -> impl Iterator<Item = &Arc<Value>> {
        self.pods_at(time).filter(|pod| image_of(pod) == self.image)
    }

    /// Why pods of an image are refused at a time, as a ReplicaSet's condition or an event since `since` says.
    pub(crate) fn refusals(&self, image: &str, since: f64, time: f64) -> Vec<&str> {
        let sets = self.sets.values().filter_map(|life| at(life, time)).filter(|set| image_of(set) == image);
        let conditions = sets.flat_map(|set| set["status"]["conditions"].as_array().into_iter().flatten());
        let failures = conditions.filter(|c| c["type"] == "ReplicaFailure" && c["status"] == "True");
        let mut all: Vec<&str> = failures.filter_map(|c| c["message"].as_str()).collect();
        if self.kind != Kind::Deployment {
            let events =
                self.events_at(time).filter(|(at, event)| *at >= since && event["reason"] == "FailedCreate");
            all.extend(events.filter_map(|(_, event)| event["message"].as_str()));
        }
        all
    }

    /// The events at a time, each with the time of its last change.
    fn events_at(&self, time: f64) -> impl Iterator<Item = (f64, &Arc<Value>)> {
        self.events.values().filter_map(move |life| {
            let next = life.partition_point(|(since, _)| *since <= time);
            let (at, event) = life[..next].last()?;
            Some((*at, event.as_ref()?))
        })
    }

    /// Whether a probe of the pod has failed by this time.
    pub(crate) fn has_failed_probes(&self, pod: &Value, time: f64) -> bool {
        self.events_at(time).any(|(_, event)| {
            event["reason"] == "Unhealthy" && event["involvedObject"]["uid"] == pod["metadata"]["uid"]
        })
    }

    /// The times of all changes in an interval, and its ends.
    pub(crate) fn moments(&self, from: f64, to: f64) -> Vec<f64> {
        let lives = self.pods.values().chain(self.sets.values()).chain([&self.workload]);
        let mut moments: Vec<f64> =
            lives.flatten().map(|(at, _)| *at).filter(|at| (from..=to).contains(at)).collect();
        if self.kind != Kind::Deployment {
            let events = self.events.values().flatten().map(|(at, _)| *at);
            moments.extend(events.filter(|at| (from..=to).contains(at)));
        }
        moments.extend([from, to]);
        moments.sort_by(f64::total_cmp);
        moments.dedup();
        moments
    }

    /// The requests about these objects that read, in order.
    pub(crate) fn reads(&self, plural: &str) -> impl DoubleEndedIterator<Item = &Entry> {
        let reads = ["list", "watch"].map(|verb| format!("{verb} {plural}"));
        self.requests.iter().filter(move |request| reads.contains(&request.operation))
    }

    /// The earliest time at which the objects may have been seen last: a watch that ends is not opened again at once.
    pub(crate) fn seen(&self, plural: &str) -> f64 {
        if !self.is_disturbed {
            return self.times.now - 0.3;
        }
        let failing: Vec<&Entry> =
            self.reads(plural).rev().take_while(|request| !is_answered(request)).collect();
        failing.last().map_or(self.times.now, |first| seconds(first.at)) - 6.0
    }

    /// Whether another client did this up to a time.
    pub(crate) fn did_others(&self, action: &str, until: f64) -> bool {
        self.others.iter().any(|(at, what)| *what == action && *at <= until)
    }
}
