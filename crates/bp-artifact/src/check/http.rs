//! Check an HTTP endpoint: the status and the body of its response.

use std::{error::Error as StdError, sync::Arc};

use futures_core::future::BoxFuture;
use serde_json::Value;
use url::Url;

use super::{Check, CheckVerdict};
use crate::{parse::ParseError, text};

/// Sends one GET request, without adding credentials or cookies, and without following redirects. Implemented by the
/// caller, because this crate has no HTTP client.
pub trait HttpTransport: Send + Sync {
    /// Gets `url`, and reads at most `limit` bytes of the body.
    ///
    /// # Cancel safety
    /// Cancel safe.
    fn get<'a>(&'a self, url: &'a str, limit: usize) -> BoxFuture<'a, Result<HttpAnswer, TransportError>>;
}

/// Why there is no response.
pub type TransportError = Box<dyn StdError + Send + Sync>;

/// The response of an endpoint.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct HttpAnswer {
    /// The status.
    pub status: u16,
    /// The header `Location`.
    pub location: Option<String>,
    /// The body, up to the limit.
    pub body: Vec<u8>,
    /// Whether the body was longer.
    pub is_truncated: bool,
}

impl HttpAnswer {
    /// A response with this status and body.
    pub fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
        HttpAnswer { status, body: body.into(), ..HttpAnswer::default() }
    }
}

/// The maximum number of bytes read from a body.
const LIMIT: usize = 64 * 1024;
/// The maximum number of characters quoted from a response.
const QUOTED: usize = 200;

/// A GET request to an endpoint, with the expected response: by default a status from 200 to 299.
///
/// It sends no credentials, reads at most 64 KiB, and follows redirects only if enabled, and only within the same
/// origin.
#[derive(Clone)]
pub struct HttpCheck {
    url: Url,
    transport: Arc<dyn HttpTransport>,
    status: Option<u16>,
    contains: Vec<String>,
    fields: Vec<(String, Wanted)>,
    redirects: u32,
}

/// The expected value of a field.
#[derive(Clone)]
enum Wanted {
    Value(Value),
    /// This text, or the number, `true`, `false` or `null` that it represents.
    Text(String),
}

impl Wanted {
    fn is(&self, found: &Value) -> bool {
        match (self, found) {
            (Wanted::Value(wanted), found) => found == wanted,
            (Wanted::Text(wanted), Value::String(found)) => found == wanted,
            (Wanted::Text(wanted), found) => {
                serde_json::from_str::<Value>(wanted).is_ok_and(|wanted| wanted == *found)
            }
        }
    }
}

impl std::fmt::Display for Wanted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Wanted::Value(value) => value.fmt(f),
            Wanted::Text(text) => write!(f, "{text:?}"),
        }
    }
}

impl HttpCheck {
    /// Creates a check of `url`.
    ///
    /// # Errors
    /// When it is not an http or https URL, or contains credentials.
    pub fn new(url: &str, transport: Arc<dyn HttpTransport>) -> Result<Self, ParseError> {
        let url = parse(url)?;
        Ok(HttpCheck { url, transport, status: None, contains: Vec::new(), fields: Vec::new(), redirects: 0 })
    }

    /// Requires exactly this status.
    pub fn status(mut self, status: u16) -> Self {
        self.status = Some(status);
        self
    }

    /// Requires that the body contains this text: a banner, a version.
    pub fn contains(mut self, text: impl Into<String>) -> Self {
        self.contains.push(text.into());
        self
    }

    /// Requires that the body is JSON with this value at a JSON pointer (RFC 6901): `/status` is `"ok"`.
    pub fn field(mut self, pointer: impl Into<String>, value: impl Into<Value>) -> Self {
        self.fields.push((pointer.into(), Wanted::Value(value.into())));
        self
    }

    /// As [`field`](Self::field), for a value given as text: a string, or the number, `true`, `false` or `null` that it
    /// represents.
    pub fn field_as_text(mut self, pointer: impl Into<String>, text: impl Into<String>) -> Self {
        self.fields.push((pointer.into(), Wanted::Text(text.into())));
        self
    }

    /// Follows at most `most` redirects, each within the origin of the URL.
    pub fn redirects(mut self, most: u32) -> Self {
        self.redirects = most;
        self
    }

    async fn run(&self) -> CheckVerdict {
        let mut url = self.url.clone();
        for left in (0..=self.redirects).rev() {
            let answer = match self.transport.get(url.as_str(), LIMIT).await {
                Ok(answer) => answer,
                Err(error) => {
                    return CheckVerdict::unobserved(text::single_line(&crate::error::chain(&*error)));
                }
            };
            if !(300..400).contains(&answer.status) || self.redirects == 0 {
                return self.judge(&answer);
            }
            let Some(next) = answer.location.as_deref().and_then(|location| redirect(&url, location)) else {
                let to = answer.location.as_deref().map_or("nowhere".to_owned(), quote);
                return CheckVerdict::failed(format!(
                    "status {} redirects to {to}, outside the origin",
                    answer.status
                ));
            };
            if left == 0 {
                break;
            }
            url = next;
        }
        CheckVerdict::failed(format!("more than {} redirects", self.redirects))
    }

