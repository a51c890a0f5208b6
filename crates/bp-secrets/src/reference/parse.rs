//! Parse errors of references, and validation of their parts.

use std::borrow::Cow;

/// A text is not a valid reference.
///
/// The error does not quote the text: users may give a secret value instead of a reference, and errors reach logs.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a reference to a secret or parameter: {reason}")]
pub struct ParseError {
    reason: Cow<'static, str>,
}

impl ParseError {
    pub(crate) fn new(reason: impl Into<Cow<'static, str>>) -> Self {
        ParseError { reason: reason.into() }
    }

    /// What is wrong with the text, as a clause without a full stop.
    pub fn reason(&self) -> &str {
        &self.reason
    }
}

/// Rejects a part that is empty, too long or has an invalid character. The error does not quote the character.
pub(super) fn part(
    what: &'static str,
    text: &str,
    max: usize,
    legal: impl Fn(char) -> bool,
) -> Result<(), ParseError> {
    if text.is_empty() {
        return Err(ParseError::new(format!("{what} is empty")));
    }
    if text.chars().count() > max {
        return Err(ParseError::new(format!("{what} is longer than {max} characters")));
    }
    match (1..).zip(text.chars()).find(|(_, c)| !legal(*c)) {
        Some((number, _)) => {
            Err(ParseError::new(format!("{what} is invalid: character {number} is not allowed")))
        }
        None => Ok(()),
    }
}
