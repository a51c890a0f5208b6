//! Gates in a receipt: the approvals and checks between the stages of a deployment, and their results.

use std::{fmt, str::FromStr};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    parse::{ParseError, is_name, not_a_name, serde_as_text},
    reference::DigestRef,
};

/// The name of a gate: `smoke`, `go-live`. Lower-case letters, digits and dashes.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GateName(String);

impl GateName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for GateName {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let error = || not_a_name("the name of a gate", text, "go-live");
        if is_name(text) { Ok(GateName(text.to_owned())) } else { Err(error()) }
    }
}

impl fmt::Display for GateName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

serde_as_text!(GateName);

/// The state of a gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum GateState {
    /// Not approved or rejected yet.
    AwaitingApproval,
    /// Approved: the next stage may start.
    Approved,
    /// Rejected: the deployment counts as failed.
    Rejected,
    /// The check passed.
    Passed,
    /// The check failed: the deployment counts as failed.
    Failed,
    /// The check could not be observed: neither passed nor failed. Rerunning the same command checks again.
    ///
    /// An unknown state, in a document of a later version, is parsed as this one.
    #[serde(other)]
    Unobserved,
}

impl fmt::Display for GateState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            GateState::AwaitingApproval => "awaiting approval",
            GateState::Approved => "approved",
            GateState::Rejected => "rejected",
            GateState::Passed => "passed",
            GateState::Failed => "failed",
            GateState::Unobserved => "could not be observed",
        })
    }
}

impl GateState {
    /// Whether the next stage may start.
    pub fn is_open(self) -> bool {
        matches!(self, GateState::Approved | GateState::Passed)
    }
}

/// Who approved or rejected, as reported by the environment of the process. The claim is not verified: restrict who
/// may run the command instead.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Claim {
    /// The name.
    pub name: String,
    /// The source of the claim: an environment variable, such as `GITHUB_ACTOR`.
    pub source: String,
}

impl fmt::Display for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (by {}, not verified)", self.name, self.source)
    }
}

/// A gate that a deployment has reached, in a [`Receipt`](super::Receipt).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct GateReceipt {
    /// The gate.
    pub gate: GateName,
    /// The state.
    pub state: GateState,
    /// The images of the checked or approved deployment. An approval is valid for exactly these.
    pub images: Vec<DigestRef>,
    /// When the gate entered this state.
    pub at: Timestamp,
    /// Who approved or rejected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<Claim>,
    /// The result of the check, or what to do.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub detail: String,
}

impl GateReceipt {
    pub(crate) fn new(gate: GateName, state: GateState, images: Vec<DigestRef>, at: Timestamp) -> Self {
        GateReceipt { gate, state, images, at, by: None, detail: String::new() }
    }
}

impl fmt::Display for GateReceipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "gate {}: {}", self.gate, self.state)?;
        if let Some(by) = &self.by {
            write!(f, " by {by}")?;
        }
        if self.detail.is_empty() { Ok(()) } else { write!(f, ": {}", self.detail) }
    }
}
