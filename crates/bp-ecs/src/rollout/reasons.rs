//! Classification of ECS stop reasons, service events and status reasons into failure causes.
//!
//! A message has a prefix (`(service web) was unable to place a task. Reason: `), then the error class
//! (`CannotPullContainerError: `), then the failed step (`unable to retrieve secret from asm`), then the API's error
//! (`AccessDenied`). Names, such as ARNs, images, digests and addresses, are replaced first, so that their parts do not
//! match.
//!
//! Source: <https://docs.aws.amazon.com/AmazonECS/latest/developerguide/stopped-task-error-codes.html> and recorded
//! responses (`tests/recorded`).

use bp_artifact::deploy::Cause;

use super::message::ServiceMessage;

/// The cause of a message, and the resource that it mentions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reading {
    pub(crate) cause: Cause,
    pub(crate) object: Option<String>,
}

impl Reading {
    fn of(cause: Cause, object: Option<&str>) -> Self {
        Reading { cause, object: object.map(str::to_owned) }
    }
}

/// Classifies a stop reason, an event or a status reason. `None` when it does not state a cause.
pub(crate) fn read(text: &str) -> Option<Reading> {
    let text = without_prefix(text);
    EVENTS.iter().find_map(|(begins, rule)| text.strip_prefix(begins).map(rule)).unwrap_or_else(|| {
        let message = ServiceMessage::of(text);
        of_health(&message).or_else(|| of_start(text, &message))
    })
}

/// The text without the leading names of service, deployment, task and port.
fn without_prefix(text: &str) -> &str {
    let mut text = text.trim_start();
    if let Some(rest) = text.strip_prefix("service ") {
        text = rest.split_once(' ').map_or("", |(_, rest)| rest);
    }
    while let Some((_, rest)) = text.strip_prefix('(').and_then(|text| text.split_once(") ")) {
        text = rest;
    }
    text
}

type Rule = fn(&str) -> Option<Reading>;

/// Events of the service scheduler by their beginning, with the rule that classifies the rest.
const EVENTS: [(&str, Rule); 14] = [
    ("was unable to place a task", |rest| Some(of_placement(reason(rest)))),
    ("was unable to stop or start tasks", |_| Some(Reading::of(Cause::DeploymentConfiguration, None))),
    ("was unable to reach steady state", of_steady_state),
    ("was unable to ", |rest| of_start(rest, &ServiceMessage::of(rest))),
    ("could not launch ", |rest| Some(of_placement(reason(rest)))),
    ("failed to launch a task", |rest| Some(of_placement(reason(rest)))),
    ("failed to register targets", of_registration),
    ("failed to deregister targets", of_registration),
    ("failed to describe target health", of_registration),
    ("operations are being throttled", |_| Some(Reading::of(Cause::Throttled, None))),
    ("deployment failed: ", read),
    ("Service deployment rolled back because ", of_rollback),
    ("Service deployment stopped because ", of_rollback),
    ("ECS deployment circuit breaker: ", |_| None),
];

/// The part after `Reason: `, `because ` or `(error `, otherwise the whole text.
fn reason(rest: &str) -> &str {
    let after = |mark: &str| rest.split_once(mark).map(|(_, reason)| reason);
    after("Reason: ").or_else(|| after("because ")).or_else(|| after("(error ")).unwrap_or(rest)
}

/// Classifies why no task could be placed or launched.
pub(super) fn of_placement(reason: &str) -> Reading {
    let message = ServiceMessage::of(reason);
    if let Some(reading) = of_start(reason, &message) {
        return reading;
    }
    let known = |cause| Reading::of(cause, None);
    if message.contains("account is currently blocked") || message.contains("account is blocked") {
        return known(Cause::AccountBlocked);
    }
    if message.contains_any(&[
        "reached the limit",
        "above your limit",
        "limit exceeded",
        "limitexceeded",
        "quota",
    ]) {
        return known(Cause::QuotaExceeded);
    }
    if message.contains_any(&["throttl", "rate exceeded"]) {
        return known(Cause::Throttled);
    }
    known(Cause::Unschedulable)
}

fn of_steady_state(rest: &str) -> Option<Reading> {
    let message = ServiceMessage::of(rest);
    if message.contains("protected tasks") {
        return Some(Reading::of(Cause::TaskProtection, message.name(|name| name.starts_with("ecs-svc/"))));
    }
    if message.contains("no container instances were found") {
        return Some(Reading::of(Cause::Unschedulable, None));
    }
    rest.contains("Reason: ").then(|| of_placement(reason(rest)))
}

