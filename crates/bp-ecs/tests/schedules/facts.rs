//! The model's final state and the history of requests: all that the checker knows.

use std::collections::BTreeMap;

use bp_artifact::{Verdict, error::ErrorClass};
use bp_sandbox::{Effect, Entry};
use serde_json::Value;

use crate::schedule::Policy;

/// How the deployment ended.
#[derive(Debug, Clone)]
pub(crate) enum Ending {
    Verdict { verdict: Verdict, changed: bool, detail: String },
    Error { class: ErrorClass, message: String },
}

/// Who started a deployment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Party {
    /// Somebody, before the call of `deploy`.
    Before,
    Ours,
    /// Another client, after it.
    Other,
}

/// The state and the history. Times are Unix seconds.
#[derive(Debug)]
pub(crate) struct Facts {
    pub(crate) ending: Ending,
    pub(crate) policy: Policy,
    /// The image to deploy, by digest.
    pub(crate) image: String,
    pub(crate) digest: String,
    /// When `deploy` was called, and when it ended.
    pub(crate) start: f64,
    pub(crate) now: f64,
    pub(crate) initial_desired: u64,
    /// The percentage of tasks that must run for a success.
    pub(crate) required_percent: u64,
    /// The service, as DescribeServices shows it.
    pub(crate) service: Value,
    /// All service deployments, oldest first, and who started each.
    pub(crate) deployments: Vec<Value>,
    pub(crate) parties: Vec<Party>,
    /// The task definition and the image of each service revision, by its number.
    pub(crate) definitions: BTreeMap<String, (String, String)>,
    /// All tasks of the last hour.
    pub(crate) tasks: Vec<Value>,
    /// All requests of the deployment.
    pub(crate) requests: Vec<Entry>,
    /// What other clients did, and when.
    pub(crate) others: Vec<(f64, &'static str)>,
}

/// A service deployment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Deployment<'a> {
    pub(crate) by: Party,
    /// The number of the revision that it deploys.
    pub(crate) number: &'a str,
    pub(crate) definition: &'a str,
    pub(crate) image: &'a str,
    pub(crate) created: f64,
    pub(crate) finished: Option<f64>,
    pub(crate) status: &'a str,
    pub(crate) reason: &'a str,
    /// The revision to which ECS rolls it back, and since when.
    pub(crate) rollback: Option<(&'a str, f64)>,
    pub(crate) awaits_approval: bool,
}

impl Deployment<'_> {
    pub(crate) fn is_over(&self) -> bool {
        self.finished.is_some()
    }
}

pub(crate) fn seconds(at: jiff::Timestamp) -> f64 {
    at.as_millisecond() as f64 / 1000.0
}

fn number_of(arn: &Value) -> &str {
    arn.as_str().unwrap_or_default().rsplit('/').next().unwrap_or_default()
}

/// The kind of a request's fault, if it took effect.
pub(crate) fn fault_of(request: &Entry) -> Option<&'static str> {
    Some(match request.fault.as_ref()? {
        Effect::Answer { body, .. } if body.contains("AccessDenied") => "denied",
        Effect::Answer { body, .. } if body.contains("Throttling") => "throttled",
        Effect::Answer { body, .. } if body.contains("Expired") => "expired",
        Effect::Answer { .. } => "5xx",
        Effect::LoseAnswer => "lost answer",
        Effect::Reset => "reset",
        Effect::CutBody(at) if request.response_bytes >= *at => "answer cut",
        _ => return None,
    })
}

/// Whether the client received the response.
pub(crate) fn is_answered(request: &Entry) -> bool {
    request.status == Some(200) && fault_of(request).is_none()
}

/// Whether the model processed the request successfully; its response may have been lost.
pub(crate) fn is_processed(request: &Entry) -> bool {
    match fault_of(request) {
        None | Some("answer cut") => request.status == Some(200),
        Some("lost answer") => true,
        Some(_) => false,
    }
}

