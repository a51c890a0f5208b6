//! Whether a rollout had failed, by the pods and conditions of the model: independent of the code of bp-eks.
//!
//! A pod of the new image fails
//! - finally: its image does not exist or cannot be pulled, it ran out of memory, it exceeds its own limit, or it was
//!   restarted as often as is allowed;
//! - until the grace period ends: its Secret is missing;
//! - until the deadline: it has ended, it is not ready and its probe fails, its node stopped it.
//!
//! The rollout fails if every active pod fails finally, or as many as the limit for the same reason, also after the
//! grace period; if new pods are refused: at once by a policy, otherwise after the grace period (a quota: ten seconds);
//! if Kubernetes reports that its progress deadline is exceeded; or at our deadline.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::{facts::Facts, schedule::Kind};

/// How long a quota may be exhausted, in seconds.
const QUOTA: f64 = 10.0;
/// The tolerance of comparisons, in seconds.
pub(crate) const ROUNDING: f64 = 0.5;

/// Why a pod fails, and whether it can recover.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Recovery {
    Never,
    Retried,
    Sometime,
}

pub(crate) fn is_ending(pod: &Value) -> bool {
    !pod["metadata"]["deletionTimestamp"].is_null()
}

pub(crate) fn has_failed(pod: &Value) -> bool {
    pod["status"]["phase"] == "Failed"
}

pub(crate) fn is_ready(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array().into_iter().flatten();
    conditions.into_iter().any(|c| c["type"] == "Ready" && c["status"] == "True")
}

/// Whether the node ended the pod, for a reason that is not the pod's own.
fn by_its_node(pod: &Value) -> bool {
    has_failed(pod)
        && pod["status"]["message"].as_str().is_some_and(|message| message.starts_with("The node was low"))
}

/// The reasons why a pod fails.
fn symptoms(facts: &Facts, pod: &Value, time: f64) -> Vec<(&'static str, Recovery)> {
    if has_failed(pod) {
        return vec![if by_its_node(pod) {
            ("node", Recovery::Sometime)
        } else {
            ("limit", Recovery::Never)
        }];
    }
    let mut found = Vec::new();
    for container in pod["status"]["containerStatuses"].as_array().into_iter().flatten() {
        let waiting = &container["state"]["waiting"];
        let message = waiting["message"].as_str().unwrap_or_default();
        let restarts = container["restartCount"].as_u64().unwrap_or_default();
        let last = &container["lastState"]["terminated"];
        match waiting["reason"].as_str() {
            Some("ErrImagePull" | "ImagePullBackOff") if message.contains("403 Forbidden") => {
                found.push(("denied", Recovery::Never));
            }
            Some("ErrImagePull" | "ImagePullBackOff") => found.push(("missing", Recovery::Never)),
            Some("CreateContainerConfigError") => found.push(("secret", Recovery::Retried)),
            Some("CrashLoopBackOff") if last["reason"] == "OOMKilled" => {
                found.push(("memory", Recovery::Never))
            }
            Some("CrashLoopBackOff") => {
                let is_final = restarts >= u64::from(facts.policy.restarts);
                found.push(("exit", if is_final { Recovery::Never } else { Recovery::Sometime }));
            }
            _ => {}
        }
        let ended = &container["state"]["terminated"];
        if ended["exitCode"].as_i64().is_some_and(|code| code != 0) {
            found.push((if ended["reason"] == "OOMKilled" { "memory" } else { "exit" }, Recovery::Sometime));
        }
    }
    if !is_ready(pod) && facts.has_failed_probes(pod, time) {
        found.push(("probe", Recovery::Sometime));
    }
    let conditions = pod["status"]["conditions"].as_array().into_iter().flatten();
    if conditions.into_iter().any(|c| c["type"] == "PodScheduled" && c["status"] == "False") {
        found.push(("unschedulable", Recovery::Sometime));
    }
    found
}

/// Whether a recovery counts.
type Counts = fn(Recovery) -> bool;

/// How the new pods fail at a time.
struct Failing<'f> {
    facts: &'f Facts,
    time: f64,
    image: &'f str,
    /// Failed pods from before this do not count.
    since: f64,
}

