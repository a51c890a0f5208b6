//! The receipt of a deployment: its file, and the record of a deployment to one target.

use std::path::PathBuf;

use bp_artifact::{
    ExitCode, ResolvedImage,
    deploy::{Target, TargetId},
    saga::{SagaError, SingleReceipt},
};
use clap::Args;

use crate::{Failure, Ui};

/// The receipt of a deployment.
#[derive(Debug, Clone, Args)]
pub struct ReceiptArgs {
    /// File that records the previous revisions and the progress, for a rerun and for rollback; use one per environment
    #[arg(long, value_name = "FILE", default_value = "receipt.json", env = "BP_RECEIPT")]
    pub receipt: PathBuf,
}

impl ReceiptArgs {
    /// Checks the rollback revision of `target` and records it in the receipt, before the first change.
    ///
    /// # Errors
    /// As [`SingleReceipt::start`].
    ///
    /// # Permissions
    /// Those of [`Target::current`] and [`Target::check_rollback`].
    ///
    /// # Cancel safety
    /// As [`SingleReceipt::start`].
    pub async fn start(
        &self,
        ui: &Ui,
        target: &dyn Target,
        image: &ResolvedImage,
    ) -> Result<SingleReceipt, Failure> {
        let started = SingleReceipt::start(target, image, &self.receipt).await;
        recorded(ui, &target.id(), started)
    }

    /// As [`start`](Self::start), for a deployment of an earlier revision: the rollback revision is not checked.
    ///
    /// # Errors
    /// As [`SingleReceipt::start_restore`].
    ///
    /// # Permissions
    /// Those of [`Target::current`].
    ///
    /// # Cancel safety
    /// As [`SingleReceipt::start_restore`].
    pub async fn start_restore(
        &self,
        ui: &Ui,
        target: &dyn Target,
        image: &ResolvedImage,
    ) -> Result<SingleReceipt, Failure> {
        let started = SingleReceipt::start_restore(target, image, &self.receipt).await;
        recorded(ui, &target.id(), started)
    }
}

/// Prints what was recorded.
fn recorded(
    ui: &Ui,
    target: &TargetId,
    started: Result<SingleReceipt, SagaError>,
) -> Result<SingleReceipt, Failure> {
    let receipt = started.map_err(|error| {
        let other = matches!(error, SagaError::UnfinishedTarget { .. });
        let failure = Failure::from(error);
        if other { failure.hint("choose it with --receipt") } else { failure }
    })?;
    if let Some(previous) = receipt.previous() {
        let (revision, path) = (previous.short_id(), receipt.path().display());
        ui.say_of(target, format!("rollback revision {revision} recorded in {path}"));
    }
    if let Some(check) = receipt.rollback() {
        ui.say_of(target, check.summary());
    }
    Ok(receipt)
}

/// Records an error of a deployment. The receipt of one that was interrupted or is unavailable stays open: a rerun
/// resumes.
pub(super) fn abandon(ui: &Ui, receipt: SingleReceipt, failure: Failure) -> Failure {
    match failure.exit_code() {
        ExitCode::HungUp | ExitCode::Interrupted | ExitCode::Terminated | ExitCode::Unavailable => {}
        ExitCode::Done
        | ExitCode::Unexpected
        | ExitCode::BadInput
        | ExitCode::RolledBack
        | ExitCode::Failed
        | ExitCode::Refused
        | ExitCode::Drift
        | ExitCode::Superseded
        | ExitCode::AwaitingApproval
        | ExitCode::RunFailed
        | ExitCode::Child(_) => {
            if let Err(error) = receipt.failed(&failure.to_string()) {
                ui.warn(format!("cannot update the receipt: {}", Failure::from(error)));
            }
        }
    }
    failure
}
