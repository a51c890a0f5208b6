//! Puts every target of a receipt back to the revision that is noted there.

use std::path::PathBuf;

use bp_artifact::{ExitCode, saga::Saga};

use crate::{
    Failure, Ui,
    cli::{EnvironmentArgs, TakeOverArgs, WaitArgs},
    program::Verb,
};

/// Puts every target of a receipt back to the revision that is noted there
#[derive(Debug, clap::Args)]
pub struct Rollback {
    #[command(flatten)]
    environment: EnvironmentArgs,
    #[command(flatten)]
    wait: WaitArgs,
    #[command(flatten)]
    fields: TakeOverArgs,
    /// The receipt of the deployment to take back
    #[arg(long, value_name = "FILE", default_value = "receipt.json", env = "BP_RECEIPT")]
    receipt: PathBuf,
}

impl Verb for Rollback {
    const NAME: &'static str = "rollback";

    async fn run(self, ui: Ui) -> Result<ExitCode, Failure> {
        let mut targets = Vec::new();
        for delivery in self.environment.open_all(&[]).await? {
            let delivery = delivery.deadline(self.wait.timeout).take_over(self.fields.take_over);
            targets.extend(delivery.targets().await?);
        }
        let receipt = ui.follow(Saga::rollback(targets, self.receipt)).await?;
        ui.rollback(&receipt);
        Ok(receipt.rollback_verdict().into())
    }
}
