//! Status reasons of service deployments.

use bp_artifact::deploy::Cause;

use super::{
    agent, health,
    message::ServiceMessage,
    reading::{Reading, Rule, is_arn, is_role, is_target_group},
    response::Response,
};

/// Status reasons by their beginning.
///
/// Source: <https://docs.aws.amazon.com/AmazonECS/latest/developerguide/troubleshooting-blue-green.html>
pub(super) static RULES: [(&str, Rule); 5] = [
    ("Service deployment rolled back because ", of_rollback),
    ("Service deployment stopped because ", of_rollback),
    ("ECS deployment circuit breaker: ", |_| None),
    ("ECS deployment ", of_alarm),
    ("deployment completed", |_| None),
];

/// The cause of a deployment that an alarm ended.
pub(super) fn of_alarm(reason: &str) -> Option<Reading> {
    ServiceMessage::of(reason).contains("alarm detected").then(|| Reading::new(Cause::AlarmTriggered))
}

/// Classifies the reason of a rollback by ECS.
fn of_rollback(rest: &str) -> Option<Reading> {
    let message = ServiceMessage::of(rest);
    let response = Response::of(&message);
    let is_hook = message.contains_any(&["lifecycle hook", "pause hook"]);
    if response == Response::Denied || message.contains_any(&["unable to assume", "assume role"]) {
        return Some(Reading::new(Cause::PermissionMissing).about(message.name(is_role)));
    }
    if is_hook {
        let lambda = message.name(|name| name.contains(":lambda:")).map(str::to_owned);
        return Some(Reading::new(Cause::LifecycleHookFailed).about(lambda.or_else(|| hook_of(rest))));
    }
    if message.contains("circuit breaker") {
        return None;
    }
    if message.contains("alarm") {
        return Some(
            Reading::new(Cause::AlarmTriggered).about(message.name(|name| name.contains(":alarm:"))),
        );
    }
    if message.contains_any(&["configuration", "listener", "target group", "not associated"]) {
        let object = message.name(is_target_group).or_else(|| message.name(is_arn));
        return Some(Reading::new(Cause::DeploymentConfiguration).about(object));
    }
    health::read(&message).or_else(|| agent::read(rest))
}

/// The hook without a target: `POST_SCALE_UP pause hook`.
fn hook_of(rest: &str) -> Option<String> {
    let (stage, rest) = rest.split_once(' ')?;
    let kind = ["pause hook", "lifecycle hook"].into_iter().find(|kind| rest.starts_with(kind))?;
    Some(format!("{stage} {kind}"))
}