impl Failing<'_> {
    /// Whether enough pods fail. `strict`: certainly enough for bp-eks to say so.
    fn enough(&self, counts: Counts, strict: bool) -> bool {
        let made = |pod: &Value| {
            let created = pod["metadata"]["creationTimestamp"].as_str().and_then(|text| text.parse().ok());
            created.map_or(0.0, crate::facts::seconds)
        };
        let pods: Vec<&Value> = self
            .facts
            .pods_at(self.time)
            .map(AsRef::as_ref)
            .filter(|pod: &&Value| crate::facts::image_of(pod) == self.image && !is_ending(pod))
            .filter(|pod| !has_failed(pod) || made(pod) >= self.since - 1.0)
            .collect();
        let active = pods.iter().filter(|pod| !has_failed(pod)).count();
        let mut failing: BTreeMap<&str, Vec<&Value>> = BTreeMap::new();
        let mut all = 0;
        for pod in &pods {
            let worst = symptoms(self.facts, pod, self.time)
                .into_iter()
                .filter(|(_, recovery)| counts(*recovery))
                .min_by_key(|(_, r)| *r);
            let Some((reason, _)) = worst else { continue };
            failing.entry(reason).or_default().push(pod);
            all += usize::from(!has_failed(pod));
        }
        let limit =
            self.facts.policy.fail_after.map_or_else(|| active.div_ceil(4).max(2), |pods| pods as usize);
        let node = |pod: &Value| pod["spec"]["nodeName"].as_str().map(str::to_owned);
        let on_one_node = |failing: &Vec<&Value>| {
            let nodes: Vec<_> = failing.iter().map(|pod| node(pod)).collect();
            let elsewhere = pods.iter().any(|pod| is_ready(pod) && node(pod) != nodes[0]);
            elsewhere && nodes.iter().all(|node| *node == nodes[0])
        };
        let enough = failing.values().any(|pods| pods.len() >= limit && !(strict && on_one_node(pods)));
        active > 0 && all == active || enough
    }
}

/// A rollout that is followed: of our image, or of the one that is restored.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Followed<'f> {
    pub(crate) image: &'f str,
    /// When it began, and its deadline.
    pub(crate) began: f64,
    pub(crate) deadline: f64,
    /// The generation of the workload that began it.
    pub(crate) generation: i64,
    /// Whether refused pods fail it before the deadline.
    pub(crate) fails_refused: bool,
}

fn is_final(recovery: Recovery) -> bool {
    recovery == Recovery::Never
}

fn is_retried(recovery: Recovery) -> bool {
    recovery != Recovery::Sometime
}

fn is_any(_: Recovery) -> bool {
    true
}

