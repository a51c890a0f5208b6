//! Events of the service scheduler.

use bp_artifact::deploy::Cause;

use super::{
    agent,
    message::ServiceMessage,
    reading::{Reading, Rule, is_role, is_target_group},
    response::Response,
};

/// Events by their beginning, after the names.
///
/// Source: <https://docs.aws.amazon.com/AmazonECS/latest/developerguide/service-event-messages-list.html>
pub(super) static RULES: [(&str, Rule); 18] = [
    ("was unable to place ", |rest| Some(of_placement(reason(rest)))),
    ("was unable to stop or start tasks", |_| Some(Reading::new(Cause::DeploymentConfiguration))),
    ("was unable to reach steady state", of_steady_state),
    ("was unable to register ", of_registration),
    ("was unable to ", agent::read),
    ("could not launch ", |rest| Some(of_placement(reason(rest)))),
    ("failed to launch a task", |rest| Some(of_placement(reason(rest)))),
    ("failed to register ", of_registration),
    ("failed to deregister ", of_registration),
    ("failed to describe target health", of_registration),
    ("operations are being throttled", |_| Some(Reading::new(Cause::Throttled))),
    ("Timed out waiting for Amazon ECS Agent", |_| Some(Reading::new(Cause::NodeFailed))),
    ("IAM permissions policies have been misconfigured", |_| Some(Reading::new(Cause::PermissionMissing))),
    ("IAM trust relationship has been misconfigured", |_| Some(Reading::new(Cause::PermissionMissing))),
    // Routine: started, stopped and registered tasks, whose names may contain anything.
    ("has ", |_| None),
    ("registered ", |_| None),
    ("deregistered ", |_| None),
    ("rolling back to ", |_| None),
];

/// The part after `Reason: `, `because ` or `(error `, otherwise the whole text.
fn reason(rest: &str) -> &str {
    let after = |mark: &str| rest.split_once(mark).map(|(_, reason)| reason);
    after("Reason: ").or_else(|| after("because ")).or_else(|| after("(error ")).unwrap_or(rest)
}

/// Classifies why no task could be placed or launched.
pub(crate) fn of_placement(reason: &str) -> Reading {
    if let Some(reading) = agent::read(reason) {
        return reading;
    }
    let message = ServiceMessage::of(reason);
    if message.contains_any(&["account is currently blocked", "account is blocked"]) {
        return Reading::new(Cause::AccountBlocked);
    }
    match Response::of(&message) {
        Response::Denied => Reading::new(Cause::PermissionMissing).about(message.name(is_role)),
        Response::QuotaExceeded => Reading::new(Cause::QuotaExceeded),
        Response::Overloaded => Reading::new(Cause::Throttled),
        Response::Unreachable | Response::Missing | Response::Invalid | Response::Other => {
            Reading::new(Cause::Unschedulable)
        }
    }
}

fn of_steady_state(rest: &str) -> Option<Reading> {
    let message = ServiceMessage::of(rest);
    if message.contains("protected tasks") {
        let deployment = message.name(|name| name.starts_with("ecs-svc/"));
        return Some(Reading::new(Cause::TaskProtection).about(deployment));
    }
    rest.contains("Reason: ").then(|| of_placement(reason(rest)))
}

/// Classifies why targets could not be registered with the load balancer, or instances with Cloud Map.
fn of_registration(rest: &str) -> Option<Reading> {
    let message = ServiceMessage::of(rest);
    let is_registry = |name: &str| is_target_group(name) || name.contains(":servicediscovery:");
    let target_group = message.name(is_registry);
    Some(match Response::of(&message) {
        Response::Denied => Reading::new(Cause::PermissionMissing).about(message.name(is_role)),
        Response::Overloaded => Reading::new(Cause::Throttled),
        Response::QuotaExceeded => Reading::new(Cause::QuotaExceeded).about(target_group),
        Response::Unreachable | Response::Missing | Response::Invalid | Response::Other => {
            Reading::new(Cause::DeploymentConfiguration).about(target_group)
        }
    })
}
