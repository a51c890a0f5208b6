//! What a caller can do about an error, the same question for every crate.

use std::{error::Error as StdError, fmt};

pub use crate::parse::ParseError;

/// The class of an error: what a caller, or an exit code, can make of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorClass {
    /// The input is wrong or names what does not exist: a flag, a file, a container, an image. Change it.
    BadInput,
    /// A policy or a precondition refused. Nothing was changed.
    Refused,
    /// A service cannot be used: unreachable, out of time, throttled to the end, no or wrong permission.
    Unavailable,
    /// Somebody else changed what we were changing, or it is gone.
    Superseded,
    /// The caller cancelled.
    Interrupted,
    /// A defect, here or in what was talked to.
    Unexpected,
}

/// An error that knows its [`ErrorClass`].
///
/// ```
/// use bp_artifact::{ExitCode, Repository, error::{Classified, ErrorClass}};
///
/// let error = "nginx".parse::<Repository>().unwrap_err();
/// assert_eq!(error.class(), ErrorClass::BadInput);
/// assert_eq!(ExitCode::from(error.class()) as u8, 2);
/// ```
pub trait Classified: std::error::Error {
    /// What a caller can make of it.
    fn class(&self) -> ErrorClass;

    /// Whether the same call may go well later without anything being changed.
    fn is_retryable(&self) -> bool {
        self.class() == ErrorClass::Unavailable
    }
}

impl Classified for crate::parse::ParseError {
    fn class(&self) -> ErrorClass {
        ErrorClass::BadInput
    }
}

/// ` (request ID)` at the end of an error's message, and nothing where there is no id.
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

/// An error and its sources on one line, each once: some foreign types repeat their source in their own message.
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
