//! What can go wrong with a registry.

use std::{error::Error as StdError, fmt, time::Duration};

use bp_artifact::{
    Digest, Registry, Repository, Tag,
    error::{Classified, ErrorClass},
    resolve::ManifestError,
};
use http::Method;
use serde::{Deserialize, Deserializer};

use super::credentials::CredentialError;
use crate::content::{null_as_default, object};

type Source = Box<dyn StdError + Send + Sync>;

/// What was asked of which registry: `GET registry.example.com/v2/shop/web/tags/list`. Queries are left out.
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

/// One error of an answer, in the specification's form. The codes are an open set.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct ApiError {
    /// `MANIFEST_UNKNOWN`, `DENIED`, or whatever a registry made up.
    #[serde(default, deserialize_with = "shortened")]
    pub code: String,
    /// In the registry's words, of which the first 500 characters are kept.
    #[serde(default, deserialize_with = "shortened")]
    pub message: String,
}

fn shortened<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    const MOST: usize = 500;
    let mut text: String = null_as_default(deserializer)?;
    if let Some((end, _)) = text.char_indices().nth(MOST) {
        text.truncate(end);
        text.push('…');
    }
    Ok(text)
}

/// The errors of an answer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ApiErrors(Vec<ApiError>);

impl ApiErrors {
    /// Reads the first errors of an answer; what is not in the specification's form has none.
    pub(crate) fn read(body: &[u8]) -> Self {
        const MOST: usize = 5;
        #[derive(Deserialize)]
        struct Answer {
            errors: Vec<ApiError>,
        }
        let mut errors = object(body).map(|Answer { errors }| errors).unwrap_or_default();
        errors.truncate(MOST);
        ApiErrors(errors)
    }

    /// All of them.
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

/// What went wrong with a registry.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RegistryError {
    /// There is no such repository, manifest or blob.
    #[error("{at} found nothing{errors}")]
    NotFound {
        /// What was asked.
        at: RequestLine,
        /// What the registry said.
        errors: ApiErrors,
    },
    /// The registry wants credentials, or does not take these.
    #[error("{at} needs other credentials{errors}; log in to {} or check what its helper gives", at.registry)]
    Unauthorized {
        /// What was asked.
        at: RequestLine,
        /// What the registry said.
        errors: ApiErrors,
        /// Whether other credentials have been fetched since, so that the next attempt may go well.
        renewed: bool,
    },
    /// The credentials are good, and do not allow it.
    #[error("{at} is denied{errors}")]
    Denied {
        /// What was asked.
        at: RequestLine,
        /// What the registry said.
        errors: ApiErrors,
        /// Whether other credentials have been fetched since, so that the next attempt may go well.
        renewed: bool,
    },
    /// The host that the registry redirected to, an object store or a CDN, refused the request. The registry's credentials
    /// are not sent there.
    #[error("{at} was redirected to {host}, which refused it with status {status}")]
    RedirectRefused {
        /// What was asked.
        at: RequestLine,
        /// The scheme, host and port that it was redirected to.
        host: String,
        /// The status.
        status: u16,
    },
    /// The token service of the registry is one that the login is not sent to.
    #[error("no credentials were sent for {registry}: {reason}")]
    Realm {
        /// The registry.
        registry: Registry,
        /// What is wrong with its token service.
        reason: String,
    },
    /// Too many requests, also after all retries.
    #[error("{at} was throttled{errors}")]
    RateLimited {
        /// What was asked.
        at: RequestLine,
        /// What the registry said.
        errors: ApiErrors,
        /// How long it asked to wait.
        retry_after: Option<Duration>,
    },
    /// The registry is in trouble.
    #[error("{at} failed with status {status}{errors}")]
    Unavailable {
        /// What was asked.
        at: RequestLine,
        /// The status.
        status: u16,
        /// What the registry said.
        errors: ApiErrors,
        /// How long it asked to wait.
        retry_after: Option<Duration>,
    },
    /// The registry refused the request.
    #[error("{at} was refused with status {status}{errors}")]
    Refused {
        /// What was asked.
        at: RequestLine,
        /// The status.
        status: u16,
        /// What the registry said.
        errors: ApiErrors,
    },
    /// The tag that lists referrers was written by somebody else, and may not be moved.
    #[error("the tag {tag} lists other referrers ({found}) and may not be moved")]
    ListTaken {
        /// What was to be done.
        at: RequestLine,
        /// The tag.
        tag: Tag,
        /// The list that it points to.
        found: Digest,
    },
    /// Nothing answers at the registry's address, and nothing did before.
    #[error("{} cannot be reached: is its name right, and may we connect to it?", at.registry)]
    Unreachable {
        /// What was asked.
        at: RequestLine,
        /// What happened.
        source: Source,
    },
    /// The connection could not be made, or broke.
    #[error("{at} broke off")]
    Transport {
        /// What was asked.
        at: RequestLine,
        /// What happened.
        source: Source,
    },
    /// Nothing moved for too long.
    #[error("{at} stood still for {} s", idle.as_secs())]
    Stalled {
        /// What was asked.
        at: RequestLine,
        /// For how long nothing moved.
        idle: Duration,
    },
    /// The bytes are not those that were asked for.
    #[error("{at} gave bytes with the digest {found}, expected {expected}")]
    Corrupt {
        /// What was asked.
        at: RequestLine,
        /// The digest that was asked for.
        expected: Digest,
        /// The digest of the bytes.
        found: Digest,
    },
    /// The answer is no manifest.
    #[error("{at} gave no usable manifest")]
    Manifest {
        /// What was asked.
        at: RequestLine,
        /// What is wrong with it.
        source: ManifestError,
    },
    /// The answer is larger, or takes longer, than any that is valid.
    #[error("{at} exceeded a limit: {limit}")]
    Limit {
        /// What was asked.
        at: RequestLine,
        /// The limit that the answer exceeded.
        limit: String,
    },
    /// A tag was answered by a cache in front of the registry, which does not know whether it has moved.
    #[error(
        "{at} was answered by a cache, {age} s after it was true: ask the registry itself, or name the digest"
    )]
    Cached {
        /// What was asked.
        at: RequestLine,
        /// How old the answer is, in seconds.
        age: u64,
    },
    /// The registry does not keep to the specification.
    #[error("{at} was answered against the specification: {reason}")]
    Protocol {
        /// What was asked.
        at: RequestLine,
        /// What is wrong with the answer.
        reason: String,
    },
    /// Amazon ECR's own API refused, or failed.
    #[error("{action} on {repository} failed")]
    Service {
        /// The action, as in `ecr:UploadLayerPart`.
        action: &'static str,
        /// The repository.
        repository: Repository,
        /// Whether another attempt may go well.
        retryable: bool,
        /// What happened.
        source: Source,
    },
    /// The credentials could not be fetched.
    #[error("no credentials for {registry}")]
    Credentials {
        /// The registry.
        registry: Registry,
        /// What happened.
        source: CredentialError,
    },
}