/// Classifies why targets could not be registered with the load balancer.
fn of_registration(rest: &str) -> Option<Reading> {
    let message = ServiceMessage::of(rest);
    Some(if message.is_denied() {
        Reading::of(Cause::PermissionMissing, message.name(is_role))
    } else {
        Reading::of(Cause::DeploymentConfiguration, message.name(is_target_group))
    })
}

/// Classifies the status reason of a rollback by ECS.
fn of_rollback(rest: &str) -> Option<Reading> {
    let message = ServiceMessage::of(rest);
    if message.contains("lifecycle hook") {
        return Some(Reading::of(Cause::LifecycleHookFailed, message.name(|name| name.contains(":lambda:"))));
    }
    if message.contains("circuit breaker") {
        return None;
    }
    if message.contains("alarm") {
        return Some(Reading::of(Cause::AlarmTriggered, message.name(|name| name.contains(":alarm:"))));
    }
    if message.is_denied() || message.contains("assume") {
        return Some(Reading::of(Cause::PermissionMissing, message.name(is_role)));
    }
    if message.contains_any(&["configuration", "listener", "target group", "not associated"]) {
        return Some(Reading::of(Cause::DeploymentConfiguration, message.name(is_target_group)));
    }
    of_health(&message).or_else(|| of_start(rest, &message))
}

/// Classifies failed health checks of load balancer and container.
fn of_health(message: &ServiceMessage) -> Option<Reading> {
    if message.contains_any(&[
        "failed elb health checks",
        "is unhealthy in (target-group",
        "is unhealthy in (elb",
    ]) {
        return Some(Reading::of(Cause::LoadBalancerUnhealthy, message.name(is_target_group)));
    }
    message.contains("failed container health checks").then(|| Reading::of(Cause::HealthCheckFailed, None))
}

/// Classifies why a task or container could not start.
fn of_start(text: &str, message: &ServiceMessage) -> Option<Reading> {
    let class = text.split_once(':').map_or("", |(class, _)| class.trim());
    match class {
        _ if message.contains("exec format error") => Some(Reading::of(Cause::WrongArchitecture, None)),
        _ if class.starts_with("CannotPull") => Some(of_pull(message)),
        "OutOfMemoryError" => Some(Reading::of(Cause::OutOfMemory, None)),
        "CannotStartContainerError" | "CannotCreateContainerError" => Some(of_container(message)),
        "CannotCreateVolumeError" | "CannotMountVolumeError" => Some(of_volume(message)),
        "HostConfigError" | "CannotApplyContainerSettingsError" => {
            Some(Reading::of(Cause::ConfigInvalid, None))
        }
        "DependencyTimeoutError" => Some(Reading::of(Cause::HealthCheckFailed, None)),
        "DockerTimeoutError"
        | "ContainerRuntimeTimeoutError"
        | "ContainerRuntimeError"
        | "InternalError"
        | "CannotInspectContainerError"
        | "CannotDescribeContainerError"
        | "CannotStopContainerError"
        | "CannotRemoveContainerError" => Some(Reading::of(Cause::RuntimeFailed, None)),
        "ResourceInitializationError" => {
            Some(of_resource(message).unwrap_or(Reading::of(Cause::ResourceInitialization, None)))
        }
        _ => of_resource(message).or_else(|| of_node(message)),
    }
}

/// Classifies failed image pulls.
fn of_pull(message: &ServiceMessage) -> Reading {
    let image = message.name(is_image);
    let platform =
        ["does not contain descriptor matching platform", "no matching manifest", "no match for platform"];
    let cause = if message.contains_any(&platform) {
        Cause::WrongArchitecture
    } else if message.contains_any(&["in-toto", "unsupported media type", "unsupported manifest"]) {
        Cause::ConfigInvalid
    } else if message.is_overloaded() || message.is_connection_error() {
        Cause::ImagePullFailed
    } else if message.status_is(|status| status == 404) {
        Cause::ImageNotFound
    } else if message.is_denied() || message.contains_any(&["no basic auth", "authorization failed"]) {
        Cause::ImagePullDenied
    } else if message.contains_any(&["not found", "manifest unknown", "name unknown"]) {
        Cause::ImageNotFound
    } else {
        Cause::ImagePullFailed
    };
    Reading::of(cause, image)
}

/// Classifies why the container runtime could not start a container.
fn of_container(message: &ServiceMessage) -> Reading {
    if message.contains_any(&["logging driver", "logger"]) {
        return of_log_driver(message);
    }
    let runtime = message.is_connection_error() || message.contains("no space left on device");
    Reading::of(if runtime { Cause::RuntimeFailed } else { Cause::ConfigInvalid }, None)
}

