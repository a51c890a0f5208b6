//! What `deploy-ecs` does besides deploying: checks, answers, pruning, rollback on a signal.

use bp_artifact::{
    ExitCode, Outcome, ResolvedImage, Verdict,
    deploy::{
        Cause,
        preflight::{Finding, FindingState, SecretReference},
    },
};
use bp_ecs::{Approval, Deployment, EcsTarget, Error, InFlight, Options};
use bp_secrets::{Depth, ErrorKind, Reference, check};
use clap::{Args, ValueEnum};

use crate::{Delivery, Failure, Ui, program::signal};

/// How to deploy to ECS.
#[derive(Debug, Clone, Args)]
pub(super) struct EcsArgs {
    /// Only check: show the planned changes and whether what they need exists; changes nothing
    #[arg(long, conflicts_with_all = ["revision", "answer", "force"])]
    pub(super) check: bool,
    /// Deploy this earlier revision instead of an image: web:41
    #[arg(long, value_name = "NAME", conflicts_with_all = ["image", "answer", "force", "in_flight"])]
    pub(super) revision: Option<String>,
    /// Answer the pause that a deployment waits in, then follow it on
    #[arg(long, value_enum)]
    pub(super) answer: Option<Answer>,
    /// Replace the tasks even when nothing changed
    #[arg(long)]
    pub(super) force: bool,
    /// What to do about another deployment under way; one that brings the same is followed, unless this says fail
    #[arg(long, value_enum, default_value_t)]
    pub(super) in_flight: Policy,
    /// Go back on Ctrl-C, instead of leaving the deployment to itself
    #[arg(long)]
    pub(super) rollback_on_cancel: bool,
    /// After success, put old revisions away: all but this many of the latest, and those in use
    #[arg(long, value_name = "COUNT")]
    pub(super) keep_revisions: Option<usize>,
}

/// An answer to a pause.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum Answer {
    /// Go on with the next stage
    Continue,
    /// Go back
    RollBack,
}

/// What to do about another deployment.
#[derive(Debug, Clone, Copy, Default, ValueEnum)]
pub(super) enum Policy {
    /// Refuse, whatever it brings
    Fail,
    /// Refuse, unless it brings the same
    #[default]
    Adopt,
    /// Put ours in its place
    Supersede,
    /// Wait for its end
    Wait,
}

impl EcsArgs {
    /// The options of the library that these are.
    pub(super) fn options(&self, options: Options) -> Options {
        let policy = match self.in_flight {
            Policy::Fail => InFlight::Fail,
            Policy::Adopt => InFlight::AdoptIfSameTarget,
            Policy::Supersede => InFlight::Supersede,
            Policy::Wait => InFlight::Wait,
        };
        options.in_flight(policy).force(self.force)
    }

    /// Answers a pause, when it is to be answered.
    ///
    /// # Errors
    /// When nothing waits.
    pub(super) async fn give_answer(&self, service: &EcsTarget) -> Result<(), Error> {
        match self.answer {
            None => Ok(()),
            Some(Answer::Continue) => service.approve(Approval::Continue).await,
            Some(Answer::RollBack) => service.approve(Approval::RollBack).await,
        }
    }

    /// Follows a deployment. Ctrl-C leaves it to itself and says how to take it up again, or takes it back.
    ///
    /// # Errors
    /// When it cannot be followed, or was interrupted.
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
                let Some(begun) = service.current().await?.rolling_out else { return Err(error.into()) };
                ui.say(format!("interrupted: {begun} is taken back"));
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
                        failure.ending_with(signal.exit_code())
                    }
                    _ => failure,
                })
            }
        }
    }

    /// Puts old revisions away after a success, when that was asked for. That it cannot is a warning.
    pub(super) async fn prune(&self, ui: &Ui, service: &EcsTarget, outcome: &Outcome) {
        let Some(keep) = self.keep_revisions.filter(|_| outcome.verdict().is_success()) else { return };
        match service.prune(keep, &[]).await {
            Ok(pruned) => ui.say(format!("{} old revisions put away", pruned.deregistered.len())),
            Err(error) => ui.say(format!("warning: old revisions stay: {}", Failure::from(error))),
        }
    }
}

/// Shows what deploying `image` would change, and whether what it needs is there: secrets too, without reading them.
///
/// # Errors
/// What a deployment would refuse at once.
pub(super) async fn look(
    ui: &Ui,
    delivery: &Delivery,
    service: &EcsTarget,
    image: &ResolvedImage,
) -> Result<ExitCode, Failure> {
    let resolver = delivery.clients.resolver(image.reference.repository().registry())?;
    let lookups = delivery.clients.lookups().registry(&*resolver);
    let mut found = service.preflight(image, &lookups).await?;
    for secret in &found.secrets {
        found.findings.push(self::secret(delivery, secret).await);
    }
    Ok(ui.checked(&found))
}

/// Whether a secret that the definition refers to holds, without reading its value.
async fn secret(delivery: &Delivery, secret: &SecretReference) -> Finding {
    let subject = format!("secret {} of {}: {}", secret.name, secret.container, secret.value_from);
    let references = match secret.value_from.parse::<Reference>() {
        Ok(reference) => [reference],
        Err(error) => {
            let finding = Finding::new(subject, FindingState::Invalid, error.to_string());
            return finding.cause(Cause::SecretMissing);
        }
    };
    let report = check(&delivery.clients.secrets(&references), &references, Depth::Describe).await;
    let Some(error) = report.errors().next() else {
        return Finding::new(subject, FindingState::Present, "");
    };
    let state = match error.kind() {
        ErrorKind::Missing | ErrorKind::NoSuchVersion | ErrorKind::Deleted => FindingState::Missing,
        ErrorKind::NoSuchKey { .. } | ErrorKind::NotJson { .. } | ErrorKind::Binary => FindingState::Invalid,
        // Whoever checks may not look, or nobody can: the tasks may be able to.
        _ => FindingState::Unknown,
    };
    let finding = Finding::new(subject, state, error.to_string());
    if state.is_fatal() { finding.cause(Cause::SecretMissing) } else { finding }
}