impl RegistryError {
    /// What the registry said, if it answered with an error.
    pub fn errors(&self) -> Option<&ApiErrors> {
        match self {
            RegistryError::NotFound { errors, .. }
            | RegistryError::Unauthorized { errors, .. }
            | RegistryError::Denied { errors, .. }
            | RegistryError::RateLimited { errors, .. }
            | RegistryError::Unavailable { errors, .. }
            | RegistryError::Refused { errors, .. } => Some(errors),
            _ => None,
        }
    }

    /// Whether the registry gave this error code.
    pub fn has_code(&self, code: &str) -> bool {
        self.errors().is_some_and(|errors| errors.has(code))
    }

    /// How long the registry asked to wait.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            RegistryError::RateLimited { retry_after, .. }
            | RegistryError::Unavailable { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    /// Whether a tag is there and may not move.
    pub(crate) fn is_immutable_tag(&self) -> bool {
        match self {
            RegistryError::Refused { status, errors, .. } => {
                errors.has("TAG_INVALID")
                    || errors.has("ImageTagAlreadyExistsException")
                    || *status == 412
                    || *status == 409
            }
            _ => false,
        }
    }

    /// Whether the registry misses something that a manifest refers to. It may only not have seen it yet.
    pub(crate) fn is_missing_content(&self) -> bool {
        ["MANIFEST_BLOB_UNKNOWN", "BLOB_UNKNOWN", "LayersNotFoundException"]
            .iter()
            .any(|code| self.has_code(code))
    }
}

impl Classified for RegistryError {
    fn class(&self) -> ErrorClass {
        match self {
            RegistryError::NotFound { .. } => ErrorClass::BadInput,
            RegistryError::Refused { .. }
            | RegistryError::Cached { .. }
            | RegistryError::Realm { .. }
            | RegistryError::ListTaken { .. } => ErrorClass::Refused,
            RegistryError::Unauthorized { .. }
            | RegistryError::RedirectRefused { .. }
            | RegistryError::Denied { .. }
            | RegistryError::RateLimited { .. }
            | RegistryError::Unavailable { .. }
            | RegistryError::Unreachable { .. }
            | RegistryError::Transport { .. }
            | RegistryError::Stalled { .. }
            | RegistryError::Corrupt { .. }
            | RegistryError::Service { .. }
            | RegistryError::Credentials { .. } => ErrorClass::Unavailable,
            RegistryError::Manifest { .. } | RegistryError::Protocol { .. } | RegistryError::Limit { .. } => {
                ErrorClass::Unexpected
            }
        }
    }

    fn is_retryable(&self) -> bool {
        match self {
            RegistryError::Unauthorized { renewed, .. } | RegistryError::Denied { renewed, .. } => *renewed,
            RegistryError::Credentials { source, .. } => source.is_retryable(),
            RegistryError::Service { retryable, .. } => *retryable,
            RegistryError::RateLimited { .. }
            | RegistryError::Unavailable { .. }
            | RegistryError::Transport { .. }
            | RegistryError::Stalled { .. }
            | RegistryError::Corrupt { .. } => true,
            // Bytes that were spoilt on the way; the next answer may be whole.
            RegistryError::Manifest { source, .. } => matches!(source, ManifestError::Digest { .. }),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_error_body_is_read() {
        for (body, shown) in [
            (r#"{"errors":[{"code":"DENIED","message":"no access"}]}"#, ": DENIED: no access"),
            (r#"{"errors":[{"code":"NEW_CODE"},{"message":"x"}]}"#, ": NEW_CODE; x"),
            ("<html>502</html>", ""),
            ("", ""),
        ] {
            assert_eq!(ApiErrors::read(body.as_bytes()).to_string(), shown);
        }
    }
}
