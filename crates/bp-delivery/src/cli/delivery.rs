//! The arguments of deployments: the environment, the image, and for how long to watch.

use std::{path::PathBuf, time::Duration};

use bp_artifact::{
    Artifact, DigestRef, ImageRef, ResolvedImage,
    config::{ServiceConfig, ServiceName},
    resolve::{Resolve, ResolveError},
};
use clap::Args;

use super::{ConfigArgs, Given, ImageTimeoutArgs, WaitArgs};
use crate::{Delivery, Failure, Session, Ui, image::Confirming, patience, wait_for_image};

/// The environment to work on.
#[derive(Debug, Clone, Args)]
pub struct EnvironmentArgs {
    /// The environment of bp.toml
    #[arg(long, value_name = "NAME", env = "BP_ENV")]
    pub env: String,
    #[command(flatten)]
    config: ConfigArgs,
}

impl EnvironmentArgs {
    /// Reads `bp.toml` and signs in to the environment, for the only service or the one of this name.
    ///
    /// # Errors
    /// When the file is missing or wrong, the environment or the service is unknown, or there are no credentials.
    ///
    /// # Permissions
    /// Those of [`Session::open`].
    ///
    /// # Cancel safety
    /// Cancel safe: changes nothing.
    pub async fn open(&self, service: &ServiceArg) -> Result<Delivery, Failure> {
        let config = self.config.load(&self.env)?;
        let environment = config.environment(&self.env)?;
        let service = environment.service(service.service.as_ref())?;
        let clients = Session::from_env()?.open(environment).await?;
        Ok(Delivery::new(environment.clone(), service.clone(), clients))
    }

    /// Reads `bp.toml` and signs in to the environment, for these services of it.
    ///
    /// # Errors
    /// As [`open`](Self::open); when there are several services and none is chosen.
    ///
    /// # Permissions
    /// Those of [`Session::open`].
    ///
    /// # Cancel safety
    /// Cancel safe: changes nothing.
    pub async fn open_services(&self, services: &ServicesArgs) -> Result<Vec<Delivery>, Failure> {
        self.open_chosen(&services.services, services.all).await
    }

    /// Reads `bp.toml` and signs in to the environment, for all services of it, or those of these names.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    ///
    /// # Permissions
    /// Those of [`Session::open`].
    ///
    /// # Cancel safety
    /// Cancel safe: changes nothing.
    pub async fn open_all(&self, names: &[ServiceName]) -> Result<Vec<Delivery>, Failure> {
        self.open_chosen(names, true).await
    }

    async fn open_chosen(&self, names: &[ServiceName], all: bool) -> Result<Vec<Delivery>, Failure> {
        let config = self.config.load(&self.env)?;
        let environment = config.environment(&self.env)?;
        let services = environment.choose(names, all)?;
        let clients = Session::from_env()?.open(environment).await?;
        let delivery =
            |service: &ServiceConfig| Delivery::new(environment.clone(), service.clone(), clients.clone());
        Ok(services.into_iter().map(delivery).collect())
    }
}

/// The service to work on.
#[derive(Debug, Clone, Default, Args)]
pub struct ServiceArg {
    /// The service of bp.toml, where it has several
    #[arg(long, value_name = "NAME", env = "BP_SERVICE")]
    pub service: Option<ServiceName>,
}

/// The services to work on.
#[derive(Debug, Clone, Args)]
pub struct ServicesArgs {
    /// A service of bp.toml, where it has several; repeatable
    #[arg(id = "service", long = "service", value_name = "NAME", env = "BP_SERVICE", value_delimiter = ',')]
    pub services: Vec<ServiceName>,
    /// All services of bp.toml
    #[arg(long, conflicts_with = "service")]
    pub all: bool,
}

/// The image to work with.
#[derive(Debug, Clone, Args)]
pub struct ImageArgs {
    #[command(flatten)]
    given: Given,
    /// This image, registry/repository@sha256:..., instead of the artifact's
    #[arg(long)]
    image: Option<DigestRef>,
    /// The artifact that the build left
    #[arg(long, value_name = "FILE", default_value = "artifact.json", env = "BP_ARTIFACT")]
    artifact: PathBuf,
}

impl ImageArgs {
    /// The image of the flag.
    pub fn image(&self) -> Option<&DigestRef> {
        self.image.as_ref()
    }

    /// Refuses an artifact beside an image.
    ///
    /// # Errors
    /// When both flags were given.
    pub fn check(&self) -> Result<(), Failure> {
        let both = self.image.as_ref().map(|_| self.given.refuse(&["artifact"], "with --image"));
        both.unwrap_or(Ok(()))
    }

