//! Findings of the checks: a message and its severity.

use std::fmt;

/// One finding of a check.
pub(super) struct Finding {
    pub(super) severity: Severity,
    pub(super) message: String,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Severity {
    Warning,
    Failure,
}

impl Finding {
    pub(super) fn failure(message: impl Into<String>) -> Self {
        Finding { severity: Severity::Failure, message: message.into() }
    }

    pub(super) fn warning(message: impl Into<String>) -> Self {
        Finding { severity: Severity::Warning, message: message.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let label = match self.severity {
            Severity::Warning => "warning",
            Severity::Failure => "failure",
        };
        write!(f, "  {label}: {}", self.message)
    }
}
