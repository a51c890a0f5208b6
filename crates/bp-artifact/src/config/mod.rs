//! `bp.toml`: the environments of a project, in the order in which an image passes through them.

mod error;
mod gates;
mod keys;
mod layer;
mod loader;
mod name;
mod origin;
mod read;
mod schema;
mod services;

use std::{
    collections::BTreeMap,
    num::NonZeroU32,
    path::{Path, PathBuf},
    time::Duration,
};

pub use error::ConfigError;
pub use gates::{GateCondition, GateConfig, GatePlace};
pub use layer::Setting;
pub use loader::ConfigLoader;
pub use name::{AccountId, Environment, Region, RoleArn, ServiceName, Workload, WorkloadKind};
pub use origin::Origin;
pub use schema::config_schema;

use crate::{
    deploy::OnFailure,
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
    file: String,
    /// The project.
    pub project: Project,
    environments: Vec<EnvironmentConfig>,
}

/// What is the same in every environment.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Project {
    /// The project's name.
    pub name: String,
}

/// An environment: where its account and registry are, and what is deployed there.
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
    /// The AWS account, when it is pinned: work in another account is refused.
    pub account: Option<AccountId>,
    /// The AWS region.
    pub region: Region,
    /// The role to assume.
    pub role: Option<RoleArn>,
    registry: Registry,
    services: Vec<ServiceConfig>,
    gates: Vec<GateConfig>,
    settings: Vec<Setting>,
    origin: Origin,
    file: String,
}

/// A service in an environment: its image's repository, and where it is deployed to.
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
    /// How deployments go here.
    pub deploy: DeployPolicy,
    /// How much at a time, and how much may fail.
    pub limits: Limits,
    /// The tags of everything that is created for it here: Project, App, Environment, Service (of one with a name),
    /// Owner (where one is named), ManagedBy, and what the file adds.
    pub tags: BTreeMap<String, String>,
    ecs: Option<EcsConfig>,
    eks: Option<EksConfig>,
    settings: Vec<Setting>,
    environment: Environment,
    origin: Origin,
}

/// How deployments go in an environment.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeployPolicy {
    /// How long a deployment may take. 15 minutes, unless the file says otherwise.
    pub timeout: Duration,
    /// How long to wait for an image to appear in the registry. 5 minutes, unless the file says otherwise.
    pub image_timeout: Duration,
    /// What to do when a deployment fails. Go back, unless the file says `leave`.
    pub on_failure: OnFailure,
    /// Which platform is deployed to first. `None`: both at once.
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
    /// So many.
    Count(NonZeroU32),
    /// So many in a hundred of those that are wanted, from 1 to 100.
    Percent(NonZeroU32),
}

impl FailureLimit {
    /// How many of `wanted` that are: at least one.
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
                let count = u64::from(wanted) * u64::from(percent.get()) / 100;
                u32::try_from(count).ok().and_then(NonZeroU32::new).unwrap_or(NonZeroU32::MIN)
            }
        }
    }
}

/// How much at a time, and how much may fail. `None`: what the library that is asked holds for right.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// How many tasks or pods may fail before a deployment is given up.
    pub failures: Option<FailureLimit>,
    /// How many blobs a promotion to here carries at a time.
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
    /// The container's name in the task definition. May be left out when there is one container only.
    pub container: Option<String>,
    /// Further containers that run the same image.
    pub also: Vec<String>,
    /// The file of a task definition that is deployed instead of the one that the service runs.
    pub definition: Option<PathBuf>,
    /// The task's CPU units, as ECS writes them.
    pub cpu: Option<String>,
    /// The task's memory, as ECS writes it.
    pub memory: Option<String>,
    /// Environment variables of the container. `DEPLOY_PLATFORM` is `ecs`, unless the file says otherwise.
    pub variables: BTreeMap<String, String>,
    /// Secrets of the container, by their references.
    pub secrets: BTreeMap<String, String>,
    /// Options of the container's log driver.
    pub log_options: BTreeMap<String, String>,
    /// Images of other containers.
    pub images: BTreeMap<String, DigestRef>,
    /// Whether task definitions are registered with tags. They are, unless the file says `off`.
    pub tagging: bool,
}

/// A workload or a Helm release on Amazon EKS, and the container that runs the image.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct EksConfig {
    /// The cluster's name.
    pub cluster: String,
    /// The namespace.
    pub namespace: String,
    /// What is deployed to.
    pub object: EksObject,
    /// The container's name in the pod template. May be left out when there is one container only.
    pub container: Option<String>,
    /// Environment variables of the container. `DEPLOY_PLATFORM` is `eks`, unless the file says otherwise.
    pub variables: BTreeMap<String, String>,
}

/// What an image is deployed to on Amazon EKS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EksObject {
    /// A workload, whose image is set.
    Workload(Workload),
    /// A Helm release, which is upgraded.
    Release(ReleaseConfig),
}

/// A Helm release.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReleaseConfig {
    /// Its name.
    pub name: String,
    /// The chart: a directory, an archive, or `oci://...`.
    pub chart: String,
    /// Files of values; the later win.
    pub values: Vec<PathBuf>,
    /// Where the chart's values take the digest, when that is not `image.digest`.
    pub digest_key: Option<String>,
}

impl Config {
    /// Reads `bp.toml`.
    ///
    /// # Errors
    /// When the file cannot be read or says something that is wrong; the message names file, line and column.
    pub fn load(path: impl AsRef<Path>) -> Result<Self, ConfigError> {
        ConfigLoader::new(path.as_ref()).load()
    }

    /// Reads `text`; `file` is its name in messages.
    ///
    /// # Errors
    /// When it says something that is wrong.
    pub fn parse(text: &str, file: &str) -> Result<Self, ConfigError> {
        read::config(file, layer::read(text, file)?)
    }

    /// The environments in order.
    pub fn environments(&self) -> &[EnvironmentConfig] {
        &self.environments
    }

    /// The environment called `name`.
    ///
    /// # Errors
    /// When there is none; the message lists those there are.
    pub fn environment(&self, name: &str) -> Result<&EnvironmentConfig, ConfigError> {
        self.environments.iter().find(|e| e.name.as_str() == name).ok_or_else(|| {
            ConfigError::UnknownEnvironment {
                file: self.file.clone(),
                asked: name.to_owned(),
                known: self.environments.iter().map(|e| e.name.clone()).collect(),
            }
        })
    }

    /// The environment that comes after `name`.
    pub fn next(&self, name: &Environment) -> Option<&EnvironmentConfig> {
        self.environments.get(self.position(name)? + 1)
    }

    /// The environment that comes before `name`: the one that it is promoted from.
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

    /// The services of these names; without names, all or else the only one.
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

    /// The service of this name; without a name, the only one.
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

    /// Every setting of this environment, also those by default, with where it comes from; in the order of their keys.
    /// With `[[service]]`, those that the environment itself has: [`ServiceConfig::settings`] has the others.
    pub fn settings(&self) -> &[Setting] {
        &self.settings
    }

    /// Where the environment is.
    pub fn origin(&self) -> &Origin {
        &self.origin
    }
}

impl ServiceConfig {
    /// Every setting of this service here, also those by default, with where it comes from; in the order of their keys.
    pub fn settings(&self) -> &[Setting] {
        &self.settings
    }

    /// Where the service is, or the environment of one without a name.
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
