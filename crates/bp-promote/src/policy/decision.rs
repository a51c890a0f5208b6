//! The decision on a promotion: the result of each gate.

use std::fmt;

use bp_artifact::config::PolicyConfig;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::Facts;

/// Whether an image may enter an environment, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Decision {
    /// The rules.
    pub policy: PolicyConfig,
    /// When it was made.
    pub at: Timestamp,
    /// The result of each gate, at least one.
    pub gates: Vec<GateResult>,
    /// The facts that it rests on.
    pub facts: Facts,
}

impl Decision {
    /// Whether the image may enter: every gate passes.
    pub fn is_allowed(&self) -> bool {
        !self.gates.is_empty() && self.gates.iter().all(|gate| gate.state == GateState::Passed)
    }

    /// The gates that keep the image out.
    pub fn closed(&self) -> impl Iterator<Item = &GateResult> {
        self.gates.iter().filter(|gate| gate.state != GateState::Passed)
    }

    /// When the image may enter at the earliest, if time alone is missing.
    pub fn opens_at(&self) -> Option<Timestamp> {
        let times: Option<Vec<Timestamp>> = self.closed().map(|gate| gate.opens_at).collect();
        times?.into_iter().max()
    }
}

/// Displays one line per gate, and below each closed one what is missing.
impl fmt::Display for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (image, environment) = (&self.facts.image, &self.facts.environment);
        let may = if self.is_allowed() { "may enter" } else { "may not enter" };
        write!(f, "{image} {may} {environment}")?;
        for gate in &self.gates {
            write!(f, "\n{:7} {}: {}", gate.state.to_string(), gate.gate, gate.reason)?;
            if let Some(remedy) = &gate.remedy {
                write!(f, "\n        {remedy}")?;
            }
        }
        match self.opens_at() {
            Some(time) => write!(f, "\nopens at {time}"),
            None => Ok(()),
        }
    }
}

/// The result of a gate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GateResult {
    /// The gate.
    pub gate: Gate,
    /// Its state.
    pub state: GateState,
    /// Why.
    pub reason: String,
    /// The command or setting that opens it, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
    /// When it opens by itself, if it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub opens_at: Option<Timestamp>,
}

/// The state of a gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GateState {
    /// It is open.
    Passed,
    /// It is closed.
    Failed,
    /// A fact that it needs is not known: it is closed.
    Unknown,
}

impl fmt::Display for GateState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            GateState::Passed => "passed",
            GateState::Failed => "failed",
            GateState::Unknown => "unknown",
        })
    }
}

/// A gate.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Gate {
    /// The image was not recalled.
    Recall,
    /// It comes from an environment that the policy allows, and has a record of it.
    Order,
    /// It was there for some time.
    Soak,
    /// A deployment there was proven.
    Proven,
    /// People approved it.
    Approvals,
    /// It was built from a branch that the policy allows.
    Branch,
    /// It was not built from a fork.
    Fork,
    /// The request is old enough.
    Wait,
    /// A freeze, by its name.
    Freeze(String),
    /// Its vulnerabilities are within the budget.
    Scan,
    /// A signature, by its name.
    Signature(String),
    /// A referrer, by its artifact type.
    Referrer(String),
}

impl fmt::Display for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Gate::Recall => f.write_str("recall"),
            Gate::Order => f.write_str("order"),
            Gate::Soak => f.write_str("soak"),
            Gate::Proven => f.write_str("proven"),
            Gate::Approvals => f.write_str("approvals"),
            Gate::Branch => f.write_str("branch"),
            Gate::Fork => f.write_str("fork"),
            Gate::Wait => f.write_str("wait"),
            Gate::Freeze(name) => write!(f, "freeze {name}"),
            Gate::Scan => f.write_str("scan"),
            Gate::Signature(name) => write!(f, "signature {name}"),
            Gate::Referrer(kind) => write!(f, "referrer {kind}"),
        }
    }
}
