//! Stop reasons of the agent, and of ECS before a task reaches an agent.

use bp_artifact::deploy::Cause;

use super::{
    message::ServiceMessage,
    pull,
    reading::{Reading, is_role},
    response::Response,
};

/// Classifies why a task or container could not start or was stopped. `None` when the text does not state it.
pub(super) fn read(text: &str) -> Option<Reading> {
    let message = ServiceMessage::of(text);
    if message.contains("exec format error") {
        return Some(Reading::new(Cause::WrongArchitecture));
    }
    match text.split_once(':') {
        Some(("TaskFailedToStart", rest)) => {
            Some(read(rest.trim_start()).unwrap_or_else(|| Reading::new(Cause::Unschedulable)))
        }
        // A reason of the API: `RESOURCE:CPU`.
        Some(("RESOURCE", _)) => Some(Reading::new(Cause::Unschedulable)),
        Some((class, _)) => match Component::of(class.trim()) {
            Some(component) => Some(component.read(&message)),
            None => of_step(&message),
        },
        None => of_step(&message),
    }
}

/// The part of the agent that an error class belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Component {
    /// Pulls images.
    Images,
    /// Creates and starts containers.
    Containers,
    /// Applies the settings of a container definition.
    Settings,
    /// Waits for the containers that a container depends on.
    Dependencies,
    Volumes,
    Memory,
    Network,
    /// Prepares secrets, logs, volumes and network of a task.
    Resources,
    /// Docker or containerd.
    Runtime,
}

impl Component {
    /// The component, from the words in the name of an error class.
    ///
    /// Source: <https://github.com/aws/amazon-ecs-agent/blob/master/agent/dockerclient/dockerapi/errors.go>
    fn of(class: &str) -> Option<Self> {
        let name =
            class.strip_suffix("Error").filter(|name| name.chars().all(|c| c.is_ascii_alphabetic()))?;
        let has = |words: &[&str]| words.iter().any(|word| name.contains(word));
        Some(if name == "ResourceInitialization" {
            Component::Resources
        } else if name == "OutOfMemory" {
            Component::Memory
        } else if name.starts_with("CannotPull") {
            Component::Images
        } else if has(&["Volume"]) {
            Component::Volumes
        } else if has(&["HostConfig", "ContainerSettings", "CredentialSpec"]) {
            Component::Settings
        } else if has(&["Dependency"]) {
            Component::Dependencies
        } else if has(&["ENI", "Network"]) {
            Component::Network
        } else if matches!(name, "CannotStartContainer" | "CannotCreateContainer" | "DockerState") {
            Component::Containers
        } else if has(&["Docker", "Runtime", "Internal", "Container"]) {
            Component::Runtime
        } else {
            return None;
        })
    }

    fn read(self, message: &ServiceMessage) -> Reading {
        match self {
            Component::Images => pull::read(message),
            Component::Containers => of_container(message),
            Component::Settings => Reading::new(Cause::ConfigInvalid),
            Component::Dependencies => Reading::new(Cause::HealthCheckFailed),
            Component::Volumes => of_volume(message),
            Component::Memory => Reading::new(Cause::OutOfMemory),
            Component::Network => of_network(message),
            Component::Resources => {
                of_step(message).unwrap_or_else(|| Reading::new(Cause::ResourceInitialization))
            }
            Component::Runtime => Reading::new(Cause::RuntimeFailed),
        }
    }
}

/// Classifies why the runtime could not create or start a container.
fn of_container(message: &ServiceMessage) -> Reading {
    const RUNTIME: [&str; 6] = [
        "no space left on device",
        "devmapper",
        "devicemapper",
        "get container status",
        "docker daemon",
        "is already in use by container",
    ];
    const VOLUME: [&str; 4] = ["volumedriver", "mounting volume", "error while mounting", "copy file info"];
    if message.contains_any(&["logging driver", "log driver", "logger"]) {
        return of_logs(message);
    }
    if message.contains_any(&VOLUME) {
        return of_volume(message);
    }
    if message.contains_any(&["oom-killed", "oom killed"]) {
        return Reading::new(Cause::OutOfMemory);
    }
    let runtime = message.is_connection_error() || message.contains_any(&RUNTIME);
    Reading::new(if runtime { Cause::RuntimeFailed } else { Cause::ConfigInvalid })
}

/// A step of starting a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Logs,
    EnvironmentFile,
    Volume,
    RegistryAuth,
    Secret,
    Role,
    Network,
    /// Launches container instances for a capacity provider.
    Instances,
    /// Places the task on a container instance.
    Placement,
    /// The container instance or its agent ended.
    Node,
    Pull,
}

