//! Errors of registries.

use std::{error::Error as StdError, fmt, time::Duration};

use bp_artifact::{
    Digest, Registry, Repository, Tag,
    error::{Classified, ErrorClass},
    resolve::ManifestError,
};
use http::Method;
use serde_json::Value;

use super::{credentials::CredentialError, tls::TlsProblem};
use crate::{
    content::{Reference, object},
    retry::{Retries, Transient},
};

type Source = Box<dyn StdError + Send + Sync>;

/// The method, registry and path of a request, without the query: `GET registry.example.com/v2/shop/web/tags/list`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestLine {
    pub(crate) method: Method,
    pub(crate) registry: Registry,
    pub(crate) path: String,
}

impl fmt::Display for RequestLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}{}", self.method, self.registry, self.path)
    }
}

/// An error in a response, in the specification's format. The codes are an open set.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ApiError {
    /// `MANIFEST_UNKNOWN`, `DENIED`, or any other code.
    pub code: String,
    /// The registry's message, truncated to 500 characters.
    pub message: String,
}

impl ApiError {
    /// Reads one error. Besides the specification's members, those of token services, gateways and clouds are known.
    fn read(error: &Value) -> Option<Self> {
        const MESSAGES: [&str; 6] = ["message", "error_description", "details", "detail", "title", "error"];
        let text = |name: &str| match &error[name] {
            Value::String(text) => Some(shortened(text)),
            Value::Number(number) => Some(number.to_string()),
            _ => None,
        };
        if let Value::String(text) = error {
            return Some(ApiError { code: String::new(), message: shortened(text) });
        }
        let code = text("code").unwrap_or_default();
        let message = MESSAGES.into_iter().find_map(text).filter(|message| *message != code);
        let read = ApiError { code, message: message.unwrap_or_default() };
        (!read.code.is_empty() || !read.message.is_empty()).then_some(read)
    }
}

fn shortened(text: &str) -> String {
    const MAX: usize = 500;
    match text.char_indices().nth(MAX) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}

/// The errors in a response.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ApiErrors(Vec<ApiError>);

impl ApiErrors {
    /// Reads the first errors of a response body. JSON in another format than the specification's and a line of text are
    /// messages too: token services, proxies and HTTPS ports send those.
    pub(crate) fn read(body: &[u8]) -> Self {
        const MAX: usize = 5;
        const LINE: usize = 200;
        let document = Value::Object(object(body).unwrap_or_default());
        let all = document.get("errors").and_then(Value::as_array).into_iter().flatten();
        let mut errors: Vec<ApiError> = all.filter_map(ApiError::read).take(MAX).collect();
        if errors.is_empty() {
            let nested = document.get("error").filter(|error| error.is_object());
            errors.extend(ApiError::read(nested.unwrap_or(&document)));
        }
        let line = std::str::from_utf8(body).unwrap_or_default().trim();
        let is_markup = |line: &str| line.starts_with(['<', '{', '[', '"']);
        if errors.is_empty() && !line.is_empty() && line.len() <= LINE && !is_markup(line) {
            errors.push(ApiError { code: String::new(), message: line.to_owned() });
        }
        ApiErrors(errors)
    }

    /// Iterates over the errors.
    pub fn iter(&self) -> impl Iterator<Item = &ApiError> {
        self.0.iter()
    }

    /// Whether one of them has this code.
    pub fn has(&self, code: &str) -> bool {
        self.0.iter().any(|error| error.code == code)
    }
}

/// `: DENIED: no access`, or nothing.
impl fmt::Display for ApiErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, ApiError { code, message }) in self.0.iter().enumerate() {
            f.write_str(if n == 0 { ": " } else { "; " })?;
            match (code.as_str(), message.as_str()) {
                ("", message) => f.write_str(message)?,
                (code, "") => f.write_str(code)?,
                (code, message) => write!(f, "{code}: {message}")?,
            }
        }
        Ok(())
    }
}

