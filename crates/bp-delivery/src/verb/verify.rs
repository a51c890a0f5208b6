//! Shows how an environment differs from the artifact deployed there. Changes nothing.

use bp_artifact::ExitCode;

use super::Verb;
use crate::{
    Failure, Ui,
    cli::{EnvironmentArgs, ImageArgs},
};

/// Shows how an environment differs from the artifact deployed there: definition, service, digest; changes nothing
#[derive(Debug, clap::Args)]
pub struct Verify {
    #[command(flatten)]
    environment: EnvironmentArgs,
    #[command(flatten)]
    image: ImageArgs,
}

impl Verb for Verify {
    const NAME: &'static str = "verify";

    async fn run(self, ui: Ui) -> Result<ExitCode, Failure> {
        self.image.check()?;
        let delivery = self.environment.open().await?;
        let image = self.image.find(&delivery).await?;
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
}
