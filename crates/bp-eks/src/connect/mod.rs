//! Connect to an EKS cluster: a `kube::Client` from its name, its access entries, and the `aws-auth` ConfigMap.

mod access;
mod api;
mod aws_auth;
mod error;
mod session;
mod token;

use std::{fmt, path::Path, sync::Arc, time::Duration};

use aws_credential_types::provider::SharedCredentialsProvider;
use bp_artifact::time::TimeSource;
use bytes::Bytes;
use http::{Request, Response};
use kube::{
    Client, Config,
    client::{Body, ClientBuilder, ConfigExt},
    config::{KubeConfigOptions, Kubeconfig},
};
use secrecy::SecretString;
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

/// How long connecting may take: name, TCP and TLS.
const CONNECT: Duration = Duration::from_secs(10);
/// How long a connection may be silent: longer than a watch lasts, so that only a dead one is given up.
const SILENCE: Duration = Duration::from_secs(330);
/// Requests that may wait for the connection pool at the same time.
const WAITING: usize = 1024;

/// Connects to an EKS cluster by its name: no kubeconfig, kubectl or AWS CLI is needed.
///
/// The client signs its own tokens and keeps them fresh for as long as the credentials last: before they expire, and
/// once more when the cluster refuses one. Its requests are retried while the API is overloaded or not reachable, each
/// time with a token that is good then.
///
/// ```no_run
/// use aws_credential_types::provider::SharedCredentialsProvider;
/// use bp_eks::Connector;
///
/// # async fn run(eks: aws_sdk_eks::Client, credentials: SharedCredentialsProvider) -> Result<(), bp_eks::ConnectError> {
/// let client: kube::Client = Connector::new(eks, credentials, "eu-central-1", "shop").connect().await?;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Connector {
    api: EksApi,
    credentials: SharedCredentialsProvider,
    time: TimeSource,
    caller: Option<Caller>,
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let EksApi { region, cluster, .. } = &self.api;
        f.debug_struct("Connector").field("region", region).field("cluster", cluster).finish_non_exhaustive()
    }
}

impl Connector {
    /// For the cluster `cluster` in `region`. `eks` finds it, and `credentials` sign the tokens; they are those of the
    /// identity that the cluster's access entries name.
    pub fn new(
        eks: aws_sdk_eks::Client,
        credentials: SharedCredentialsProvider,
        region: impl Into<String>,
        cluster: impl Into<String>,
    ) -> Self {
        let (region, cluster) = (region.into(), cluster.into());
        let api = EksApi { eks, region, cluster };
        Connector { api, credentials, time: TimeSource::system(), caller: None }
    }

    /// Takes the time of day from `time`.
    pub fn time_source(mut self, time: TimeSource) -> Self {
        self.time = time;
        self
    }

    /// How to find out who the credentials are, as `aws sts get-caller-identity` shows it. It is asked only when the cluster
    /// refuses them (401): then EKS is asked [why](Self::access), and the error says what is missing.
    ///
    /// With `aws_sdk_sts` that is `move || { let asked = sts.get_caller_identity().send(); async { asked.await.ok()?.arn } }`;
    /// or what is known already:
    ///
    /// ```
    /// # fn with(connector: bp_eks::Connector) -> bp_eks::Connector {
    /// let role = || Some("arn:aws:sts::111111111111:assumed-role/deploy/build-7".to_owned());
    /// connector.caller(move || std::future::ready(role()))
    /// # }
    /// ```
    ///
    /// # Permissions
    /// As [`access`](Self::access), when it is asked.
    pub fn caller<F, A>(mut self, ask: F) -> Self
    where
        F: Fn() -> A + Send + Sync + 'static,
        A: Future<Output = Option<String>> + Send + 'static,
    {
        self.caller = Some(Arc::new(move || Box::pin(ask())));
        self
    }

    /// Asks EKS for the cluster.
    ///
    /// # Errors
    /// When there is no such cluster, it is not active, or EKS cannot be asked.
    ///
    /// # Permissions
    /// `eks:DescribeCluster` on the cluster.
    ///
    /// # Cancel safety
    /// Cancel safe: it only reads.
    pub async fn describe(&self) -> Result<ClusterInfo, ConnectError> {
        self.api.describe().await
    }

