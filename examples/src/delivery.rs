//! What every deploying binary does first: read `bp.toml` and `artifact.json`, and see that the image is there.

use std::{path::PathBuf, sync::Arc, time::Duration};

use bp_artifact::{Artifact, DigestRef, EnvironmentConfig, ImageRef, ResolvedImage, Target};
use bp_ecs::{Cluster, EcsTarget, Options};
use clap::Args;

use crate::{Clients, Endpoints, Failure, cli};

/// The environment to work on.
#[derive(Debug, Clone, Args)]
pub struct EnvironmentArgs {
    /// The environment of bp.toml
    #[arg(long, value_name = "NAME", env = "BP_ENV")]
    pub env: String,
    #[command(flatten)]
    config: cli::ConfigArgs,
}

impl EnvironmentArgs {
    /// Reads `bp.toml` and signs in to the environment.
    ///
    /// # Errors
    /// When the file is missing or wrong, the environment is unknown, or there are no credentials.
    pub async fn open(&self) -> Result<Delivery, Failure> {
        let config = self.config.load(&self.env)?;
        let environment = config.environment(&self.env)?.clone();
        let clients = Clients::of(&environment, &Endpoints::from_env()?).await?;
        let deadline = environment.deploy.timeout;
        Ok(Delivery::new(environment, clients, deadline))
    }
}

/// The image to work with.
#[derive(Debug, Clone, Args)]
pub struct ImageArgs {
    #[command(flatten)]
    given: cli::Given,
    /// This image, registry/repository@sha256:..., instead of the artifact's
    #[arg(long)]
    image: Option<DigestRef>,
    /// The artifact that the build left
    #[arg(long, value_name = "FILE", default_value = "artifact.json", env = "BP_ARTIFACT")]
    artifact: PathBuf,
}

impl ImageArgs {
    /// Refuses an artifact beside an image.
    ///
    /// # Errors
    /// When both flags were given.
    pub fn check(&self) -> Result<(), Failure> {
        let both = self.image.as_ref().map(|_| self.given.refuse(&["artifact"], "with --image"));
        both.unwrap_or(Ok(()))
    }

    /// The image, seen in the environment's registry: the flag's, else the artifact's.
    ///
    /// # Errors
    /// When neither names an image, or the registry does not have it.
    pub async fn find(&self, delivery: &Delivery) -> Result<ResolvedImage, Failure> {
        let environment = &delivery.environment;
        let wanted: ImageRef = match &self.image {
            Some(image) => image.clone().into(),
            None => Artifact::read(&self.artifact)?.image_in(&environment.repository)?,
        };
        let resolver = delivery.clients.resolver(wanted.repository().registry())?;
        match resolver.resolve(&wanted).await {
            Err(error) if error.is_not_found() => Err(Failure::bad_input(format!(
                "{}; was it promoted? (promote --to {})",
                Failure::from(error),
                environment.name
            ))),
            found => Ok(found?),
        }
    }
}

/// Whether to take fields over.
#[derive(Debug, Clone, Args)]
pub struct TakeOverArgs {
    /// On EKS, take the image's field from the tool that created the workload; needed once, for the first deployment
    #[arg(long)]
    pub take_over: bool,
}

/// What to deploy, where, and for how long to watch.
#[derive(Debug, Clone, Args)]
pub struct DeliveryArgs {
    /// Where.
    #[command(flatten)]
    pub environment: EnvironmentArgs,
    /// What.
    #[command(flatten)]
    pub image: ImageArgs,
    #[command(flatten)]
    wait: cli::WaitArgs,
}

impl DeliveryArgs {
    /// Reads `bp.toml` and signs in to the environment.
    ///
    /// # Errors
    /// When flags exclude each other; else as [`EnvironmentArgs::open`].
    pub async fn open(&self) -> Result<Delivery, Failure> {
        self.image.check()?;
        Ok(self.environment.open().await?.deadline(self.wait.deadline))
    }

    /// The image to deploy, as [`ImageArgs::find`] has it.
    ///
    /// # Errors
    /// As [`ImageArgs::find`].
    pub async fn image(&self, delivery: &Delivery) -> Result<ResolvedImage, Failure> {
        self.image.find(delivery).await
    }
}

/// One environment, ready to be worked on.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// The environment.
    pub environment: EnvironmentConfig,
    /// Its clients.
    pub clients: Clients,
    deadline: Duration,
    cadence: Option<Duration>,
    take_over: bool,
}

impl Delivery {
    /// An environment whose deployments are watched for at most `deadline`.
    pub fn new(environment: EnvironmentConfig, clients: Clients, deadline: Duration) -> Self {
        Delivery { environment, clients, deadline, cadence: None, take_over: false }
    }

    /// Watches for at most this time instead, if one is given.
    pub fn deadline(mut self, deadline: Option<Duration>) -> Self {
        self.deadline = deadline.unwrap_or(self.deadline);
        self
    }

