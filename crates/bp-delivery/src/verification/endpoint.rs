//! HTTP endpoints that are checked in addition to those of gates.

use std::{str::FromStr, sync::Arc};

use bp_artifact::{check::HttpCheck, error::ParseError};

use crate::{Failure, gates::Http};

/// An HTTP endpoint with the expected response: by default a status from 200 to 299.
///
/// ```
/// use bp_delivery::verification::{Endpoint, Expectation};
///
/// let expected: Vec<Expectation> =
///     ["204", "/status=ok", "text=404 orders"].map(|text| text.parse().unwrap()).into();
/// assert!(matches!(&expected[1], Expectation::Field { pointer, value } if pointer == "/status" && value == "ok"));
/// let endpoint = Endpoint::new("https://shop.example.com/readyz", expected);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Endpoint {
    /// The URL.
    pub url: String,
    /// What is expected.
    pub expected: Vec<Expectation>,
}

/// What is expected of a response. Parsed from a status (`204`), a field of the body as JSON by its JSON pointer
/// (`/status=ok`), or a text in the body (`text=1.4`; without `text=`, everything that is neither of the others).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Expectation {
    /// The status.
    Status(u16),
    /// A text that the body contains, such as a banner.
    Text(String),
    /// A value in the body as JSON.
    Field {
        /// The JSON pointer.
        pointer: String,
        /// The value as text.
        value: String,
    },
}

impl FromStr for Expectation {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.is_empty() || text == "text=" {
            return Err("expected a status such as 204, a field such as /status=ok, or a text".to_owned());
        }
        if let Some(text) = text.strip_prefix("text=") {
            return Ok(Expectation::Text(text.to_owned()));
        }
        if let Some((pointer, value)) = text.split_once('=').filter(|_| text.starts_with('/')) {
            return Ok(Expectation::Field { pointer: pointer.to_owned(), value: value.to_owned() });
        }
        match text.parse() {
            Ok(status @ 100..600) => Ok(Expectation::Status(status)),
            Ok(other) => {
                Err(format!("{other} is not a status from 100 to 599; for a text, use text={other}"))
            }
            Err(_) => Ok(Expectation::Text(text.to_owned())),
        }
    }
}

impl Endpoint {
    /// An endpoint.
    pub fn new(url: impl Into<String>, expected: Vec<Expectation>) -> Self {
        Endpoint { url: url.into(), expected }
    }

    /// The check of the endpoint.
    ///
    /// # Errors
    /// When the URL is invalid.
    pub(crate) fn check(&self) -> Result<HttpCheck, Failure> {
        let check = HttpCheck::new(&self.url, Arc::new(Http::new()?))
            .map_err(|error: ParseError| Failure::bad_input(error.to_string()))?;
        Ok(self.expected.iter().fold(check, |check, expected| match expected {
            Expectation::Status(status) => check.status(*status),
            Expectation::Text(text) => check.contains(text),
            Expectation::Field { pointer, value } => check.field_as_text(pointer, value),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_status_field_and_text() {
        let text = |text: &str| Ok(Expectation::Text(text.to_owned()));
        let field = |pointer: &str, value: &str| {
            Ok(Expectation::Field { pointer: pointer.to_owned(), value: value.to_owned() })
        };
        for (given, expected) in [
            ("204", Ok(Expectation::Status(204))),
            ("text=204", text("204")),
            ("text=a=b", text("a=b")),
            ("Platform: ecs", text("Platform: ecs")),
            ("a=b", text("a=b")),
            ("/status=ok", field("/status", "ok")),
            ("/a/b=", field("/a/b", "")),
            ("/no-equals-sign", text("/no-equals-sign")),
            // Longer than a status.
            ("1234567", text("1234567")),
        ] {
            assert_eq!(given.parse::<Expectation>(), expected, "{given}");
        }
        assert!("600".parse::<Expectation>().is_err() && "".parse::<Expectation>().is_err());
    }
}
