//! What is wrong with a reference's text.

use std::borrow::Cow;

/// A text that is no reference.
///
/// The text itself is not repeated: people put the secret where its reference belongs, and errors reach logs.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a reference to a secret or parameter: {reason}")]
pub struct ParseError {
    reason: Cow<'static, str>,
}

impl ParseError {
    pub(crate) fn new(reason: impl Into<Cow<'static, str>>) -> Self {
        ParseError { reason: reason.into() }
    }

    /// What is wrong with it, in a sentence without its full stop.
    pub fn reason(&self) -> &str {
        &self.reason
    }
}

/// Refuses an empty, overlong or illegally written part. The character is not repeated either.
pub(super) fn part(
    what: &'static str,
    text: &str,
    longest: usize,
    legal: impl Fn(char) -> bool,
) -> Result<(), ParseError> {
    if text.is_empty() {
        return Err(ParseError::new(format!("{what}: it is empty")));
    }
    if text.chars().count() > longest {
        return Err(ParseError::new(format!("{what}: it takes at most {longest} characters")));
    }
    match text.chars().position(|c| !legal(c)) {
        Some(at) => {
            Err(ParseError::new(format!("{what}: a character that it cannot have, number {}", at + 1)))
        }
        None => Ok(()),
    }
}
