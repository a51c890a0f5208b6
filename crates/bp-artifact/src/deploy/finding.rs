//! Findings of checks before a deployment: the state of one dependency.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::Cause;

/// One dependency of a deployment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct Finding {
    /// The object: `image r.example.com/web@sha256:… (web)`, `role …`, `log group /shop/web`, `secret db`.
    pub subject: String,
    /// Its state.
    pub state: FindingState,
    /// The cause that the deployment would fail with, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<Cause>,
    /// What is wrong and what to do, or additional information.
    pub message: String,
}

impl Finding {
    /// Creates a finding about `subject`.
    pub fn new(subject: impl Into<String>, state: FindingState, message: impl Into<String>) -> Self {
        Finding { subject: subject.into(), state, cause: None, message: message.into() }
    }

    /// What the deployment would fail with.
    pub fn cause(mut self, cause: Cause) -> Self {
        self.cause = Some(cause);
        self
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match self.state {
            FindingState::Present => "ok",
            FindingState::Warning => "warning",
            FindingState::Missing => "MISSING",
            FindingState::Invalid => "INVALID",
            FindingState::Denied => "DENIED",
            FindingState::Unknown => "unknown",
        };
        write!(f, "{state}: {}", self.subject)?;
        if self.message.is_empty() { Ok(()) } else { write!(f, ": {}", self.message) }
    }
}

/// The state of a dependency of a deployment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum FindingState {
    /// It exists and is valid.
    Present,
    /// The deployment may fail because of it, or is harder to follow.
    Warning,
    /// It does not exist: the deployment would fail.
    Missing,
    /// It exists and is invalid: the deployment would fail.
    Invalid,
    /// A permission is missing, or the change would be rejected: the deployment would fail.
    Denied,
    /// It could not be looked up: there is no client for it, or no permission. Also a state from a later version.
    #[serde(other)]
    Unknown,
}

impl FindingState {
    /// Whether it exists and is valid.
    pub(super) fn is_present(self) -> bool {
        matches!(self, FindingState::Present)
    }

    /// Whether the deployment would fail.
    pub fn is_fatal(self) -> bool {
        match self {
            FindingState::Missing | FindingState::Invalid | FindingState::Denied => true,
            FindingState::Present | FindingState::Warning | FindingState::Unknown => false,
        }
    }
}
