//! Names within a policy.

use std::{fmt, str::FromStr};

use crate::parse::{ParseError, is_name, not_a_name, serde_as_text};

/// The name of an approver, a freeze or a signature: `alice`, `year-end`. Lower-case letters, digits and dashes.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PolicyName(String);

impl PolicyName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for PolicyName {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let error = || not_a_name("a name", text, "alice");
        if is_name(text) { Ok(PolicyName(text.to_owned())) } else { Err(error()) }
    }
}

impl fmt::Display for PolicyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

serde_as_text!(PolicyName);
