//! Show what runs in an environment, and the deployments in progress with their failures and events.

use bp_artifact::{
    ExitCode,
    config::{EksObject, ServiceName},
    deploy::status::Status,
};
use serde_json::json;

use crate::{Delivery, Failure, Ui, cli::EnvironmentArgs, program::Verb};

/// Show what runs: revision and digest per container, deployments in progress, failures and events; changes nothing
#[derive(Debug, clap::Args)]
pub struct ShowStatus {
    #[command(flatten)]
    environment: EnvironmentArgs,
    /// Service of bp.toml; defaults to all services; repeatable
    #[arg(id = "service", long = "service", value_name = "NAME", env = "BP_SERVICE", value_delimiter = ',')]
    services: Vec<ServiceName>,
}

impl Verb for ShowStatus {
    const NAME: &'static str = "status";
    const HELP: crate::help::Help = crate::help::verbs::STATUS;

    async fn run(self, ui: Ui) -> Result<ExitCode, Failure> {
        let mut targets = 0;
        for delivery in self.environment.open_all(&self.services).await? {
            for status in read(&delivery).await? {
                targets += 1;
                let next = next(&status);
                let hint = next.map_or_else(String::new, |next| format!("\n  next: {next}"));
                ui.result(format!("{status}{hint}"), &json!({ "status": status, "next": next }));
            }
        }
        if targets == 0 {
            return Err(Failure::bad_input(format!(
                "environment {} has no target whose status can be shown: configure ecs or eks",
                self.environment.env
            )));
        }
        Ok(ExitCode::Done)
    }
}

/// The status of every target of a service.
async fn read(delivery: &Delivery) -> Result<Vec<Status>, Failure> {
    let mut found = Vec::new();
    if delivery.service.has_ecs() {
        found.push(delivery.ecs_service()?.status().await?);
    }
    if delivery.service.has_eks() {
        match &delivery.service.eks()?.object {
            EksObject::Workload(_) => found.push(delivery.eks_with(|options| options).await?.status().await?),
            #[cfg(feature = "helm")]
            EksObject::Release(_) => found.push(delivery.helm_release().await?.status().await?),
            #[cfg(not(feature = "helm"))]
            EksObject::Release(release) => return Err(crate::delivery::requires_helm(&release.name)),
            EksObject::Manifests(_) => found.extend(delivery.manifests(None).await?.statuses().await?),
        }
    }
    Ok(found)
}

/// What to do next, if anything.
fn next(status: &Status) -> Option<&'static str> {
    let in_progress = status.is_in_progress();
    match () {
        () if status.awaits_approval() => {
            Some("a hook awaits approval: deploy-ecs --answer continue, or --answer roll-back")
        }
        () if in_progress && !status.failures.is_empty() => {
            Some("a deployment in progress has failures: wait follows it, rollback abandons it")
        }
        () if in_progress => Some("a deployment is in progress: wait follows it to its end"),
        () if !status.failures.is_empty() => {
            Some("tasks or pods have failed: read the causes; rollback restores the previous revision")
        }
        () => None,
    }
}
