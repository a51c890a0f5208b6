//! Deploy images to every target of the selected services on ECS and EKS; if one fails, roll back all.

use std::sync::Arc;

use bp_artifact::{
    ExitCode,
    deploy::GateName,
    saga::{Answer, Decision, Saga, SagaError},
};
use futures_util::future::try_join_all;

use crate::{
    Delivery, Failure, Ui, actor,
    cli::{
        ChangedArgs, EnvironmentArgs, GivenFlags, ImageArgs, ImageTimeoutArgs, ReceiptArgs, RollbackArgs,
        RollbackOnCancelArgs, ServicesArgs, TakeOverArgs, WaitArgs, rolled_back,
    },
    gates,
    program::Verb,
    steps,
};

/// Deploy the artifact's images to every target of the selected services; if one fails, roll back all
#[derive(Debug, clap::Args)]
pub struct DualDeploy {
    #[command(flatten)]
    given: GivenFlags,
    #[command(flatten)]
    environment: EnvironmentArgs,
    #[command(flatten)]
    services: ServicesArgs,
    #[command(flatten)]
    changed: ChangedArgs,
    #[command(flatten)]
    image: ImageArgs,
    #[command(flatten)]
    wait: WaitArgs,
    #[command(flatten)]
    image_wait: ImageTimeoutArgs,
    #[command(flatten)]
    fields: TakeOverArgs,
    #[command(flatten)]
    rollback: RollbackArgs,
    #[command(flatten)]
    receipt: ReceiptArgs,
    #[command(flatten)]
    on_cancel: RollbackOnCancelArgs,
    /// Abandon an unfinished run of other images that the receipt records
    #[arg(long)]
    supersede: bool,
    /// Plan only: show the planned changes; changes nothing
    #[arg(long, conflicts_with_all = ["supersede", "approve", "reject"])]
    plan: bool,
    /// Approve this gate, at which an earlier run of the same images stopped, and continue
    #[arg(long, value_name = "GATE", conflicts_with = "reject")]
    approve: Option<GateName>,
    /// Reject this gate, at which an earlier run of the same images stopped, and apply deploy.on-failure
    #[arg(long, value_name = "GATE")]
    reject: Option<GateName>,
}

impl Verb for DualDeploy {
    const NAME: &'static str = "dual-deploy";

    async fn run(self, ui: Ui) -> Result<ExitCode, Failure> {
        self.image.check()?;
        if self.plan {
            let unused =
                ["image-timeout", "timeout", "take-over", "accept-unproven-rollback", "rollback-on-cancel"];
            self.given.refuse(&unused, "with --plan")?;
        }
        let deliveries = self.environment.open_services(&self.services).await?;
        if self.image.image().is_some() && deliveries.len() > 1 {
            return Err(Failure::bad_input("--image is the image of one service: choose one with --service"));
        }
        let has_target = |delivery: &Delivery| delivery.service.has_ecs() || delivery.service.has_eks();
        let had_targets = deliveries.iter().any(has_target);
        let deliveries = self.changed.select(deliveries, &ui).await?;
        if deliveries.is_empty() && had_targets {
            ui.say("nothing to deploy: no change concerns a target");
            return Ok(ExitCode::Done);
        }
        let resolved = deliveries.into_iter().map(|delivery| self.find(delivery, &ui));
        let services = try_join_all(resolved).await?;
        let steps = steps(&services).await?;
        let targets = steps.iter().map(|step| Arc::clone(&step.target)).collect();
        let saga = Saga::of(steps, &self.receipt.receipt).gates(gates(&services).await?);
        if self.plan {
            let plan = saga.plan();
            ui.result(&plan, &plan);
            return Ok(ExitCode::Done);
        }
        let saga = saga.supersede(self.supersede).answer(self.answer());
        let receipt = match ui.follow(saga.run()).await {
            Err(SagaError::Interrupted { path, recorded: true }) if self.on_cancel.rollback_on_cancel => {
                ui.say("interrupted: rolling back all targets");
                let receipt = ui.follow_rollback(Saga::rollback(targets, path)).await?;
                ui.rollback(&receipt);
                return Ok(rolled_back(receipt.rollback_verdict()));
            }
            ended => ended?,
        };
        ui.receipt(&receipt);
        Ok(receipt.verdict.map_or(ExitCode::Unexpected, ExitCode::from))
    }
}

impl DualDeploy {
    async fn find(
        &self,
        delivery: Delivery,
        ui: &Ui,
    ) -> Result<(Delivery, bp_artifact::ResolvedImage), Failure> {
        let delivery = self.image.describe(delivery)?;
        let delivery = delivery
            .deadline(self.wait.timeout)
            .take_over(self.fields.take_over)
            .accept_unproven_rollback(self.rollback.accept_unproven_rollback);
        if self.plan {
            let image = self.image.find(&delivery).await?;
            return Ok((delivery, image));
        }
        let timeout = self.image_wait.image_timeout.unwrap_or(delivery.service.deploy.image_timeout);
        let image = self.image.wait(&delivery, timeout, ui).await?;
        Ok((delivery, image))
    }

    /// The answer to a gate, with the approver as reported by environment variables.
    fn answer(&self) -> Option<Answer> {
        let (gate, decision) = match (&self.approve, &self.reject) {
            (Some(gate), _) => (gate, Decision::Approve),
            (None, Some(gate)) => (gate, Decision::Reject),
            (None, None) => return None,
        };
        Some(Answer { gate: gate.clone(), decision, by: actor(|name| std::env::var(name).ok()) })
    }
}