/// Whether a task failed, by its own doing: it did not start, a container exited or a health check failed.
pub(crate) fn is_failed(task: &Value) -> bool {
    match task["stopCode"].as_str() {
        Some("TaskFailedToStart" | "EssentialContainerExited") => true,
        Some("ServiceSchedulerInitiated") => {
            task["stoppedReason"].as_str().is_some_and(|reason| reason.contains("health checks"))
        }
        _ => false,
    }
}

impl Facts {
    pub(crate) fn deployments(&self) -> impl DoubleEndedIterator<Item = Deployment<'_>> {
        self.deployments.iter().zip(&self.parties).map(|(view, by)| {
            let number = number_of(&view["targetServiceRevision"]["arn"]);
            let (definition, image) = &self.definitions[number];
            let hooks = view["lifecycleHookDetails"].as_array().into_iter().flatten();
            Deployment {
                by: *by,
                number,
                definition,
                image,
                created: view["createdAt"].as_f64().unwrap(),
                finished: view["finishedAt"].as_f64(),
                status: view["status"].as_str().unwrap_or_default(),
                reason: view["statusReason"].as_str().unwrap_or_default(),
                rollback: view["rollback"].as_object().map(|rollback| {
                    (number_of(&rollback["serviceRevisionArn"]), rollback["startedAt"].as_f64().unwrap())
                }),
                awaits_approval: hooks.into_iter().any(|hook| hook["status"] == "AWAITING_ACTION"),
            }
        })
    }

    /// The deployments of our image: ours, and those of the same definition that we adopt or follow.
    pub(crate) fn wanted(&self) -> impl DoubleEndedIterator<Item = Deployment<'_>> {
        self.deployments().filter(|deployment| deployment.image == self.image)
    }

    /// The newest deployment at a time.
    pub(crate) fn newest(&self, at: f64) -> Option<Deployment<'_>> {
        self.deployments().rev().find(|deployment| deployment.created <= at)
    }

    /// The number of the primary revision at a time.
    pub(crate) fn primary(&self, at: f64) -> Option<&str> {
        let newest = self.newest(at)?;
        Some(match newest.rollback {
            Some((to, since)) if since <= at => to,
            _ => newest.number,
        })
    }

    /// The tasks of a revision that ran at a time.
    pub(crate) fn running<'a>(&'a self, number: &'a str, at: f64) -> impl Iterator<Item = &'a Value> {
        self.tasks_of(number).filter(move |task| {
            task["startedAt"].as_f64().is_some_and(|started| started <= at)
                && task["stoppingAt"].as_f64().is_none_or(|stopping| stopping > at)
        })
    }

    pub(crate) fn tasks_of<'a>(&'a self, number: &'a str) -> impl Iterator<Item = &'a Value> {
        self.tasks.iter().filter(move |task| number_of(&task["startedBy"]) == number)
    }

    /// Whether all tasks of the revision that ran at a time run our digest.
    pub(crate) fn runs_our_digest(&self, number: &str, at: f64) -> bool {
        self.running(number, at).all(|task| {
            let containers = task["containers"].as_array().unwrap();
            let web = containers.iter().find(|container| container["name"] == "web").unwrap();
            web["imageDigest"] == self.digest.as_str()
        })
    }

    pub(crate) fn desired(&self) -> u64 {
        self.service["desiredCount"].as_u64().unwrap_or_default()
    }

    /// The time of the last request of these operations whose response arrived.
    pub(crate) fn last_answer(&self, operations: &[&str]) -> Option<f64> {
        let mut answered = self.requests.iter().rev().filter(|request| is_answered(request));
        answered.find(|request| operations.contains(&request.operation.as_str())).map(|r| seconds(r.at))
    }

    /// The times of our requests for a change of the service that were processed.
    pub(crate) fn changes(&self, operation: &str) -> Vec<f64> {
        let processed = self.requests.iter().filter(|request| is_processed(request));
        processed
            .filter(|request| request.operation == operation)
            .map(|request| seconds(request.at))
            .collect()
    }

    /// Whether another client did this up to a time.
    pub(crate) fn did_others(&self, action: &str, until: f64) -> bool {
        self.others.iter().any(|(at, what)| *what == action && *at <= until)
    }
}
