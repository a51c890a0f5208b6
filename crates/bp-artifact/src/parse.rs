//! [`ParseError`], the error of all types that are parsed from text, and serde through the text form.

use std::borrow::Cow;

/// Text that could not be parsed: what was expected, the text, and the reason.
///
/// ```
/// let err = "sha256:abc".parse::<bp_artifact::Digest>().unwrap_err();
/// assert_eq!(err.to_string(), "\"sha256:abc\" is not a digest: sha256 takes 64 hex digits, found 3");
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{input:?} is not {what}: {reason}")]
pub struct ParseError {
    what: &'static str,
    input: String,
    reason: Cow<'static, str>,
}

impl ParseError {
    /// Longer inputs are truncated in the message.
    const SHOWN: usize = 120;

    pub(crate) fn new(what: &'static str, input: &str, reason: impl Into<Cow<'static, str>>) -> Self {
        let mut input = input.to_owned();
        if let Some((cut, _)) = input.char_indices().nth(Self::SHOWN) {
            input.truncate(cut);
            input.push('…');
        }
        ParseError { what, input, reason: reason.into() }
    }

    /// The text that could not be parsed, truncated.
    pub fn input(&self) -> &str {
        &self.input
    }

    /// The reason, a sentence without a full stop.
    pub fn reason(&self) -> &str {
        &self.reason
    }
}

/// Whether the text is a valid name of an environment, service or gate: lower-case letters, digits and dashes.
pub(crate) fn is_name(text: &str) -> bool {
    let word = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    text.bytes().all(word)
        && text.bytes().next().is_some_and(|b| b.is_ascii_lowercase())
        && !text.ends_with('-')
        && text.len() <= 63
}

pub(crate) fn not_a_name(what: &'static str, text: &str, example: &str) -> ParseError {
    ParseError::new(what, text, format!("expected lower-case letters, digits and dashes, as in {example}"))
}

/// Parses text into `T`. The error is created while the text is visited, so that the format adds the location.
pub(crate) struct TextVisitor<T>(pub(crate) std::marker::PhantomData<T>);

impl<T: std::str::FromStr<Err = ParseError>> serde::de::Visitor<'_> for TextVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a string")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<T, E> {
        text.parse().map_err(E::custom)
    }
}

/// `Serialize` and `Deserialize` through `Display` and `FromStr`: the text form is the wire format.
macro_rules! serde_as_text {
    ($($type:ty),+) => {$(
        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_str($crate::parse::TextVisitor(std::marker::PhantomData))
            }
        }

        #[cfg(feature = "schema")]
        impl schemars::JsonSchema for $type {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($type).into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({ "type": "string" })
            }
        }

        impl std::fmt::Debug for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, "{}({self})", stringify!($type))
            }
        }
    )+};
}
pub(crate) use serde_as_text;
