//! The sandbox and its builder: endpoints, clock, ledger and faults.

use std::{
    collections::{BTreeMap, HashMap},
    net::SocketAddr,
    sync::{Arc, Mutex, OnceLock},
};

#[cfg(feature = "aws")]
use crate::aws::Aws;
#[cfg(feature = "kube")]
use crate::kube::Cluster;
#[cfg(feature = "registry")]
use crate::registry::{Registry, RegistryOptions, Storage};
#[cfg(feature = "registry")]
use crate::runtime::{Behaviour, Runtime};
use crate::{
    clock::Clock,
    endpoint::{Endpoint, Pipeline},
    fault::Faults,
    ledger::Ledger,
    server::{self, Served},
    sync::lock,
    tls::Authority,
    transport::Transport,
};

/// A simulation of registries, AWS APIs and Kubernetes clusters. Cheap to clone; all clones share one sandbox.
///
/// ```
/// use bp_sandbox::{Sandbox, registry::RegistryOptions};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let sandbox = Sandbox::builder()
///     .registry("111111111111.dkr.ecr.eu-central-1.amazonaws.com", RegistryOptions::ecr())
///     .registry("registry.example.com", RegistryOptions::default())
///     .build();
/// let served = sandbox.serve().await?;
/// assert!(served.address("registry.example.com").is_some());
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Sandbox(Arc<Shared>);

/// The shared state of one sandbox.
pub(crate) struct Shared {
    pub(crate) pipeline: Pipeline,
    authority: OnceLock<Authority>,
    /// The endpoints by host, for the in-memory transport.
    by_host: OnceLock<HashMap<String, Arc<dyn Endpoint>>>,
    /// The socket addresses of the endpoints that are served.
    addresses: Mutex<HashMap<String, SocketAddr>>,
    #[cfg(feature = "registry")]
    runtime: Arc<Runtime>,
    #[cfg(feature = "aws")]
    aws: Arc<Aws>,
    #[cfg(feature = "kube")]
    clusters: BTreeMap<String, Arc<Cluster>>,
}

impl Sandbox {
    /// Starts building a sandbox.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// The sandbox's clock.
    pub fn clock(&self) -> &Clock {
        &self.0.pipeline.clock
    }

    /// The record of all requests.
    pub fn ledger(&self) -> &Ledger {
        &self.0.pipeline.ledger
    }

    /// The pending faults, to inject and clear.
    pub fn faults(&self) -> &Faults {
        &self.0.pipeline.faults
    }

    /// The sandbox as an in-memory transport.
    pub fn transport(&self) -> Transport {
        Transport(Arc::clone(&self.0))
    }

    /// The certificate authority of every TLS endpoint, as PEM.
    pub fn ca_pem(&self) -> &str {
        self.0.authority().pem()
    }

    /// Binds a free loopback port for every endpoint and serves it.
    ///
    /// # Errors
    /// When a port cannot be bound.
    ///
    /// # Cancel safety
    /// Cancel safe: bound ports are closed.
    pub async fn serve(&self) -> std::io::Result<Served> {
        server::serve(Arc::clone(&self.0)).await
    }

    /// The registry at `host`.
    ///
    /// # Panics
    /// When the sandbox was built without it.
    #[cfg(feature = "registry")]
    pub fn registry(&self, host: &str) -> Arc<Registry> {
        self.0.runtime.registry(host).unwrap_or_else(|| panic!("the sandbox has no registry {host:?}"))
    }

    /// Sets what the image with `digest` (of its index or of a platform's manifest) does when it runs.
    #[cfg(feature = "registry")]
    pub fn script(&self, digest: &str, behaviour: Behaviour) {
        self.0.runtime.script(digest, behaviour);
    }

    /// The AWS APIs.
    #[cfg(feature = "aws")]
    pub fn aws(&self) -> &Arc<Aws> {
        &self.0.aws
    }

    /// The sandbox as the HTTP client of an AWS SDK: `Config::builder().http_client(sandbox.http_client())`.
    #[cfg(feature = "aws")]
    pub fn http_client(&self) -> aws_smithy_runtime_api::client::http::SharedHttpClient {
        use aws_smithy_runtime_api::shared::IntoShared;
        self.transport().into_shared()
    }

    /// The Kubernetes API of the EKS cluster `name`.
    ///
    /// # Panics
    /// When the sandbox was built without it.
    #[cfg(feature = "kube")]
    pub fn cluster(&self, name: &str) -> Arc<Cluster> {
        let cluster =
            self.0.clusters.get(name).unwrap_or_else(|| panic!("the sandbox has no cluster {name:?}"));
        Arc::clone(cluster)
    }
}

impl std::fmt::Debug for Sandbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let hosts: Vec<String> = self.0.endpoints().into_iter().map(|(host, ..)| host).collect();
        f.debug_struct("Sandbox").field("hosts", &hosts).finish_non_exhaustive()
    }
}

