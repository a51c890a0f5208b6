//! Record the ECS or Kubernetes API responses about a service, redacted, in a file for a test.

use std::path::PathBuf;

use bp_artifact::{
    ExitCode,
    config::{DeployPlatform, EksObject},
    recording::Recording,
    time::TimeSource,
};
use clap::ValueEnum;

use crate::{
    Delivery, Failure, Ui,
    cli::{EnvironmentArgs, ServiceArg},
    program::Verb,
};

/// Record the ECS or Kubernetes API responses about a service, redacted, in a file for a test; changes nothing
#[derive(Debug, clap::Args)]
pub struct Record {
    #[command(flatten)]
    environment: EnvironmentArgs,
    #[command(flatten)]
    service: ServiceArg,
    /// Platform to record; required if the service is deployed to both
    #[arg(long, value_enum)]
    platform: Option<Platform>,
    /// File to write
    #[arg(long, value_name = "FILE", default_value = "recording.json")]
    file: PathBuf,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Platform {
    /// Amazon ECS
    Ecs,
    /// Kubernetes on Amazon EKS
    Eks,
}

impl Verb for Record {
    const NAME: &'static str = "record";

    async fn run(self, ui: Ui) -> Result<ExitCode, Failure> {
        let delivery = self.environment.open(&self.service).await?;
        let now = TimeSource::system().now();
        let recording = match self.platform(&delivery)? {
            DeployPlatform::Ecs => delivery.ecs_service()?.record(now).await?,
            DeployPlatform::Eks => {
                if let EksObject::Release(release) = &delivery.service.eks()?.object {
                    return Err(Failure::bad_input(format!(
                        "eks.release {} is a Helm release: record supports only workloads",
                        release.name
                    )));
                }
                delivery.eks_with(|options| options).await?.record(now).await?
            }
        };
        recording.write(&self.file)?;
        ui.result(self.summary(&recording), &recording);
        Ok(if recording.missing.is_empty() { ExitCode::Done } else { ExitCode::Unavailable })
    }
}

impl Record {
    fn platform(&self, delivery: &Delivery) -> Result<DeployPlatform, Failure> {
        match (self.platform, delivery.service.has_ecs(), delivery.service.has_eks()) {
            (Some(Platform::Ecs), ..) | (None, true, false) => Ok(DeployPlatform::Ecs),
            (Some(Platform::Eks), ..) | (None, false, true) => Ok(DeployPlatform::Eks),
            (None, true, true) => {
                Err(Failure::bad_input("the service is deployed to ECS and EKS: choose with --platform"))
            }
            (None, false, false) => {
                Err(Failure::bad_input("the service has no ecs or eks target in this environment"))
            }
        }
    }

    fn summary(&self, recording: &Recording) -> String {
        let counts = recording.replaced.iter().map(|(kind, count)| format!("{count} {kind}"));
        let counts = counts.collect::<Vec<_>>().join(", ");
        let missing =
            recording.missing.iter().map(|part| format!("\n  MISSING {}: {}", part.part, part.reason));
        let missing: String = missing.collect();
        format!("{} written; replaced: {counts}; review it before you share it{missing}", self.file.display())
    }
}
