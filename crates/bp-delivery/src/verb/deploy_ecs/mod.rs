//! Deploy the artifact's image to an environment's ECS service and watch it to a verdict.

mod options;

use bp_artifact::ExitCode;

use self::options::EcsArgs;
use crate::{
    Failure, Ui,
    cli::{DeliveryArgs, GivenFlags, RollbackArgs},
    program::Verb,
};

/// Deploy the artifact's image to an environment's ECS service and watch it to a verdict
#[derive(Debug, clap::Args)]
pub struct DeployEcs {
    #[command(flatten)]
    given: GivenFlags,
    #[command(flatten)]
    delivery: DeliveryArgs,
    #[command(flatten)]
    rollback: RollbackArgs,
    #[command(flatten)]
    ecs: EcsArgs,
}

impl Verb for DeployEcs {
    const NAME: &'static str = "deploy-ecs";
    const HANDLES_SIGNALS: bool = true;

    async fn run(self, ui: Ui) -> Result<ExitCode, Failure> {
        let DeployEcs { given, delivery: args, rollback, ecs } = self;
        if ecs.revision.is_some() {
            given.refuse(&["artifact", "image-timeout", "accept-unproven-rollback"], "with --revision")?;
        }
        if ecs.check {
            given.refuse(&["image-timeout"], "with --check")?;
        }
        let mut delivery = args.open().await?.accept_unproven_rollback(rollback.accept_unproven_rollback);
        if ecs.revision.is_none() {
            delivery = args.image.describe(delivery)?;
        }
        let service = delivery.ecs_with(|options| ecs.options(options)).await?;
        let deployment = match &ecs.revision {
            Some(name) => service.restore(&service.revision(name).await?),
            None => {
                if ecs.check {
                    let image = args.image.find(&delivery).await?;
                    return options::preflight(&ui, &delivery, &service, &image).await;
                }
                let image = args.image(&delivery, &ui).await?;
                ecs.answer_pause(&service).await?;
                service.deploy(&image)
            }
        };
        let (outcome, code) = ecs.follow(&ui, &service, deployment).await?;
        ecs.prune(&ui, &service, &outcome).await;
        ui.ended(outcome);
        Ok(code)
    }
}
