//! Options of `deploy-ecs`: preflight checks, answers to paused deployments, pruning, rollback on a signal.

use bp_artifact::{
    ExitCode, Outcome, ResolvedImage, config::EcsConfig, deploy::Revision, saga::SingleReceipt,
};
use bp_ecs::{Approval, EcsTarget, Error, InFlight, Options};
use clap::{Args, ValueEnum};

use crate::{
    Delivery, Failure, Ui,
    cli::{End, NoWaitArgs, RollbackOnCancelArgs},
};

/// The options of a deployment to ECS.
#[derive(Debug, Clone, Args)]
pub(super) struct EcsArgs {
    /// Check only: show the planned changes and run preflight checks; changes nothing
    #[arg(long, conflicts_with_all = ["revision", "answer", "force", "no_wait"])]
    pub(super) check: bool,
    /// Deploy this earlier task definition revision instead of an image, such as web:41
    #[arg(long, value_name = "NAME", conflicts_with_all = ["image", "answer", "force", "in_flight"])]
    pub(super) revision: Option<String>,
    /// Answer a paused deployment, then watch it to a verdict
    #[arg(long, value_enum)]
    pub(super) answer: Option<Answer>,
    /// Replace the tasks or pods even if nothing has changed
    #[arg(long)]
    pub(super) force: bool,
    /// How to handle another deployment in progress; one to the same target state is adopted and watched, except with
    /// fail
    #[arg(long, value_enum, default_value_t)]
    pub(super) in_flight: Policy,
    #[command(flatten)]
    pub(super) no_wait: NoWaitArgs,
    #[command(flatten)]
    pub(super) on_cancel: RollbackOnCancelArgs,
    /// After success, deregister old revisions, except the latest COUNT and those in use
    #[arg(long, value_name = "COUNT", conflicts_with = "no_wait")]
    pub(super) keep_revisions: Option<usize>,
}

/// What to deploy.
#[derive(Debug)]
pub(super) enum Wanted {
    Image(ResolvedImage),
    Revision(Revision),
}

impl Wanted {
    /// The image by digest, if it has one.
    pub(super) fn image(&self) -> Option<ResolvedImage> {
        match self {
            Wanted::Image(image) => Some(image.clone()),
            Wanted::Revision(revision) => revision.image.resolved(),
        }
    }
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

    /// Refuses `--no-wait` if there are tasks after the deployment, which would not run, or scheduled tasks, which would
    /// not move.
    ///
    /// # Errors
    /// When there are any.
    pub(super) fn refuse_skipped_steps(&self, ecs: &EcsConfig) -> Result<(), Failure> {
        if !self.no_wait.no_wait {
            return Ok(());
        }
        if let Some(name) = ecs.tasks.after.keys().next() {
            return Err(Failure::bad_input(format!(
                "--no-wait would not run the task {name} after the deployment (ecs.after): remove one of the two"
            )));
        }
        if ecs.schedules {
            return Err(Failure::bad_input(
                "--no-wait would not move the scheduled tasks (ecs.schedules): remove one of the two",
            ));
        }
        Ok(())
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

    /// Deploys and watches the deployment, or only starts it with `--no-wait`. On a signal it returns an error that
    /// explains how to resume, or rolls back.
    ///
    /// # Errors
    /// When the deployment cannot be started or watched, or on a signal.
    pub(super) async fn deploy(&self, ui: &Ui, service: &EcsTarget, wanted: &Wanted) -> Result<End, Failure> {
        let deployment = match wanted {
            Wanted::Image(image) => {
                self.answer_pause(service).await?;
                match self.in_flight {
                    // The rollback revision is the one that the other deployment leaves.
                    Policy::Wait => service.deploy(image),
                    // It was checked before the receipt was written.
                    Policy::Fail | Policy::Adopt | Policy::Supersede => service.deploy_checked(image),
                }
            }
            Wanted::Revision(revision) => service.restore(revision),
        };
        match self.no_wait.follow(ui, deployment).await {
            Err(error @ Error::Interrupted { .. }) if self.on_cancel.rollback_on_cancel => {
                let _rolling_back = ui.rolling_back();
                let Some(interrupted) = service.current().await?.rolling_out else {
                    return Err(error.into());
                };
                ui.say(format!("interrupted: rolling back {interrupted}"));
                Ok(End::RolledBack(ui.follow_rollback(service.rollback()).await?))
            }
            end => Ok(end?),
        }
    }

    /// Deregisters old revisions after a success, if `--keep-revisions` is given, except the rollback revision of the
    /// receipt. A failure is only a warning.
    pub(super) async fn prune(
        &self,
        ui: &Ui,
        service: &EcsTarget,
        outcome: &Outcome,
        receipt: Option<&SingleReceipt>,
    ) {
        let Some(keep) = self.keep_revisions.filter(|_| outcome.verdict().is_success()) else { return };
        let rollback_to = receipt.and_then(SingleReceipt::previous).map(|revision| revision.id.clone());
        match service.prune(keep, rollback_to.as_slice()).await {
            Ok(pruned) => ui.say(format!("deregistered {} old revisions", pruned.deregistered.len())),
            Err(error) => ui.warn(format!("failed to deregister old revisions: {}", Failure::from(error))),
        }
    }
}

/// Shows the changes of deploying `image` and runs preflight checks, including secrets down to their JSON keys.
///
/// # Errors
/// Those with which a deployment would fail before its first change.
pub(super) async fn preflight(
    ui: &Ui,
    delivery: &Delivery,
    service: &EcsTarget,
    image: &ResolvedImage,
) -> Result<ExitCode, Failure> {
    Ok(ui.checked(&service.preflight(image, &delivery.clients.lookups_of_keys()).await?))
}
