//! Roll back every target of a receipt to its recorded revision.

use std::path::PathBuf;

use bp_artifact::{ExitCode, saga::Saga};

use crate::{
    Failure, Ui,
    cli::{EnvironmentArgs, TakeOverArgs, WaitArgs},
    program::Verb,
};

/// Roll back every target of a receipt to its recorded revision
#[derive(Debug, clap::Args)]
pub struct Rollback {
    #[command(flatten)]
    environment: EnvironmentArgs,
    #[command(flatten)]
    wait: WaitArgs,
    #[command(flatten)]
    fields: TakeOverArgs,
    /// Receipt of the deployment to roll back
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
