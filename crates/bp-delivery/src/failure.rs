//! The error type of command-line programs: a one-line message and an exit code.

use std::fmt;

use bp_artifact::{
    ExitCode,
    document::Location,
    error::{Classified, ErrorClass},
};

/// Any classified error, displayed with its sources on one line.
///
/// `?` converts every error that implements [`Classified`]; for others, pass the class to [`Failure::new`].
pub struct Failure {
    code: ExitCode,
    line: String,
    hints: Vec<String>,
    is_retryable: bool,
    location: Option<Box<Location>>,
}

impl Failure {
    fn of(code: ExitCode, line: impl Into<String>) -> Self {
        Failure { code, line: line.into(), hints: Vec::new(), is_retryable: false, location: None }
    }

    /// The message without its hints, and the hints.
    #[cfg(feature = "render")]
    pub(crate) fn parts(&self) -> (&str, &[String]) {
        (&self.line, &self.hints)
    }

    /// Converts an error whose type does not implement [`Classified`].
    pub fn new(class: ErrorClass, error: &dyn std::error::Error) -> Self {
        Failure { is_retryable: class == ErrorClass::Unavailable, ..Self::of(class.into(), line(error)) }
    }

    /// Whether the same call may succeed later without any change: not for missing permissions, if the library's error
    /// distinguishes them.
    pub fn is_retryable(&self) -> bool {
        self.is_retryable
    }

    /// Where in a file the error is, if it is about the content of one.
    pub fn location(&self) -> Option<&Location> {
        self.location.as_deref()
    }

    /// Invalid input, with the program's own message.
    pub fn bad_input(message: impl Into<String>) -> Self {
        Self::of(ExitCode::BadInput, message)
    }

    /// An unavailable service or missing credentials, with the program's own message.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Failure { is_retryable: true, ..Self::of(ExitCode::Unavailable, message) }
    }

    /// An operation refused by a policy or a precondition, with the program's own message.
    pub fn refused(message: impl Into<String>) -> Self {
        Self::of(ExitCode::Refused, message)
    }

    /// An unexpected state or response, with the program's own message.
    pub fn unexpected(message: impl Into<String>) -> Self {
        Self::of(ExitCode::Unexpected, message)
    }

    /// Prepends the object or operation that the message concerns.
    pub fn context(mut self, what: impl fmt::Display) -> Self {
        self.line = format!("{what}: {}", self.line);
        self
    }

    /// Appends a hint about the cause or the remedy.
    pub fn hint(mut self, hint: impl fmt::Display) -> Self {
        self.hints.push(hint.to_string());
        self
    }

    /// The exit code of the process.
    pub fn exit_code(&self) -> ExitCode {
        self.code
    }

    /// Replaces the exit code.
    pub fn with_exit_code(mut self, code: ExitCode) -> Self {
        self.code = code;
        self
    }
}

impl<E: Classified> From<E> for Failure {
    fn from(error: E) -> Self {
        Failure {
            is_retryable: error.is_retryable(),
            location: error.location().cloned().map(Box::new),
            ..Self::of(error.class().into(), line(&error))
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.line)?;
        self.hints.iter().try_for_each(|hint| write!(f, "; {hint}"))
    }
}

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
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
    fn formats_the_source_chain_on_one_line_without_repetition() {
        let root = Link { text: "connection\nrefused", source: None };
        let middle = Link { text: "cannot reach: connection\nrefused", source: Some(Box::new(root)) };
        let top = Link { text: "cannot describe the service", source: Some(Box::new(middle)) };
        let failure = Failure::new(ErrorClass::Unavailable, &top);
        assert_eq!(failure.to_string(), "cannot describe the service: cannot reach: connection refused");
        assert_eq!(failure.exit_code(), ExitCode::Unavailable);
    }
}
