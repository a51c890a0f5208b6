//! What a deployment would change, and whether what it needs exists: the answer of every target's preflight.

use std::fmt;

use serde::Serialize;

use super::{Cause, Change, TargetId};

/// What a deployment would change, and whether what it needs is there. Nothing was changed to find out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Preflight {
    /// Where.
    pub target: TargetId,
    /// What the new revision would change. Empty: nothing.
    pub changes: Vec<Change>,
    /// What was looked up.
    pub findings: Vec<Finding>,
    /// Every secret outside the platform that the new revision refers to, for somebody who can read them to check.
    pub secrets: Vec<SecretReference>,
}

impl Preflight {
    /// What was found at `target`.
    pub fn new(target: TargetId, findings: Vec<Finding>) -> Self {
        Preflight { target, changes: Vec::new(), findings, secrets: Vec::new() }
    }

    /// What the new revision would change.
    pub fn changes(mut self, changes: Vec<Change>) -> Self {
        self.changes = changes;
        self
    }

    /// The secrets that it refers to.
    pub fn secrets(mut self, secrets: Vec<SecretReference>) -> Self {
        self.secrets = secrets;
        self
    }

    /// Whether nothing is known to be missing. What could not be looked up is not known.
    pub fn is_ready(&self) -> bool {
        self.findings.iter().all(|finding| finding.state != Presence::Missing)
    }
}

/// One thing that a deployment needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Finding {
    /// What: `image r.example.com/web@sha256:… (web)`, `role …`, `log group /shop/web`, `secret db`.
    pub subject: String,
    /// Whether it is there.
    pub state: Presence,
    /// What the deployment would fail with, where that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cause: Option<Cause>,
    /// Why not, or what to know about it.
    pub message: String,
}

impl Finding {
    /// That `subject` is there, is missing, or could not be looked up.
    pub fn new(subject: impl Into<String>, state: Presence, message: impl Into<String>) -> Self {
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
            Presence::Present => "ok",
            Presence::Missing => "MISSING",
            Presence::Unknown => "unknown",
        };
        write!(f, "{state}: {}", self.subject)?;
        if self.message.is_empty() { Ok(()) } else { write!(f, ": {}", self.message) }
    }
}

/// Whether something is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Presence {
    /// It is there and fits.
    Present,
    /// It is not there, or does not fit: the deployment would fail.
    Missing,
    /// It could not be looked up: no client was given for it, or it is not allowed.
    Unknown,
}

/// A secret that a container refers to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct SecretReference {
    /// The container.
    pub container: String,
    /// The environment variable, or the option of the log driver.
    pub name: String,
    /// The reference: an ARN or a parameter's name, with key, stage and version as ECS writes them.
    pub value_from: String,
}

impl SecretReference {
    /// That `container` reads the secret `value_from` as `name`.
    pub fn new(container: &str, name: &str, value_from: &str) -> Self {
        let (container, name, value_from) = (container.into(), name.into(), value_from.into());
        SecretReference { container, name, value_from }
    }
}
