//! What `deploy-ecs` does besides deploying: overlays, looking before, answering, pruning, going back on Ctrl-C.

use std::path::Path;

use bp_artifact::{EcsConfig, ExitCode, Outcome, ResolvedImage, Verdict};
use bp_ecs::{
    Approval, ContainerOverlay, Deployment, EcsTarget, Error, InFlight, Options, Overlay, Preflight,
    TaskDefinition,
};
use bp_secrets::{Depth, Reference, check};
use clap::{Args, ValueEnum};
use serde_json::json;

use crate::{Failure, Ui, delivery::Delivery};

/// How to deploy to ECS.
#[derive(Debug, Clone, Args)]
pub struct EcsArgs {
    /// Only look: show what would change and whether what it needs is there
    #[arg(long, conflicts_with_all = ["revision", "answer", "force"])]
    pub check: bool,
    /// Deploy this earlier revision instead of an image: web:41
    #[arg(long, value_name = "NAME", conflicts_with_all = ["image", "answer", "force", "in_flight"])]
    pub revision: Option<String>,
    /// Answer the pause that a deployment waits in, then follow it on
    #[arg(long, value_enum)]
    pub answer: Option<Answer>,
    /// Replace the tasks even when nothing changed
    #[arg(long)]
    pub force: bool,
    /// What to do about another deployment under way; one that brings the same is followed, unless this says fail
    #[arg(long, value_enum, default_value_t)]
    pub in_flight: Policy,
    /// Go back on Ctrl-C, instead of leaving the deployment to itself
    #[arg(long)]
    pub rollback_on_cancel: bool,
    /// After success, put old revisions away: all but this many of the latest, and those in use
    #[arg(long, value_name = "COUNT")]
    pub keep_revisions: Option<usize>,
}

/// An answer to a pause.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum Answer {
    /// Go on with the next stage
    Continue,
    /// Go back
    RollBack,
}

/// What to do about another deployment.
#[derive(Debug, Clone, Copy, Default, ValueEnum)]
pub enum Policy {
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
    pub fn options(&self, options: Options) -> Options {
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
    pub async fn give_answer(&self, service: &EcsTarget) -> Result<(), Error> {
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
    pub async fn follow(
        &self,
        ui: &Ui,
        service: &EcsTarget,
        deployment: Deployment,
    ) -> Result<(Outcome, ExitCode), Failure> {
        let interrupted = async { drop(tokio::signal::ctrl_c().await) };
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
            Err(error) => Err(error.into()),
        }
    }

    /// Puts old revisions away after a success, when that was asked for. That it cannot is a warning.
    pub async fn prune(&self, ui: &Ui, service: &EcsTarget, outcome: &Outcome) {
        let Some(keep) = self.keep_revisions.filter(|_| outcome.verdict().is_success()) else { return };
        match service.prune(keep, &[]).await {
            Ok(pruned) => ui.say(format!("{} old revisions put away", pruned.deregistered.len())),
            Err(error) => ui.say(format!("warning: old revisions stay: {}", Failure::from(error))),
        }
    }
}

/// What bp.toml lays over the definition: sizes, and the container's variables, secrets and log options.
pub fn overlay(ecs: &EcsConfig, container: &str) -> Overlay {
    let mut own = ContainerOverlay::default();
    for (name, value) in &ecs.variables {
        own = own.variable(name, value);
    }
    for (name, reference) in &ecs.secrets {
        own = own.secret(name, reference);
    }
    for (name, value) in &ecs.log_options {
        own = own.log_option(name, value);
    }
    let mut overlay = Overlay::default().container(container, own);
    for (name, image) in &ecs.images {
        overlay = overlay.container(name, ContainerOverlay::default().image(image.clone()));
    }
    let overlay = ecs.cpu.iter().fold(overlay, Overlay::cpu);
    ecs.memory.iter().fold(overlay, Overlay::memory)
}

/// Reads a task definition from a file, as aws-cli writes it.
///
/// # Errors
/// When it cannot be read or is none.
pub fn definition(file: &Path) -> Result<TaskDefinition, Failure> {
    let text = std::fs::read_to_string(file)
        .map_err(|error| Failure::bad_input(format!("cannot read {}: {error}", file.display())))?;
    Ok(TaskDefinition::from_json(&file.display().to_string(), &text)?)
}

/// Shows what deploying `image` would change, and whether what it needs is there: secrets too, without reading them.
///
/// # Errors
/// What a deployment would refuse at once.
pub async fn look(
    ui: &Ui,
    delivery: &Delivery,
    service: &EcsTarget,
    image: &ResolvedImage,
) -> Result<ExitCode, Failure> {
    let resolver = delivery.clients.resolver(image.reference.repository().registry())?;
    let lookups = delivery.clients.lookups().registry(&*resolver);
    let found = service.preflight(image, &lookups).await?;
    let secrets = missing_secrets(delivery, &found).await;
    let ready = found.is_ready() && secrets.is_empty();
    let changes = found.changes.iter().map(|change| format!("\n  {change}")).collect::<String>();
    let findings = found.findings.iter().map(|finding| format!("\n  {finding}")).collect::<String>();
    let lacking = secrets.iter().map(|error| format!("\n  MISSING: {error}")).collect::<String>();
    let secrets_found = format!("\n  secrets: {} referred to", found.secrets.len());
    let verdict = if ready { "can be deployed" } else { "would fail" };
    ui.result(
        format!("{}: {verdict}{changes}{findings}{secrets_found}{lacking}", found.target),
        &json!({ "ready": ready, "preflight": found, "missingSecrets": secrets }),
    );
    Ok(if ready { ExitCode::Done } else { ExitCode::Refused })
}

/// The secret references that do not hold, each with its container and name.
async fn missing_secrets(delivery: &Delivery, found: &Preflight) -> Vec<String> {
    let mut errors = Vec::new();
    for secret in &found.secrets {
        let who = format!("secret {} of {}", secret.name, secret.container);
        match secret.value_from.parse::<Reference>() {
            Err(error) => errors.push(format!("{who}: {error}")),
            Ok(reference) => {
                let references = [reference];
                let stores = delivery.clients.secrets(&references);
                let report = check(&stores, &references, Depth::Describe).await;
                errors.extend(report.errors().map(|error| format!("{who}: {error}")));
            }
        }
    }
    errors
}
