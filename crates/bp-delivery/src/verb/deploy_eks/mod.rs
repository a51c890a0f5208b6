//! Deploy the artifact's image to an environment's EKS workload and watch it to a verdict.

mod options;

use bp_artifact::{
    ExitCode,
    config::{DeployPlatform, EksObject, WorkloadKind},
};

use self::options::EksArgs;
use crate::{
    Failure, Ui,
    cli::{
        ChangedArgs, DeliveryArgs, GivenFlags, ReceiptArgs, RollbackArgs, RollbackOnCancelArgs, TakeOverArgs,
        conclude,
    },
    program::Verb,
};

/// Deploy the artifact's image to an environment's EKS workload and watch it to a verdict
#[derive(Debug, clap::Args)]
pub struct DeployEks {
    #[command(flatten)]
    given: GivenFlags,
    #[command(flatten)]
    delivery: DeliveryArgs,
    #[command(flatten)]
    fields: TakeOverArgs,
    #[command(flatten)]
    rollback: RollbackArgs,
    #[command(flatten)]
    receipt: ReceiptArgs,
    #[command(flatten)]
    changed: ChangedArgs,
    #[command(flatten)]
    eks: EksArgs,
    #[command(flatten)]
    on_cancel: RollbackOnCancelArgs,
}

impl Verb for DeployEks {
    const NAME: &'static str = "deploy-eks";

    async fn run(self, ui: Ui) -> Result<ExitCode, Failure> {
        if self.eks.check {
            let without_effect =
                ["image-timeout", "receipt", "rollback-on-cancel", "accept-unproven-rollback"];
            self.given.refuse(&without_effect, "with --check")?;
        }
        self.on_cancel.check(&self.eks.no_wait)?;
        let delivery = self.delivery.open().await?.take_over(self.fields.take_over);
        let delivery = delivery.accept_unproven_rollback(self.rollback.accept_unproven_rollback);
        if !self.changed.concern(&delivery, DeployPlatform::Eks, &ui).await? {
            return Ok(ExitCode::Done);
        }
        let delivery = self.delivery.image.describe(delivery)?;
        if let EksObject::Workload(workload) = &delivery.service.eks()?.object
            && matches!(workload.kind, WorkloadKind::Job | WorkloadKind::CronJob)
        {
            self.given
                .refuse(&["force"], &format!("for {workload}, which has no running pods to replace"))?;
        }
        let workload = delivery.eks_with(|options| self.eks.options(options)).await?;
        if self.eks.check {
            let image = self.delivery.image.find(&delivery).await?;
            let image = delivery.clients.with_platform(image).await;
            return Ok(ui.checked(&workload.preflight(&image, &delivery.clients.eks_lookups()).await?));
        }
        let image = self.delivery.image(&delivery, &ui).await?;
        let receipt = self.receipt.start(&ui, &workload, &image).await?;
        let end = self.eks.no_wait.follow(&ui, workload.deploy(&image)).await;
        let end = self.on_cancel.end(&ui, &workload, &receipt, end).await;
        conclude(&ui, Some(receipt), end)
    }
}
