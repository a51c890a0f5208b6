//! One finding of a preflight.

use std::fmt;

use bp_artifact::deploy::Cause;

/// One thing that would fail, or that could not be looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Finding {
    /// What the roll-out would fail with.
    pub cause: Cause,
    /// Whether it is certain. What we may not look at is not.
    pub certain: bool,
    /// What is wrong, and where.
    pub message: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sure = if self.certain { "" } else { "not known: " };
        write!(f, "{sure}{}: {}", self.cause, self.message)
    }
}

pub(crate) fn certain(cause: Cause, message: impl Into<String>) -> Finding {
    Finding { cause, certain: true, message: message.into() }
}

pub(crate) fn unknown(cause: Cause, message: impl Into<String>) -> Finding {
    Finding { cause, certain: false, message: message.into() }
}
