//! Deploys the artifact's image to an environment's ECS service and watches it to a verdict.

use std::process::ExitCode as Process;

use bp_artifact::ExitCode;
use bp_examples::{Failure, Ui, delivery::DeliveryArgs};

/// Deploys the artifact's image to an environment's ECS service and watches it to a verdict
#[derive(clap::Args)]
struct Args {
    #[command(flatten)]
    delivery: DeliveryArgs,
}

fn main() -> Process {
    bp_examples::run(deploy)
}

async fn deploy(args: Args, ui: Ui) -> Result<ExitCode, Failure> {
    let delivery = args.delivery.open().await?;
    let service = delivery.ecs().await?;
    let image = args.delivery.image(&delivery).await?;
    let outcome = ui.follow(service.deploy(&image)).await?;
    ui.result(format!("{}: {}", outcome.target, outcome.verdict), &outcome);
    Ok(outcome.verdict.into())
}
