//! Deploys the artifact's image to an environment's ECS service and watches it to a verdict.

use std::process::ExitCode as Process;

use bp_artifact::ExitCode;
use bp_delivery::{
    Failure, Ui,
    cli::Given,
    delivery::DeliveryArgs,
    ecs::{self, EcsArgs},
};

/// Deploys the artifact's image to an environment's ECS service and watches it to a verdict
#[derive(clap::Args)]
struct Args {
    #[command(flatten)]
    given: Given,
    #[command(flatten)]
    delivery: DeliveryArgs,
    #[command(flatten)]
    ecs: EcsArgs,
}

fn main() -> Process {
    bp_delivery::run_listening(deploy)
}

async fn deploy(Args { given, delivery: args, ecs }: Args, ui: Ui) -> Result<ExitCode, Failure> {
    if ecs.revision.is_some() {
        given.refuse(&["artifact"], "with --revision")?;
    }
    let delivery = args.open().await?;
    let service = delivery.ecs_with(|options| ecs.options(options)).await?;
    let deployment = match &ecs.revision {
        Some(name) => service.restore(&service.revision(name).await?),
        None => {
            let image = args.image(&delivery).await?;
            if ecs.check {
                return ecs::look(&ui, &delivery, &service, &image).await;
            }
            ecs.give_answer(&service).await?;
            service.deploy(&image)
        }
    };
    let (outcome, code) = ecs.follow(&ui, &service, deployment).await?;
    ecs.prune(&ui, &service, &outcome).await;
    ui.ended(outcome);
    Ok(code)
}
