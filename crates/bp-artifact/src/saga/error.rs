//! Why a saga gave no receipt.

use std::path::PathBuf;

use crate::{
    deploy::{ReceiptState, TargetError, TargetId, Verdict},
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

impl Classified for SagaError {
    fn class(&self) -> ErrorClass {
        match self {
            SagaError::NoTargets | SagaError::DuplicateTarget { .. } => ErrorClass::BadInput,
            SagaError::Receipt(error) => error.class(),
            SagaError::Unfinished { .. } | SagaError::TargetNotGiven { .. } => ErrorClass::Refused,
            SagaError::Target { source, .. } => source.class(),
            SagaError::Interrupted { .. } => ErrorClass::Interrupted,
            SagaError::NotNoted { source, .. } => source.class(),
        }
    }
}
