//! Failure reports: the cause of a failed deployment, and the evidence.

use std::{borrow::Cow, fmt};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::Cause;
use crate::text;

/// Why a deployment failed, collected before any rollback or cleanup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct FailureReport {
    /// The class of the failure.
    pub cause: Cause,
    /// The platform's message, on one line.
    pub message: String,
    /// The affected object, if the message contains it: an image, a secret, a log group, a target group, a node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub object: Option<String>,
    /// The container that failed, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
    /// Its exit code, if it exited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// A command that shows more, safe to paste into a shell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inspect: Option<String>,
    /// The evidence, most relevant first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub evidence: Vec<Evidence>,
}

impl FailureReport {
    /// Creates a report with only a cause and a message, without the [credentials of URLs](text::without_credentials).
    pub fn new(cause: Cause, message: impl Into<String>) -> Self {
        FailureReport {
            cause,
            message: without_credentials(message),
            object: None,
            container: None,
            exit_code: None,
            inspect: None,
            evidence: Vec::new(),
        }
    }

    /// Sets the affected object.
    pub fn about(mut self, object: Option<String>) -> Self {
        self.object = object;
        self
    }

    /// Sets the container that failed, with its exit code if it exited.
    pub fn in_container(mut self, container: Option<String>, exit_code: Option<i32>) -> Self {
        (self.container, self.exit_code) = (container, exit_code);
        self
    }

    /// Sets a command that shows more, from its words: each is quoted for a shell if necessary.
    ///
    /// ```
    /// use bp_artifact::deploy::{Cause, FailureReport};
    ///
    /// let report = FailureReport::new(Cause::Unknown, "?").inspect_with(["kubectl", "describe", "pod", "web 1"]);
    /// assert_eq!(report.inspect.as_deref(), Some("kubectl describe pod 'web 1'"));
    /// ```
    pub fn inspect_with<'w>(mut self, words: impl IntoIterator<Item = &'w str>) -> Self {
        self.inspect = Some(words.into_iter().map(quoted).collect::<Vec<_>>().join(" "));
        self
    }

    /// What to do first: the [advice](Cause::advice) of the cause, about the affected object or else the container.
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

/// Messages of nodes and registries quote presigned URLs.
pub(super) fn without_credentials(message: impl Into<String>) -> String {
    let message = message.into();
    match text::without_credentials(&message) {
        Cow::Borrowed(_) => message,
        Cow::Owned(redacted) => redacted,
    }
}

/// A word for a POSIX shell.
fn quoted(word: &str) -> Cow<'_, str> {
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || b"-_./:=@,%+".contains(&b);
    if !word.is_empty() && word.bytes().all(is_plain) {
        return word.into();
    }
    format!("'{}'", word.replace('\'', "'\\''")).into()
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

/// One piece of evidence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Evidence {
    /// The kind.
    pub kind: EvidenceKind,
    /// The source: a task, pod, container or workload.
    pub source: String,
    /// The original message.
    pub message: String,
    /// When it happened, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Timestamp>,
}

impl Evidence {
    /// Creates evidence with a message, without the [credentials of URLs](text::without_credentials). Set its source
    /// and time with [`source`](Self::source) and [`at`](Self::at).
    ///
    /// ```
    /// use bp_artifact::deploy::{Evidence, EvidenceKind};
    ///
    /// let seen = Evidence::new(EvidenceKind::Task, "STOPPED").source("task 1a2b").at(None);
    /// assert_eq!((seen.source.as_str(), seen.message.as_str()), ("task 1a2b", "STOPPED"));
    /// ```
    pub fn new(kind: EvidenceKind, message: impl Into<String>) -> Self {
        Evidence { kind, source: String::new(), message: without_credentials(message), at: None }
    }

    /// Sets the source.
    pub fn source(self, source: impl Into<String>) -> Self {
        Evidence { source: source.into(), ..self }
    }

    /// Sets the time.
    pub fn at(self, at: impl Into<Option<Timestamp>>) -> Self {
        Evidence { at: at.into(), ..self }
    }
}

/// The kinds of [`Evidence`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum EvidenceKind {
    /// The state of a deployment, rollout or workload.
    Deployment,
    /// A task or pod.
    Task,
    /// A container.
    Container,
    /// An event of the service or namespace.
    Event,
    /// Log lines of a container.
    Log,
    /// A kind from a later version.
    #[serde(other)]
    Other,
}
