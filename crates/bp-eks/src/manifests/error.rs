//! Errors of manifests, as cases that a caller can act on.

use std::fmt;

use bp_artifact::error::{Classified, ErrorClass};

use crate::{
    api::retry::AsApiError,
    error::{Conflict, Error},
};

/// An error of manifests. A deployment that failed is not an error but a [`Verdict`](bp_artifact::Verdict).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ManifestsError {
    /// A Kubernetes API error, or an error of a workload's watch.
    #[error(transparent)]
    Rollout(#[from] Error),
    /// A file or directory cannot be read.
    #[error("cannot read the manifests in {path}")]
    File {
        /// The file or directory.
        path: String,
        /// The cause.
        source: std::io::Error,
    },
    /// The files exceed a limit, or a link leads out of the directory.
    #[error("{path}: {reason}")]
    Refused {
        /// The file or directory.
        path: String,
        /// What is wrong, and what to do.
        reason: String,
    },
    /// A document is not YAML or JSON, or not a Kubernetes object. The text is not repeated: it may be a Secret.
    #[error("{at}: {reason}")]
    Malformed {
        /// File and document.
        at: String,
        /// What is wrong.
        reason: String,
    },
    /// Two documents define the same object.
    #[error("{object} is defined twice, in {first} and {second}; remove one of them")]
    Duplicate {
        /// The object.
        object: String,
        /// Where it is defined first.
        first: String,
        /// Where it is defined again.
        second: String,
    },
    /// There is no object.
    #[error("the manifests contain no object")]
    Empty,
    /// No container has the image's repository. Nothing was changed.
    #[error(
        "no container of the manifests has an image of {repository}; their images are {}; use that repository in the \
        manifest, with any tag",
        if images.is_empty() { "none".to_owned() } else { images.join(", ") }
    )]
    ImageNotUsed {
        /// The repository of the deployed image.
        repository: String,
        /// The images of the manifests.
        images: Vec<String>,
    },
    /// Containers have images by tag. Nothing was changed.
    #[error(
        "images without a digest can change at any time: {}; pin them by digest, or allow tags (--allow-tags, \
        eks.allow-tags of bp.toml)",
        images.join(", ")
    )]
    Tags {
        /// Each image, with its object.
        images: Vec<String>,
    },
    /// Objects are cluster-scoped, or in another namespace. Nothing was changed.
    #[error(
        "outside of the namespace {namespace:?}: {}; remove them, or allow them (--outside-namespace, \
        eks.outside-namespace of bp.toml)",
        objects.join(", ")
    )]
    Outside {
        /// The configured namespace.
        namespace: String,
        /// The objects.
        objects: Vec<String>,
    },
    /// The cluster does not serve a kind. Nothing was changed.
    #[error(
        "{at}: the cluster does not serve {kind} of {api_version}; correct apiVersion and kind, or install its \
        definition"
    )]
    UnknownKind {
        /// File and document.
        at: String,
        /// The API version.
        api_version: String,
        /// The kind.
        kind: String,
    },
    /// The dry run was refused for some objects. Nothing was changed.
    #[error(
        "the dry run refuses {} of {of} objects, nothing was changed: {}",
        problems.len(),
        shown(problems)
    )]
    Invalid {
        /// The refused objects.
        problems: Vec<ManifestProblem>,
        /// The number of all objects.
        of: usize,
    },
    /// No workload exists yet, so that there is nothing to return to.
    #[error("none of the workloads exists yet; create them with deploy-manifests")]
    NotCreated,
    /// There is no workload with an earlier revision.
    #[error("none of the workloads has an earlier revision to roll back to")]
    NoPrevious,
    /// A revision of the set cannot be parsed.
    #[error("{revision:?} is not a revision of manifests: expected a list such as deployment:web=3")]
    NotARevision {
        /// The text.
        revision: String,
    },
    /// The operation was cancelled.
    #[error(
        "interrupted: {applied} of {of} objects were applied and remain; rerun the same command to resume"
    )]
    Interrupted {
        /// The number of objects that were applied.
        applied: usize,
        /// The number of all objects.
        of: usize,
    },
}

/// An object that the dry run refuses.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ManifestProblem {
    /// The object, such as `deployment/web`.
    pub object: String,
    /// File and document.
    pub at: String,
    /// The fields of other field managers, if these are the reason.
    pub conflicts: Vec<Conflict>,
    /// What is wrong, and what to do.
    pub message: String,
}

impl fmt::Display for ManifestProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}): {}", self.object, self.at, self.message)
    }
}

fn shown(problems: &[ManifestProblem]) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

impl AsApiError for ManifestsError {
    fn as_api_error(&self) -> Option<&Error> {
        if let ManifestsError::Rollout(error) = self { Some(error) } else { None }
    }
}

impl Classified for ManifestsError {
    fn class(&self) -> ErrorClass {
        match self {
            ManifestsError::Rollout(error) => error.class(),
            ManifestsError::File { .. }
            | ManifestsError::Refused { .. }
            | ManifestsError::Malformed { .. }
            | ManifestsError::Duplicate { .. }
            | ManifestsError::Empty
            | ManifestsError::NotCreated
            | ManifestsError::UnknownKind { .. }
            | ManifestsError::NotARevision { .. } => ErrorClass::BadInput,
            ManifestsError::ImageNotUsed { .. }
            | ManifestsError::Tags { .. }
            | ManifestsError::Outside { .. }
            | ManifestsError::Invalid { .. }
            | ManifestsError::NoPrevious => ErrorClass::Refused,
            ManifestsError::Interrupted { .. } => ErrorClass::Interrupted,
        }
    }

    fn is_retryable(&self) -> bool {
        matches!(self, ManifestsError::Rollout(error) if error.is_retryable())
    }
}