/// An error of a registry.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RegistryError {
    /// The repository, manifest or blob does not exist.
    #[error("{at} returned not found{errors}")]
    NotFound {
        /// The request.
        at: RequestLine,
        /// The registry's errors.
        errors: ApiErrors,
    },
    /// The registry has the image in its archive: it cannot be pulled until it is restored.
    #[error(
        "image {reference} of {repository} is archived and cannot be pulled: {}",
        if *restoring {
            "it is being restored, which can take 20 minutes; rerun afterwards"
        } else {
            "restore it with UpdateImageStorageClass, or push it again"
        }
    )]
    Archived {
        /// The repository.
        repository: Repository,
        /// The tag or digest.
        reference: String,
        /// Whether it is being restored.
        restoring: bool,
    },
    /// The registry requires credentials, or rejected those given.
    #[error(
        "{at} was rejected as unauthorized{errors}; log in to {} or check its credential helper",
        at.registry
    )]
    Unauthorized {
        /// The request.
        at: RequestLine,
        /// The registry's errors.
        errors: ApiErrors,
        /// Whether other credentials have been fetched since, so that a retry may succeed.
        renewed: bool,
    },
    /// The credentials are valid but not sufficient.
    #[error("{at} was denied{errors}")]
    Denied {
        /// The request.
        at: RequestLine,
        /// The registry's errors.
        errors: ApiErrors,
        /// Whether other credentials have been fetched since, so that a retry may succeed.
        renewed: bool,
    },
    /// A host that the registry redirected to, such as an object store or a CDN, refused the request. The registry's
    /// credentials are not sent there.
    #[error("{at} was redirected to {host}, which refused it with status {status}")]
    RedirectRefused {
        /// The request.
        at: RequestLine,
        /// The scheme, host and port of the redirect's target.
        host: String,
        /// The status of the response.
        status: u16,
    },
    /// The login must not be sent to the token service that the registry announced.
    #[error("no credentials were sent for {registry}: {reason}")]
    Realm {
        /// The registry.
        registry: Registry,
        /// The reason.
        reason: String,
    },
    /// The registry throttled the request, and the retries are exhausted.
    #[error("{at} was throttled{errors}")]
    RateLimited {
        /// The request.
        at: RequestLine,
        /// The registry's errors.
        errors: ApiErrors,
        /// The delay that the registry requested.
        retry_after: Option<Duration>,
    },
    /// The registry failed with a server error.
    #[error("{at} failed with status {status}{errors}")]
    Unavailable {
        /// The request.
        at: RequestLine,
        /// The status of the response.
        status: u16,
        /// The registry's errors.
        errors: ApiErrors,
        /// The delay that the registry requested.
        retry_after: Option<Duration>,
    },
    /// The registry rejected the request.
    #[error("{at} was rejected with status {status}{errors}")]
    Refused {
        /// The request.
        at: RequestLine,
        /// The status of the response.
        status: u16,
        /// The registry's errors.
        errors: ApiErrors,
    },
    /// An upload was rejected because of the size of its request, by the registry or by a proxy in front of it.
    #[error("{at} was rejected with status {status}{errors}{}", NextChunk(chunk))]
    TooLarge {
        /// The rejected request.
        at: RequestLine,
        /// The status of the response.
        status: u16,
        /// The registry's errors.
        errors: ApiErrors,
        /// The maximum size of the requests in which the blob is sent next, in bytes; `None` if it cannot be smaller.
        chunk: Option<u64>,
    },
    /// The fallback tag that lists referrers was moved by another writer, and may not be moved.
    #[error("tag {tag} already lists other referrers ({found}) and may not be moved")]
    ListTaken {
        /// The rejected request.
        at: RequestLine,
        /// The tag.
        tag: Tag,
        /// The list that the tag points to.
        found: Digest,
    },
    /// No connection to the registry has succeeded yet.
    #[error(
        "{} cannot be reached: check its host name, and that the network permits connections to it",
        at.registry
    )]
    Unreachable {
        /// The request.
        at: RequestLine,
        /// The cause.
        source: Source,
    },
    /// No TLS connection can be made with these settings.
    #[error("{host} {problem}")]
    Tls {
        /// The request.
        at: RequestLine,
        /// The host and port of the server.
        host: String,
        /// What is wrong, and which option may correct it.
        problem: TlsProblem,
        /// The cause.
        source: Source,
    },
    /// The connection failed.
    #[error("{at} failed: connection error")]
    Transport {
        /// The request.
        at: RequestLine,
        /// The cause.
        source: Source,
    },
    /// No data was transferred for too long.
    #[error("{at} stalled: no data for {} s", idle.as_secs())]
    Stalled {
        /// The request.
        at: RequestLine,
        /// The time without data.
        idle: Duration,
    },
    /// Data was transferred, but far too slowly.
    #[error("{at} is too slow: {bytes} bytes in {} s", time.as_secs())]
    Slow {
        /// The request.
        at: RequestLine,
        /// The bytes that were received.
        bytes: u64,
        /// In this time.
        time: Duration,
    },
    /// The bytes do not match the requested digest.
    #[error("{at} returned content with the digest {found}, expected {expected}")]
    Corrupt {
        /// The request.
        at: RequestLine,
        /// The requested digest.
        expected: Digest,
        /// The digest of the bytes.
        found: Digest,
    },
    /// The response is not a valid manifest.
    #[error("{at} returned an invalid manifest")]
    Manifest {
        /// The request.
        at: RequestLine,
        /// The cause.
        source: ManifestError,
    },
    /// The response is too large, or takes too long.
    #[error("{at} exceeded a limit: {limit}")]
    Limit {
        /// The request.
        at: RequestLine,
        /// A description of the exceeded limit.
        limit: String,
    },
    /// A cache in front of the registry answered the request for a tag, which may have moved since.
    #[error("{at} was answered by a cache with a response {age} s old: use the registry itself, or a digest")]
    Cached {
        /// The request.
        at: RequestLine,
        /// The age of the response in seconds.
        age: u64,
    },
    /// The response violates the specification.
    #[error("{at} returned a response that violates the specification: {reason}")]
    Protocol {
        /// The request.
        at: RequestLine,
        /// The violation.
        reason: String,
    },
    /// A call of Amazon ECR's own API failed.
    #[error("{action} on {repository} failed")]
    Service {
        /// The action, for example `ecr:UploadLayerPart`.
        action: &'static str,
        /// The repository.
        repository: Repository,
        /// Whether a retry may succeed.
        retryable: bool,
        /// The cause.
        source: Source,
    },
    /// The credentials could not be fetched.
    #[error("no credentials for {registry}")]
    Credentials {
        /// The registry.
        registry: Registry,
        /// The cause.
        source: CredentialError,
    },
}

