//! The environments, services and gates of a configuration.

use std::{collections::BTreeMap, num::NonZeroU32, path::PathBuf, time::Duration};

use super::{
    error::ConfigError,
    layer::Setting,
    manifests::ManifestsConfig,
    name::{AccountId, Environment, Region, RoleArn, ServiceName, Workload},
    origin::Origin,
    paths::ServicePaths,
    policy::PolicyConfig,
    release::ReleaseConfig,
    traffic::TrafficConfig,
};
use crate::{
    check::CheckKind,
    deploy::{GateName, OnFailure},
    paths::PathPatterns,
    reference::{DigestRef, Registry, Repository},
};

/// The content of `bp.toml`.
///
/// ```
/// use bp_artifact::Config;
///
/// let config = Config::parse(r#"
/// version = 1
///
/// [project]
/// name = "shop"
/// repository = "shop/web"
///
/// [[environment]]
/// name = "staging"
/// account = "111111111111"
/// region = "eu-central-1"
/// role = "arn:aws:iam::111111111111:role/deploy"
/// registry = "111111111111.dkr.ecr.eu-central-1.amazonaws.com"
///
/// [environment.ecs]
/// cluster = "shop"
/// service = "web"
/// container = "web"
///
/// [[environment]]
/// name = "prod"
/// region = "eu-west-1"
/// registry = "222222222222.dkr.ecr.eu-west-1.amazonaws.com"
///
/// [environment.eks]
/// cluster = "shop"
/// namespace = "web"
/// workload = "deployment/web"
/// container = "web"
/// "#, "bp.toml")?;
///
/// let staging = config.environment("staging")?;
/// assert_eq!(
///     staging.services()[0].repository.to_string(),
///     "111111111111.dkr.ecr.eu-central-1.amazonaws.com/shop/web",
/// );
/// assert_eq!(config.next(&staging.name).unwrap().name.as_str(), "prod");
/// # Ok::<(), bp_artifact::config::ConfigError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    pub(super) file: String,
    /// The project.
    pub project: Project,
    pub(super) environments: Vec<EnvironmentConfig>,
}

/// The settings shared by all environments.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Project {
    /// The project's name.
    pub name: String,
}

/// An environment: its account, region, registry, services and gates.
///
/// ```
/// use bp_artifact::Config;
///
/// let text = "version = 1\n[project]\nname = \"shop\"\nrepository = \"shop/web\"\n[[environment]]\nname = \"dev\"\n\
///             region = \"eu-central-1\"\nregistry = \"registry.example.com\"\n";
/// let config = Config::parse(text, "bp.toml")?;
/// let region = config.environment("dev")?.settings().iter().find(|setting| setting.key == "region").unwrap();
/// assert_eq!((region.value.as_str(), region.origin.to_string()), ("eu-central-1", "bp.toml:7:10".into()));
/// # Ok::<(), bp_artifact::config::ConfigError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct EnvironmentConfig {
    /// Its name.
    pub name: Environment,
    /// The AWS account, if pinned: operations in another account are rejected.
    pub account: Option<AccountId>,
    /// The AWS region.
    pub region: Region,
    /// The role to assume.
    pub role: Option<RoleArn>,
    /// The checks that `verify` leaves out.
    pub verify_skips: Vec<CheckKind>,
    pub(super) registry: Registry,
    pub(super) services: Vec<ServiceConfig>,
    pub(super) gates: Vec<GateConfig>,
    pub(super) policy: PolicyConfig,
    pub(super) settings: Vec<Setting>,
    pub(super) origin: Origin,
    pub(super) file: String,
}

/// A service in an environment: the repository of its image, and its deployment targets.
///
/// A file without `[[service]]` has one service in each environment, which has no name.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServiceConfig {
    /// Its name. `None` in a file without `[[service]]`.
    pub name: Option<ServiceName>,
    /// Registry and path of the image's repository in this environment.
    pub repository: Repository,
    /// The services that are deployed before this one.
    pub after: Vec<ServiceName>,
    /// The files of the repository that it is built and deployed from.
    pub paths: ServicePaths,
    /// The deployment policy.
    pub deploy: DeployPolicy,
    /// Limits of concurrency and failures.
    pub limits: Limits,
    /// The tags of all resources created for the service in this environment: Project, App, Environment, Service (if
    /// it has a name), Owner (if configured), ManagedBy, and those of the file.
    pub tags: BTreeMap<String, String>,
    pub(super) ecs: Option<EcsConfig>,
    pub(super) eks: Option<EksConfig>,
    pub(super) settings: Vec<Setting>,
    pub(super) environment: Environment,
    pub(super) origin: Origin,
}