    /// Takes the image's field in Kubernetes from whoever owns it.
    pub fn take_over(mut self, yes: bool) -> Self {
        self.take_over = yes;
        self
    }

    /// Looks this often at services that have to be asked, instead of at bp-ecs' own pace.
    pub fn cadence(mut self, cadence: Duration) -> Self {
        self.cadence = Some(cadence);
        self
    }

    /// The ECS service, with what bp.toml lays over its task definition.
    ///
    /// # Errors
    /// When none is configured, bp.toml names no container and there are several, or its file of a definition is none.
    pub async fn ecs(&self) -> Result<EcsTarget, Failure> {
        self.ecs_with(|options| options).await
    }

    /// The same, with some options of its own.
    ///
    /// # Errors
    /// As [`ecs`](Self::ecs).
    pub async fn ecs_with(&self, adjust: impl FnOnce(Options) -> Options) -> Result<EcsTarget, Failure> {
        let ecs = self.environment.ecs()?;
        let mut options = adjust(Options::new(self.deadline)?);
        if let Some(cadence) = self.cadence {
            options = options.cadence(cadence)?;
        }
        options = options.on_failure(self.environment.deploy.on_failure);
        if let Some(tasks) = self.environment.limits.failures {
            options = options.fail_after(tasks);
        }
        let cluster = Cluster::new(self.clients.ecs(), &ecs.cluster);
        let service = cluster.service(&ecs.service, options);
        let first = match &ecs.container {
            Some(container) => container.clone(),
            None => only(service.definition().await?.container_names())?,
        };
        let overlay = crate::ecs::overlay(ecs, &first);
        let service = service.container(first).overlay(overlay);
        #[cfg(feature = "logs")]
        let service = service.logs(self.clients.logs());
        let service = ecs.also.iter().fold(service, EcsTarget::container);
        match &ecs.definition {
            Some(file) => Ok(service.base(crate::ecs::definition(file)?)),
            None => Ok(service),
        }
    }

    /// The EKS workload.
    ///
    /// # Errors
    /// When none is configured, or the cluster cannot be reached.
    pub async fn eks(&self) -> Result<Arc<dyn Target>, Failure> {
        Ok(Arc::new(self.eks_with(|options| options).await?))
    }

    /// The EKS workload, with options of the caller's on top of what bp.toml says.
    ///
    /// # Errors
    /// As [`eks`](Self::eks).
    pub async fn eks_with(
        &self,
        change: impl FnOnce(bp_eks::Options) -> bp_eks::Options,
    ) -> Result<bp_eks::EksTarget, Failure> {
        let eks = self.environment.eks()?;
        let client = self.clients.kube(&eks.cluster).await?;
        let options = self.eks_workload_options()?;
        let (workload, container) = (eks.workload.clone(), eks.container.clone());
        let (cluster, namespace) = (&eks.cluster, &eks.namespace);
        Ok(bp_eks::EksTarget::new(client, cluster, namespace, workload, container, change(options)))
    }

    /// How roll-outs on the EKS cluster are to go: with bp.toml's variables.
    ///
    /// # Errors
    /// When the deadline is zero, or no workload is configured.
    pub fn eks_workload_options(&self) -> Result<bp_eks::Options, Failure> {
        let variables = &self.environment.eks()?.variables;
        Ok(variables
            .iter()
            .fold(self.eks_options()?, |options, (name, value)| options.environment(name, value)))
    }

    /// How work on the EKS cluster is to go.
    ///
    /// # Errors
    /// When the deadline is zero.
    pub fn eks_options(&self) -> Result<bp_eks::Options, Failure> {
        let options = bp_eks::Options::new(self.deadline)?
            .take_over(self.take_over)
            .on_failure(self.environment.deploy.on_failure);
        Ok(match self.environment.limits.failures {
            Some(pods) => options.fail_after(pods),
            None => options,
        })
    }

    /// Every target of the environment.
    ///
    /// # Errors
    /// When one cannot be reached.
    pub async fn targets(&self) -> Result<Vec<Arc<dyn Target>>, Failure> {
        let mut targets: Vec<Arc<dyn Target>> = Vec::new();
        if self.environment.has_ecs() {
            targets.push(Arc::new(self.ecs().await?));
        }
        if self.environment.has_eks() {
            targets.push(self.eks().await?);
        }
        Ok(targets)
    }
}

/// The one container of a definition, where `bp.toml` names none.
fn only(mut containers: Vec<String>) -> Result<String, Failure> {
    match (containers.pop(), containers.is_empty()) {
        (Some(container), true) => Ok(container),
        (last, _) => {
            containers.extend(last);
            let all = containers.join(", ");
            Err(Failure::bad_input(format!(
                "the task definition has the containers {all}: name one in bp.toml"
            )))
        }
    }
}
