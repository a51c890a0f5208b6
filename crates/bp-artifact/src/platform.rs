//! The platform that an image is built for.

use std::{fmt, str::FromStr};

use crate::parse::{ParseError, serde_as_text};

/// Operating system, architecture and variant, written `linux/amd64` or `linux/arm64/v8`.
///
/// ```
/// use bp_artifact::Platform;
///
/// let platform: Platform = "linux/arm64/v8".parse()?;
/// assert!(platform.runs(&"linux/arm64".parse()?));
/// # Ok::<(), bp_artifact::error::ParseError>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Platform {
    os: String,
    architecture: String,
    variant: Option<String>,
}

impl Platform {
    /// A platform from the fields of an index's `platform` or of an image's configuration.
    ///
    /// # Errors
    /// When a part is empty or contains a slash or white space.
    pub fn new(os: &str, architecture: &str, variant: Option<&str>) -> Result<Self, ParseError> {
        let text = match variant.filter(|v| !v.is_empty()) {
            Some(variant) => format!("{os}/{architecture}/{variant}"),
            None => format!("{os}/{architecture}"),
        };
        text.parse()
    }

    /// `linux` or `windows`.
    pub fn os(&self) -> &str {
        &self.os
    }

    /// The Go name of the architecture: `amd64`, `arm64`.
    pub fn architecture(&self) -> &str {
        &self.architecture
    }

    /// The variant: `v8`.
    pub fn variant(&self) -> Option<&str> {
        self.variant.as_deref()
    }

    /// Whether an image for this platform runs on `other`. A missing variant matches any variant.
    pub fn runs(&self, other: &Platform) -> bool {
        let variants = match (&self.variant, &other.variant) {
            (Some(ours), Some(theirs)) => ours == theirs,
            _ => true,
        };
        self.os == other.os && self.architecture == other.architecture && variants
    }
}

impl FromStr for Platform {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let parts: Vec<&str> = text.split('/').collect();
        let good = |part: &&str| {
            !part.is_empty()
                && part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
        };
        match parts.as_slice() {
            [os, architecture, variant @ ..] if variant.len() <= 1 && parts.iter().all(good) => {
                Ok(Platform {
                    os: (*os).to_owned(),
                    architecture: (*architecture).to_owned(),
                    variant: variant.first().map(|v| (*v).to_owned()),
                })
            }
            _ => Err(ParseError::new(
                "a platform",
                text,
                "expected os/architecture, as in linux/amd64 or linux/arm64/v8",
            )),
        }
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        match &self.variant {
            Some(variant) => write!(f, "/{variant}"),
            None => Ok(()),
        }
    }
}

serde_as_text!(Platform);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trips_and_rejects_invalid_text() {
        for text in ["linux/amd64", "linux/arm64/v8", "windows/amd64"] {
            assert_eq!(text.parse::<Platform>().unwrap().to_string(), text);
        }
        for text in ["", "linux", "linux/", "linux/arm64/v8/x", "linux/a b"] {
            assert!(text.parse::<Platform>().is_err(), "{text}");
        }
    }

    #[test]
    fn treats_an_empty_variant_as_none() {
        assert_eq!(Platform::new("linux", "amd64", Some("")).unwrap().variant(), None);
    }
}