impl Shared {
    /// The endpoint of `host`, with or without a port.
    pub(crate) fn endpoint(&self, host: &str) -> Option<Arc<dyn Endpoint>> {
        let bare = host.strip_suffix(":443").or_else(|| host.strip_suffix(":80")).unwrap_or(host);
        let by_host = || self.endpoints().into_iter().map(|(host, endpoint, _)| (host, endpoint)).collect();
        let exact = self.by_host.get_or_init(by_host).get(bare).cloned();
        #[cfg(feature = "aws")]
        let exact = exact
            .or_else(|| crate::aws::is_api_host(bare).then(|| Arc::clone(&self.aws) as Arc<dyn Endpoint>));
        exact
    }

    /// Every endpoint: host, handler, and whether it uses TLS on sockets.
    pub(crate) fn endpoints(&self) -> Vec<(String, Arc<dyn Endpoint>, bool)> {
        #[allow(unused_mut, reason = "empty without features")]
        let mut all: Vec<(String, Arc<dyn Endpoint>, bool)> = Vec::new();
        #[cfg(feature = "registry")]
        all.extend(
            self.runtime
                .registries()
                .map(|r| (r.host().to_owned(), Arc::clone(r) as Arc<dyn Endpoint>, false)),
        );
        #[cfg(feature = "registry")]
        all.extend(
            self.runtime
                .registries()
                .filter_map(Storage::of)
                .map(|storage| (storage.name(), Arc::new(storage) as Arc<dyn Endpoint>, false)),
        );
        #[cfg(feature = "aws")]
        all.push(("aws".to_owned(), Arc::clone(&self.aws) as Arc<dyn Endpoint>, false));
        #[cfg(feature = "kube")]
        all.extend(
            self.clusters.values().map(|c| (c.host().to_owned(), Arc::clone(c) as Arc<dyn Endpoint>, true)),
        );
        all
    }

    pub(crate) fn authority(&self) -> &Authority {
        self.authority.get_or_init(Authority::new)
    }

    /// Records the socket address of an endpoint.
    pub(crate) fn set_address(&self, host: &str, address: SocketAddr) {
        lock(&self.addresses).insert(host.to_owned(), address);
    }

    /// The socket address of an endpoint, if it is served.
    #[cfg_attr(not(all(feature = "aws", feature = "kube")), allow(dead_code))]
    pub(crate) fn address_of(&self, host: &str) -> Option<SocketAddr> {
        lock(&self.addresses).get(host).copied()
    }

    /// The AWS APIs.
    #[cfg(all(feature = "aws", feature = "kube"))]
    pub(crate) fn aws(&self) -> &Arc<Aws> {
        &self.aws
    }

    /// The clusters by name.
    #[cfg(all(feature = "aws", feature = "kube"))]
    pub(crate) fn clusters(&self) -> &BTreeMap<String, Arc<Cluster>> {
        &self.clusters
    }
}

/// Builder of a [`Sandbox`].
#[derive(Debug, Default)]
pub struct Builder {
    clock: Option<Clock>,
    #[cfg(feature = "registry")]
    registries: BTreeMap<String, RegistryOptions>,
    #[cfg(feature = "kube")]
    clusters: BTreeMap<String, crate::kube::ClusterOptions>,
}

impl Builder {
    /// Uses this clock instead of tokio's.
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = Some(clock);
        self
    }

    /// Adds a registry under its host name.
    #[cfg(feature = "registry")]
    pub fn registry(mut self, host: &str, options: RegistryOptions) -> Self {
        self.registries.insert(host.to_owned(), options);
        self
    }

    /// Adds an EKS cluster under its name.
    #[cfg(feature = "kube")]
    pub fn cluster(mut self, name: &str, options: crate::kube::ClusterOptions) -> Self {
        self.clusters.insert(name.to_owned(), options);
        self
    }

    /// Builds the sandbox. When tokio's clock is paused, the sandbox's clock is paused too.
    pub fn build(self) -> Sandbox {
        let clock = self.clock.unwrap_or_else(Clock::tokio);
        #[cfg(feature = "registry")]
        let runtime = {
            let registry = |(host, options)| Arc::new(Registry::new(host, options, clock.clone()));
            Arc::new(Runtime::new(self.registries.into_iter().map(registry)))
        };
        Sandbox(Arc::new_cyclic(|_shared| Shared {
            #[cfg(feature = "aws")]
            aws: Arc::new(Aws::new(clock.clone(), Arc::clone(&runtime), _shared.clone())),
            #[cfg(feature = "kube")]
            clusters: self
                .clusters
                .into_iter()
                .map(|(name, options)| {
                    let cluster =
                        Cluster::new(&name, options, clock.clone(), Arc::clone(&runtime), _shared.clone());
                    (name, Arc::new(cluster))
                })
                .collect(),
            #[cfg(feature = "registry")]
            runtime,
            pipeline: Pipeline { clock, ledger: Ledger::default(), faults: Faults::default() },
            authority: OnceLock::new(),
            by_host: OnceLock::new(),
            addresses: Mutex::default(),
        }))
    }
}