    fn judge(&self, answer: &HttpAnswer) -> CheckVerdict {
        let HttpAnswer { status, body, is_truncated, .. } = answer;
        let body = String::from_utf8_lossy(body);
        let wanted = match self.status {
            Some(wanted) => *status == wanted,
            None => (200..300).contains(status),
        };
        if !wanted {
            let expected = self.status.map_or("200 to 299".to_owned(), |wanted| wanted.to_string());
            return CheckVerdict::failed(format!("status {status}, expected {expected}: {}", quote(&body)));
        }
        // What is missing in the truncated body may be in the rest.
        let missing = |reason: String| {
            if *is_truncated {
                CheckVerdict::unobserved(format!("{reason} within the first {LIMIT} bytes"))
            } else {
                CheckVerdict::failed(reason)
            }
        };
        if let Some(text) = self.contains.iter().find(|text| !body.contains(text.as_str())) {
            return missing(format!("{text:?} is not in the body: {}", quote(&body)));
        }
        if self.fields.is_empty() {
            return CheckVerdict::Passed;
        }
        let Ok(json) = serde_json::from_str::<Value>(&body) else {
            return missing(format!("the body is not JSON: {}", quote(&body)));
        };
        for (pointer, wanted) in &self.fields {
            match json.pointer(pointer) {
                Some(found) if wanted.is(found) => {}
                Some(found) => {
                    return CheckVerdict::failed(format!(
                        "{pointer} is {}, expected {wanted}",
                        quote(&found.to_string())
                    ));
                }
                None => return CheckVerdict::failed(format!("{pointer} is missing, expected {wanted}")),
            }
        }
        CheckVerdict::Passed
    }
}

impl Check for HttpCheck {
    fn name(&self) -> String {
        format!("GET {}", without_secrets(self.url.as_str()))
    }

    fn attempt(&self) -> BoxFuture<'_, CheckVerdict> {
        Box::pin(self.run())
    }
}

impl std::fmt::Debug for HttpCheck {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HttpCheck").field("url", &without_secrets(self.url.as_str())).finish_non_exhaustive()
    }
}

/// The beginning of a text, on one line.
fn quote(found: &str) -> String {
    text::truncate(&text::single_line(found), QUOTED).into_owned()
}