impl RegistryError {
    /// The registry's errors, if it responded with some.
    pub fn errors(&self) -> Option<&ApiErrors> {
        match self {
            RegistryError::NotFound { errors, .. }
            | RegistryError::Unauthorized { errors, .. }
            | RegistryError::Denied { errors, .. }
            | RegistryError::RateLimited { errors, .. }
            | RegistryError::Unavailable { errors, .. }
            | RegistryError::Refused { errors, .. }
            | RegistryError::TooLarge { errors, .. } => Some(errors),
            _ => None,
        }
    }

    /// Whether the registry's errors include this code.
    pub fn has_code(&self, code: &str) -> bool {
        self.errors().is_some_and(|errors| errors.has(code))
    }

    /// The delay that the registry requested.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            RegistryError::RateLimited { retry_after, .. }
            | RegistryError::Unavailable { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    /// Whether the registry refused a push because of its current state: an immutable tag, a quota, another writer.
    pub(crate) fn is_conflict(&self) -> bool {
        let conflicts = matches!(self, RegistryError::Refused { status: 409 | 412, .. });
        conflicts || self.has_code("TAG_INVALID") || self.has_code("ImageTagAlreadyExistsException")
    }

    /// Whether the registry refused to move an existing tag. The statuses 409 and 412 alone do not say so: registries
    /// use them for quotas too.
    pub(crate) fn is_immutable_tag(&self) -> bool {
        const IMMUTABLE: [&str; 4] = ["immutab", "overwrit", "already exist", "protected"];
        let said = self.errors().map(|errors| errors.to_string().to_lowercase()).unwrap_or_default();
        let says_so = said.is_empty() || IMMUTABLE.iter().any(|word| said.contains(word));
        self.is_conflict() && (says_so || self.has_code("TAG_INVALID"))
    }

    /// Whether the push of a manifest may have failed because another writer pushed at the same time.
    pub(crate) fn is_concurrent_push(&self, reference: &Reference) -> bool {
        let is_conflict = matches!(self, RegistryError::Refused { status: 409, .. });
        is_conflict && (matches!(reference, Reference::Digest(_)) || !self.is_immutable_tag())
    }

    /// Whether an upload failed because the registry no longer has it, or has other bytes of it: a new upload may succeed.
    /// 409 also means that another writer has pushed the same blob.
    pub(crate) fn is_lost_upload(&self) -> bool {
        match self {
            RegistryError::NotFound { at, .. } => at.path.ends_with("/blobs/uploads/…"),
            RegistryError::Refused { at, status: 409 | 416, .. } => at.path.contains("/blobs/uploads/"),
            _ => self.has_code("BLOB_UPLOAD_UNKNOWN") || self.has_code("BLOB_UPLOAD_INVALID"),
        }
    }

    /// Whether the registry has responded, but neither with content nor with its absence.
    pub(crate) fn is_refusal(&self) -> bool {
        matches!(
            self,
            RegistryError::Refused { .. }
                | RegistryError::Denied { .. }
                | RegistryError::Unauthorized { .. }
                | RegistryError::Unavailable { .. }
                | RegistryError::Protocol { .. }
        )
    }

    /// Whether content that a manifest refers to is missing. The registry may only not have indexed it yet.
    pub(crate) fn is_missing_content(&self) -> bool {
        ["MANIFEST_BLOB_UNKNOWN", "BLOB_UNKNOWN", "LayersNotFoundException"]
            .iter()
            .any(|code| self.has_code(code))
    }
}

impl Classified for RegistryError {
    fn class(&self) -> ErrorClass {
        match self {
            RegistryError::NotFound { .. } | RegistryError::Archived { restoring: false, .. } => {
                ErrorClass::BadInput
            }
            RegistryError::Corrupt { .. } => ErrorClass::DigestMismatch,
            RegistryError::Refused { errors, .. } if errors.has("DIGEST_INVALID") => {
                ErrorClass::DigestMismatch
            }
            RegistryError::Refused { .. }
            | RegistryError::TooLarge { .. }
            | RegistryError::Cached { .. }
            | RegistryError::Realm { .. }
            | RegistryError::ListTaken { .. } => ErrorClass::Refused,
            RegistryError::Unauthorized { .. }
            | RegistryError::RedirectRefused { .. }
            | RegistryError::Archived { restoring: true, .. }
            | RegistryError::Denied { .. }
            | RegistryError::RateLimited { .. }
            | RegistryError::Unavailable { .. }
            | RegistryError::Unreachable { .. }
            | RegistryError::Transport { .. }
            | RegistryError::Stalled { .. }
            | RegistryError::Slow { .. }
            | RegistryError::Tls { .. }
            | RegistryError::Service { .. }
            | RegistryError::Credentials { .. } => ErrorClass::Unavailable,
            RegistryError::Manifest { source, .. } => source.class(),
            RegistryError::Protocol { .. } | RegistryError::Limit { .. } => ErrorClass::Unexpected,
        }
    }

