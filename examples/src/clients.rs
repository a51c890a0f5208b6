//! The clients of one environment: its region, its role, and where its endpoints are.

use std::{collections::BTreeMap, path::PathBuf};

use aws_config::{BehaviorVersion, Region, SdkConfig, sts::AssumeRoleProvider};
use aws_credential_types::{
    Credentials,
    provider::{ProvideCredentials, SharedCredentialsProvider},
};
use bp_artifact::{
    EcrResolver, EnvironmentConfig, ErrorClass, PlatformImage, Registry, Resolve, ResolvedImage,
};
use bp_eks::Connector;
use bp_promote::{
    RegistryClient,
    registry::{CredentialSource, DockerConfig, EcrClients, RegistryClientBuilder, RegistryResolver},
};
use bp_secrets::{ParameterStore, Reference, SecretsManager, Stores};

use crate::Failure;

/// Where the outside world is, when it is not where it usually is.
#[derive(Debug, Clone, Default)]
pub struct Endpoints {
    /// One endpoint for all AWS APIs. The SDK reads `AWS_ENDPOINT_URL` by itself; this wins.
    pub aws: Option<String>,
    /// Credentials, when they do not come from the SDK's usual places.
    pub credentials: Option<Credentials>,
    /// Registry host -> base URL that answers for it, such as a loopback sandbox or a pull-through proxy.
    pub registries: BTreeMap<String, String>,
    /// The cluster is the one of this file's current context, and EKS is not asked for it.
    pub kubeconfig: Option<PathBuf>,
}

/// `host=url` pairs, separated by commas.
const REGISTRIES: &str = "BP_REGISTRY_ENDPOINTS";
const KUBECONFIG: &str = "BP_KUBECONFIG";

impl Endpoints {
    /// Reads `BP_REGISTRY_ENDPOINTS`, `host=url` pairs separated by commas, and `BP_KUBECONFIG`, a file.
    ///
    /// # Errors
    /// When a pair has no `=`.
    pub fn from_env() -> Result<Self, Failure> {
        let text = std::env::var(REGISTRIES).unwrap_or_default();
        let pair = |pair: &str| match pair.split_once('=') {
            Some((host, url)) => Ok((host.trim().to_owned(), url.trim().to_owned())),
            None => Err(Failure::bad_input(format!("{REGISTRIES}: {pair:?} is not of the form host=url"))),
        };
        let registries =
            text.split(',').filter(|p| !p.trim().is_empty()).map(pair).collect::<Result<_, _>>()?;
        let kubeconfig = std::env::var_os(KUBECONFIG).filter(|file| !file.is_empty()).map(PathBuf::from);
        Ok(Endpoints { registries, kubeconfig, ..Self::default() })
    }

    /// A registry client that knows where the registries are and signs in by `credentials`.
    ///
    /// # Errors
    /// When a registry's URL is none.
    pub fn registry_client(
        &self,
        credentials: impl CredentialSource + 'static,
    ) -> Result<RegistryClient, Failure> {
        Ok(self.registries()?.credentials(credentials).build()?)
    }

    /// A registry client in the making that knows where the registries are.
    ///
    /// # Errors
    /// When a registry's name is none.
    pub fn registries(&self) -> Result<RegistryClientBuilder, Failure> {
        let mut builder = RegistryClient::builder();
        for (host, url) in &self.registries {
            builder = builder.endpoint(host.parse()?, url);
        }
        Ok(builder)
    }
}

/// The AWS configuration of one environment, from which its clients are made.
#[derive(Debug, Clone)]
pub struct Clients {
    config: SdkConfig,
    endpoints: Endpoints,
}

