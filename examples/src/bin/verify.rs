//! Shows what runs in an environment, and whether it is the artifact's image. Changes nothing.

use std::process::ExitCode as Process;

use bp_artifact::{ExitCode, Verdict};
use bp_examples::{Failure, Ui, delivery::DeliveryArgs};
use serde_json::json;

/// Shows what runs in an environment, and whether it is the artifact's image; changes nothing
#[derive(clap::Args)]
struct Args {
    #[command(flatten)]
    delivery: DeliveryArgs,
}

fn main() -> Process {
    bp_examples::run(verify)
}

async fn verify(args: Args, ui: Ui) -> Result<ExitCode, Failure> {
    let delivery = args.delivery.open().await?;
    let image = args.delivery.image(&delivery).await?;
    let mut code = ExitCode::Done;
    for target in delivery.targets().await? {
        let proof = target.prove().await?;
        let verdict = proof.judge(&image);
        if verdict != Verdict::Deployed {
            code = verdict.into();
        }
        let lines = proof.observations.iter().map(|seen| {
            let digest = seen.digest.as_ref().map_or("tells no digest", |digest| digest.as_str());
            format!("\n    {} {}: {digest}", seen.unit, seen.container)
        });
        let text = format!("{}: {verdict}{}", target.id(), lines.collect::<String>());
        ui.result(text, &json!({ "target": target.id(), "verdict": verdict, "proof": proof }));
    }
    Ok(code)
}
