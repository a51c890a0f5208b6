//! Why an image could not be resolved.

use std::{error::Error as StdError, fmt, time::Duration};

use super::ManifestError;
use crate::{
    error::{Classified, ErrorClass, RequestId},
    reference::{ImageRef, Repository},
};

type Source = Box<dyn StdError + Send + Sync>;

/// Why an image could not be resolved.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ResolveError {
    /// The registry has no such repository.
    #[error("the repository {repository} does not exist{}", RequestId(request_id))]
    RepositoryNotFound {
        /// The repository.
        repository: Repository,
        /// The id of the request that told so.
        request_id: Option<String>,
    },
    /// The repository has no such tag or digest.
    #[error("the image {image} does not exist{}", RequestId(request_id))]
    ImageNotFound {
        /// The image.
        image: ImageRef,
        /// The id of the request that told so.
        request_id: Option<String>,
    },
    /// The image did not appear in time.
    #[error(
        "image {image} not found after {} ({looks} {}); check that it was pushed",
        Seconds(*waited),
        if *looks == 1 { "attempt" } else { "attempts" }
    )]
    NotInTime {
        /// The image.
        image: ImageRef,
        /// How long was waited.
        waited: Duration,
        /// How often was looked.
        looks: u32,
        /// What the last look found.
        #[source]
        last: Option<Box<ResolveError>>,
    },
    /// The caller may not look.
    #[error("access to {repository} is denied: it needs {permission}{}", RequestId(request_id))]
    AccessDenied {
        /// The repository.
        repository: Repository,
        /// What is needed: an IAM action, or the scope of a token.
        permission: String,
        /// The id of the request that was refused.
        request_id: Option<String>,
        /// What the registry said.
        #[source]
        source: Option<Source>,
    },
    /// The resolver is not for this image's registry.
    #[error("{repository} is not served here: {reason}")]
    WrongRegistry {
        /// The repository.
        repository: Repository,
        /// What would serve it.
        reason: String,
    },
    /// The tag was read from a pull-through cache, which may hold what it named some time ago.
    #[error(
        "{image} is in a pull-through cache of {upstream}, where a tag may be old: resolve it there, or name the digest"
    )]
    Cached {
        /// The image.
        image: ImageRef,
        /// What it caches.
        upstream: String,
    },
    /// What the registry answered is no manifest, or not the one it says it is.
    #[error("the registry's answer for {image} is no good")]
    BadManifest {
        /// The image.
        image: ImageRef,
        /// What is wrong with it.
        #[source]
        source: Box<ManifestError>,
    },
    /// There are no credentials, or the registry does not take them.
    #[error("the credentials for {repository} are missing, expired or wrong: sign in, or check the role")]
    NoCredentials {
        /// The repository.
        repository: Repository,
        /// What happened.
        #[source]
        source: Source,
    },
    /// The registry cannot be asked now: unreachable, out of time, throttled.
    #[error("the registry of {repository} cannot be asked{}", RequestId(request_id))]
    Unavailable {
        /// The repository.
        repository: Repository,
        /// The id of the request, if it got so far.
        request_id: Option<String>,
        /// What happened.
        #[source]
        source: Source,
    },
}

impl ResolveError {
    /// Whether the image, or its repository, is not there. It may appear.
    pub fn is_not_found(&self) -> bool {
        use ResolveError::{ImageNotFound, NotInTime, RepositoryNotFound};
        matches!(self, ImageNotFound { .. } | RepositoryNotFound { .. } | NotInTime { .. })
    }
}

impl Classified for ResolveError {
    fn class(&self) -> ErrorClass {
        match self {
            ResolveError::RepositoryNotFound { .. }
            | ResolveError::ImageNotFound { .. }
            | ResolveError::WrongRegistry { .. } => ErrorClass::BadInput,
            ResolveError::NotInTime { .. }
            | ResolveError::AccessDenied { .. }
            | ResolveError::NoCredentials { .. }
            | ResolveError::Unavailable { .. } => ErrorClass::Unavailable,
            ResolveError::Cached { .. } => ErrorClass::Refused,
            ResolveError::BadManifest { .. } => ErrorClass::Unexpected,
        }
    }

    fn is_retryable(&self) -> bool {
        matches!(self, ResolveError::Unavailable { .. })
    }
}

/// A duration in whole seconds, or in milliseconds below one.
struct Seconds(Duration);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_secs() {
            0 => write!(f, "{} ms", self.0.as_millis()),
            seconds => write!(f, "{seconds} s"),
        }
    }
}
