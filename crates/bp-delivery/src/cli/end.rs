//! How a deployment to one target ends: followed to a verdict, rolled back on a signal, or only started.

use bp_artifact::{
    ExitCode, Operation, Outcome, Verdict,
    deploy::{DeployEvent, Target},
    error::{Classified, ErrorClass},
    saga::SingleReceipt,
};
use clap::Args;

use super::receipt::abandon;
use crate::{Failure, Ui, render::Started};

/// The end of a deployment command.
#[derive(Debug)]
pub(crate) enum End {
    /// The deployment was followed to its end.
    Ended(Outcome),
    /// The caller interrupted it, and it was rolled back.
    RolledBack(Outcome),
    /// It was started and is not followed.
    Started(Started),
}

/// Whether to follow the deployment.
#[derive(Debug, Clone, Args)]
pub struct NoWaitArgs {
    /// Start the deployment and do not watch it: exit code 0 means only that it was started; `wait` follows it
    #[arg(long)]
    pub no_wait: bool,
}

impl NoWaitArgs {
    /// Follows a deployment to its end, or with `--no-wait` until the change was applied.
    pub(crate) async fn follow<E: Classified + Send + 'static>(
        &self,
        ui: &Ui,
        work: Operation<DeployEvent, Result<Outcome, E>>,
    ) -> Result<End, E> {
        if !self.no_wait {
            return ui.follow(work).await.map(End::Ended);
        }
        match ui.start(work).await {
            (Err(error), Some(started)) if error.class() == ErrorClass::Interrupted => {
                Ok(End::Started(started))
            }
            (result, _) => result.map(End::Ended),
        }
    }
}

/// Whether a signal rolls back.
#[derive(Debug, Clone, Args)]
pub struct RollbackOnCancelArgs {
    /// Roll back on SIGINT (Ctrl-C), SIGTERM or SIGHUP; without this flag, the deployment continues. A second signal stops
    /// the rollback
    #[arg(long)]
    pub rollback_on_cancel: bool,
}

impl RollbackOnCancelArgs {
    /// Refuses the combination with `--no-wait`, which ends before a signal could roll back.
    ///
    /// # Errors
    /// When both are given.
    pub(crate) fn check(&self, wait: &NoWaitArgs) -> Result<(), Failure> {
        if self.rollback_on_cancel && wait.no_wait {
            return Err(Failure::bad_input(
                "--rollback-on-cancel has no effect with --no-wait: remove one of the two",
            ));
        }
        Ok(())
    }

    /// Restores the revision in the receipt if the deployment was interrupted after it had changed the target.
    ///
    /// # Errors
    /// The error of the deployment, or of the rollback.
    ///
    /// # Permissions
    /// Those of [`Target::current`] and [`Target::restore`].
    ///
    /// # Cancel safety
    /// Dropped, the rollback stops at its next safe point; the receipt stays open.
    pub(crate) async fn end<E: Classified>(
        &self,
        ui: &Ui,
        target: &dyn Target,
        receipt: &SingleReceipt,
        end: Result<End, E>,
    ) -> Result<End, Failure> {
        let error = match end {
            Ok(end) => return Ok(end),
            Err(error) => error,
        };
        let is_interrupted = error.class() == ErrorClass::Interrupted;
        let Some(previous) = receipt.previous().filter(|_| is_interrupted && self.rollback_on_cancel) else {
            return Err(error.into());
        };
        let _rolling_back = ui.rolling_back();
        let current = target.current().await?;
        let is_unchanged = current.stable.id == previous.id || current.stable.image == previous.image;
        if current.rolling_out.is_none() && is_unchanged {
            return Err(error.into());
        }
        ui.say(format!("interrupted: rolling back to {previous}"));
        Ok(End::RolledBack(ui.follow_rollback(target.restore(previous)).await?))
    }
}

/// The exit code of a rollback that an interruption has started: the deployment failed, and the previous revision runs.
pub(crate) fn rolled_back(verdict: Verdict) -> ExitCode {
    match verdict {
        Verdict::Deployed | Verdict::Unproven => ExitCode::RolledBack,
        verdict => verdict.into(),
    }
}

/// Records how a deployment ended in its receipt, if it has one, prints it, and returns the exit code. The receipt of a
/// deployment that was only started stays open.
///
/// # Errors
/// The deployment's error, or that the receipt cannot be written.
pub(crate) fn conclude(
    ui: &Ui,
    receipt: Option<SingleReceipt>,
    end: Result<End, impl Into<Failure>>,
) -> Result<ExitCode, Failure> {
    let (written, code) = match end {
        Err(error) => {
            let failure: Failure = error.into();
            return Err(match receipt {
                Some(receipt) => abandon(ui, receipt, failure),
                None => failure,
            });
        }
        Ok(End::Started(started)) => return Ok(ui.started(&started)),
        Ok(End::Ended(mut outcome)) => {
            let check = receipt.as_ref().and_then(SingleReceipt::rollback).cloned();
            let written = receipt.map(|receipt| receipt.ended(&outcome));
            outcome.rollback = outcome.rollback.or(check);
            (written, ui.ended(outcome))
        }
        Ok(End::RolledBack(outcome)) => {
            let written = receipt.map(|receipt| receipt.rolled_back(&outcome));
            let code = rolled_back(outcome.verdict());
            ui.ended(outcome);
            (written, code)
        }
    };
    written.transpose()?;
    Ok(code)
}

/// The exit codes of several targets, the one that requires the most urgent action last.
const BY_URGENCY: [ExitCode; 10] = [
    ExitCode::Done,
    ExitCode::Drift,
    ExitCode::AwaitingApproval,
    ExitCode::Unavailable,
    ExitCode::RolledBack,
    ExitCode::Superseded,
    ExitCode::Refused,
    ExitCode::BadInput,
    ExitCode::Unexpected,
    ExitCode::Failed,
];

/// The exit code of several targets: the most urgent one.
pub(crate) fn worst(codes: impl IntoIterator<Item = ExitCode>) -> ExitCode {
    let urgency = |code: &ExitCode| BY_URGENCY.iter().position(|known| known == code);
    // An interruption, which is not listed, ends the program in any case.
    codes.into_iter().max_by_key(|code| urgency(code).unwrap_or(BY_URGENCY.len())).unwrap_or(ExitCode::Done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_urgent_exit_code_wins() {
        use ExitCode::{Done, Drift, Failed, Interrupted, RolledBack, Unavailable};
        for (codes, code) in [
            (vec![], Done),
            (vec![Done, Drift], Drift),
            (vec![Unavailable, Drift, RolledBack], RolledBack),
            (vec![Failed, RolledBack], Failed),
            (vec![Interrupted, Failed], Interrupted),
        ] {
            assert_eq!(worst(codes.clone()), code, "{codes:?}");
        }
    }
}
