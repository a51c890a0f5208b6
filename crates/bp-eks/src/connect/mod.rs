//! Connect to an EKS cluster: a `kube::Client` from its name, its access entries, and the `aws-auth` ConfigMap.

mod access;
mod api;
mod aws_auth;
mod error;
mod session;
mod token;

use std::{fmt, path::Path, sync::Arc, time::Duration};

use aws_credential_types::provider::SharedCredentialsProvider;
use backon::{BackoffBuilder as _, ExponentialBuilder};
use bp_artifact::{error::Classified as _, text::SingleLine, time::TimeSource};
use bytes::Bytes;
use http::{Request, Response};
use kube::{
    Client, Config,
    client::{Body, ClientBuilder, ConfigExt},
    config::{KubeConfigOptions, Kubeconfig},
};
use secrecy::SecretString;
use tokio::time::{Instant, sleep};
use tower::{BoxError, Service, ServiceBuilder, buffer::Buffer, layer::layer_fn};

pub(crate) use access::explanation;
pub use access::{Access, AccessEntry};
use access::{Caller, Refusals};
pub use api::ClusterInfo;
use api::EksApi;
pub use aws_auth::{AwsAuth, AwsAuthEntry, AwsAuthError};
pub use error::ConnectError;
use session::{Identity, Session};
pub(crate) use token::TokenError;
use token::Tokens;

/// The timeout of DNS, TCP and TLS together.
const CONNECT: Duration = Duration::from_secs(10);
/// The read timeout: longer than a watch lasts, so that only dead connections are closed.
const SILENCE: Duration = Duration::from_secs(330);
/// The longest pause between two descriptions of the cluster.
const LONGEST_PAUSE: Duration = Duration::from_secs(15);
/// The number of requests that may wait for the connection pool.
const WAITING: usize = 1024;

/// Connects to an EKS cluster by name, without kubeconfig, kubectl or AWS CLI.
///
/// The client signs its own tokens, renews them before they expire, and once when the cluster rejects one. It retries
/// requests while the API server is overloaded or unreachable, each time with a valid token.
///
/// ```no_run
/// use aws_credential_types::provider::SharedCredentialsProvider;
/// use bp_eks::Connector;
///
/// # use bp_eks::ConnectError;
/// # async fn run(eks: aws_sdk_eks::Client, credentials: SharedCredentialsProvider) -> Result<(), ConnectError> {
/// let client: kube::Client = Connector::new(eks, credentials, "eu-central-1", "shop").connect().await?;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Connector {
    api: EksApi,
    credentials: SharedCredentialsProvider,
    time: TimeSource,
    caller: Option<Caller>,
    retry_for: Duration,
    known: Option<ClusterInfo>,
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let EksApi { region, cluster, .. } = &self.api;
        f.debug_struct("Connector").field("region", region).field("cluster", cluster).finish_non_exhaustive()
    }
}

impl Connector {
    /// A connector for `cluster` in `region`. `eks` describes the cluster; `credentials` sign the tokens and must
    /// belong to an identity with an access entry.
    pub fn new(
        eks: aws_sdk_eks::Client,
        credentials: SharedCredentialsProvider,
        region: impl Into<String>,
        cluster: impl Into<String>,
    ) -> Self {
        let (region, cluster) = (region.into(), cluster.into());
        let api = EksApi { eks, region, cluster };
        let time = TimeSource::system();
        Connector { api, credentials, time, caller: None, retry_for: Duration::ZERO, known: None }
    }

    /// How long a connection is retried while the EKS API is failing or cannot be reached. Defaults to zero: only the
    /// SDK retries.
    pub fn retry_for(mut self, time: Duration) -> Self {
        self.retry_for = time;
        self
    }

    /// The description of the cluster from an earlier [`describe`](Self::describe), with which a connection is made
    /// without delay while the EKS API is failing or cannot be reached: the cluster itself does not depend on it.
    pub fn known_cluster(mut self, cluster: ClusterInfo) -> Self {
        self.known = Some(cluster);
        self
    }

    /// Sets the clock.
    pub fn time_source(mut self, time: TimeSource) -> Self {
        self.time = time;
        self
    }