impl Clients {
    /// Loads credentials, assumes the environment's role and checks that it ends up in the environment's account.
    ///
    /// # Errors
    /// When there are no credentials or the role cannot be assumed (unavailable), or when the account is another one
    /// than `bp.toml` says (refused).
    pub async fn of(environment: &EnvironmentConfig, endpoints: &Endpoints) -> Result<Self, Failure> {
        let region = Region::new(environment.region.as_str().to_owned());
        let mut config = load(Some(region), endpoints).await;
        let none = "no AWS credentials (set AWS_PROFILE, or run where a role is attached)";
        sign_in(&config, none, environment).await?;
        if let Some(role) = &environment.role {
            let builder = AssumeRoleProvider::builder(role.as_str()).session_name("bp").configure(&config);
            let provider = SharedCredentialsProvider::new(builder.build().await);
            config = config.into_builder().credentials_provider(provider).build();
            sign_in(&config, &format!("cannot assume {role}"), environment).await?;
        }
        let clients = Clients { config, endpoints: endpoints.clone() };
        clients.check_account(environment).await?;
        Ok(clients)
    }

    /// With the credentials and the region at hand, for work that belongs to no environment.
    pub async fn ambient(endpoints: &Endpoints) -> Self {
        Clients { config: load(None, endpoints).await, endpoints: endpoints.clone() }
    }

    /// Work in another account than `bp.toml` says is refused before it starts.
    async fn check_account(&self, environment: &EnvironmentConfig) -> Result<(), Failure> {
        let Some(expected) = &environment.account else { return Ok(()) };
        let identity = aws_sdk_sts::Client::new(&self.config).get_caller_identity().send().await;
        let identity = identity.map_err(|e| unavailable("cannot ask STS who we are", environment, &e))?;
        match identity.account() {
            Some(account) if account != expected.as_str() => Err(Failure::refused(format!(
                "the credentials are of the account {account}, but {} is {expected}: check the role in bp.toml",
                environment.name
            ))),
            _ => Ok(()),
        }
    }

    /// Amazon ECR in the region of `registry`, or in the environment's if that is no ECR registry.
    pub fn ecr(&self, registry: &Registry) -> aws_sdk_ecr::Client {
        let mut config = aws_sdk_ecr::config::Builder::from(&self.config);
        if let Some((_, region)) = registry.ecr() {
            config = config.region(Region::new(region.to_owned()));
        }
        aws_sdk_ecr::Client::from_conf(config.build())
    }

    /// Amazon ECS.
    pub fn ecs(&self) -> aws_sdk_ecs::Client {
        aws_sdk_ecs::Client::new(&self.config)
    }

    /// Secrets Manager and Parameter Store, in this region and in those that `references` name.
    pub fn secrets(&self, references: &[Reference]) -> Stores {
        let own = self.config.region().map(ToString::to_string);
        let named = references.iter().filter_map(|reference| Some(reference.arn()?.region().to_owned()));
        let mut regions: Vec<String> = own.into_iter().collect();
        for region in named {
            if !regions.contains(&region) {
                regions.push(region);
            }
        }
        regions.into_iter().fold(Stores::new(), |stores, region| {
            let config = self.config.clone().into_builder().region(Region::new(region)).build();
            stores
                .secrets_manager(SecretsManager::new(aws_sdk_secretsmanager::Client::new(&config)))
                .parameter_store(ParameterStore::new(aws_sdk_ssm::Client::new(&config)))
        })
    }

    /// Amazon CloudWatch Logs.
    #[cfg(feature = "logs")]
    pub fn logs(&self) -> aws_sdk_cloudwatchlogs::Client {
        aws_sdk_cloudwatchlogs::Client::new(&self.config)
    }

    /// Where preflight looks for roles, target groups and log groups, as far as this build can.
    pub fn lookups<'a>(&self) -> bp_ecs::Lookups<'a> {
        let lookups = bp_ecs::Lookups::default();
        #[cfg(feature = "logs")]
        let lookups = lookups.logs(self.logs());
        #[cfg(feature = "preflight")]
        let lookups = lookups
            .iam(aws_sdk_iam::Client::new(&self.config))
            .load_balancers(aws_sdk_elasticloadbalancingv2::Client::new(&self.config));
        lookups
    }

    /// Where preflight of a workload on EKS looks for the AWS role of its pods, as far as this build can. Not where a
    /// kubeconfig stands in for EKS.
    pub fn eks_lookups(&self) -> bp_eks::Lookups {
        let lookups = bp_eks::Lookups::default();
        if self.endpoints.kubeconfig.is_some() {
            return lookups;
        }
        #[cfg(feature = "preflight")]
        let lookups = lookups.iam(aws_sdk_iam::Client::new(&self.config));
        lookups.eks(aws_sdk_eks::Client::new(&self.config))
    }

