//! Why a deployment failed: a closed set of causes that ECS and EKS share, and the evidence.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Why a deployment failed. The set is closed: what fits nowhere is [`Unknown`](Cause::Unknown) with its evidence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cause {
    /// The registry has no such image.
    ImageNotFound,
    /// The registry refused the pull.
    ImagePullDenied,
    /// The pull failed otherwise: network, time-out, rate limit.
    ImagePullFailed,
    /// The image is not built for the machine's architecture.
    WrongArchitecture,
    /// A secret or parameter that the definition refers to does not exist.
    SecretMissing,
    /// A secret or parameter may not be read.
    SecretDenied,
    /// A config map, file or setting is missing or wrong.
    ConfigInvalid,
    /// An essential container ended with an error.
    ContainerExited,
    /// A container was killed for using too much memory.
    OutOfMemory,
    /// The container's own health check or probe fails.
    HealthCheckFailed,
    /// The load balancer finds the targets unhealthy.
    LoadBalancerUnhealthy,
    /// No place to run: capacity, constraints, taints.
    Unschedulable,
    /// Network interface, volume, log driver or another resource could not be prepared.
    ResourceInitialization,
    /// A quota is used up.
    QuotaExceeded,
    /// An admission controller or API validation refused the change.
    AdmissionRefused,
    /// A role, service account or permission is missing at run time.
    PermissionMissing,
    /// An alarm that guards the deployment went off.
    AlarmTriggered,
    /// No progress within the time allowed, and no better reason was to be seen.
    NoProgress,
    /// None of the above, or a cause of a later version that wrote the document; see the evidence.
    #[serde(other)]
    Unknown,
}

impl Cause {
    /// What to look at first, in one sentence.
    pub fn advice(self) -> &'static str {
        match self {
            Cause::ImageNotFound => {
                "Check that the digest was copied to this registry and not expired by a lifecycle rule."
            }
            Cause::ImagePullDenied => {
                "Give the execution role or node role pull permission, and check the repository policy."
            }
            Cause::ImagePullFailed => {
                "Check the route to the registry (NAT, VPC endpoints) and its rate limits."
            }
            Cause::WrongArchitecture => {
                "Build the image for this architecture, or place the workload on matching machines."
            }
            Cause::SecretMissing => "Create the secret, or mend its name or JSON key in the definition.",
            Cause::SecretDenied => {
                "Allow the execution role to read the secret, and its KMS key if it has its own."
            }
            Cause::ConfigInvalid => "Create or mend the configuration that the message names.",
            Cause::ContainerExited => "Read the container's last log lines: the program itself ended.",
            Cause::OutOfMemory => "Raise the memory limit, or find what uses so much.",
            Cause::HealthCheckFailed => {
                "Call the health check inside the container, and compare its start time with the grace period."
            }
            Cause::LoadBalancerUnhealthy => {
                "Check the target group's path, port and matcher, and the security groups between."
            }
            Cause::Unschedulable => "Add capacity, or loosen the constraints that the message names.",
            Cause::ResourceInitialization => {
                "Read the message: a network interface, volume or log driver could not be prepared."
            }
            Cause::QuotaExceeded => "Raise the quota or free some of it.",
            Cause::AdmissionRefused => "Change the workload as the admission message says.",
            Cause::PermissionMissing => {
                "Give the task role or service account the permission that the message names."
            }
            Cause::AlarmTriggered => "Look at the alarm's metric since the deployment started.",
            Cause::NoProgress => {
                "Look at the evidence; if the start is merely slow, give it a longer deadline."
            }
            Cause::Unknown => "Read the evidence; nothing known explains it.",
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Cause::ImageNotFound => "the image does not exist",
            Cause::ImagePullDenied => "the image may not be pulled",
            Cause::ImagePullFailed => "the image could not be pulled",
            Cause::WrongArchitecture => "the image is for another architecture",
            Cause::SecretMissing => "a secret is missing",
            Cause::SecretDenied => "a secret may not be read",
            Cause::ConfigInvalid => "configuration is missing or wrong",
            Cause::ContainerExited => "a container ended",
            Cause::OutOfMemory => "a container ran out of memory",
            Cause::HealthCheckFailed => "the health check fails",
            Cause::LoadBalancerUnhealthy => "the load balancer finds it unhealthy",
            Cause::Unschedulable => "there is no place to run it",
            Cause::ResourceInitialization => "a resource could not be prepared",
            Cause::QuotaExceeded => "a quota is used up",
            Cause::AdmissionRefused => "the change was refused at admission",
            Cause::PermissionMissing => "a permission is missing",
            Cause::AlarmTriggered => "an alarm went off",
            Cause::NoProgress => "it makes no progress",
            Cause::Unknown => "the reason is not known",
        })
    }
}

/// Why a deployment failed, gathered before anything was torn down.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FailureReport {
    /// The class of the failure.
    pub cause: Cause,
    /// One line in the platform's own words.
    pub message: String,
    /// The container at fault, when one is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
    /// Its exit code, when it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// What was seen, most telling first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub evidence: Vec<Evidence>,
}

impl FailureReport {
    /// A report with nothing but its cause and message.
    pub fn new(cause: Cause, message: impl Into<String>) -> Self {
        FailureReport {
            cause,
            message: message.into(),
            container: None,
            exit_code: None,
            evidence: Vec::new(),
        }
    }
}

impl fmt::Display for FailureReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.cause)?;
        if let Some(container) = &self.container {
            write!(f, " (container {container}")?;
            if let Some(code) = self.exit_code {
                write!(f, ", exit code {code}")?;
            }
            write!(f, ")")?;
        }
        write!(f, ": {}", self.message)
    }
}

/// One thing that was seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Evidence {
    /// What kind of thing.
    pub kind: EvidenceKind,
    /// Where it was seen: a task, pod, container or workload.
    pub source: String,
    /// What it said, as it said it.
    pub message: String,
    /// When it happened, if it told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Timestamp>,
}

/// The kinds of [`Evidence`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EvidenceKind {
    /// The state of a deployment, roll-out or workload.
    Deployment,
    /// A task or pod.
    Task,
    /// A container.
    Container,
    /// An event of the service or namespace.
    Event,
    /// Lines of a container's log.
    Log,
    /// A kind of a later version that wrote the document.
    #[serde(other)]
    Other,
}