    /// The same delivery, with what the artifact says of the build; nothing where the flag names the image.
    ///
    /// # Errors
    /// When the artifact cannot be read.
    pub fn describe(&self, delivery: Delivery) -> Result<Delivery, Failure> {
        match &self.image {
            Some(_) => Ok(delivery),
            None => Ok(delivery.built_from(&Artifact::read(&self.artifact)?)),
        }
    }

    /// The image as the environment's registry has it now: the flag's, else the artifact's.
    ///
    /// # Errors
    /// When neither names an image, or the registry does not have it.
    ///
    /// # Permissions
    /// Those of [`wait_for_image`].
    ///
    /// # Cancel safety
    /// Cancel safe: reads only.
    pub async fn find(&self, delivery: &Delivery) -> Result<ResolvedImage, Failure> {
        self.asked(delivery, async |resolver, wanted| resolver.resolve(wanted).await).await
    }

    /// The same, waiting until it is there; `ui` shows the wait.
    ///
    /// # Errors
    /// As [`find`](Self::find); when it does not appear in time.
    ///
    /// # Permissions
    /// Those of [`wait_for_image`].
    ///
    /// # Cancel safety
    /// Cancel safe: reads only.
    pub async fn wait(
        &self,
        delivery: &Delivery,
        timeout: Duration,
        ui: &Ui,
    ) -> Result<ResolvedImage, Failure> {
        let wait = patience(timeout)?;
        self.asked(delivery, async |resolver, wanted| {
            wait_for_image(resolver, wanted, wait, |line| ui.say(line)).await
        })
        .await
    }

    /// Has `ask` look for the image. One whose platforms the artifact has is not read again: it only has to exist.
    async fn asked(
        &self,
        delivery: &Delivery,
        ask: impl AsyncFnOnce(&dyn Resolve, &ImageRef) -> Result<ResolvedImage, ResolveError>,
    ) -> Result<ResolvedImage, Failure> {
        let (wanted, known) = self.wanted(delivery)?;
        let resolver = delivery.clients.resolver(wanted.repository().registry())?;
        let confirming = known.map(|known| Confirming { resolver: &*resolver, known });
        let asked: &dyn Resolve = match &confirming {
            Some(confirming) => confirming,
            None => &*resolver,
        };
        ask(asked, &wanted).await.map_err(|error| missing(error, delivery))
    }

    /// The image as the environment is to have it; whole, where the artifact has its platforms.
    fn wanted(&self, delivery: &Delivery) -> Result<(ImageRef, Option<ResolvedImage>), Failure> {
        if let Some(image) = &self.image {
            return Ok((image.clone().into(), None));
        }
        let artifact = Artifact::read(&self.artifact)?;
        let wanted = artifact.image_of(&delivery.service)?;
        let known = artifact.resolved_of(&delivery.service).filter(|known| !known.platforms.is_empty());
        Ok((wanted, known.map(|known| known.moved_to(&delivery.service.repository))))
    }
}

/// The error, with what may be the reason where the image does not exist.
fn missing(error: ResolveError, delivery: &Delivery) -> Failure {
    let hint = error.is_not_found();
    let failure = Failure::from(error);
    if hint {
        failure.hint(format_args!("was it promoted? (promote --to {})", delivery.environment.name))
    } else {
        failure
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
    /// Which service.
    #[command(flatten)]
    pub service: ServiceArg,
    /// What.
    #[command(flatten)]
    pub image: ImageArgs,
    #[command(flatten)]
    wait: WaitArgs,
    #[command(flatten)]
    image_wait: ImageTimeoutArgs,
}

impl DeliveryArgs {
    /// Reads `bp.toml` and signs in to the environment.
    ///
    /// # Errors
    /// When flags exclude each other; else as [`EnvironmentArgs::open`].
    ///
    /// # Permissions
    /// Those of [`Session::open`].
    ///
    /// # Cancel safety
    /// Cancel safe: changes nothing.
    pub async fn open(&self) -> Result<Delivery, Failure> {
        self.image.check()?;
        Ok(self.environment.open(&self.service).await?.deadline(self.wait.timeout))
    }

    /// The image to deploy, as [`ImageArgs::wait`] has it: waits for it for as long as the flag or `bp.toml` says.
    ///
    /// # Errors
    /// As [`ImageArgs::wait`].
    ///
    /// # Permissions
    /// Those of [`wait_for_image`].
    ///
    /// # Cancel safety
    /// Cancel safe: reads only.
    pub async fn image(&self, delivery: &Delivery, ui: &Ui) -> Result<ResolvedImage, Failure> {
        let timeout = self.image_wait.image_timeout.unwrap_or(delivery.service.deploy.image_timeout);
        self.image.wait(delivery, timeout, ui).await
    }
}
