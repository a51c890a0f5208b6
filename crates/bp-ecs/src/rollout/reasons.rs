//! What ECS says of a failure, read by who reported it, which step failed, and what the called API answered.
//!
//! A text has a frame (`(service web) was unable to place a task. Reason: `), then the class of the error
//! (`CannotPullContainerError: `), then the step (`unable to retrieve secret from asm`), then the answer (`AccessDenied`).
//! Names in it, such as ARNs, images, digests and addresses, are replaced first: their parts decide nothing.
//!
//! Source: <https://docs.aws.amazon.com/AmazonECS/latest/developerguide/stopped-task-error-codes.html> and recorded
//! responses (`tests/recorded`).

use bp_artifact::deploy::Cause;

use super::words::Words;

/// What a text means, and the object that it names.
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

/// What a stop reason, an event or a status reason means. `None` when the text alone is not a cause.
pub(crate) fn read(text: &str) -> Option<Reading> {
    let said = unframed(text);
    EVENTS.iter().find_map(|(begins, rule)| said.strip_prefix(begins).map(rule)).unwrap_or_else(|| {
        let words = Words::of(said);
        of_health(&words).or_else(|| of_start(said, &words))
    })
}

/// The text without the names of service, deployment, task and port that events begin with.
fn unframed(text: &str) -> &str {
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

/// What the service's scheduler reports, by the beginning of the sentence; what follows is for the rule.
const EVENTS: [(&str, Rule); 14] = [
    ("was unable to place a task", |rest| Some(of_placement(reason(rest)))),
    ("was unable to stop or start tasks", |_| Some(Reading::of(Cause::DeploymentConfiguration, None))),
    ("was unable to reach steady state", of_steady_state),
    ("was unable to ", |rest| of_start(rest, &Words::of(rest))),
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

/// What follows `Reason: `, `because ` or `(error `, else all of it.
fn reason(rest: &str) -> &str {
    let after = |mark: &str| rest.split_once(mark).map(|(_, reason)| reason);
    after("Reason: ").or_else(|| after("because ")).or_else(|| after("(error ")).unwrap_or(rest)
}

/// Why no task could be placed or launched.
fn of_placement(reason: &str) -> Reading {
    let words = Words::of(reason);
    if let Some(reading) = of_start(reason, &words) {
        return reading;
    }
    let known = |cause| Reading::of(cause, None);
    if words.says("account is currently blocked") || words.says("account is blocked") {
        return known(Cause::AccountBlocked);
    }
    if words.any(&["reached the limit", "above your limit", "limit exceeded", "limitexceeded", "quota"]) {
        return known(Cause::QuotaExceeded);
    }
    if words.any(&["throttl", "rate exceeded"]) {
        return known(Cause::Throttled);
    }
    known(Cause::Unschedulable)
}

fn of_steady_state(rest: &str) -> Option<Reading> {
    let words = Words::of(rest);
    if words.says("protected tasks") {
        return Some(Reading::of(Cause::TaskProtection, words.name(|name| name.starts_with("ecs-svc/"))));
    }
    if words.says("no container instances were found") {
        return Some(Reading::of(Cause::Unschedulable, None));
    }
    rest.contains("Reason: ").then(|| of_placement(reason(rest)))
}

/// Why targets could not be registered with the load balancer.
fn of_registration(rest: &str) -> Option<Reading> {
    let words = Words::of(rest);
    Some(if words.is_denied() {
        Reading::of(Cause::PermissionMissing, words.name(is_role))
    } else {
        Reading::of(Cause::DeploymentConfiguration, words.name(is_target_group))
    })
}

/// Why ECS rolled a deployment back, by its own status reason.
fn of_rollback(rest: &str) -> Option<Reading> {
    let words = Words::of(rest);
    if words.says("lifecycle hook") {
        return Some(Reading::of(Cause::LifecycleHookFailed, words.name(|name| name.contains(":lambda:"))));
    }
    if words.says("circuit breaker") {
        return None;
    }
    if words.says("alarm") {
        return Some(Reading::of(Cause::AlarmTriggered, words.name(|name| name.contains(":alarm:"))));
    }
    if words.is_denied() || words.says("assume") {
        return Some(Reading::of(Cause::PermissionMissing, words.name(is_role)));
    }
    if words.any(&["configuration", "listener", "target group", "not associated"]) {
        return Some(Reading::of(Cause::DeploymentConfiguration, words.name(is_target_group)));
    }
    of_health(&words).or_else(|| of_start(rest, &words))
}

/// Health checks of load balancer and container.
fn of_health(words: &Words) -> Option<Reading> {
    if words.any(&["failed elb health checks", "is unhealthy in (target-group", "is unhealthy in (elb"]) {
        return Some(Reading::of(Cause::LoadBalancerUnhealthy, words.name(is_target_group)));
    }
    words.says("failed container health checks").then(|| Reading::of(Cause::HealthCheckFailed, None))
}

/// Why a task could not start, or a container could not.
fn of_start(said: &str, words: &Words) -> Option<Reading> {
    let class = said.split_once(':').map_or("", |(class, _)| class.trim());
    match class {
        _ if words.says("exec format error") => Some(Reading::of(Cause::WrongArchitecture, None)),
        _ if class.starts_with("CannotPull") => Some(of_pull(words)),
        "OutOfMemoryError" => Some(Reading::of(Cause::OutOfMemory, None)),
        "CannotStartContainerError" | "CannotCreateContainerError" => Some(of_container(words)),
        "CannotCreateVolumeError" | "CannotMountVolumeError" => Some(of_volume(words)),
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
            Some(of_resource(words).unwrap_or(Reading::of(Cause::ResourceInitialization, None)))
        }
        _ => of_resource(words).or_else(|| of_node(words)),
    }
}

/// The registry, or the way to it.
fn of_pull(words: &Words) -> Reading {
    let image = words.name(is_image);
    let platform =
        ["does not contain descriptor matching platform", "no matching manifest", "no match for platform"];
    let cause = if words.any(&platform) {
        Cause::WrongArchitecture
    } else if words.any(&["in-toto", "unsupported media type", "unsupported manifest"]) {
        Cause::ConfigInvalid
    } else if words.is_busy() || words.is_cut_off() {
        Cause::ImagePullFailed
    } else if words.status_is(|status| status == 404) {
        Cause::ImageNotFound
    } else if words.is_denied() || words.any(&["no basic auth", "authorization failed"]) {
        Cause::ImagePullDenied
    } else if words.any(&["not found", "manifest unknown", "name unknown"]) {
        Cause::ImageNotFound
    } else {
        Cause::ImagePullFailed
    };
    Reading::of(cause, image)
}

/// The runtime was given the container and could not start it.
fn of_container(words: &Words) -> Reading {
    if words.any(&["logging driver", "logger"]) {
        return of_log_driver(words);
    }
    let runtime = words.is_cut_off() || words.says("no space left on device");
    Reading::of(if runtime { Cause::RuntimeFailed } else { Cause::ConfigInvalid }, None)
}

/// What the agent prepares before the containers, by the step that failed.
fn of_resource(words: &Words) -> Option<Reading> {
    // The agent's own heading names both and means either.
    let words = &words.without("unable to pull secrets or registry auth");
    const NETWORK: [&str; 6] =
        ["network interface", "configure eni", "setup regular eni", "netplugin", "subnet", "elastic ip"];
    Some(if words.any(&["logger args", "logging driver", "log group", "log stream"]) {
        of_log_driver(words)
    } else if words.any(&["env file", "environment file"]) {
        let cause = if words.is_denied() {
            Cause::PermissionMissing
        } else if words.is_cut_off() {
            Cause::ServiceUnreachable
        } else {
            Cause::EnvironmentFile
        };
        Reading::of(cause, words.name(|name| name.contains(":s3:")))
    } else if words.any(&["efs utils", "mounting", "mount target", "volume", "ephemeralstorage"]) {
        of_volume(words)
    } else if words.any(&["registry auth", "registry:"]) {
        of_secret(words, Cause::ImagePullDenied)
    } else if words.any(&["secret", "parameter", "from ssm", "from asm"]) {
        of_secret(words, Cause::SecretDenied)
    } else if words.any(&["unable to assume", "assume the role", "assume role"]) {
        Reading::of(Cause::PermissionMissing, words.name(is_role))
    } else if words.any(&NETWORK) {
        let is_network = |name: &str| name.starts_with("subnet-") || name.starts_with("eni-");
        Reading::of(Cause::NetworkInterface, words.name(is_network))
    } else if words.is_cut_off() && words.says("task") {
        Reading::of(Cause::ServiceUnreachable, None)
    } else {
        return None;
    })
}

fn of_log_driver(words: &Words) -> Reading {
    let cause = if words.is_denied() {
        Cause::PermissionMissing
    } else if words.is_cut_off() {
        Cause::ServiceUnreachable
    } else {
        Cause::LogDriver
    };
    Reading::of(cause, words.name(|name| name.contains(":log-group:")))
}

fn of_volume(words: &Words) -> Reading {
    let is_volume = |name: &str| ["fs-", "fsap-", "vol-"].iter().any(|prefix| name.starts_with(prefix));
    Reading::of(Cause::Volume, words.name(is_volume))
}

/// What Secrets Manager, Parameter Store or ECR answered to the agent.
fn of_secret(words: &Words, denied: Cause) -> Reading {
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
    let object = words.name(is_secret);
    let cause = if words.is_denied() {
        denied
    } else if words.is_cut_off() {
        Cause::ServiceUnreachable
    } else if words.any(&MISSING) {
        Cause::SecretMissing
    } else if words.is_busy() {
        Cause::Throttled
    } else {
        Cause::ResourceInitialization
    };
    Reading::of(cause, object)
}

/// The capacity that a task was to run on.
fn of_node(words: &Words) -> Option<Reading> {
    if words.any(&["capacity is unavailable", "insufficient capacity", "no container instance"]) {
        return Some(Reading::of(Cause::Unschedulable, None));
    }
    let ended = words.says("host ec2") && words.any(&["terminated", "stopped"]);
    if ended || words.says("agent disconnected") {
        return Some(Reading::of(Cause::NodeFailed, words.name(|name| name.starts_with("i-"))));
    }
    words.says("timeout waiting for").then(|| Reading::of(Cause::ResourceInitialization, None))
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
    fn reasons_as_the_platform_words_them() {
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