    /// A client of the cluster.
    ///
    /// Nothing is asked of the Kubernetes API yet: whether it takes our identity shows with the first request.
    ///
    /// # Errors
    /// As [`describe`](Self::describe), or when the certificates cannot be used.
    ///
    /// # Permissions
    /// `eks:DescribeCluster` on the cluster. In the cluster, an access entry for the identity.
    ///
    /// # Cancel safety
    /// Cancel safe: it only reads.
    pub async fn connect(&self) -> Result<Client, ConnectError> {
        let cluster = self.describe().await?;
        client(config(&cluster), Some(self.identity(&cluster)))
    }

    /// A client of the cluster over a transport of the caller's: a proxy, a bastion, or a model in tests.
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
        let cluster = self.describe().await?;
        let config = config(&cluster);
        let identity = self.identity(&cluster);
        let service = ServiceBuilder::new()
            .layer(layer_fn(|inner| Session::new(inner, Some(Arc::clone(&identity)))))
            .layer(config.base_uri_layer())
            .service(transport);
        Ok(Client::new(service, config.default_namespace))
    }

    /// A token for the cluster, as `aws eks get-token` prints it: for programs that speak to the cluster themselves. EKS
    /// takes it for 15 minutes; [`connect`](Self::connect) renews its own.
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
        let cluster = self.describe().await?;
        let token = self.tokens(&cluster).get().await;
        let token = token.map_err(|e| ConnectError::NoCredentials { source: e.into() })?;
        Ok(token.expose().into())
    }

    /// Whether the cluster's access entries let `caller` in, an ARN as `aws sts get-caller-identity` shows it.
    ///
    /// What may not be looked at is a part of the answer. A client of a connector that knows its
    /// [caller](Self::caller) asks this by itself when the cluster refuses it.
    ///
    /// ```no_run
    /// # async fn run(connector: bp_eks::Connector) -> Result<(), bp_eks::ConnectError> {
    /// let access = connector.access("arn:aws:sts::111111111111:assumed-role/deploy/build-7").await?;
    /// println!("{access}"); // no access entry names arn:aws:iam::111111111111:role/deploy: aws eks create-access-entry …
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`describe`](Self::describe).
    ///
    /// # Permissions
    /// `eks:DescribeCluster` on the cluster; `eks:DescribeAccessEntry` on its access entries and `eks:ListAccessEntries`
    /// on the cluster, without which the answer is [`AccessEntry::Unknown`].
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

/// A client from a kubeconfig file: `path`, or what `KUBECONFIG` names, or `~/.kube/config`; in `context`, or the
/// current one.
///
/// ```no_run
/// # async fn run() -> Result<(), bp_eks::ConnectError> {
/// let client = bp_eks::from_kubeconfig(None, Some("shop")).await?; // or, in a pod: bp_eks::connect::in_cluster()?
/// # Ok(()) }
/// ```
///
/// # Errors
/// When the file or the context is missing or wrong.
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

/// A client for a program that runs in a pod of the cluster, as its service account.
///
/// # Errors
/// [`ConnectError::NotInCluster`] anywhere else.
///
/// # Panics
/// Outside a tokio runtime.
pub fn in_cluster() -> Result<Client, ConnectError> {
    let config = Config::incluster().map_err(|e| ConnectError::NotInCluster { source: e.into() })?;
    client(config, None)
}

fn config(cluster: &ClusterInfo) -> Config {
    let mut config = Config::new(cluster.endpoint.clone());
    config.root_cert = Some(cluster.certificates.clone());
    config
}

/// kube's own stack with our session in front. Its retries are off: they last up to a quarter of an hour.
fn client(mut config: Config, identity: Option<Arc<Identity>>) -> Result<Client, ConnectError> {
    config.default_retry = false;
    config.connect_timeout = Some(CONNECT);
    (config.read_timeout, config.reset_reader_on_write) = (Some(SILENCE), true);
    let stack = ClientBuilder::try_from(config).map_err(|e| ConnectError::Unusable { source: e.into() })?;
    let session = layer_fn(|inner| Session::new(Buffer::new(inner, WAITING), identity.clone()));
    Ok(stack.with_layer(&session).build())
}