/// Parses an http or https URL without credentials, and drops its fragment.
pub(crate) fn parse(text: &str) -> Result<Url, ParseError> {
    let wrong = |reason| ParseError::new("a valid URL", &without_secrets(text), reason);
    let mut url =
        Url::parse(text).map_err(|_| wrong("expected a URL such as https://shop.example.com/readyz"))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(wrong("expected http:// or https://"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(wrong("it contains credentials"));
    }
    url.set_fragment(None);
    Ok(url)
}

/// The URL of `location`, if it is within the origin of `from`.
fn redirect(from: &Url, location: &str) -> Option<Url> {
    let url = parse(from.join(location).ok()?.as_str()).ok()?;
    (url.origin() == from.origin()).then_some(url)
}

/// The URL without its query, which may contain a token, and without credentials.
fn without_secrets(text: &str) -> String {
    let (url, extra) = text.split_at(text.find(['?', '#']).unwrap_or(text.len()));
    let (scheme, sign, rest) = match url.split_once("://") {
        Some((scheme, rest)) => (scheme, "://", rest),
        None => ("", "", url),
    };
    let host = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
    let query = if extra.starts_with('?') { "?..." } else { "" };
    format!("{scheme}{sign}{host}{query}")
}

#[cfg(test)]
mod tests {
    use std::{
        collections::BTreeMap,
        sync::{Mutex, PoisonError},
    };

    use super::*;

    /// Responds by URL, and records the requests. Refuses the connection for unknown URLs.
    #[derive(Default)]
    struct Answers {
        by_url: BTreeMap<String, HttpAnswer>,
        requests: Mutex<Vec<String>>,
    }

    impl HttpTransport for Answers {
        fn get<'a>(
            &'a self,
            url: &'a str,
            limit: usize,
        ) -> BoxFuture<'a, Result<HttpAnswer, TransportError>> {
            self.requests.lock().unwrap_or_else(PoisonError::into_inner).push(url.to_owned());
            Box::pin(async move {
                let mut answer = self.by_url.get(url).cloned().ok_or("connection refused")?;
                answer.is_truncated = answer.body.len() > limit;
                answer.body.truncate(limit);
                Ok(answer)
            })
        }
    }

    fn answer(status: u16, body: &str) -> HttpAnswer {
        HttpAnswer { status, body: body.into(), ..HttpAnswer::default() }
    }

    fn to(location: &str) -> HttpAnswer {
        HttpAnswer { status: 302, location: Some(location.to_owned()), ..HttpAnswer::default() }
    }

    const URL: &str = "https://shop.example.com/readyz";

    /// The result of a check of `URL` with these responses.
    async fn check(
        answers: &[(&str, HttpAnswer)],
        adjust: impl FnOnce(HttpCheck) -> HttpCheck,
    ) -> CheckVerdict {
        let by_url = answers.iter().map(|(url, answer)| ((*url).to_owned(), answer.clone())).collect();
        let transport = Arc::new(Answers { by_url, ..Answers::default() });
        adjust(HttpCheck::new(URL, transport).unwrap()).attempt().await
    }

    fn failed(verdict: &CheckVerdict, part: &str) -> bool {
        matches!(verdict, CheckVerdict::Failed { reason } if reason.contains(part))
    }

    fn unobserved(verdict: &CheckVerdict, part: &str) -> bool {
        matches!(verdict, CheckVerdict::Unobserved { reason } if reason.contains(part))
    }

    #[tokio::test]
    async fn checks_status_text_and_fields() {
        let ok = [(URL, answer(200, r#"{"status":"ok","build":{"version":"1.4.2"}}"#))];
        assert_eq!(check(&ok, |check| check).await, CheckVerdict::Passed);
        assert_eq!(
            check(&ok, |check| check.contains("1.4.2").field("/status", "ok")).await,
            CheckVerdict::Passed
        );
        assert!(failed(&check(&ok, |check| check.status(204)).await, "status 200, expected 204"));
        assert!(failed(&check(&ok, |check| check.contains("1.5")).await, "\"1.5\" is not in the body"));
        let version = check(&ok, |check| check.field("/build/version", "1.5")).await;
        assert!(failed(&version, "/build/version is \"1.4.2\", expected \"1.5\""), "{version}");
        assert!(failed(&check(&ok, |check| check.field("/none", 1)).await, "/none is missing"));
        let typed = [(URL, answer(200, r#"{"ready":true,"replicas":3,"version":"3"}"#))];
        for (pointer, text) in [("/ready", "true"), ("/replicas", "3"), ("/version", "3")] {
            assert_eq!(check(&typed, |check| check.field_as_text(pointer, text)).await, CheckVerdict::Passed);
        }
        let replicas = check(&typed, |check| check.field_as_text("/replicas", "4")).await;
        assert!(failed(&replicas, "/replicas is 3, expected \"4\""), "{replicas}");
        assert!(failed(&check(&[(URL, answer(503, "busy\nbusy"))], |check| check).await, "status 503"));
        assert!(failed(
            &check(&[(URL, answer(200, "<html>"))], |check| check.field("/a", 1)).await,
            "not JSON"
        ));
    }

    #[tokio::test]
    async fn distinguishes_unobserved_from_failed() {
        assert!(unobserved(&check(&[], |check| check).await, "connection refused"));
        let long = [(URL, answer(200, &"x".repeat(LIMIT + 1)))];
        assert!(unobserved(
            &check(&long, |check| check.contains("1.4.2")).await,
            "within the first 65536 bytes"
        ));
        assert_eq!(check(&long, |check| check.contains("xxx")).await, CheckVerdict::Passed);
    }

    #[tokio::test]
    async fn follows_redirects_within_the_origin_up_to_the_limit() {
        let other = "https://shop.example.com/ready";
        let within = [(URL, to("/ready")), (other, answer(200, ""))];
        assert_eq!(check(&within, |check| check.redirects(1)).await, CheckVerdict::Passed);
        assert!(failed(&check(&within, |check| check).await, "status 302, expected 200 to 299"));
        for location in [
            "https://evil.example.com/readyz",
            "//evil.example.com",
            "http://shop.example.com/readyz",
            "ftp://shop.example.com",
        ] {
            let verdict = check(&[(URL, to(location))], |check| check.redirects(5)).await;
            assert!(failed(&verdict, "outside the origin"), "{location}: {verdict}");
        }
        assert!(failed(
            &check(&[(URL, to("/readyz"))], |check| check.redirects(3)).await,
            "more than 3 redirects"
        ));
    }

    #[test]
    fn accepts_only_http_urls_without_credentials() {
        for wrong in
            ["shop.example.com", "ftp://shop.example.com", "https://", "https://a b/", "file:///etc/passwd"]
        {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
        let error = parse("https://user:secret@shop.example.com/?token=t").unwrap_err().to_string();
        assert!(
            error.contains("credentials") && !error.contains("secret") && !error.contains("token"),
            "{error}"
        );
        let check =
            HttpCheck::new("https://Shop.example.com?token=t#x", Arc::new(Answers::default())).unwrap();
        assert_eq!(check.url.as_str(), "https://shop.example.com/?token=t");
        assert_eq!(check.name(), "GET https://shop.example.com/?...");
    }
}
