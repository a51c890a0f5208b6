//! Arguments of deployments: the environment, the services, the image, and the timeouts.

use std::{path::PathBuf, time::Duration};

use bp_artifact::{
    Artifact, DigestRef, ImageRef, ResolvedImage,
    config::{EnvironmentConfig, ServiceConfig, ServiceName},
    resolve::{Resolve, ResolveError},
};
use bp_eks::traffic::Slots;
use clap::Args;

use super::{ConfigArgs, GivenFlags, ImageTimeoutArgs, WaitArgs};
use crate::{Clients, Delivery, Failure, Session, Ui, image::ConfirmExisting, image_wait, wait_for_image};

/// The environment to work on.
#[derive(Debug, Clone, Args)]
pub struct EnvironmentArgs {
    /// Environment of bp.toml
    #[arg(long, value_name = "NAME", env = "BP_ENV")]
    pub env: String,
    #[command(flatten)]
    config: ConfigArgs,
}

impl EnvironmentArgs {
    /// Reads `bp.toml` and authenticates to the environment, for the given service or the only one.
    ///
    /// # Errors
    /// When the file is missing or invalid, the environment or the service is unknown, or there are no credentials.
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

    /// Reads `bp.toml` and authenticates to the environment, for work on objects that belong to no service. Does not
    /// authenticate to AWS if a kubeconfig replaces EKS.
    ///
    /// # Errors
    /// When the file is missing or invalid, the environment is unknown, or there are no credentials.
    ///
    /// # Permissions
    /// Those of [`Session::open`].
    ///
    /// # Cancel safety
    /// Cancel safe: changes nothing.
    pub async fn open_cluster(&self) -> Result<(EnvironmentConfig, Clients), Failure> {
        let config = self.config.load(&self.env)?;
        let environment = config.environment(&self.env)?;
        let session = Session::from_env()?;
        let clients = match session.endpoints().kubeconfig {
            Some(_) => session.ambient().await,
            None => session.open(environment).await?,
        };
        Ok((environment.clone(), clients))
    }

    /// Reads `bp.toml` and authenticates to the environment, for the selected services.
    ///
    /// # Errors
    /// As [`open`](Self::open); also when there are several services and none is selected.
    ///
    /// # Permissions
    /// Those of [`Session::open`].
    ///
    /// # Cancel safety
    /// Cancel safe: changes nothing.
    pub async fn open_services(&self, services: &ServicesArgs) -> Result<Vec<Delivery>, Failure> {
        self.open_chosen(&services.services, services.all).await
    }

    /// Reads `bp.toml` and authenticates to the environment, for the named services, or all if `names` is empty.
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
    /// Service of bp.toml; required if there are several
    #[arg(long, value_name = "NAME", env = "BP_SERVICE")]
    pub service: Option<ServiceName>,
}

/// The services to work on.
#[derive(Debug, Clone, Args)]
pub struct ServicesArgs {
    /// Service of bp.toml; if there are several, required unless --all is given; repeatable
    #[arg(id = "service", long = "service", value_name = "NAME", env = "BP_SERVICE", value_delimiter = ',')]
    pub services: Vec<ServiceName>,
    /// Select all services of bp.toml
    #[arg(long, conflicts_with = "service")]
    pub all: bool,
}

/// The image to deploy or verify.
#[derive(Debug, Clone, Args)]
pub struct ImageArgs {
    #[command(flatten)]
    given: GivenFlags,
    /// Use this image, registry/repository@sha256:..., instead of the artifact's
    #[arg(long)]
    image: Option<DigestRef>,
    /// Artifact file written by the build
    #[arg(long, value_name = "FILE", default_value = "artifact.json", env = "BP_ARTIFACT")]
    artifact: PathBuf,
}

impl ImageArgs {
    /// The image given by the flag.
    pub fn image(&self) -> Option<&DigestRef> {
        self.image.as_ref()
    }

    /// Refuses `--artifact` in combination with `--image`.
    ///
    /// # Errors
    /// When both flags were given.
    pub fn check(&self) -> Result<(), Failure> {
        let both = self.image.as_ref().map(|_| self.given.refuse(&["artifact"], "with --image"));
        both.unwrap_or(Ok(()))
    }

    /// Adds the artifact's build metadata to `delivery`; does nothing if the image is given by the flag.
    ///
    /// # Errors
    /// When the artifact cannot be read.
    pub fn describe(&self, delivery: Delivery) -> Result<Delivery, Failure> {
        match &self.image {
            Some(_) => Ok(delivery),
            None => Ok(delivery.built_from(&Artifact::read(&self.artifact)?)),
        }
    }

    /// Resolves the image in the environment's registry: the flag's, or the artifact's.
    ///
    /// # Errors
    /// When neither specifies an image, or the image does not exist in the registry.
    ///
    /// # Permissions
    /// Those of [`wait_for_image`].
    ///
    /// # Cancel safety
    /// Cancel safe: reads only.
    pub async fn find(&self, delivery: &Delivery) -> Result<ResolvedImage, Failure> {
        self.resolve_with(delivery, async |resolver, wanted| resolver.resolve(wanted).await).await
    }