    /// Sets a function that returns the ARN of the caller, as `aws sts get-caller-identity` prints it. It is called
    /// only when the cluster rejects the credentials (401): then [`access`](Self::access) runs, and the error states
    /// what is missing.
    ///
    /// With `aws_sdk_sts`: `move || { let sent = sts.get_caller_identity().send(); async { sent.await.ok()?.arn } }`;
    /// or with a known ARN:
    ///
    /// ```
    /// # fn with(connector: bp_eks::Connector) -> bp_eks::Connector {
    /// let role = || Some("arn:aws:sts::111111111111:assumed-role/deploy/build-7".to_owned());
    /// connector.caller(move || std::future::ready(role()))
    /// # }
    /// ```
    ///
    /// # Permissions
    /// As [`access`](Self::access), when it is called.
    pub fn caller<F, A>(mut self, ask: F) -> Self
    where
        F: Fn() -> A + Send + Sync + 'static,
        A: Future<Output = Option<String>> + Send + 'static,
    {
        self.caller = Some(Arc::new(move || Box::pin(ask())));
        self
    }

    /// Describes the cluster with the EKS API.
    ///
    /// # Errors
    /// When the cluster does not exist or is not active, or the EKS API call fails.
    ///
    /// # Permissions
    /// `eks:DescribeCluster` on the cluster.
    ///
    /// # Cancel safety
    /// Cancel safe: it only reads.
    pub async fn describe(&self) -> Result<ClusterInfo, ConnectError> {
        self.api.describe().await
    }

    /// The description of the cluster, or the known one while the EKS API is unavailable.
    async fn cluster(&self) -> Result<ClusterInfo, ConnectError> {
        let until = bp_artifact::time::deadline(self.retry_for);
        let mut pauses = pauses().build();
        loop {
            let error = match self.describe().await {
                Err(error) if error.is_retryable() => error,
                result => return result,
            };
            if let Some(known) = &self.known {
                tracing::warn!(error = %SingleLine(&error), "failed to describe the cluster, using its earlier description");
                return Ok(known.clone());
            }
            let left = until.saturating_duration_since(Instant::now());
            let Some(pause) = pauses.next().filter(|_| !left.is_zero()) else { return Err(error) };
            tracing::warn!(error = %SingleLine(&error), "failed to describe the cluster, retrying");
            sleep(pause.min(left)).await;
        }
    }

    /// Builds a client for the cluster.
    ///
    /// Sends nothing to the Kubernetes API: whether it accepts the credentials shows with the first request.
    ///
    /// # Errors
    /// As [`describe`](Self::describe), unless the cluster is [known](Self::known_cluster) and the EKS API is
    /// unavailable; or when the certificates are invalid.
    ///
    /// # Permissions
    /// `eks:DescribeCluster` on the cluster. In the cluster, an access entry for the identity.
    ///
    /// # Cancel safety
    /// Cancel safe: it only reads.
    pub async fn connect(&self) -> Result<Client, ConnectError> {
        let cluster = self.cluster().await?;
        client(config(&cluster), Some(self.identity(&cluster)))
    }

    /// Builds a client for the cluster over a custom transport: a proxy, a bastion, or a mock in tests.
    ///
    /// # Errors
    /// As [`describe`](Self::describe).
    ///
    /// # Permissions
    /// As [`connect`](Self::connect).
    ///
    /// # Cancel safety
    /// Cancel safe: it only reads.
    pub async fn connect_with<S, B>(&self, transport: S) -> Result<Client, ConnectError>
    where
        S: Service<Request<Body>, Response = Response<B>> + Clone + Send + 'static,
        S::Future: Send + 'static,
        S::Error: Into<BoxError>,
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let cluster = self.cluster().await?;
        let config = config(&cluster);
        let identity = self.identity(&cluster);
        let service = ServiceBuilder::new()
            .layer(layer_fn(|inner| Session::new(inner, Some(Arc::clone(&identity)))))
            .layer(config.base_uri_layer())
            .service(transport);
        Ok(Client::new(service, config.default_namespace))
    }

    /// A token for the cluster, as `aws eks get-token` prints it, for programs that call the cluster themselves. It is
    /// valid for 15 minutes; clients from [`connect`](Self::connect) renew their own.
    ///
    /// # Errors
    /// As [`describe`](Self::describe), or when there are no credentials to sign with.
    ///
    /// # Permissions
    /// As [`connect`](Self::connect).
    ///
    /// # Cancel safety
    /// Cancel safe: it only reads.
    pub async fn token(&self) -> Result<SecretString, ConnectError> {
        let cluster = self.cluster().await?;
        let token = self.tokens(&cluster).get().await;
        let token = token.map_err(|e| ConnectError::NoCredentials { source: e.into() })?;
        Ok(token.expose().into())
    }

    /// Looks up the access entry of `caller`, an ARN as `aws sts get-caller-identity` prints it.
    ///
    /// A lookup that is denied is [`AccessEntry::Unknown`], not an error. A client of a connector with a
    /// [caller](Self::caller) does this lookup itself when the cluster rejects it.
    ///
    /// ```no_run
    /// # async fn run(connector: bp_eks::Connector) -> Result<(), bp_eks::ConnectError> {
    /// let access = connector.access("arn:aws:sts::111111111111:assumed-role/deploy/build-7").await?;
    /// println!("{access}"); // no access entry exists for arn:aws:iam::111111111111:role/deploy: aws eks create-…
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`describe`](Self::describe).
    ///
    /// # Permissions
    /// `eks:DescribeCluster` on the cluster; `eks:DescribeAccessEntry` on its access entries and
    /// `eks:ListAccessEntries` on the cluster, without which the entry is [`AccessEntry::Unknown`].
    ///
    /// # Cancel safety
    /// Cancel safe: it only reads.
    pub async fn access(&self, caller: &str) -> Result<Access, ConnectError> {
        self.api.access(caller).await
    }

    fn identity(&self, cluster: &ClusterInfo) -> Arc<Identity> {
        let refusals =
            self.caller.clone().map(|caller| Refusals::new(self.api.clone(), caller, self.time.clone()));
        Arc::new(Identity { tokens: self.tokens(cluster), refusals })
    }

    fn tokens(&self, cluster: &ClusterInfo) -> Tokens {
        Tokens::new(
            cluster.token_id.clone(),
            self.api.region.clone(),
            self.credentials.clone(),
            self.time.clone(),
        )
    }
}

