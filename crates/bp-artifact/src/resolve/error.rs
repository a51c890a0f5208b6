//! Errors of resolving an image.

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
        /// The ID of the request.
        request_id: Option<String>,
    },
    /// The repository has no such tag or digest.
    #[error("the image {image} does not exist{}", RequestId(request_id))]
    ImageNotFound {
        /// The image.
        image: ImageRef,
        /// The ID of the request.
        request_id: Option<String>,
    },
    /// The registry has the image in its archive: it cannot be pulled until it is restored.
    #[error("the image {image} is archived and cannot be pulled: {}", ToDo(*restoring))]
    Archived {
        /// The image.
        image: ImageRef,
        /// Whether it is being restored.
        restoring: bool,
    },
    /// The image did not appear in time.
    #[error(
        "image {image} not found after {} ({attempts} {}); check that it was pushed",
        Seconds(*waited),
        if *attempts == 1 { "attempt" } else { "attempts" }
    )]
    NotInTime {
        /// The image.
        image: ImageRef,
        /// The time waited.
        waited: Duration,
        /// The number of attempts.
        attempts: u32,
        /// The error of the last attempt.
        #[source]
        last: Option<Box<ResolveError>>,
    },
    /// The caller has no permission to read the image.
    #[error("access to {repository} is denied: it needs {permission}{}", RequestId(request_id))]
    AccessDenied {
        /// The repository.
        repository: Repository,
        /// The missing permission: an IAM action, or the scope of a token.
        permission: String,
        /// The ID of the denied request.
        request_id: Option<String>,
        /// The registry's error.
        #[source]
        source: Option<Source>,
    },
    /// The resolver does not support this image's registry.
    #[error("this resolver does not support {repository}: {reason}")]
    WrongRegistry {
        /// The repository.
        repository: Repository,
        /// Why it is not supported.
        reason: String,
    },
    /// The tag is in a pull-through cache and may be stale.
    #[error(
        "{image} is in a pull-through cache of {upstream}, where a tag may be stale: resolve it there, or use a digest"
    )]
    Cached {
        /// The image.
        image: ImageRef,
        /// The upstream registry.
        upstream: String,
    },
    /// The registry returned something that is not a manifest, or has another digest.
    #[error("the registry returned an invalid manifest for {image}")]
    BadManifest {
        /// The image.
        image: ImageRef,
        /// Why the manifest is invalid.
        #[source]
        source: Box<ManifestError>,
    },
    /// There are no credentials, or the registry rejects them.
    #[error("the credentials for {repository} are missing, expired or invalid: sign in, or check the role")]
    NoCredentials {
        /// The repository.
        repository: Repository,
        /// The cause.
        #[source]
        source: Source,
    },
    /// The registry is unavailable: unreachable, timed out, throttled.
    #[error("the registry of {repository} is unavailable{}", RequestId(request_id))]
    Unavailable {
        /// The repository.
        repository: Repository,
        /// The ID of the request, if there was a response.
        request_id: Option<String>,
        /// The cause.
        #[source]
        source: Source,
    },
}

impl ResolveError {
    /// Whether the image or its repository does not exist yet.
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
            | ResolveError::Archived { restoring: false, .. }
            | ResolveError::WrongRegistry { .. } => ErrorClass::BadInput,
            ResolveError::NotInTime { .. }
            | ResolveError::Archived { restoring: true, .. }
            | ResolveError::AccessDenied { .. }
            | ResolveError::NoCredentials { .. }
            | ResolveError::Unavailable { .. } => ErrorClass::Unavailable,
            ResolveError::Cached { .. } => ErrorClass::Refused,
            ResolveError::BadManifest { source, .. } => source.class(),
        }
    }

    fn is_retryable(&self) -> bool {
        matches!(self, ResolveError::Unavailable { .. } | ResolveError::Archived { restoring: true, .. })
    }
}

/// What to do about an archived image, and whether it is being restored.
struct ToDo(bool);

impl fmt::Display for ToDo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0 {
            "it is being restored, which can take 20 minutes; rerun afterwards"
        } else {
            "restore it with UpdateImageStorageClass, or push it again"
        })
    }
}

/// Displays a duration in whole seconds, or in milliseconds below one second.
struct Seconds(Duration);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_secs() {
            0 => write!(f, "{} ms", self.0.as_millis()),
            seconds => write!(f, "{seconds} s"),
        }
    }
}
