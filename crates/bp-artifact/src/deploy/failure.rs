//! Why a deployment failed: cause and evidence.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::Cause;

/// Why a deployment failed, gathered before anything was torn down.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct FailureReport {
    /// The class of the failure.
    pub cause: Cause,
    /// One line in the platform's own words.
    pub message: String,
    /// What it is about, where the message names it: an image, a secret, a log group, a target group, a node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub object: Option<String>,
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
            object: None,
            container: None,
            exit_code: None,
            evidence: Vec::new(),
        }
    }

    /// What it is about.
    pub fn about(mut self, object: Option<String>) -> Self {
        self.object = object;
        self
    }

    /// The container at fault, with its exit code when it ended.
    pub fn in_container(mut self, container: Option<String>, exit_code: Option<i32>) -> Self {
        (self.container, self.exit_code) = (container, exit_code);
        self
    }

    /// What to look at first: the [advice](Cause::advice) of its cause, about the object, else the container, that it
    /// names.
    pub fn advice(&self) -> String {
        let container = match self.cause {
            Cause::ContainerExited | Cause::OutOfMemory | Cause::HealthCheckFailed => {
                self.container.as_deref()
            }
            _ => None,
        };
        self.cause.advice(self.object.as_deref().or(container))
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
#[non_exhaustive]
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

impl Evidence {
    /// What was said. Where and when: [`source`](Self::source), [`at`](Self::at).
    ///
    /// ```
    /// use bp_artifact::deploy::{Evidence, EvidenceKind};
    ///
    /// let seen = Evidence::new(EvidenceKind::Task, "STOPPED").source("task 1a2b").at(None);
    /// assert_eq!((seen.source.as_str(), seen.message.as_str()), ("task 1a2b", "STOPPED"));
    /// ```
    pub fn new(kind: EvidenceKind, message: impl Into<String>) -> Self {
        Evidence { kind, source: String::new(), message: message.into(), at: None }
    }

    /// Where it was seen.
    pub fn source(self, source: impl Into<String>) -> Self {
        Evidence { source: source.into(), ..self }
    }

    /// When it happened.
    pub fn at(self, at: impl Into<Option<Timestamp>>) -> Self {
        Evidence { at: at.into(), ..self }
    }
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
