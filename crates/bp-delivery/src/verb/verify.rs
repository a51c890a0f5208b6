//! Detect drift: compare what runs in an environment with the artifact deployed there. Changes nothing.

use bp_artifact::{ExitCode, config::ServiceName, deploy::Drift};

use crate::{
    Failure, Ui,
    cli::{EnvironmentArgs, ImageArgs},
    program::Verb,
};

/// Verify that an environment runs the deployed artifact: compare definition, service and digest; changes nothing
#[derive(Debug, clap::Args)]
pub struct Verify {
    #[command(flatten)]
    environment: EnvironmentArgs,
    /// Service of bp.toml; defaults to all services; repeatable
    #[arg(id = "service", long = "service", value_name = "NAME", env = "BP_SERVICE", value_delimiter = ',')]
    services: Vec<ServiceName>,
    #[command(flatten)]
    image: ImageArgs,
}

impl Verb for Verify {
    const NAME: &'static str = "verify";
    const HELP: crate::help::Help = crate::help::verbs::VERIFY;

    async fn run(self, ui: Ui) -> Result<ExitCode, Failure> {
        self.image.check()?;
        let deliveries = self.environment.open_all(&self.services).await?;
        if self.image.image().is_some() && deliveries.len() > 1 {
            return Err(Failure::bad_input("--image is the image of one service: choose one with --service"));
        }
        let mut targets = 0;
        let mut code = ExitCode::Done;
        for delivery in deliveries {
            if !delivery.service.has_ecs() && !delivery.service.has_eks() {
                continue;
            }
            let delivery = self.image.describe(delivery)?;
            let image = self.image.find(&delivery).await?;
            for target in delivery.targets().await? {
                targets += 1;
                let drift = target.drift(&image).await?;
                if !drift.is_none() {
                    code = ExitCode::Drift;
                }
                ui.result(format!("{drift}{}", observations(&drift)), &drift);
            }
        }
        if targets == 0 {
            return Err(Failure::bad_input(format!(
                "environment {} has no target to verify: configure ecs or eks",
                self.environment.env
            )));
        }
        Ok(code)
    }
}

fn observations(drift: &Drift) -> String {
    let lines = drift.proof.observations.iter().map(|observation| {
        let digest = observation.digest.as_ref().map_or("digest not reported", |digest| digest.as_str());
        format!("\n    {} {}: {digest}", observation.unit, observation.container)
    });
    lines.collect()
}
