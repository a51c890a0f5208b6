//! Deploys the artifact's image to an environment's EKS workload and watches it to a verdict.

mod options;

use self::options::EksArgs;
use super::Verb;
use crate::{
    Failure, Ui,
    cli::{DeliveryArgs, TakeOverArgs},
};
use bp_artifact::ExitCode;

/// Deploys the artifact's image to an environment's EKS workload and watches it to a verdict
#[derive(Debug, clap::Args)]
pub struct DeployEks {
    #[command(flatten)]
    delivery: DeliveryArgs,
    #[command(flatten)]
    fields: TakeOverArgs,
    #[command(flatten)]
    eks: EksArgs,
}

impl Verb for DeployEks {
    const NAME: &'static str = "deploy-eks";

    async fn run(self, ui: Ui) -> Result<ExitCode, Failure> {
        let delivery = self.delivery.open().await?.take_over(self.fields.take_over);
        let workload = delivery.eks_with(|options| self.eks.options(options)).await?;
        let image = self.delivery.image(&delivery).await?;
        if self.eks.dry_run {
            let image = delivery.clients.with_platform(image).await;
            return options::look(&ui, &workload, &image, &delivery.clients.eks_lookups()).await;
        }
        let outcome = ui.follow(workload.deploy(&image)).await?;
        ui.result(format!("{}: {}", outcome.target, outcome.verdict), &outcome);
        Ok(outcome.verdict.into())
    }
}
