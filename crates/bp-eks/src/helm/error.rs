//! Errors of Helm releases, as cases that a caller can act on.

use std::path::PathBuf;

use bp_artifact::error::{Classified, ErrorClass};

use crate::error::Error;

/// An error of a Helm release. An upgrade that failed and was rolled back is not an error but a
/// [`Verdict`](bp_artifact::Verdict).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HelmError {
    /// A Kubernetes API error, or an error of a workload's watch.
    #[error(transparent)]
    Rollout(#[from] Error),
    /// `helm` cannot be started.
    #[error("failed to run {}; install Helm 4, or set the path of the helm program", program.display())]
    Program {
        /// The program.
        program: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// An unsupported version of `helm`.
    #[error("unsupported helm version {found}: Helm 4 is required; install Helm 4")]
    Version {
        /// The version that it reports.
        found: String,
    },
    /// `helm` failed before anything was changed.
    #[error("helm {verb} failed: {message}")]
    Failed {
        /// The command, such as `upgrade --dry-run`.
        verb: &'static str,
        /// Helm's error message.
        message: String,
    },
    /// The release does not exist.
    #[error(
        "the release {release:?} does not exist in the namespace {namespace:?}; install it with deploy-helm"
    )]
    NotFound {
        /// The release.
        release: String,
        /// The namespace.
        namespace: String,
    },
    /// The name of the release is not valid.
    #[error(
        "{release:?} is not the name of a release: expected at most 53 lower-case letters, digits, dashes and dots, \
        beginning and ending with a letter or digit"
    )]
    Name {
        /// The name.
        release: String,
    },
    /// A [flag](crate::helm::HelmFlags) for helm is not accepted. Nothing was changed.
    #[error("the helm flag {flag} is not accepted: {reason}")]
    Flag {
        /// The flag, without its value.
        flag: String,
        /// Why.
        reason: String,
    },
    /// There is no login to the registry of the chart. Nothing was changed.
    #[error("failed to create the login to {registry}, the registry of the chart")]
    ChartLogin {
        /// The registry.
        registry: String,
        /// The cause.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The upgrade has no [chart](crate::HelmRelease::chart). Nothing was changed.
    #[error("cannot upgrade the release {release:?}: no chart is set")]
    NoChart {
        /// The release.
        release: String,
    },
    /// The chart does not use the digest. Nothing was changed.
    #[error(
        "the chart ignores {key}: no workload of the release {release:?} would run {digest}; its images are {}; use {key} \
        in the chart's templates, or set the image keys that the chart uses",
        images.join(", ")
    )]
    DigestIgnored {
        /// The release.
        release: String,
        /// The values key of the digest.
        key: String,
        /// The digest.
        digest: String,
        /// The images of the chart's workloads.
        images: Vec<String>,
    },
    /// The chart does not use the environment variables. Nothing was changed.
    #[error(
        "the chart ignores {key}: {container} of the release {release:?} would run without {}; use {key} in the chart's \
        templates, set the key that it uses (eks.environment-key, eks.environment-form), or remove the variables \
        (eks.environment)",
        variables.join(", ")
    )]
    VariablesIgnored {
        /// The release.
        release: String,
        /// The values key of the variables.
        key: String,
        /// The container with the image, with its workload.
        container: String,
        /// The names of the variables that it lacks.
        variables: Vec<String>,
    },
    /// Another run holds the Lease of the release.
    #[error("the release {release:?} is locked by {holder}; wait until that run has ended")]
    Busy {
        /// The release.
        release: String,
        /// The holder of the Lease.
        holder: String,
    },
    /// An operation of another tool on the release is unfinished or still in progress.
    #[error(
        "revision {revision} of the release {release:?} is {status} and was created by another tool, which may still be \
        running; if it is not, run `helm rollback {release}` (or set assume_dead_after, the age after which its owner \
        counts as dead)"
    )]
    Pending {
        /// The release.
        release: String,
        /// The pending revision.
        revision: u32,
        /// Its status.
        status: String,
    },
    /// Another run acquired the Lease; helm was disconnected from the cluster.
    #[error(
        "lost the lease of the release {release:?}; helm was disconnected from the cluster; rerun to resume"
    )]
    LeaseLost {
        /// The release.
        release: String,
    },
    /// There is no earlier deployed revision.
    #[error("the release {release:?} has no previously deployed revision")]
    NoPrevious {
        /// The release.
        release: String,
    },
    /// Helm's output, or a chart's manifest, cannot be parsed.
    #[error("failed to parse the output of helm {verb}")]
    Unreadable {
        /// The command.
        verb: &'static str,
        /// The parse error.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A local file or socket cannot be created.
    #[error("failed to prepare the temporary files or the loopback proxy for helm")]
    Local(#[from] std::io::Error),
    /// The operation was cancelled. Helm was terminated and marks its revision as failed.
    #[error(
        "interrupted: helm was stopped, changes already applied to the release {release:?} remain; rerun the same \
    command to resume"
    )]
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
            | HelmError::NotFound { .. }
            | HelmError::Name { .. }
            | HelmError::Flag { .. }
            | HelmError::NoChart { .. } => ErrorClass::BadInput,
            HelmError::DigestIgnored { .. }
            | HelmError::VariablesIgnored { .. }
            | HelmError::Pending { .. }
            | HelmError::NoPrevious { .. } => ErrorClass::Refused,
            HelmError::ChartLogin { .. } => ErrorClass::Unavailable,
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
