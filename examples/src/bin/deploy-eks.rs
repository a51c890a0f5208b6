//! Deploys the artifact's image to an environment's EKS workload and watches it to a verdict.

use std::process::ExitCode as Process;

use bp_artifact::ExitCode;
use bp_delivery::{
    Failure, Ui,
    delivery::{DeliveryArgs, TakeOverArgs},
    eks::{self, EksArgs},
};

/// Deploys the artifact's image to an environment's EKS workload and watches it to a verdict
#[derive(clap::Args)]
struct Args {
    #[command(flatten)]
    delivery: DeliveryArgs,
    #[command(flatten)]
    fields: TakeOverArgs,
    #[command(flatten)]
    eks: EksArgs,
}

fn main() -> Process {
    bp_delivery::run(deploy)
}

async fn deploy(args: Args, ui: Ui) -> Result<ExitCode, Failure> {
    let delivery = args.delivery.open().await?.take_over(args.fields.take_over);
    let workload = delivery.eks_with(|options| args.eks.options(options)).await?;
    let image = args.delivery.image(&delivery).await?;
    if args.eks.dry_run {
        let image = delivery.clients.with_platform(image).await;
        return eks::look(&ui, &workload, &image, &delivery.clients.eks_lookups()).await;
    }
    let outcome = ui.follow(workload.deploy(&image)).await?;
    ui.result(format!("{}: {}", outcome.target, outcome.verdict), &outcome);
    Ok(outcome.verdict.into())
}
