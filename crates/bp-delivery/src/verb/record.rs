//! Record the ECS or Kubernetes API responses about a service or a namespace, redacted, in a file for a test.

use std::{collections::BTreeSet, path::PathBuf};

use bp_artifact::{
    ExitCode,
    config::{DeployPlatform, EnvironmentConfig},
    recording::Recording,
    time::TimeSource,
};
use clap::ValueEnum;
use jiff::Timestamp;

use crate::{
    Delivery, Failure, Ui,
    cli::{EnvironmentArgs, GivenFlags, ServiceArg},
    program::Verb,
};

/// Record the ECS or Kubernetes API responses about a service or a namespace, redacted, in a file for a test; changes
/// nothing
#[derive(Debug, clap::Args)]
pub struct Record {
    #[command(flatten)]
    given: GivenFlags,
    #[command(flatten)]
    environment: EnvironmentArgs,
    #[command(flatten)]
    service: ServiceArg,
    /// Platform to record; required if the service is deployed to both
    #[arg(long, value_enum)]
    platform: Option<Platform>,
    /// Record this namespace of the environment's EKS cluster instead of a service: all workloads, pods and events
    #[arg(long)]
    namespace: Option<String>,
    /// EKS cluster of --namespace; defaults to the only one of the environment's services
    #[arg(long, value_name = "NAME", requires = "namespace")]
    cluster: Option<String>,
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
    const HELP: crate::help::Help = crate::help::verbs::RECORD;

    async fn run(self, ui: Ui) -> Result<ExitCode, Failure> {
        let now = TimeSource::system().now();
        let recording = match &self.namespace {
            Some(namespace) => self.record_namespace(namespace, now).await?,
            None => self.record_service(now).await?,
        };
        recording.write(&self.file)?;
        ui.result(self.summary(&recording), &recording);
        Ok(if recording.missing.is_empty() { ExitCode::Done } else { ExitCode::Unavailable })
    }
}

impl Record {
    async fn record_service(&self, now: Timestamp) -> Result<Recording, Failure> {
        let delivery = self.environment.open(&self.service).await?;
        match self.platform(&delivery)? {
            DeployPlatform::Ecs => Ok(delivery.ecs_service()?.record(now).await?),
            DeployPlatform::Eks => delivery.record_eks(now).await,
        }
    }

    async fn record_namespace(&self, namespace: &str, now: Timestamp) -> Result<Recording, Failure> {
        self.given.refuse(&["service", "platform"], "with --namespace")?;
        let (environment, clients) = self.environment.open_cluster().await?;
        let cluster = self.cluster(&environment)?;
        let client = clients.kube(&cluster).await?;
        Ok(bp_eks::Cluster::new(client, cluster).namespace(namespace).record(now).await?)
    }

    fn cluster(&self, environment: &EnvironmentConfig) -> Result<String, Failure> {
        let eks = environment.services().iter().filter_map(|service| service.eks().ok());
        let clusters: BTreeSet<&str> = eks.map(|eks| eks.cluster.as_str()).collect();
        match (&self.cluster, clusters.first()) {
            (Some(cluster), _) => Ok(cluster.clone()),
            (None, Some(cluster)) if clusters.len() == 1 => Ok((*cluster).to_owned()),
            (None, Some(_)) => {
                let clusters = clusters.into_iter().collect::<Vec<_>>().join(", ");
                Err(Failure::bad_input(format!(
                    "environment {} has several EKS clusters ({clusters}): choose one with --cluster",
                    environment.name
                )))
            }
            (None, None) => Err(Failure::bad_input(format!(
                "environment {} has no EKS cluster: set --cluster",
                environment.name
            ))),
        }
    }

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
        let omitted = recording.omitted.iter().map(|part| format!("\n  OMITTED {part}"));
        let parts: String = missing.chain(omitted).collect();
        format!("{} written; replaced: {counts}; review it before you share it{parts}", self.file.display())
    }
}
