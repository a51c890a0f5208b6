//! Error classes shared by all crates: what a caller can do about an error.

use std::{error::Error as StdError, fmt};

use crate::location::Location;
pub use crate::parse::ParseError;

/// The class of an error: determines what a caller can do about it, and the exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorClass {
    /// The input is invalid or refers to an object that does not exist: a flag, a file, a container, an image.
    BadInput,
    /// A policy or a precondition rejected the request. Nothing was changed.
    Refused,
    /// A service is unavailable to the caller: unreachable, timed out, throttled until the deadline, or permissions are
    /// missing.
    Unavailable,
    /// Another party changed or deleted the object during the operation.
    Superseded,
    /// Content does not have the digest that identifies it.
    DigestMismatch,
    /// The caller cancelled the operation.
    Interrupted,
    /// A bug, in this code or in the service that was called.
    Unexpected,
}

/// An error with an [`ErrorClass`].
///
/// ```
/// use bp_artifact::{ExitCode, Repository, error::{Classified, ErrorClass}};
///
/// let error = "nginx".parse::<Repository>().unwrap_err();
/// assert_eq!(error.class(), ErrorClass::BadInput);
/// assert_eq!(ExitCode::from(error.class()).code(), 2);
/// ```
pub trait Classified: std::error::Error {
    /// The class of this error.
    fn class(&self) -> ErrorClass;

    /// Whether the same call may succeed later without any change.
    fn is_retryable(&self) -> bool {
        self.class() == ErrorClass::Unavailable
    }

    /// Where in a file the error is, if it is about the content of one.
    fn location(&self) -> Option<&Location> {
        None
    }
}

impl Classified for crate::parse::ParseError {
    fn class(&self) -> ErrorClass {
        ErrorClass::BadInput
    }
}

/// Displays ` (request ID)`, for the end of an error message, or nothing without an ID.
#[derive(Debug)]
pub struct RequestId<'a>(pub &'a Option<String>);

impl fmt::Display for RequestId<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(id) => write!(f, " (request {id})"),
            None => Ok(()),
        }
    }
}

/// Formats an error and its sources on one line. A source whose text is already in the line is skipped, because some
/// third-party errors repeat their source.
pub fn chain(error: &dyn StdError) -> String {
    let mut line = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let text = error.to_string();
        if !line.contains(&text) {
            line.push_str(": ");
            line.push_str(&text);
        }
        source = error.source();
    }
    line
}
