//! Errors of a saga.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use crate::{
    deploy::{GateName, GateState, ReceiptState, RollbackCheck, TargetError, TargetId, Verdict},
    document::DocumentError,
    error::{Classified, ErrorClass},
    file::Holder,
    reference::DigestRef,
};

/// Why a saga returned no receipt.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SagaError {
    /// There is no target.
    #[error("there is no target to deploy to: configure ecs or eks for this environment")]
    NoTargets,
    /// Two targets have the same name.
    #[error("the target {target} is given twice")]
    DuplicateTarget {
        /// Its name.
        target: TargetId,
    },
    /// Two gates have the same name.
    #[error("the gate {gate} is given twice")]
    DuplicateGate {
        /// Its name.
        gate: GateName,
    },
    /// The gate that is answered does not exist here, or is a check.
    #[error("unknown approval gate {gate}; {}", Approvals(known))]
    UnknownGate {
        /// Its name.
        gate: GateName,
        /// The approval gates of the deployment.
        known: Vec<GateName>,
    },
    /// The gate that is answered does not await approval of these images. Nothing was changed.
    #[error(
        "gate {gate} is not awaiting approval of these images: {}; nothing was changed",
        Reached(path, *state)
    )]
    NotAwaiting {
        /// The gate.
        gate: GateName,
        /// The receipt.
        path: PathBuf,
        /// Its state for these images; `None` when it was not reached.
        state: Option<GateState>,
    },
    /// The receipt cannot be read, or cannot be written before the first change. Nothing was changed.
    #[error(transparent)]
    Receipt(#[from] DocumentError),
    /// Another run uses the receipt. Nothing was changed.
    #[error("receipt {} is in use by {}: nothing was changed; rerun when that run has ended", path.display(), Run(holder.as_ref()))]
    InUse {
        /// The receipt.
        path: PathBuf,
        /// The process of that run, if it is known.
        holder: Option<Holder>,
    },
    /// The receipt is a device, a FIFO or a descriptor, from which a rerun and a rollback could not read it. Nothing was
    /// changed.
    #[error("receipt {} is not a regular file, which a rerun and a rollback need", path.display())]
    NotAFile {
        /// The path.
        path: PathBuf,
    },
    /// The receipt is of an unfinished run of another image. Nothing was changed.
    #[error(
        "receipt {} is of an unfinished deployment of {image} ({state}): deploy that image again, roll it back, or supersede it",
        path.display()
    )]
    Unfinished {
        /// The receipt.
        path: PathBuf,
        /// The image of that run.
        image: DigestRef,
        /// The state of that run.
        state: ReceiptState,
    },
    /// The receipt lists a target that is not configured. Nothing was changed.
    #[error(
        "receipt {} lists target {target}, which is not configured here; continuing would lose its rollback revision",
        path.display()
    )]
    TargetNotGiven {
        /// The receipt.
        path: PathBuf,
        /// The target.
        target: TargetId,
    },
    /// The rollback revision of a target cannot run any more. Nothing was changed at any target.
    #[error(
        "{target} could not be rolled back: {}; correct that, or deploy anyway with --accept-unproven-rollback \
             (nothing was changed)",
        check.reasons()
    )]
    UnprovenRollback {
        /// The target.
        target: TargetId,
        /// What is missing.
        check: Box<RollbackCheck>,
    },
    /// The receipt is of an unfinished deployment to another target. Nothing was changed.
    #[error(
        "receipt {} is of an unfinished deployment to {target}, whose rollback revision would be lost: finish that deployment, roll it back, or use another receipt file",
        path.display()
    )]
    UnfinishedTarget {
        /// The receipt.
        path: PathBuf,
        /// The target of that deployment.
        target: TargetId,
    },
    /// A target returned an error, and this run changed nothing at any target.
    #[error("cannot deploy to {target}; this run changed nothing")]
    Target {
        /// The target.
        target: TargetId,
        /// Its error.
        #[source]
        source: TargetError,
    },
    /// A target has no previous revision, or it cannot be read. Nothing was changed.
    #[error("cannot roll back {target}; nothing was changed")]
    NotRolledBack {
        /// The target.
        target: TargetId,
        /// Its error.
        #[source]
        source: TargetError,
    },
    /// No target has an image with a digest, now or in its previous revision. Nothing was changed.
    #[error("no image of the targets has a digest, which a receipt requires; nothing was changed")]
    NoDigest,
    /// The caller cancelled.
    #[error("{}", Stopped(path, *recorded))]
    Interrupted {
        /// The receipt.
        path: PathBuf,
        /// Whether the rollback revisions were recorded there. Otherwise nothing was changed.
        recorded: bool,
    },
    /// The deployment ended, but the receipt could not be written.
    #[error("the deployment ended ({verdict}), but its receipt could not be written")]
    NotNoted {
        /// The verdict.
        verdict: Verdict,
        /// Why the receipt could not be written.
        #[source]
        source: DocumentError,
    },
}

struct Run<'a>(Option<&'a Holder>);

impl fmt::Display for Run<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(holder) => write!(f, "another run ({holder})"),
            None => f.write_str("another run"),
        }
    }
}

struct Stopped<'a>(&'a Path, bool);

impl fmt::Display for Stopped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Stopped(path, recorded) = self;
        if !recorded {
            return f.write_str("interrupted before the first change: nothing was changed");
        }
        let path = path.display();
        write!(
            f,
            "interrupted: deployments in progress continue; rerun the same command to resume (rollback revisions: {path})"
        )
    }
}

struct Approvals<'a>(&'a [GateName]);

impl fmt::Display for Approvals<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("this deployment has no approval gates");
        }
        let names: Vec<&str> = self.0.iter().map(GateName::as_str).collect();
        write!(f, "this deployment has {}", names.join(", "))
    }
}

struct Reached<'a>(&'a Path, Option<GateState>);

impl fmt::Display for Reached<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.1 {
            Some(state) => write!(f, "it is {state} in {}", self.0.display()),
            None => write!(f, "it was not reached, according to {}", self.0.display()),
        }
    }
}

impl Classified for SagaError {
    fn class(&self) -> ErrorClass {
        match self {
            SagaError::NoTargets
            | SagaError::DuplicateTarget { .. }
            | SagaError::DuplicateGate { .. }
            | SagaError::UnknownGate { .. }
            | SagaError::NotAFile { .. } => ErrorClass::BadInput,
            SagaError::InUse { .. } => ErrorClass::Unavailable,
            SagaError::Receipt(error) => error.class(),
            SagaError::Unfinished { .. }
            | SagaError::UnprovenRollback { .. }
            | SagaError::TargetNotGiven { .. }
            | SagaError::UnfinishedTarget { .. }
            | SagaError::NoDigest
            | SagaError::NotAwaiting { .. } => ErrorClass::Refused,
            SagaError::Target { source, .. } | SagaError::NotRolledBack { source, .. } => source.class(),
            SagaError::Interrupted { .. } => ErrorClass::Interrupted,
            SagaError::NotNoted { source, .. } => source.class(),
        }
    }
}
