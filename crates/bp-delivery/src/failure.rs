//! An error on its way to the last line on the terminal and the exit code.

use std::fmt;

use bp_artifact::{
    ExitCode,
    error::{Classified, ErrorClass},
};

/// Any classified error, shown with its sources on one line.
///
/// `?` converts every error that implements [`Classified`]; for others, say what class they are of.
pub struct Failure {
    code: ExitCode,
    line: String,
}

impl Failure {
    /// An error whose own type has no class.
    pub fn new(class: ErrorClass, error: &dyn std::error::Error) -> Self {
        Failure { code: class.into(), line: line(error) }
    }

    /// A message of the binary's own about wrong input.
    pub fn bad_input(message: impl Into<String>) -> Self {
        Failure { code: ExitCode::BadInput, line: message.into() }
    }

    /// A message of the binary's own about something that cannot be used.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Failure { code: ExitCode::Unavailable, line: message.into() }
    }

    /// A message of the binary's own about something that must not be done.
    pub fn refused(message: impl Into<String>) -> Self {
        Failure { code: ExitCode::Refused, line: message.into() }
    }

    /// A message of the binary's own about something that should not be.
    pub fn unexpected(message: impl Into<String>) -> Self {
        Failure { code: ExitCode::Unexpected, line: message.into() }
    }

    /// The same, after what it is about.
    pub fn about(mut self, what: impl fmt::Display) -> Self {
        self.line = format!("{what}: {}", self.line);
        self
    }

    /// The same, with what may be the reason behind it.
    pub fn hint(mut self, hint: impl fmt::Display) -> Self {
        self.line = format!("{}; {hint}", self.line);
        self
    }

    /// How the process ends.
    pub fn exit_code(&self) -> ExitCode {
        self.code
    }

    /// The same, ending the process with another code.
    pub fn ending_with(mut self, code: ExitCode) -> Self {
        self.code = code;
        self
    }
}

impl<E: Classified> From<E> for Failure {
    fn from(error: E) -> Self {
        Failure { code: error.class().into(), line: line(&error) }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.line)
    }
}

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.line)
    }
}

/// The error and its sources on one line that is safe to print.
fn line(error: &dyn std::error::Error) -> String {
    bp_artifact::text::single_line(&bp_artifact::error::chain(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{text}")]
    struct Link {
        text: &'static str,
        source: Option<Box<Link>>,
    }

    #[test]
    fn one_line_and_no_repetition() {
        let root = Link { text: "connection\nrefused", source: None };
        let middle = Link { text: "cannot reach: connection\nrefused", source: Some(Box::new(root)) };
        let top = Link { text: "cannot describe the service", source: Some(Box::new(middle)) };
        let failure = Failure::new(ErrorClass::Unavailable, &top);
        assert_eq!(failure.to_string(), "cannot describe the service: cannot reach: connection refused");
        assert_eq!(failure.exit_code(), ExitCode::Unavailable);
    }
}
