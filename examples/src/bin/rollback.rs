//! Puts every target of a receipt back to the revision that is noted there.

use std::{path::PathBuf, process::ExitCode as Process};

use bp_artifact::{ExitCode, Saga};
use bp_examples::{Failure, Ui, delivery::DeliveryArgs};

/// Puts every target of a receipt back to the revision that is noted there
#[derive(clap::Args)]
struct Args {
    #[command(flatten)]
    delivery: DeliveryArgs,
    /// The receipt of the deployment to take back
    #[arg(long, value_name = "FILE", default_value = "receipt.json", env = "BP_RECEIPT")]
    receipt: PathBuf,
}

fn main() -> Process {
    bp_examples::run(rollback)
}

async fn rollback(args: Args, ui: Ui) -> Result<ExitCode, Failure> {
    let delivery = args.delivery.open().await?;
    let receipt = ui.follow(Saga::rollback(delivery.targets().await?, args.receipt)).await?;
    ui.receipt(&receipt);
    Ok(receipt.rollback_verdict().into())
}
