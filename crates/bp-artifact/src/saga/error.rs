//! Why a saga gave no receipt.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use crate::{
    deploy::{GateName, GateState, ReceiptState, TargetError, TargetId, Verdict},
    document::DocumentError,
    error::{Classified, ErrorClass},
    reference::DigestRef,
};

/// Why a saga gave no receipt.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SagaError {
    /// There is nothing to deploy to.
    #[error("there is no target to deploy to: configure ecs or eks for this environment")]
    NoTargets,
    /// Two targets have the same name.
    #[error("the target {target} is given twice")]
    DuplicateTarget {
        /// The name.
        target: TargetId,
    },
    /// Two gates have the same name.
    #[error("the gate {gate} is given twice")]
    DuplicateGate {
        /// The name.
        gate: GateName,
    },
    /// The gate that is answered does not exist here, or is a check.
    #[error("there is no approval {gate} here; {}", Approvals(known))]
    UnknownGate {
        /// The name.
        gate: GateName,
        /// The approvals that there are.
        known: Vec<GateName>,
    },
    /// The gate that is answered does not await approval of these images. Nothing was changed.
    #[error(
        "the gate {gate} does not await approval of these images: {}; nothing was changed",
        Reached(path, *state)
    )]
    NotAwaiting {
        /// The gate.
        gate: GateName,
        /// The receipt.
        path: PathBuf,
        /// How far it is for these images; `None` when it was not reached.
        state: Option<GateState>,
    },
    /// The receipt cannot be read, or cannot be written before the first change. Nothing was changed.
    #[error(transparent)]
    Receipt(#[from] DocumentError),
    /// The receipt is of a run of another image that did not end. Nothing was changed.
    #[error(
        "{} is of {image}, which is {state} and not finished: deploy that again, roll it back, or supersede it",
        path.display()
    )]
    Unfinished {
        /// The receipt.
        path: PathBuf,
        /// The image of that run.
        image: DigestRef,
        /// How far it is.
        state: ReceiptState,
    },
    /// The receipt tells of a target that was not given. Nothing was changed.
    #[error("{} tells of the target {target}, which was not given: its way back would be lost", path.display())]
    TargetNotGiven {
        /// The receipt.
        path: PathBuf,
        /// The target.
        target: TargetId,
    },
    /// A target gave an error, and this run changed nothing at any.
    #[error("{target} could not be deployed to; this run changed nothing")]
    Target {
        /// The target.
        target: TargetId,
        /// Its error.
        #[source]
        source: TargetError,
    },
    /// The caller cancelled.
    #[error(
        "interrupted: deployments under way go on; run it again to finish, the way back is noted in {}",
        path.display()
    )]
    Interrupted {
        /// The receipt.
        path: PathBuf,
    },
    /// It ended, but that could not be written down.
    #[error("it ended ({verdict}), but that could not be noted")]
    NotNoted {
        /// How it ended.
        verdict: Verdict,
        /// Why the receipt could not be written.
        #[source]
        source: DocumentError,
    },
}

struct Approvals<'a>(&'a [GateName]);

impl fmt::Display for Approvals<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("nothing that is deployed awaits an approval");
        }
        let names: Vec<&str> = self.0.iter().map(GateName::as_str).collect();
        write!(f, "there are {}", names.join(", "))
    }
}

struct Reached<'a>(&'a Path, Option<GateState>);

impl fmt::Display for Reached<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.1 {
            Some(state) => write!(f, "it is {state} in {}", self.0.display()),
            None => write!(f, "no run of them has reached it, according to {}", self.0.display()),
        }
    }
}

impl Classified for SagaError {
    fn class(&self) -> ErrorClass {
        match self {
            SagaError::NoTargets
            | SagaError::DuplicateTarget { .. }
            | SagaError::DuplicateGate { .. }
            | SagaError::UnknownGate { .. } => ErrorClass::BadInput,
            SagaError::Receipt(error) => error.class(),
            SagaError::Unfinished { .. }
            | SagaError::TargetNotGiven { .. }
            | SagaError::NotAwaiting { .. } => ErrorClass::Refused,
            SagaError::Target { source, .. } => source.class(),
            SagaError::Interrupted { .. } => ErrorClass::Interrupted,
            SagaError::NotNoted { source, .. } => source.class(),
        }
    }
}
