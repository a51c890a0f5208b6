//! Puts every target of a receipt back to the revision that is noted there.

use std::{path::PathBuf, process::ExitCode as Process};

use bp_artifact::{ExitCode, Saga};
use bp_delivery::{
    Failure, Ui,
    cli::WaitArgs,
    delivery::{EnvironmentArgs, TakeOverArgs},
};

/// Puts every target of a receipt back to the revision that is noted there
#[derive(clap::Args)]
struct Args {
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

fn main() -> Process {
    bp_delivery::run(rollback)
}

async fn rollback(args: Args, ui: Ui) -> Result<ExitCode, Failure> {
    let delivery = args.environment.open().await?;
    let delivery = delivery.deadline(args.wait.deadline).take_over(args.fields.take_over);
    let receipt = ui.follow(Saga::rollback(delivery.targets().await?, args.receipt)).await?;
    ui.receipt(&receipt);
    Ok(receipt.rollback_verdict().into())
}