impl<'f> Followed<'f> {
    fn failing(&self, facts: &'f Facts, time: f64) -> Failing<'f> {
        Failing { facts, time, image: self.image, since: self.began }
    }

    /// Whether Kubernetes has reported since the beginning that the progress deadline is exceeded.
    fn is_stalled(&self, facts: &Facts, time: f64) -> bool {
        let Some(workload) = facts.workload_at(time) else { return false };
        let conditions = workload["status"]["conditions"].as_array().into_iter().flatten();
        conditions.into_iter().any(|c| {
            let since = c["lastUpdateTime"]
                .as_str()
                .and_then(|text| text.parse().ok())
                .map_or(0.0, crate::facts::seconds);
            c["reason"] == "ProgressDeadlineExceeded" && since >= self.began - 1.0
        })
    }

    fn is_observed(&self, facts: &Facts, time: f64) -> bool {
        let generation = |value: &Value| value.as_i64().unwrap_or_default();
        facts.workload_at(time).is_some_and(|workload| {
            generation(&workload["status"]["observedGeneration"]) >= self.generation
                && crate::facts::image_of(workload) == self.image
        })
    }

    /// Whether the rollout may be considered failed at a time, or was before.
    pub(crate) fn may_have_failed(&self, facts: &'f Facts, until: f64) -> bool {
        if until >= self.deadline - ROUNDING {
            return true;
        }
        let grace = facts.policy.grace as f64;
        let mut retried_since: Option<f64> = None;
        let mut refused_since: Option<f64> = None;
        let mut patience = grace;
        for time in facts.moments(self.began, until) {
            // What began lasts until this moment, at which it may end: the pods of a failed rollout are deleted.
            let lasts =
                |since: Option<f64>, limit: f64| since.is_some_and(|since| time - since >= limit - ROUNDING);
            if lasts(retried_since, grace) || lasts(refused_since, patience) && self.fails_refused {
                return true;
            }
            let failing = self.failing(facts, time);
            if failing.enough(is_final, false) || self.is_stalled(facts, time) {
                return true;
            }
            if failing.enough(is_retried, false) {
                retried_since.get_or_insert(time);
            }
            let refusals = facts.refusals(self.image, self.began, time);
            if refusals.iter().any(|refusal| refusal.contains("denied the request")) {
                return true;
            }
            if !refusals.is_empty() {
                refused_since.get_or_insert(time);
            }
            if refusals.iter().any(|refusal| refusal.contains("exceeded quota")) {
                patience = grace.min(QUOTA);
            }
        }
        false
    }

    /// The time since which the rollout had certainly failed, if it had before `until` for longer than `patience` in
    /// seconds.
    pub(crate) fn must_have_failed(&self, facts: &'f Facts, until: f64, patience: f64) -> Option<f64> {
        let mut since: Option<f64> = None;
        for time in facts.moments(self.began, until) {
            let is_paused =
                facts.workload_at(time).is_some_and(|workload| workload["spec"]["paused"] == true);
            let fails = self.is_observed(facts, time)
                && !is_paused
                && (self.failing(facts, time).enough(is_final, true) || self.is_stalled(facts, time));
            if let Some(since) = since
                && time - since > patience
            {
                return Some(since);
            }
            if !fails {
                since = None;
            } else if since.is_none() {
                since = Some(time);
            }
        }
        None
    }

    /// Whether a new pod cannot start, which the kubelet retries.
    pub(crate) fn is_retried(&self, facts: &'f Facts, time: f64) -> bool {
        let mut pods = facts.pods_at(time).filter(|pod| crate::facts::image_of(pod) == self.image);
        pods.any(|pod| symptoms(facts, pod, time).iter().any(|(_, recovery)| *recovery == Recovery::Retried))
    }

    /// Whether any new pod shows why it is not ready.
    pub(crate) fn has_reason(&self, facts: &'f Facts, time: f64) -> bool {
        let pods = facts.pods_at(time).filter(|pod| crate::facts::image_of(pod) == self.image);
        let mut pods = pods.filter(|pod| !is_ending(pod) && !has_failed(pod));
        pods.any(|pod| symptoms(facts, pod, time).into_iter().any(|(_, recovery)| is_any(recovery)))
    }
}

/// Whether the rollout of the workload's template is complete, by the rules of `kubectl rollout status`.
pub(crate) fn is_complete(kind: Kind, workload: &Value, generation: i64) -> bool {
    let (spec, status) = (&workload["spec"], &workload["status"]);
    let count = |field: &str| status[field].as_i64().unwrap_or_default();
    if count("observedGeneration") < generation {
        return false;
    }
    let desired = spec["replicas"].as_i64().unwrap_or(1);
    match kind {
        Kind::Deployment => {
            let conditions = status["conditions"].as_array().into_iter().flatten();
            let is_stalled = conditions.into_iter().any(|c| c["reason"] == "ProgressDeadlineExceeded");
            let (updated, available) = (count("updatedReplicas"), count("availableReplicas"));
            !is_stalled && updated >= desired && count("replicas") <= updated && available >= updated
        }
        Kind::StatefulSet => {
            let partition = spec["updateStrategy"]["rollingUpdate"]["partition"].as_i64().unwrap_or_default();
            count("readyReplicas") >= desired
                && if partition > 0 {
                    count("updatedReplicas") >= desired - partition
                } else {
                    status["updateRevision"] == status["currentRevision"]
                }
        }
        Kind::DaemonSet => {
            let desired = count("desiredNumberScheduled");
            count("updatedNumberScheduled") >= desired && count("numberAvailable") >= desired
        }
    }
}
