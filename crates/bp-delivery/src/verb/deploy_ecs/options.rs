//! Options of `deploy-ecs`: preflight checks, answers to paused deployments, pruning, rollback on a signal.

use bp_artifact::{ExitCode, Outcome, ResolvedImage, Verdict};
use bp_ecs::{Approval, Deployment, EcsTarget, Error, InFlight, Options};
use clap::{Args, ValueEnum};

use crate::{Delivery, Failure, Ui, program::signal};

/// The options of a deployment to ECS.
#[derive(Debug, Clone, Args)]
pub(super) struct EcsArgs {
    /// Check only: show the planned changes and run preflight checks; changes nothing
    #[arg(long, conflicts_with_all = ["revision", "answer", "force"])]
    pub(super) check: bool,
    /// Deploy this earlier task definition revision instead of an image, such as web:41
    #[arg(long, value_name = "NAME", conflicts_with_all = ["image", "answer", "force", "in_flight"])]
    pub(super) revision: Option<String>,
    /// Answer a paused deployment, then watch it to a verdict
    #[arg(long, value_enum)]
    pub(super) answer: Option<Answer>,
    /// Replace the tasks even if nothing has changed
    #[arg(long)]
    pub(super) force: bool,
    /// How to handle another deployment in progress; one to the same target state is adopted and watched, except with
    /// fail
    #[arg(long, value_enum, default_value_t)]
    pub(super) in_flight: Policy,
    /// Roll back on SIGINT (Ctrl-C) or SIGTERM; without this flag, the deployment continues
    #[arg(long)]
    pub(super) rollback_on_cancel: bool,
    /// After success, deregister old revisions, except the latest COUNT and those in use
    #[arg(long, value_name = "COUNT")]
    pub(super) keep_revisions: Option<usize>,
}

/// An answer to a paused deployment.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum Answer {
    /// Continue with the next stage
    Continue,
    /// Roll back
    RollBack,
}

/// How to handle another deployment in progress.
#[derive(Debug, Clone, Copy, Default, ValueEnum)]
pub(super) enum Policy {
    /// Refuse to deploy
    Fail,
    /// Watch it if its target state is the same; otherwise refuse to deploy
    #[default]
    Adopt,
    /// Replace it with this deployment
    Supersede,
    /// Wait until it ends, then deploy
    Wait,
}

impl EcsArgs {
    /// Applies the arguments to the library's options.
    pub(super) fn options(&self, options: Options) -> Options {
        let policy = match self.in_flight {
            Policy::Fail => InFlight::Fail,
            Policy::Adopt => InFlight::AdoptIfSameTarget,
            Policy::Supersede => InFlight::Supersede,
            Policy::Wait => InFlight::Wait,
        };
        options.in_flight(policy).force(self.force)
    }

    /// Answers the paused deployment, if `--answer` is given.
    ///
    /// # Errors
    /// When no deployment is paused.
    pub(super) async fn answer_pause(&self, service: &EcsTarget) -> Result<(), Error> {
        match self.answer {
            None => Ok(()),
            Some(Answer::Continue) => service.approve(Approval::Continue).await,
            Some(Answer::RollBack) => service.approve(Approval::RollBack).await,
        }
    }

    /// Watches a deployment. On a signal it returns an error that explains how to resume, or rolls back.
    ///
    /// # Errors
    /// When the deployment cannot be watched, or on a signal.
    pub(super) async fn follow(
        &self,
        ui: &Ui,
        service: &EcsTarget,
        deployment: Deployment,
    ) -> Result<(Outcome, ExitCode), Failure> {
        let mut received = None;
        let interrupted = async { received = Some(signal().await) };
        match ui.follow_until(deployment, interrupted).await {
            Ok(outcome) => {
                let code = outcome.verdict().into();
                Ok((outcome, code))
            }
            Err(error @ Error::Interrupted { .. }) if self.rollback_on_cancel => {
                let Some(interrupted) = service.current().await?.rolling_out else {
                    return Err(error.into());
                };
                ui.say(format!("interrupted: rolling back {interrupted}"));
                let outcome = ui.follow(service.rollback()).await?;
                let code = match outcome.verdict() {
                    Verdict::Deployed | Verdict::Unproven => ExitCode::RolledBack,
                    verdict => verdict.into(),
                };
                Ok((outcome, code))
            }
            Err(error) => {
                let failure = Failure::from(error);
                Err(match received {
                    Some(signal) if failure.exit_code() == ExitCode::Interrupted => {
                        failure.with_exit_code(signal.exit_code())
                    }
                    _ => failure,
                })
            }
        }
    }

    /// Deregisters old revisions after a success, if `--keep-revisions` is given. A failure is only a warning.
    pub(super) async fn prune(&self, ui: &Ui, service: &EcsTarget, outcome: &Outcome) {
        let Some(keep) = self.keep_revisions.filter(|_| outcome.verdict().is_success()) else { return };
        match service.prune(keep, &[]).await {
            Ok(pruned) => ui.say(format!("deregistered {} old revisions", pruned.deregistered.len())),
            Err(error) => {
                ui.say(format!("warning: failed to deregister old revisions: {}", Failure::from(error)))
            }
        }
    }
}

/// Shows the changes of deploying `image` and runs preflight checks, including the existence of secrets, without
/// reading their values.
///
/// # Errors
/// Those with which a deployment would fail before its first change.
pub(super) async fn preflight(
    ui: &Ui,
    delivery: &Delivery,
    service: &EcsTarget,
    image: &ResolvedImage,
) -> Result<ExitCode, Failure> {
    Ok(ui.checked(&service.preflight(image, &delivery.clients.lookups()).await?))
}
