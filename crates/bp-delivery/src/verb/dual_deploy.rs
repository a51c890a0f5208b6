//! Deploys images to every target of the chosen services; when one fails, all roll back.

use std::path::PathBuf;

use bp_artifact::{ExitCode, saga::Saga};
use futures_util::future::try_join_all;

use crate::{
    Delivery, Failure, Ui,
    cli::{EnvironmentArgs, ImageArgs, ImageTimeoutArgs, ServicesArgs, TakeOverArgs, WaitArgs},
    program::Verb,
    steps,
};

/// Deploys the artifact's images to every target of the chosen services; when one fails, all roll back
#[derive(Debug, clap::Args)]
pub struct DualDeploy {
    #[command(flatten)]
    environment: EnvironmentArgs,
    #[command(flatten)]
    services: ServicesArgs,
    #[command(flatten)]
    image: ImageArgs,
    #[command(flatten)]
    wait: WaitArgs,
    #[command(flatten)]
    image_wait: ImageTimeoutArgs,
    #[command(flatten)]
    fields: TakeOverArgs,
    /// Where the previous revisions are noted; a run that was killed resumes from it. One for each environment
    #[arg(long, value_name = "FILE", default_value = "receipt.json", env = "BP_RECEIPT")]
    receipt: PathBuf,
    /// Give up an unfinished run of other images that the receipt is of
    #[arg(long)]
    supersede: bool,
}

impl Verb for DualDeploy {
    const NAME: &'static str = "dual-deploy";

    async fn run(self, ui: Ui) -> Result<ExitCode, Failure> {
        self.image.check()?;
        let deliveries = self.environment.open_services(&self.services).await?;
        if self.image.image().is_some() && deliveries.len() > 1 {
            return Err(Failure::bad_input("--image is the image of one service: choose one with --service"));
        }
        let found = deliveries.into_iter().map(|delivery| self.find(delivery, &ui));
        let services = try_join_all(found).await?;
        let saga = Saga::of(steps(&services).await?, self.receipt).supersede(self.supersede);
        let receipt = ui.follow(saga.run()).await?;
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
        let delivery = delivery.deadline(self.wait.timeout).take_over(self.fields.take_over);
        let timeout = self.image_wait.image_timeout.unwrap_or(delivery.service.deploy.image_timeout);
        let image = self.image.wait(&delivery, timeout, ui).await?;
        Ok((delivery, image))
    }
}
