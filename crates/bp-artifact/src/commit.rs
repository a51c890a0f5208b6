//! The commit that an artifact was built from.

use std::{fmt, str::FromStr};

use crate::parse::{ParseError, serde_as_text};

/// A git commit id: 7 to 40 hex digits, or 64 in a SHA-256 repository, in lower case.
///
/// Abbreviated IDs are accepted because the older `artifact.json` contains them; see [`is_full`](Self::is_full).
///
/// ```
/// use bp_artifact::CommitSha;
///
/// let commit: CommitSha = "1a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c4d".parse()?;
/// assert!(commit.is_full());
/// assert_eq!(commit.abbreviated().as_str(), "1a2b3c4");
/// # Ok::<(), bp_artifact::error::ParseError>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct CommitSha(String);

impl CommitSha {
    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the ID is full, not abbreviated.
    pub fn is_full(&self) -> bool {
        matches!(self.0.len(), 40 | 64)
    }

    /// The first seven digits, as git abbreviates.
    pub fn short(&self) -> &str {
        self.0.get(..7).unwrap_or(&self.0)
    }

    /// This commit by its [short](Self::short) id.
    pub fn abbreviated(&self) -> CommitSha {
        CommitSha(self.short().to_owned())
    }
}

impl FromStr for CommitSha {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let lower = text.to_ascii_lowercase();
        let reason = if !lower.bytes().all(|b| b.is_ascii_hexdigit()) {
            "a commit id is hex digits only"
        } else if !matches!(lower.len(), 7..=40 | 64) {
            "a commit id has 7 to 40 hex digits, or 64"
        } else {
            return Ok(CommitSha(lower));
        };
        Err(ParseError::new("a commit id", text, reason))
    }
}

impl fmt::Display for CommitSha {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

serde_as_text!(CommitSha);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_valid_lengths_only() {
        assert!("0A1b2c3".parse::<CommitSha>().is_ok_and(|c| c.as_str() == "0a1b2c3" && !c.is_full()));
        assert!("a".repeat(40).parse::<CommitSha>().is_ok_and(|c| c.is_full()));
        for text in ["", "abc", "zzzzzzz", &"a".repeat(41)] {
            assert!(text.parse::<CommitSha>().is_err(), "{text}");
        }
    }
}
