//! What can go wrong with a Helm release, as far as a caller can act on it.

use std::path::PathBuf;

use bp_artifact::error::{Classified, ErrorClass};

use crate::error::Error;

/// An error of a Helm release. An upgrade that failed and was rolled back is none: that is a
/// [`Verdict`](bp_artifact::Verdict).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HelmError {
    /// The Kubernetes API, or the watch of a workload.
    #[error(transparent)]
    Rollout(#[from] Error),
    /// No `helm`.
    #[error("cannot run {}: install Helm 4, or name the program", program.display())]
    Program {
        /// What was run.
        program: PathBuf,
        /// Why it could not be.
        source: std::io::Error,
    },
    /// A `helm` that we do not know.
    #[error("this is helm {found}, and Helm 4 is needed: its flags differ")]
    Version {
        /// What it says.
        found: String,
    },
    /// `helm` refused before anything was changed.
    #[error("helm {verb} failed: {message}")]
    Failed {
        /// What was asked for, such as `upgrade --dry-run`.
        verb: &'static str,
        /// In helm's words.
        message: String,
    },
    /// An upgrade without a [chart](crate::HelmRelease::chart). Nothing was changed.
    #[error("the upgrade of the release {release:?} needs its chart")]
    NoChart {
        /// The release.
        release: String,
    },
    /// The chart does nothing with the digest. Nothing was changed.
    #[error(
        "the chart ignores {key}: no workload of the release {release:?} would run {digest}; its images are {}. Let the \
         chart's template use {key}, or name the keys that it uses",
        images.join(", ")
    )]
    DigestIgnored {
        /// The release.
        release: String,
        /// The key of the values that carries the digest.
        key: String,
        /// The digest.
        digest: String,
        /// What the chart's workloads would run.
        images: Vec<String>,
    },
    /// Somebody works on the release at this moment.
    #[error("the release {release:?} is being worked on by {holder}: wait for it")]
    Busy {
        /// The release.
        release: String,
        /// Who.
        holder: String,
    },
    /// Somebody else's operation on the release was not finished, or goes on.
    #[error(
        "revision {revision} of the release {release:?} is {status}, and was not made through us: whether its owner is \
         alive cannot be known from here. If it is not, `helm rollback {release}` frees it; or say after how long its \
         owner is surely dead (HelmRelease::assume_dead_after)"
    )]
    Pending {
        /// The release.
        release: String,
        /// The revision that is stuck.
        revision: u32,
        /// Its status.
        status: String,
    },
    /// The Lease went to somebody else while we worked: helm was cut off.
    #[error("the lease of the release {release:?} was lost; helm was cut off. Run it again")]
    LeaseLost {
        /// The release.
        release: String,
    },
    /// No earlier revision.
    #[error("the release {release:?} has no earlier revision that was deployed")]
    NoPrevious {
        /// The release.
        release: String,
    },
    /// What helm printed, or a chart's manifest, cannot be read.
    #[error("helm {verb} printed something that cannot be read")]
    Unreadable {
        /// What was asked for.
        verb: &'static str,
        /// What is wrong with it.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A file or a socket of this machine.
    #[error("cannot prepare helm's surroundings")]
    Local(#[from] std::io::Error),
    /// The caller stopped it. Helm was told to stop, and marks its revision as failed.
    #[error("stopped; helm was told to stop the release {release:?}: the same command goes on from there")]
    Interrupted {
        /// The release.
        release: String,
    },
}

impl Classified for HelmError {
    fn class(&self) -> ErrorClass {
        match self {
            HelmError::Rollout(error) => error.class(),
            HelmError::Program { .. }
            | HelmError::Version { .. }
            | HelmError::Failed { .. }
            | HelmError::NoChart { .. } => ErrorClass::BadInput,
            HelmError::DigestIgnored { .. } | HelmError::Pending { .. } | HelmError::NoPrevious { .. } => {
                ErrorClass::Refused
            }
            HelmError::Busy { .. } | HelmError::LeaseLost { .. } => ErrorClass::Superseded,
            HelmError::Interrupted { .. } => ErrorClass::Interrupted,
            HelmError::Unreadable { .. } | HelmError::Local(_) => ErrorClass::Unexpected,
        }
    }

    fn is_retryable(&self) -> bool {
        matches!(self, HelmError::Busy { .. } | HelmError::LeaseLost { .. })
            || matches!(self, HelmError::Rollout(error) if error.is_retryable())
    }
}