    fn is_retryable(&self) -> bool {
        self.retries() != Retries::Never
    }
}

impl Transient for RegistryError {
    fn retries(&self) -> Retries {
        match self {
            // Other credentials were fetched. If those are rejected too, more will not help.
            RegistryError::Unauthorized { renewed: true, .. }
            | RegistryError::Denied { renewed: true, .. } => Retries::AtMost(1),
            RegistryError::Credentials { source, .. } if source.is_retryable() => Retries::ByPolicy,
            RegistryError::Service { retryable: true, .. } => Retries::ByPolicy,
            // Not implemented.
            RegistryError::Unavailable { status: 501, .. } => Retries::Never,
            RegistryError::TooLarge { chunk: Some(_), .. }
            | RegistryError::RateLimited { .. }
            | RegistryError::Unavailable { .. }
            | RegistryError::Transport { .. }
            | RegistryError::Stalled { .. } => Retries::ByPolicy,
            // Bytes may be corrupted in transfer, but not every time.
            RegistryError::Corrupt { .. }
            | RegistryError::Manifest { source: ManifestError::Digest { .. }, .. }
            | RegistryError::Slow { .. } => Retries::AtMost(2),
            RegistryError::NotFound { .. }
            | RegistryError::Archived { .. }
            | RegistryError::Unauthorized { .. }
            | RegistryError::Denied { .. }
            | RegistryError::RedirectRefused { .. }
            | RegistryError::Realm { .. }
            | RegistryError::Refused { .. }
            | RegistryError::TooLarge { .. }
            | RegistryError::ListTaken { .. }
            | RegistryError::Unreachable { .. }
            | RegistryError::Tls { .. }
            | RegistryError::Manifest { .. }
            | RegistryError::Limit { .. }
            | RegistryError::Cached { .. }
            | RegistryError::Protocol { .. }
            | RegistryError::Service { .. }
            | RegistryError::Credentials { .. } => Retries::Never,
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        RegistryError::retry_after(self)
    }
}

/// How an upload that was too large continues.
struct NextChunk<'a>(&'a Option<u64>);

impl fmt::Display for NextChunk<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(chunk) => write!(f, ": retrying in requests of at most {chunk} bytes"),
            None => f.write_str(": smaller requests are rejected too, or not accepted by the registry"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_any_error_body() {
        for (body, shown) in [
            (r#"{"errors":[{"code":"DENIED","message":"no access"}]}"#, ": DENIED: no access"),
            (r#"{"errors":[{"code":"NEW_CODE"},{"message":"x"}]}"#, ": NEW_CODE; x"),
            ("<html>502</html>", ""),
            (
                "Client sent an HTTP request to an HTTPS server.\n",
                ": Client sent an HTTP request to an HTTPS server.",
            ),
            // Token services, gateways, and registries of clouds.
            (r#"{"details":"incorrect username or password"}"#, ": incorrect username or password"),
            (r#"{"error":"invalid_grant","error_description":"token expired"}"#, ": token expired"),
            (r#"{"error":"invalid_grant"}"#, ": invalid_grant"),
            (r#"{"message":"Forbidden"}"#, ": Forbidden"),
            (r#"{"error":{"code":403,"message":"quota","status":"X"}}"#, ": 403: quota"),
            (r#"{"errors":[{"code":404,"message":"no image","detail":null}]}"#, ": 404: no image"),
            (r#"{"errors":[{"status":404,"message":"x"}]}"#, ": x"),
            (r#"{"errors":["denied"]}"#, ": denied"),
            (r#"{"errors":null,"detail":"unavailable"}"#, ": unavailable"),
            (r#"{"errors":[]}"#, ""),
            (r#"{"code":"DENIED","message":"no access"}"#, ": DENIED: no access"),
            (&"x".repeat(201), ""),
            ("", ""),
        ] {
            assert_eq!(ApiErrors::read(body.as_bytes()).to_string(), shown);
        }
    }

    #[test]
    fn a_conflict_is_an_immutable_tag_only_if_the_registry_says_so() {
        let at = || RequestLine {
            method: Method::PUT,
            registry: "r.example.com".parse().unwrap(),
            path: "/v2/a/manifests/v1".to_owned(),
        };
        for (status, code, message, is_immutable) in [
            (412, "PRECONDITION", "Failed to process request due to 'v1' configured as immutable.", true),
            (400, "TAG_INVALID", "the tag v1 cannot be overwritten because the tag is immutable", true),
            (400, "ImageTagAlreadyExistsException", "tag already exists", true),
            (409, "", "", true),
            (
                412,
                "DENIED",
                "adding 2.1 MiB of storage resource will exceed the configured upper limit",
                false,
            ),
            (409, "CONFLICT", "quota exceeded", false),
            (400, "MANIFEST_INVALID", "immutable", false),
        ] {
            let error = ApiError { code: code.to_owned(), message: message.to_owned() };
            let errors = ApiErrors([error].into_iter().filter(|_| !message.is_empty()).collect());
            let error = RegistryError::Refused { at: at(), status, errors };
            assert_eq!(error.is_immutable_tag(), is_immutable, "{status} {code} {message}");
        }
    }
}
