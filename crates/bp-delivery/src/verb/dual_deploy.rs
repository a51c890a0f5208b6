//! Deploys the artifact's image to every target of an environment; when one fails, all go back.

use std::path::PathBuf;

use bp_artifact::{ExitCode, Saga};

use super::Verb;
use crate::{
    Failure, Ui,
    cli::{DeliveryArgs, TakeOverArgs},
};

/// Deploys the artifact's image to every target of an environment; when one fails, all go back
#[derive(Debug, clap::Args)]
pub struct DualDeploy {
    #[command(flatten)]
    delivery: DeliveryArgs,
    #[command(flatten)]
    fields: TakeOverArgs,
    /// Where the way back is noted; a run that was killed goes on from it. One for each environment
    #[arg(long, value_name = "FILE", default_value = "receipt.json", env = "BP_RECEIPT")]
    receipt: PathBuf,
    /// Give up an unfinished run of another image that the receipt tells of
    #[arg(long)]
    supersede: bool,
}

impl Verb for DualDeploy {
    const NAME: &'static str = "dual-deploy";

    async fn run(self, ui: Ui) -> Result<ExitCode, Failure> {
        let delivery = self.delivery.open().await?.take_over(self.fields.take_over);
        let image = self.delivery.image(&delivery, &ui).await?;
        let targets = delivery.targets().await?;
        let receipt =
            ui.follow(Saga::new(targets, image, self.receipt).supersede(self.supersede).run()).await?;
        ui.receipt(&receipt);
        Ok(receipt.verdict.map_or(ExitCode::Unexpected, ExitCode::from))
    }
}
