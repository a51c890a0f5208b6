//! AWS, Kubernetes and registry clients of one environment.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use aws_config::{Region, SdkConfig};
use aws_credential_types::provider::ProvideCredentials as _;
use bp_artifact::{
    Registry, ResolvedImage,
    aws::RequestSpans,
    resolve::{EcrResolver, PlatformImage, Resolve},
    text::SingleLine,
    time::Wait,
};
use bp_eks::{ConnectError, Connector};
use bp_promote::registry::{DockerConfig, EcrClients, RegistryResolver};
use bp_secrets::{ParameterStore, Reference, SecretsManager, Stores};
use tokio::sync::Mutex;

use super::Endpoints;
use crate::Failure;

/// How long a connection to a cluster is retried while the EKS API is failing.
const OUTAGE: Duration = Duration::from_secs(60);

/// How long to wait for the preview of a lifecycle policy, and how often to poll it.
fn lifecycle_preview() -> Result<Wait, Failure> {
    Ok(Wait::new(Duration::from_secs(10), Duration::from_secs(2))?)
}

/// The clients of one environment: in its region, with its role. Made by [`Session::open`](super::Session::open).
#[derive(Clone)]
pub struct Clients {
    pub(super) config: SdkConfig,
    pub(super) endpoints: Endpoints,
    /// The clients of connected clusters, by cluster name.
    clusters: Arc<Mutex<BTreeMap<String, kube::Client>>>,
}

impl std::fmt::Debug for Clients {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Clients")
            .field("config", &self.config)
            .field("endpoints", &self.endpoints)
            .finish_non_exhaustive()
    }
}

impl Clients {
    pub(super) fn new(config: SdkConfig, endpoints: Endpoints) -> Self {
        Clients { config, endpoints, clusters: Arc::default() }
    }

    /// The endpoint overrides.
    pub fn endpoints(&self) -> &Endpoints {
        &self.endpoints
    }

    /// Whether there are AWS credentials.
    ///
    /// # Permissions
    /// None.
    ///
    /// # Cancel safety
    /// Cancel safe: changes nothing.
    pub async fn has_credentials(&self) -> bool {
        match self.config.credentials_provider() {
            Some(provider) => provider.provide_credentials().await.is_ok(),
            None => false,
        }
    }

    /// The caller as AWS sees it, and AWS's time if it responded.
    #[cfg(feature = "cli")]
    pub(crate) async fn identity(
        &self,
    ) -> (Result<String, bp_artifact::aws::AwsError>, Option<jiff::Timestamp>) {
        use bp_artifact::aws::{AwsError, ServerTime};

        let time = ServerTime::default();
        let config = aws_sdk_sts::config::Builder::from(&self.config).interceptor(time.clone()).build();
        let response = aws_sdk_sts::Client::from_conf(config).get_caller_identity().send().await;
        let identity = response
            .map(|identity| identity.arn().unwrap_or("an identity without an ARN").to_owned())
            .map_err(|error| AwsError::of(&error));
        (identity, time.latest())
    }
    /// Amazon ECR in the region of `registry`, or in the environment's region if it is not an ECR registry.
    pub fn ecr(&self, registry: &Registry) -> aws_sdk_ecr::Client {
        let mut config = aws_sdk_ecr::config::Builder::from(&self.config).interceptor(RequestSpans);
        if let Some((_, region)) = registry.ecr() {
            config = config.region(Region::new(region.to_owned()));
        }
        aws_sdk_ecr::Client::from_conf(config.build())
    }

    /// Amazon ECS.
    pub fn ecs(&self) -> aws_sdk_ecs::Client {
        client!(aws_sdk_ecs, &self.config)
    }

    /// Secrets Manager and Parameter Store, in the environment's region and in the regions of `references`.
    pub fn secrets(&self, references: &[Reference]) -> Stores {
        let own = self.config.region().map(ToString::to_string);
        let referenced = references.iter().filter_map(|reference| Some(reference.arn()?.region().to_owned()));
        let mut regions: Vec<String> = own.into_iter().collect();
        for region in referenced {
            if !regions.contains(&region) {
                regions.push(region);
            }
        }
        regions.into_iter().fold(Stores::new(), |stores, region| {
            let config = self.config.clone().into_builder().region(Region::new(region)).build();
            stores
                .secrets_manager(SecretsManager::new(client!(aws_sdk_secretsmanager, &config)))
                .parameter_store(ParameterStore::new(client!(aws_sdk_ssm, &config)))
        })
    }

    /// Amazon CloudWatch.
    #[cfg(feature = "alarms")]
    pub fn cloudwatch(&self) -> aws_sdk_cloudwatch::Client {
        client!(aws_sdk_cloudwatch, &self.config)
    }