/// Builds a client from a kubeconfig file: `path`, or the files in `KUBECONFIG`, or `~/.kube/config`. `context`
/// defaults to the current context.
///
/// ```no_run
/// # async fn run() -> Result<(), bp_eks::ConnectError> {
/// let client = bp_eks::from_kubeconfig(None, Some("shop")).await?; // or, in a pod: bp_eks::connect::in_cluster()?
/// # Ok(()) }
/// ```
///
/// # Errors
/// When the file or the context is missing or invalid.
///
/// # Permissions
/// None to connect.
///
/// # Cancel safety
/// Cancel safe: it only reads.
pub async fn from_kubeconfig(path: Option<&Path>, context: Option<&str>) -> Result<Client, ConnectError> {
    let failed = |e: BoxError| ConnectError::Kubeconfig {
        path: path.map(Path::to_owned),
        context: context.map(str::to_owned),
        source: e,
    };
    let options = KubeConfigOptions { context: context.map(str::to_owned), ..KubeConfigOptions::default() };
    let config = match path {
        Some(path) => {
            let kubeconfig = Kubeconfig::read_from(path).map_err(|e| failed(e.into()))?;
            Config::from_custom_kubeconfig(kubeconfig, &options).await
        }
        None => Config::from_kubeconfig(&options).await,
    };
    client(config.map_err(|e| failed(e.into()))?, None)
}

/// Builds a client for a program that runs in a pod of the cluster, with the pod's service account.
///
/// # Errors
/// [`ConnectError::NotInCluster`] outside of a pod.
///
/// # Panics
/// Outside a tokio runtime.
pub fn in_cluster() -> Result<Client, ConnectError> {
    let config = Config::incluster().map_err(|e| ConnectError::NotInCluster { source: e.into() })?;
    client(config, None)
}

/// The pauses between descriptions of the cluster, without an end.
fn pauses() -> ExponentialBuilder {
    ExponentialBuilder::default().with_max_delay(LONGEST_PAUSE).with_jitter().without_max_times()
}

fn config(cluster: &ClusterInfo) -> Config {
    let mut config = Config::new(cluster.endpoint.clone());
    config.root_cert = Some(cluster.certificates.clone());
    config
}

/// kube's client stack with a [`Session`] in front. kube's retries are disabled: they last up to 15 minutes.
fn client(mut config: Config, identity: Option<Arc<Identity>>) -> Result<Client, ConnectError> {
    config.default_retry = false;
    config.connect_timeout = Some(CONNECT);
    (config.read_timeout, config.reset_reader_on_write) = (Some(SILENCE), true);
    let stack = ClientBuilder::try_from(config).map_err(|e| ConnectError::Unusable { source: e.into() })?;
    let session = layer_fn(|inner| Session::new(Buffer::new(inner, WAITING), identity.clone()));
    Ok(stack.with_layer(&session).build())
}