/// The deployment policy of a service in an environment.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeployPolicy {
    /// The timeout of a deployment. Defaults to 15 minutes.
    pub timeout: Duration,
    /// How long to wait for an image to appear in the registry. Defaults to 5 minutes.
    pub image_timeout: Duration,
    /// What to do when a deployment fails. Defaults to a rollback.
    pub on_failure: OnFailure,
    /// Which platform is deployed to first. `None`: both concurrently.
    pub first: Option<DeployPlatform>,
}

/// A platform that images are deployed to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeployPlatform {
    /// Amazon ECS.
    Ecs,
    /// Kubernetes on Amazon EKS.
    Eks,
}

/// How many tasks or pods may fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureLimit {
    /// An absolute number.
    Count(NonZeroU32),
    /// A percentage of the desired number, from 1 to 100.
    Percent(NonZeroU32),
}

impl FailureLimit {
    /// The limit for `wanted` tasks or pods: at least one.
    ///
    /// ```
    /// use bp_artifact::config::FailureLimit;
    ///
    /// let quarter = FailureLimit::Percent(25.try_into()?);
    /// assert_eq!((quarter.of(10).get(), quarter.of(1).get()), (2, 1));
    /// # Ok::<(), std::num::TryFromIntError>(())
    /// ```
    pub fn of(self, wanted: u32) -> NonZeroU32 {
        match self {
            FailureLimit::Count(count) => count,
            FailureLimit::Percent(percent) => {
                let count = u64::from(wanted).saturating_mul(percent.get().into()) / 100;
                u32::try_from(count).ok().and_then(NonZeroU32::new).unwrap_or(NonZeroU32::MIN)
            }
        }
    }
}

/// Limits of concurrency and failures. `None`: the default of the library.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// How many tasks or pods may fail before a deployment is aborted.
    pub failures: Option<FailureLimit>,
    /// How many blobs a promotion to this environment copies concurrently.
    pub transfers: Option<NonZeroU32>,
}

/// A service of Amazon ECS, and the container in it that runs the image.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct EcsConfig {
    /// The cluster's name or ARN.
    pub cluster: String,
    /// The service's name.
    pub service: String,
    /// The container's name in the task definition. Optional if there is only one container.
    pub container: Option<String>,
    /// Additional containers that run the same image.
    pub also: Vec<String>,
    /// The file of a task definition to deploy instead of the one that the service runs.
    pub definition: Option<PathBuf>,
    /// The task's CPU units, as ECS writes them.
    pub cpu: Option<String>,
    /// The task's memory, as ECS writes it.
    pub memory: Option<String>,
    /// Environment variables of the container. `DEPLOY_PLATFORM` defaults to `ecs`, unless `platform-variable` is `off`.
    pub variables: BTreeMap<String, String>,
    /// References to secrets of the container.
    pub secrets: BTreeMap<String, String>,
    /// Whether deployments pin these references to the current version. Defaults to `off`.
    pub pin_secrets: bool,
    /// Options of the container's log driver.
    pub log_options: BTreeMap<String, String>,
    /// Images of other containers.
    pub images: BTreeMap<String, DigestRef>,
    /// Whether task definitions are registered with tags. Defaults to `on`.
    pub tagging: bool,
    /// Whether scheduled tasks of the service's task definition family move to the deployed revision. Defaults to `off`.
    pub schedules: bool,
    /// Members of the task definition that this version does not support, to remove from new revisions.
    pub without_members: Vec<String>,
    /// How long the tasks of a successful deployment are watched for new failures; zero disables it. `None` for the
    /// default of bp-ecs.
    pub stable_for: Option<Duration>,
    /// The one-off tasks of a deployment.
    pub tasks: EcsTasks,
}

/// The one-off tasks of an ECS service: the commands by name, which run in the order of their names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct EcsTasks {
    /// Before each deployment that changes the service.
    pub before: BTreeMap<String, Vec<String>>,
    /// After each successful deployment.
    pub after: BTreeMap<String, Vec<String>>,
    /// How long each of them may run. `None`: the timeout of the deployment.
    pub timeout: Option<Duration>,
    /// The container that runs the commands. `None`: the first one that runs the image.
    pub container: Option<String>,
}