/// What a message calls each step.
const STEPS: [(Step, &[&str]); 11] = [
    (Step::Logs, &["logger", "logging driver", "log driver", "log group", "log stream", "firelens"]),
    (Step::EnvironmentFile, &["env file", "environment file"]),
    (
        Step::Volume,
        &["efs utils", "mounting", "mount target", "volume", "ephemeralstorage", "ephemeral storage"],
    ),
    (Step::RegistryAuth, &["registry auth", "registry:"]),
    (Step::Secret, &["secret", "parameter", "from ssm", "from asm"]),
    (Step::Role, &["unable to assume", "assume the role", "assume role"]),
    (
        Step::Network,
        &["network interface", "configure eni", "setup regular eni", "netplugin", "subnet", "elastic ip"],
    ),
    (Step::Instances, &["launch instance"]),
    (
        Step::Placement,
        &[
            "placement constraint",
            "capacity is unavailable",
            "insufficient capacity",
            "no container instance",
            "compute strategy",
        ],
    ),
    (Step::Node, &["host ec2", "agent disconnected", "agent is disconnected"]),
    (Step::Pull, &["pull command failed"]),
];

/// Classifies a text by the step that it mentions first and the response to it.
fn of_step(message: &ServiceMessage) -> Option<Reading> {
    // The agent uses this prefix for secrets and for registry authentication.
    let message = &message.without("unable to pull secrets or registry auth");
    let position = |phrases: &[&str]| phrases.iter().filter_map(|phrase| message.position(phrase)).min();
    let mentioned = STEPS.iter().filter_map(|(step, phrases)| Some((position(phrases)?, *step)));
    let Some((_, step)) = mentioned.min_by_key(|(position, _)| *position) else {
        if message.is_connection_error() && message.contains("task") {
            return Some(Reading::new(Cause::ServiceUnreachable));
        }
        return message.contains("timeout waiting for").then(|| Reading::new(Cause::ResourceInitialization));
    };
    let response = Response::of(message);
    Some(match (step, response) {
        (Step::Logs, _) => of_logs(message),
        (Step::EnvironmentFile, Response::Denied) => {
            Reading::new(Cause::PermissionMissing).about(environment_file(message))
        }
        (Step::EnvironmentFile, Response::Unreachable) => Reading::new(Cause::ServiceUnreachable),
        (Step::EnvironmentFile, _) => Reading::new(Cause::EnvironmentFile).about(environment_file(message)),
        (Step::Volume, _) => of_volume(message),
        (Step::RegistryAuth, _) => of_secret(message, response, Cause::ImagePullDenied),
        (Step::Secret, _) => of_secret(message, response, Cause::SecretDenied),
        (Step::Role, _) | (Step::Instances, Response::Denied) => {
            Reading::new(Cause::PermissionMissing).about(message.name(is_role))
        }
        (Step::Network, _) => of_network(message),
        (Step::Instances, Response::QuotaExceeded) => Reading::new(Cause::QuotaExceeded),
        (Step::Instances, Response::Overloaded) => Reading::new(Cause::Throttled),
        (Step::Instances | Step::Placement, _) => Reading::new(Cause::Unschedulable),
        (Step::Node, _) => Reading::new(Cause::NodeFailed).about(message.name(|name| name.starts_with("i-"))),
        (Step::Pull, _) => pull::read(message),
    })
}

fn environment_file(message: &ServiceMessage) -> Option<&str> {
    message.name(|name| name.contains(":s3:"))
}

fn of_logs(message: &ServiceMessage) -> Reading {
    let cause = match Response::of(message) {
        Response::Denied => Cause::PermissionMissing,
        Response::Unreachable => Cause::ServiceUnreachable,
        Response::Missing
        | Response::Invalid
        | Response::QuotaExceeded
        | Response::Overloaded
        | Response::Other => Cause::LogDriver,
    };
    Reading::new(cause).about(message.name(|name| name.contains(":log-group:")))
}

fn of_volume(message: &ServiceMessage) -> Reading {
    let is_volume = |name: &str| ["fs-", "fsap-", "vol-"].iter().any(|prefix| name.starts_with(prefix));
    Reading::new(Cause::Volume).about(message.name(is_volume))
}

fn of_network(message: &ServiceMessage) -> Reading {
    let is_network = |name: &str| ["subnet-", "eni-"].iter().any(|prefix| name.starts_with(prefix));
    Reading::new(Cause::NetworkInterface).about(message.name(is_network))
}

/// Classifies errors of Secrets Manager, Parameter Store or ECR.
fn of_secret(message: &ServiceMessage, response: Response, denied: Cause) -> Reading {
    let is_secret =
        |name: &str| name.contains(":secretsmanager:") || name.contains(":ssm:") || name.starts_with('/');
    let key = || message.after("json key ").map(|key| format!("JSON key {key}"));
    let object = message.name(is_secret).map(str::to_owned).or_else(key);
    let cause = match response {
        Response::Denied => denied,
        Response::Unreachable => Cause::ServiceUnreachable,
        Response::Missing => Cause::SecretMissing,
        Response::Invalid => Cause::ConfigInvalid,
        Response::Overloaded => Cause::Throttled,
        Response::QuotaExceeded | Response::Other => Cause::ResourceInitialization,
    };
    Reading::new(cause).about(object)
}
