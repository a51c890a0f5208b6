//! What every deploying binary does first: read `bp.toml` and `artifact.json`, and see that the image is there.

use std::{sync::Arc, time::Duration};

use bp_artifact::{Artifact, Config, DigestRef, EnvironmentConfig, ImageRef, ResolvedImage, Target};
use clap::Args;

use crate::{Clients, Endpoints, Failure, cli};

/// What to deploy, where, and for how long to watch.
#[derive(Debug, Clone, Args)]
pub struct DeliveryArgs {
    /// The environment of bp.toml
    #[arg(long, value_name = "NAME", env = "BP_ENV")]
    pub env: String,
    /// Deploy this image, registry/repository@sha256:..., instead of the artifact's
    #[arg(long)]
    pub image: Option<DigestRef>,
    #[command(flatten)]
    project: cli::ProjectArgs,
    #[command(flatten)]
    wait: cli::WaitArgs,
}

/// One environment, ready to be worked on.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// The environment.
    pub environment: EnvironmentConfig,
    /// Its clients.
    pub clients: Clients,
    /// How long to wait.
    pub deadline: Duration,
    image: Option<DigestRef>,
    project: cli::ProjectArgs,
}

impl DeliveryArgs {
    /// Reads the files that they name and signs in.
    ///
    /// # Errors
    /// When a file is missing or wrong, the environment is unknown, or there are no credentials.
    pub async fn open(self) -> Result<Delivery, Failure> {
        let config = Config::load(&self.project.config)?;
        let environment = config.environment(&self.env)?.clone();
        let clients = Clients::of(&environment, &Endpoints::from_env()?).await?;
        let deadline = self.wait.deadline;
        Ok(Delivery { environment, clients, deadline, image: self.image, project: self.project })
    }
}

impl Delivery {
    /// The image to deploy, seen in this environment's registry: the flag's, else the artifact's.
    ///
    /// # Errors
    /// When neither names an image, or the registry does not have it.
    pub async fn image(&self) -> Result<ResolvedImage, Failure> {
        let wanted: ImageRef = match &self.image {
            Some(image) => image.clone().into(),
            None => {
                let artifact = Artifact::read(&self.project.artifact)?;
                match artifact.resolved() {
                    Some(image) => image.moved_to(&self.environment.repository).reference.into(),
                    // The older form has no digest: its tag is resolved here, once.
                    None => artifact.image_ref(Some(&self.environment.repository))?,
                }
            }
        };
        let resolver = self.clients.resolver(wanted.repository().registry());
        resolver.resolve(&wanted).await.map_err(|error| match error.is_not_found() {
            true => Failure::bad_input(format!(
                "{}; was it promoted? (promote --to {})",
                Failure::from(error),
                self.environment.name
            )),
            false => error.into(),
        })
    }

    /// The ECS service.
    ///
    /// # Errors
    /// When none is configured.
    pub fn ecs(&self) -> Result<Arc<dyn Target>, Failure> {
        let ecs = self.environment.ecs()?;
        let options = bp_ecs::Options::new(self.deadline)?;
        let container = ecs.container.as_deref().unwrap_or_default();
        Ok(Arc::new(bp_ecs::EcsTarget::new(
            self.clients.ecs(),
            &ecs.cluster,
            &ecs.service,
            container,
            options,
        )))
    }

    /// The EKS workload.
    ///
    /// # Errors
    /// When none is configured, or the cluster cannot be reached.
    pub async fn eks(&self) -> Result<Arc<dyn Target>, Failure> {
        Err(Failure::bad_input("bp-eks has not landed"))
    }

    /// Every target of the environment.
    ///
    /// # Errors
    /// When one cannot be reached.
    pub async fn targets(&self) -> Result<Vec<Arc<dyn Target>>, Failure> {
        let mut targets = Vec::new();
        if self.environment.has_ecs() {
            targets.push(self.ecs()?);
        }
        if self.environment.has_eks() {
            targets.push(self.eks().await?);
        }
        Ok(targets)
    }
}