/// A workload, a Helm release or manifests on Amazon EKS, and the container that runs the image.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct EksConfig {
    /// The cluster's name.
    pub cluster: String,
    /// The namespace.
    pub namespace: String,
    /// The workload, the Helm release or the manifests.
    pub object: EksObject,
    /// The container's name in the pod template. Optional if there is only one container.
    pub container: Option<String>,
    /// Additional containers that run the same image.
    pub also: Vec<String>,
    /// Environment variables of the container. `DEPLOY_PLATFORM` defaults to `eks`, unless `platform-variable` is `off`.
    pub variables: BTreeMap<String, String>,
    /// The number of restarts after which a container in a crash loop has failed. `None` for the default of bp-eks.
    pub restarts: Option<NonZeroU32>,
    /// How long new pods may be refused, or wait for what somebody else creates. `None` for the default of bp-eks.
    pub grace: Option<Duration>,
    /// Whether a workload that another controller owns may be changed. Defaults to `off`.
    pub allow_owner: bool,
    /// Whether a workload that is scaled to zero counts as deployed. Defaults to `off`.
    pub allow_no_replicas: bool,
    /// How traffic is shifted between two Services, if configured.
    pub traffic: Option<TrafficConfig>,
    /// Whether the workload gets annotations with commit and version of the image. Defaults to `on`.
    pub annotate: bool,
    /// Whether the pods are replaced when a referenced Secret or ConfigMap has changed. Defaults to `off`.
    pub restart_on_config: bool,
}

/// The object on Amazon EKS that an image is deployed to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EksObject {
    /// A workload, whose image is set.
    Workload(Workload),
    /// A Helm release, which is upgraded.
    Release(Box<ReleaseConfig>),
    /// Manifests, which are applied.
    Manifests(ManifestsConfig),
}

impl ServicePaths {
    /// The paths of the target on `platform`. Empty if none are configured: every change concerns it.
    pub fn of(&self, platform: DeployPlatform) -> &PathPatterns {
        let own = match platform {
            DeployPlatform::Ecs => &self.ecs,
            DeployPlatform::Eks => &self.eks,
        };
        own.as_ref().unwrap_or(&self.all)
    }
}

impl Config {
    /// The environments in order.
    pub fn environments(&self) -> &[EnvironmentConfig] {
        &self.environments
    }

    /// The environment with this name.
    ///
    /// # Errors
    /// When it does not exist; the message lists the existing ones.
    pub fn environment(&self, name: &str) -> Result<&EnvironmentConfig, ConfigError> {
        self.environments.iter().find(|e| e.name.as_str() == name).ok_or_else(|| {
            ConfigError::UnknownEnvironment {
                file: self.file.clone(),
                asked: name.to_owned(),
                known: self.environments.iter().map(|e| e.name.clone()).collect(),
            }
        })
    }

    /// The environment after `name`, which it is promoted to.
    pub fn next(&self, name: &Environment) -> Option<&EnvironmentConfig> {
        self.environments.get(self.position(name)?.checked_add(1)?)
    }

    /// The environment before `name`, which it is promoted from.
    pub fn previous(&self, name: &Environment) -> Option<&EnvironmentConfig> {
        self.environments.get(self.position(name)?.checked_sub(1)?)
    }

    fn position(&self, name: &Environment) -> Option<usize> {
        self.environments.iter().position(|e| e.name == *name)
    }
}

impl EnvironmentConfig {
    /// The registry's host.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// The services, in the order of the file.
    pub fn services(&self) -> &[ServiceConfig] {
        &self.services
    }

    /// The gates between the stages of a deployment, in the order of their names.
    pub fn gates(&self) -> &[GateConfig] {
        &self.gates
    }

    /// What an image needs to enter the environment.
    pub fn policy(&self) -> &PolicyConfig {
        &self.policy
    }

    /// The services with these names; without names, all of them or else the only one.
    ///
    /// # Errors
    /// When one is unknown, or none is named and there are several.
    pub fn choose(&self, names: &[ServiceName], all: bool) -> Result<Vec<&ServiceConfig>, ConfigError> {
        let known = || self.services.iter().filter_map(|service| service.name.clone()).collect::<Vec<_>>();
        if names.is_empty() {
            return match self.services.as_slice() {
                [_, _, ..] if !all => {
                    Err(ConfigError::NoServiceChosen { file: self.file.clone(), known: known() })
                }
                services => Ok(services.iter().collect()),
            };
        }
        if let Some(asked) = names.iter().find(|name| !known().contains(name)) {
            let asked = asked.to_string();
            return Err(ConfigError::UnknownService { file: self.file.clone(), asked, known: known() });
        }
        let is_chosen =
            |service: &&ServiceConfig| service.name.as_ref().is_some_and(|name| names.contains(name));
        Ok(self.services.iter().filter(is_chosen).collect())
    }

