//! Classification of ECS stop reasons, service events and status reasons into failure causes.
//!
//! A text is classified by the component that wrote it: the service scheduler (an event), the deployment (a status
//! reason), or the agent (a stop reason, which the scheduler quotes after `Reason: `). An agent's text has a class
//! (`CannotPullContainerError: `), then the step that failed (`unable to retrieve secret from asm`), then the response of
//! the API that the step called (`AccessDenied`); step and response determine the cause. Names, such as ARNs, images,
//! digests and addresses, are replaced first, so that their parts do not match.
//!
//! Source: <https://docs.aws.amazon.com/AmazonECS/latest/developerguide/stopped-task-error-codes.html> and recorded
//! responses (`tests/recorded`).

mod agent;
mod health;
mod message;
mod pull;
mod reading;
mod response;
mod scheduler;
mod status;

use self::message::ServiceMessage;
pub(crate) use self::reading::Reading;

/// Classifies a stop reason, an event or a status reason. `None` when it does not state a cause.
pub(crate) fn read(text: &str) -> Option<Reading> {
    let text = without_prefix(text);
    // An event about a failed deployment, which repeats the status reason.
    if let Some(reason) = text.strip_prefix("deployment failed: ") {
        return status::of_alarm(reason).or_else(|| read(reason));
    }
    let mut rules = scheduler::RULES.iter().chain(&status::RULES);
    match rules.find_map(|(begins, rule)| Some((text.strip_prefix(begins)?, rule))) {
        Some((rest, rule)) => rule(rest),
        None => {
            let message = ServiceMessage::of(text);
            health::read(&message).or_else(|| agent::read(text))
        }
    }
}

/// The text without the leading names of service, task set, deployment, task, instance and port.
fn without_prefix(text: &str) -> &str {
    let mut text = text.trim_start();
    if let Some(rest) = text.strip_prefix("service ") {
        text = match rest.strip_prefix('(') {
            Some(_) => rest,
            None => rest.split_once(' ').map_or("", |(_, rest)| rest),
        };
    } else if let Some((name, rest)) = text.strip_prefix("Service ").and_then(|rest| rest.split_once(": "))
        && !name.contains(' ')
    {
        text = rest;
    }
    loop {
        text = text.strip_prefix("task set ").unwrap_or(text);
        match text.strip_prefix('(').and_then(|rest| rest.split_once(')')) {
            Some((_, rest)) => text = rest.trim_start_matches([' ', ':']),
            None => return text,
        }
    }
}

#[cfg(test)]
mod tests {
    use bp_artifact::deploy::Cause;

    use super::*;

    #[test]
    fn classifies_messages_of_the_platform() {
        for (text, cause) in [
            (
                "CannotPullContainerError: pull image manifest has been retried 5 time(s): failed to resolve ref \
                 docker.io/library/nope:1: docker.io/library/nope:1: not found",
                Cause::ImageNotFound,
            ),
            (
                "CannotPullContainerError: image Manifest does not contain descriptor matching platform \
                 'linux/arm64'",
                Cause::WrongArchitecture,
            ),
            (
                "CannotPullContainerError: Error response from daemon: pull access denied for x, repository does \
                 not exist or may require 'docker login'",
                Cause::ImagePullDenied,
            ),
            (
                "CannotPullContainerError: ref pull has been retried 5 time(s): dial tcp: i/o timeout",
                Cause::ImagePullFailed,
            ),
            (
                "ResourceInitializationError: unable to pull secrets or registry auth: execution resource retrieval \
                 failed: unable to retrieve secret from asm: service call has been retried 1 time(s): \
                 ResourceNotFoundException: Secrets Manager can't find the specified secret.",
                Cause::SecretMissing,
            ),
            (
                "ResourceInitializationError: unable to pull secrets or registry auth: execution resource retrieval \
                 failed: unable to retrieve secrets from ssm: AccessDeniedException: not authorized to perform: \
                 ssm:GetParameters",
                Cause::SecretDenied,
            ),
            (
                "ResourceInitializationError: failed to validate logger args: create stream has been retried",
                Cause::LogDriver,
            ),
            ("Task failed ELB health checks in (target-group arn:x)", Cause::LoadBalancerUnhealthy),
            ("Task failed container health checks", Cause::HealthCheckFailed),
            ("OutOfMemoryError: Container killed due to memory usage", Cause::OutOfMemory),
            (
                "(service web) was unable to place a task because no container instance met all of its requirements.",
                Cause::Unschedulable,
            ),
            (
                "CannotStartContainerError: exec: \"serve\": executable file not found in $PATH",
                Cause::ConfigInvalid,
            ),
        ] {
            assert_eq!(read(text).map(|reading| reading.cause), Some(cause), "{text}");
        }
        assert_eq!(read("Scaling activity initiated by (deployment ecs-svc/1)"), None);
    }

    #[test]
    fn removes_the_names_before_a_message() {
        for (text, rest) in [
            ("(service web) (task 0123) (port 80) is unhealthy", "is unhealthy"),
            ("(service web, taskSet ecs-svc/1) (instance i-0) is unhealthy", "is unhealthy"),
            ("service web failed to register targets", "failed to register targets"),
            ("service (web) task set (ecs-svc/1) (task 1) is not healthy", "is not healthy"),
            ("Service web: ECS is performing maintenance", "ECS is performing maintenance"),
            (
                "Service deployment rolled back because of x: y",
                "Service deployment rolled back because of x: y",
            ),
            (
                "Task failed ELB health checks in (target-group x)",
                "Task failed ELB health checks in (target-group x)",
            ),
        ] {
            assert_eq!(without_prefix(text), rest);
        }
    }
}
