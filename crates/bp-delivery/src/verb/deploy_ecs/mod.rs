//! Deploy the artifact's image to an environment's ECS service and watch it to a verdict.

mod options;

use bp_artifact::{ExitCode, config::DeployPlatform};

use self::options::{EcsArgs, Wanted};
use crate::{
    Failure, Ui,
    cli::{ChangedArgs, DeliveryArgs, End, GivenFlags, ReceiptArgs, RollbackArgs, conclude},
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
    receipt: ReceiptArgs,
    #[command(flatten)]
    changed: ChangedArgs,
    #[command(flatten)]
    ecs: EcsArgs,
}

impl Verb for DeployEcs {
    const NAME: &'static str = "deploy-ecs";

    async fn run(self, ui: Ui) -> Result<ExitCode, Failure> {
        let DeployEcs { given, delivery: args, rollback, receipt, changed, ecs } = self;
        if ecs.revision.is_some() {
            let unused =
                ["artifact", "image-timeout", "accept-unproven-rollback", "changed-since", "changed-paths"];
            given.refuse(&unused, "with --revision")?;
        }
        ecs.on_cancel.check(&ecs.no_wait)?;
        if ecs.check {
            given.refuse(&["image-timeout", "receipt"], "with --check")?;
        }
        let mut delivery = args.open().await?.accept_unproven_rollback(rollback.accept_unproven_rollback);
        if !changed.concern(&delivery, DeployPlatform::Ecs, &ui).await? {
            return Ok(ExitCode::Done);
        }
        if ecs.revision.is_none() {
            delivery = args.image.describe(delivery)?;
            ecs.refuse_skipped_steps(delivery.service.ecs()?)?;
        }
        let service = delivery.ecs_with(|options| ecs.options(options)).await?;
        if ecs.check {
            let image = args.image.find(&delivery).await?;
            return options::preflight(&ui, &delivery, &service, &image).await;
        }
        let wanted = match &ecs.revision {
            Some(name) => Wanted::Revision(service.revision(name).await?),
            None => Wanted::Image(args.image(&delivery, &ui).await?),
        };
        let receipt = match (&wanted, wanted.image()) {
            (Wanted::Image(_), Some(image)) => Some(receipt.start(&ui, &service, &image).await?),
            (Wanted::Revision(_), Some(image)) => Some(receipt.start_restore(&ui, &service, &image).await?),
            (_, None) => {
                ui.say(format!(
                    "{}: no receipt is written: the revision's image has no digest",
                    service.id()
                ));
                None
            }
        };
        let end = ecs.deploy(&ui, &service, &wanted).await;
        if let Ok(End::Ended(outcome)) = &end {
            ecs.prune(&ui, &service, outcome, receipt.as_ref()).await;
        }
        conclude(&ui, receipt, end)
    }
}