/// Classifies failures of the agent before the containers start, by the failed step.
fn of_resource(message: &ServiceMessage) -> Option<Reading> {
    // The agent uses this prefix for secrets and for registry authentication.
    let message = &message.without("unable to pull secrets or registry auth");
    const NETWORK: [&str; 6] =
        ["network interface", "configure eni", "setup regular eni", "netplugin", "subnet", "elastic ip"];
    Some(if message.contains_any(&["logger args", "logging driver", "log group", "log stream"]) {
        of_log_driver(message)
    } else if message.contains_any(&["env file", "environment file"]) {
        let cause = if message.is_denied() {
            Cause::PermissionMissing
        } else if message.is_connection_error() {
            Cause::ServiceUnreachable
        } else {
            Cause::EnvironmentFile
        };
        Reading::of(cause, message.name(|name| name.contains(":s3:")))
    } else if message.contains_any(&["efs utils", "mounting", "mount target", "volume", "ephemeralstorage"]) {
        of_volume(message)
    } else if message.contains_any(&["registry auth", "registry:"]) {
        of_secret(message, Cause::ImagePullDenied)
    } else if message.contains_any(&["secret", "parameter", "from ssm", "from asm"]) {
        of_secret(message, Cause::SecretDenied)
    } else if message.contains_any(&["unable to assume", "assume the role", "assume role"]) {
        Reading::of(Cause::PermissionMissing, message.name(is_role))
    } else if message.contains_any(&NETWORK) {
        let is_network = |name: &str| name.starts_with("subnet-") || name.starts_with("eni-");
        Reading::of(Cause::NetworkInterface, message.name(is_network))
    } else if message.is_connection_error() && message.contains("task") {
        Reading::of(Cause::ServiceUnreachable, None)
    } else {
        return None;
    })
}

fn of_log_driver(message: &ServiceMessage) -> Reading {
    let cause = if message.is_denied() {
        Cause::PermissionMissing
    } else if message.is_connection_error() {
        Cause::ServiceUnreachable
    } else {
        Cause::LogDriver
    };
    Reading::of(cause, message.name(|name| name.contains(":log-group:")))
}

fn of_volume(message: &ServiceMessage) -> Reading {
    let is_volume = |name: &str| ["fs-", "fsap-", "vol-"].iter().any(|prefix| name.starts_with(prefix));
    Reading::of(Cause::Volume, message.name(is_volume))
}

/// Classifies errors of Secrets Manager, Parameter Store or ECR.
fn of_secret(message: &ServiceMessage, denied: Cause) -> Reading {
    const MISSING: [&str; 9] = [
        "resourcenotfound",
        "parameternotfound",
        "can't find the specified",
        "invalid parameters",
        "invalid ssm parameters",
        "json key",
        "marked for deletion",
        "not found",
        "does not exist",
    ];
    let is_secret =
        |name: &str| name.contains(":secretsmanager:") || name.contains(":ssm:") || name.starts_with('/');
    let object = message.name(is_secret);
    let cause = if message.is_denied() {
        denied
    } else if message.is_connection_error() {
        Cause::ServiceUnreachable
    } else if message.contains_any(&MISSING) {
        Cause::SecretMissing
    } else if message.is_overloaded() {
        Cause::Throttled
    } else {
        Cause::ResourceInitialization
    };
    Reading::of(cause, object)
}

/// Classifies missing capacity and failures of container instances.
fn of_node(message: &ServiceMessage) -> Option<Reading> {
    if message.contains_any(&["capacity is unavailable", "insufficient capacity", "no container instance"]) {
        return Some(Reading::of(Cause::Unschedulable, None));
    }
    let ended = message.contains("host ec2") && message.contains_any(&["terminated", "stopped"]);
    if ended || message.contains("agent disconnected") {
        return Some(Reading::of(Cause::NodeFailed, message.name(|name| name.starts_with("i-"))));
    }
    message.contains("timeout waiting for").then(|| Reading::of(Cause::ResourceInitialization, None))
}

fn is_target_group(name: &str) -> bool {
    name.contains(":targetgroup/")
}

fn is_role(name: &str) -> bool {
    name.starts_with("arn:") && (name.contains(":role/") || name.contains(":assumed-role/"))
}

fn is_image(name: &str) -> bool {
    let last = name.rsplit('/').next().unwrap_or(name);
    !name.starts_with("arn:") && !name.contains("://") && name.contains('/') && last.contains([':', '@'])
}

#[cfg(test)]
mod tests {
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
}