    /// The service with this name; without a name, the only one.
    ///
    /// # Errors
    /// When it is unknown, or none is named and there are several.
    pub fn service(&self, name: Option<&ServiceName>) -> Result<&ServiceConfig, ConfigError> {
        let names: Vec<ServiceName> = name.into_iter().cloned().collect();
        match self.choose(&names, false)?.as_slice() {
            [service] => Ok(service),
            services => {
                let chosen = services.iter().filter_map(|service| service.name.clone()).collect();
                Err(ConfigError::SeveralServices { chosen })
            }
        }
    }

    /// All settings of this environment with their origin, including defaults, ordered by key. With `[[service]]`, only
    /// those of the environment itself: [`ServiceConfig::settings`] has the others.
    pub fn settings(&self) -> &[Setting] {
        &self.settings
    }

    /// Where the environment is defined.
    pub fn origin(&self) -> &Origin {
        &self.origin
    }
}

impl ServiceConfig {
    /// All settings of this service in this environment with their origin, including defaults, ordered by key.
    pub fn settings(&self) -> &[Setting] {
        &self.settings
    }

    /// Where the service is defined, or the environment for a service without a name.
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// Whether an ECS service is configured.
    pub fn has_ecs(&self) -> bool {
        self.ecs.is_some()
    }

    /// Whether a workload or release on EKS is configured.
    pub fn has_eks(&self) -> bool {
        self.eks.is_some()
    }

    /// The same service without its target on `platform`.
    pub fn without(mut self, platform: DeployPlatform) -> Self {
        match platform {
            DeployPlatform::Ecs => self.ecs = None,
            DeployPlatform::Eks => self.eks = None,
        }
        self
    }

    /// The ECS service.
    ///
    /// # Errors
    /// When none is configured.
    pub fn ecs(&self) -> Result<&EcsConfig, ConfigError> {
        self.ecs.as_ref().ok_or_else(|| self.missing("ecs"))
    }

    /// The workload or release on EKS.
    ///
    /// # Errors
    /// When none is configured.
    pub fn eks(&self) -> Result<&EksConfig, ConfigError> {
        self.eks.as_ref().ok_or_else(|| self.missing("eks"))
    }

    fn missing(&self, section: &'static str) -> ConfigError {
        ConfigError::MissingSection {
            at: self.origin.clone(),
            environment: self.environment.clone(),
            service: self.name.clone(),
            section,
        }
    }
}

/// A gate in an environment: the condition for the next stage of a deployment to start.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct GateConfig {
    /// Its name.
    pub name: GateName,
    /// The targets before the gate. `None`: the last.
    pub after: Option<GatePosition>,
    /// The condition.
    pub condition: GateCondition,
    /// Whether it is a gate of a deployment. Otherwise it only defines a check, for `verify` and for shifts of traffic.
    pub deploy: bool,
    /// Whether `verify` runs the check.
    pub verify: bool,
}

/// The targets before a gate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GatePosition {
    /// The service. `None` in a file without `[[service]]`.
    pub service: Option<ServiceName>,
    /// The platform. `None`: every one that the service is deployed to.
    pub platform: Option<DeployPlatform>,
}

/// The condition for a gate to open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GateCondition {
    /// An approval.
    Approval,
    /// An HTTP endpoint responds as expected.
    Http {
        /// The URL.
        url: String,
        /// The status. `None`: 200 to 299.
        status: Option<u16>,
        /// A text that the body contains.
        contains: Option<String>,
        /// Values in the body as JSON, by JSON pointer.
        fields: BTreeMap<String, String>,
        /// How long the check is repeated.
        timeout: Duration,
    },
    /// A command exits with code 0.
    Command {
        /// The program.
        program: String,
        /// Its arguments.
        arguments: Vec<String>,
        /// How long the check is repeated.
        timeout: Duration,
    },
    /// CloudWatch alarms are in the state `OK`.
    Alarms {
        /// Their names, at least one.
        names: Vec<String>,
        /// How long the check is repeated.
        timeout: Duration,
    },
    /// A Kubernetes Job completes.
    Job {
        /// The file of its manifest.
        manifest: PathBuf,
        /// The EKS cluster's name.
        cluster: String,
        /// The namespace.
        namespace: String,
        /// How long the Job may run.
        timeout: Duration,
    },
}
