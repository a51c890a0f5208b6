//! Target IDs, as used in events, receipts and reports.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The ID of a target, unique within a project and stable between runs: `ecs/<cluster>/<service>`,
/// `eks/<cluster>/<namespace>/deployment/<name>`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(transparent)]
pub struct TargetId(String);

impl TargetId {
    /// Creates a target ID.
    pub fn new(id: impl Into<String>) -> Self {
        TargetId(id.into())
    }

    /// The ID as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TargetId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