    /// As [`find`](Self::find), but an image whose digest is known need not be in the registry: without it, the digests
    /// of its platforms are those of the artifact.
    ///
    /// # Errors
    /// When neither specifies an image, or its digest is not known and it cannot be resolved.
    ///
    /// # Permissions
    /// Those of [`wait_for_image`].
    ///
    /// # Cancel safety
    /// Cancel safe: reads only.
    pub(crate) async fn known(&self, delivery: &Delivery) -> Result<ResolvedImage, Failure> {
        let (wanted, known) = self.wanted(delivery)?;
        if let Some(known) = known {
            return Ok(known);
        }
        let digest = DigestRef::try_from(wanted);
        match (self.find(delivery).await, digest) {
            (Ok(image), _) => Ok(image),
            (Err(_), Ok(digest)) => Ok(digest.into()),
            (Err(failure), Err(_)) => Err(failure),
        }
    }

    /// As [`find`](Self::find), but waits until the image exists; `ui` shows the progress.
    ///
    /// # Errors
    /// As [`find`](Self::find); also when the image does not appear in time.
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
        let wait = image_wait(timeout)?;
        self.resolve_with(delivery, async |resolver, wanted| {
            wait_for_image(resolver, wanted, wait, |line| ui.say(line)).await
        })
        .await
    }

    /// Resolves the image with `resolve`. If the artifact contains the image's platforms, only its existence is
    /// confirmed.
    async fn resolve_with(
        &self,
        delivery: &Delivery,
        resolve: impl AsyncFnOnce(&dyn Resolve, &ImageRef) -> Result<ResolvedImage, ResolveError>,
    ) -> Result<ResolvedImage, Failure> {
        let (wanted, known) = self.wanted(delivery)?;
        let resolver = delivery.clients.resolver(wanted.repository().registry())?;
        let confirming = known.map(|known| ConfirmExisting { resolver: &*resolver, known });
        let resolver: &dyn Resolve = match &confirming {
            Some(confirming) => confirming,
            None => &*resolver,
        };
        resolve(resolver, &wanted).await.map_err(|error| missing(error, delivery))
    }

    /// The image reference in the environment's registry, and the resolved image if the artifact contains its
    /// platforms.
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

/// Adds a hint to the error if the image does not exist.
fn missing(error: ResolveError, delivery: &Delivery) -> Failure {
    let hint = error.is_not_found();
    let failure = Failure::from(error);
    if hint {
        failure.hint(format_args!("if it was not promoted, run promote --to {}", delivery.environment.name))
    } else {
        failure
    }
}

/// Ownership of Kubernetes fields.
#[derive(Debug, Clone, Args)]
pub struct TakeOverArgs {
    /// On EKS, take ownership of the image field from the field manager that created the workload; needed once, for the
    /// first deployment
    #[arg(long)]
    pub take_over: bool,
}

/// What to do about a rollback revision that cannot run any more.
#[derive(Debug, Clone, Args)]
pub struct RollbackArgs {
    /// Deploy even if the revision that a failure would return to cannot run any more: an image, secret or config map is
    /// missing, or on ECS its task definition is not active
    #[arg(long)]
    pub accept_unproven_rollback: bool,
}

/// The two slots of a blue/green deployment on EKS.
#[derive(Debug, Clone, Args)]
pub struct SlotArgs {
    /// Label that distinguishes the two slots of --slots
    #[arg(long, default_value = "slot", requires = "slots")]
    label: String,
    /// The two slots, each as label value and Deployment, separated by a comma; defaults to blue and green, with the
    /// Deployments SERVICE-blue and SERVICE-green
    #[arg(long, value_name = "SLOT=DEPLOYMENT", value_delimiter = ',')]
    slots: Vec<String>,
}

impl SlotArgs {
    /// The slots of this Kubernetes Service.
    ///
    /// # Errors
    /// When `--slots` is not of the form `SLOT=DEPLOYMENT`, or both are equal.
    pub fn slots(&self, kubernetes_service: &str) -> Result<Slots, Failure> {
        match self.slots.as_slice() {
            [] => Ok(Slots::of_service(kubernetes_service)),
            [one, two] => Ok(Slots::new(&self.label, pair(one)?, pair(two)?)?),
            _ => Err(Failure::bad_input("--slots: expected two slots, separated by a comma")),
        }
    }
}

/// Splits `slot=deployment`.
fn pair(text: &str) -> Result<(&str, &str), Failure> {
    text.split_once('=')
        .ok_or_else(|| Failure::bad_input(format!("--slots: {text:?} is not of the form SLOT=DEPLOYMENT")))
}

/// The environment, service, image and timeouts of a deployment.
#[derive(Debug, Clone, Args)]
pub struct DeliveryArgs {
    /// The environment.
    #[command(flatten)]
    pub environment: EnvironmentArgs,
    /// The service.
    #[command(flatten)]
    pub service: ServiceArg,
    /// The image.
    #[command(flatten)]
    pub image: ImageArgs,
    #[command(flatten)]
    wait: WaitArgs,
    #[command(flatten)]
    image_wait: ImageTimeoutArgs,
}

impl DeliveryArgs {
    /// Reads `bp.toml` and authenticates to the environment.
    ///
    /// # Errors
    /// When flags are mutually exclusive; otherwise as [`EnvironmentArgs::open`].
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

    /// Waits for the image with [`ImageArgs::wait`]; the timeout is that of the flag or of `bp.toml`.
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
