//! Deploys the artifact's image to every target of an environment; when one fails, all go back.

use std::{path::PathBuf, process::ExitCode as Process};

use bp_artifact::{ExitCode, Saga};
use bp_delivery::{
    Failure, Ui,
    delivery::{DeliveryArgs, TakeOverArgs},
};

/// Deploys the artifact's image to every target of an environment; when one fails, all go back
#[derive(clap::Args)]
struct Args {
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

fn main() -> Process {
    bp_delivery::run(deploy)
}

async fn deploy(args: Args, ui: Ui) -> Result<ExitCode, Failure> {
    let delivery = args.delivery.open().await?.take_over(args.fields.take_over);
    let image = args.delivery.image(&delivery).await?;
    let targets = delivery.targets().await?;
    let receipt = ui.follow(Saga::new(targets, image, args.receipt).supersede(args.supersede).run()).await?;
    ui.receipt(&receipt);
    Ok(receipt.verdict.map_or(ExitCode::Unexpected, ExitCode::from))
}