    /// Amazon EventBridge and EventBridge Scheduler.
    #[cfg(feature = "schedules")]
    pub fn schedules(&self) -> bp_ecs::Schedules {
        bp_ecs::Schedules::new(
            client!(aws_sdk_eventbridge, &self.config),
            client!(aws_sdk_scheduler, &self.config),
        )
    }

    /// Amazon CloudWatch Logs.
    #[cfg(feature = "logs")]
    pub fn logs(&self) -> aws_sdk_cloudwatchlogs::Client {
        client!(aws_sdk_cloudwatchlogs, &self.config)
    }

    /// Elastic Load Balancing; `None` if a kubeconfig replaces EKS.
    #[cfg(feature = "preflight")]
    pub fn load_balancers(&self) -> Option<aws_sdk_elasticloadbalancingv2::Client> {
        let client = || client!(aws_sdk_elasticloadbalancingv2, &self.config);
        self.endpoints.kubeconfig.is_none().then(client)
    }

    /// The clients with which EKS preflight checks look up the AWS role of the pods, as far as this build supports
    /// them. Empty if a kubeconfig replaces EKS.
    pub fn eks_lookups(&self) -> bp_eks::preflight::Lookups {
        let lookups = bp_eks::preflight::Lookups::default();
        if self.endpoints.kubeconfig.is_some() {
            return lookups;
        }
        #[cfg(feature = "preflight")]
        let lookups = lookups.iam(client!(aws_sdk_iam, &self.config));
        lookups.eks(client!(aws_sdk_eks, &self.config))
    }

    /// The Kubernetes API of the EKS cluster `cluster`, or of the kubeconfig that replaces it.
    ///
    /// # Errors
    /// When the cluster does not exist, EKS cannot be reached, or the kubeconfig is invalid.
    ///
    /// # Permissions
    /// `eks:DescribeCluster`.
    ///
    /// # Cancel safety
    /// Cancel safe: changes nothing.
    pub async fn kube(&self, cluster: &str) -> Result<kube::Client, Failure> {
        // The lock is held during the connection, so that each cluster is described once.
        let mut clusters = self.clusters.lock().await;
        if let Some(client) = clusters.get(cluster) {
            return Ok(client.clone());
        }
        let client = self.try_kube(cluster, Some(OUTAGE)).await?;
        clusters.insert(cluster.to_owned(), client.clone());
        Ok(client)
    }

    /// As [`kube`](Self::kube), with the error of the library; each call connects anew, and retries for this time while
    /// the EKS API is failing.
    pub(crate) async fn try_kube(
        &self,
        cluster: &str,
        retry_for: Option<Duration>,
    ) -> Result<kube::Client, ConnectError> {
        if let Some(file) = &self.endpoints.kubeconfig {
            return bp_eks::from_kubeconfig(Some(file), None).await;
        }
        let region = self.config.region().map(ToString::to_string).unwrap_or_default();
        let credentials = self.config.credentials_provider();
        let credentials =
            credentials.ok_or_else(|| ConnectError::NoCredentials { source: "no AWS credentials".into() })?;
        let eks = client!(aws_sdk_eks, &self.config);
        let sts = client!(aws_sdk_sts, &self.config);
        let caller = move || {
            let identity = sts.get_caller_identity().send();
            async { identity.await.ok()?.arn }
        };
        let connector = Connector::new(eks, credentials, region, cluster).caller(caller);
        connector.retry_for(retry_for.unwrap_or_default()).connect().await
    }

    /// The resolver for images in `registry`: by the Amazon ECR API, or by the registry API with the credentials of the
    /// docker configuration.
    ///
    /// # Errors
    /// When a registry's URL is not valid.
    pub fn resolver(&self, registry: &Registry) -> Result<Box<dyn Resolve>, Failure> {
        Ok(match registry.ecr() {
            Some(_) => Box::new(EcrResolver::new(self.ecr(registry)).lifecycle_preview(lifecycle_preview()?)),
            None => Box::new(RegistryResolver::new(self.endpoints.registry_client(DockerConfig)?)),
        })
    }

    /// Adds the platform from the image configuration, if the image is not an index; preflight compares it with the
    /// nodes. Returns the image unchanged if the configuration cannot be read.
    ///
    /// # Permissions
    /// Those to pull the image.
    ///
    /// # Cancel safety
    /// Cancel safe: reads only.
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
                let error = SingleLine(&error);
                tracing::debug!(%error, image = %image.reference, "failed to read the image's configuration");
                None
            }
        };
        let digest = image.digest().clone();
        let platforms = platform.map(|platform| PlatformImage::new(platform, digest)).into_iter().collect();
        ResolvedImage { platforms, ..image }
    }
}