    /// The Kubernetes API of the EKS cluster `cluster`, or of the kubeconfig that stands in for it.
    ///
    /// # Errors
    /// When there is no such cluster, EKS cannot be asked, or the kubeconfig is none.
    pub async fn kube(&self, cluster: &str) -> Result<kube::Client, Failure> {
        if let Some(file) = &self.endpoints.kubeconfig {
            return Ok(bp_eks::from_kubeconfig(Some(file), None).await?);
        }
        let region = self.config.region().map(ToString::to_string).unwrap_or_default();
        let credentials =
            self.config.credentials_provider().ok_or_else(|| Failure::unavailable("no AWS credentials"))?;
        let eks = aws_sdk_eks::Client::new(&self.config);
        let sts = aws_sdk_sts::Client::new(&self.config);
        let caller = move || {
            let identity = sts.get_caller_identity().send();
            async { identity.await.ok()?.arn }
        };
        Ok(Connector::new(eks, credentials, region, cluster).caller(caller).connect().await?)
    }

    /// The resolver for images in `registry`: by the API of Amazon ECR, or by the registry's own with the logins of
    /// docker's configuration.
    ///
    /// # Errors
    /// When a registry's URL is none.
    pub fn resolver(&self, registry: &Registry) -> Result<Box<dyn Resolve>, Failure> {
        Ok(match registry.ecr() {
            Some(_) => Box::new(EcrResolver::new(self.ecr(registry))),
            None => Box::new(RegistryResolver::new(self.endpoints.registry_client(DockerConfig)?)),
        })
    }
}

impl Clients {
    /// The image with the platform that its configuration names, if it is not an index: what a dry run holds against the
    /// nodes. As it was where the registry does not let the configuration be read.
    pub async fn with_platform(&self, image: ResolvedImage) -> ResolvedImage {
        if !image.platforms.is_empty() {
            return image;
        }
        let read = async {
            let repository = image.reference.repository();
            let registry = repository.registry();
            let builder = match registry.ecr() {
                Some(_) => self
                    .endpoints
                    .registries()?
                    .ecr(EcrClients::new().with(registry.clone(), self.ecr(registry))),
                None => self.endpoints.registries()?.credentials(DockerConfig),
            };
            let platform = builder.build()?.repository(repository).platform(image.digest()).await?;
            Ok::<_, Failure>(platform)
        };
        let platform = match read.await {
            Ok(platform) => platform,
            Err(error) => {
                tracing::debug!(%error, image = %image.reference, "failed to read the image's configuration");
                None
            }
        };
        let digest = image.digest().clone();
        let platforms = platform.map(|platform| PlatformImage::new(platform, digest)).into_iter().collect();
        ResolvedImage { platforms, ..image }
    }
}

async fn load(region: Option<Region>, endpoints: &Endpoints) -> SdkConfig {
    let mut loader = aws_config::defaults(BehaviorVersion::v2026_01_12());
    if let Some(region) = region {
        loader = loader.region(region);
    }
    if let Some(url) = &endpoints.aws {
        loader = loader.endpoint_url(url);
    }
    if let Some(credentials) = &endpoints.credentials {
        loader = loader.credentials_provider(credentials.clone());
    }
    loader.load().await
}

/// One clear line for missing credentials now, instead of one from the middle of the work.
async fn sign_in(config: &SdkConfig, what: &str, environment: &EnvironmentConfig) -> Result<(), Failure> {
    match config.credentials_provider() {
        Some(provider) => match provider.provide_credentials().await {
            Ok(_) => Ok(()),
            Err(error) => Err(unavailable(what, environment, &error)),
        },
        None => Err(Failure::unavailable(format!("{what} for the environment {}", environment.name))),
    }
}

fn unavailable(what: &str, environment: &EnvironmentConfig, error: &dyn std::error::Error) -> Failure {
    let error = Failure::new(ErrorClass::Unavailable, error);
    Failure::unavailable(format!("{what} for the environment {}: {error}", environment.name))
}
