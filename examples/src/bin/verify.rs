//! Shows how an environment differs from the artifact deployed there. Changes nothing.

use std::process::ExitCode as Process;

use bp_artifact::ExitCode;
use bp_delivery::{
    Failure, Ui,
    delivery::{EnvironmentArgs, ImageArgs},
};

/// Shows how an environment differs from the artifact deployed there: definition, service, digest; changes nothing
#[derive(clap::Args)]
struct Args {
    #[command(flatten)]
    environment: EnvironmentArgs,
    #[command(flatten)]
    image: ImageArgs,
}

fn main() -> Process {
    bp_delivery::run(verify)
}

async fn verify(args: Args, ui: Ui) -> Result<ExitCode, Failure> {
    args.image.check()?;
    let delivery = args.environment.open().await?;
    let image = args.image.find(&delivery).await?;
    let mut code = ExitCode::Done;
    for target in delivery.targets().await? {
        let drift = target.drift(&image).await?;
        if !drift.is_none() {
            code = ExitCode::Drift;
        }
        let lines = drift.proof.observations.iter().map(|seen| {
            let digest = seen.digest.as_ref().map_or("tells no digest", |digest| digest.as_str());
            format!("\n    {} {}: {digest}", seen.unit, seen.container)
        });
        ui.result(format!("{drift}{}", lines.collect::<String>()), &drift);
    }
    Ok(code)
}
