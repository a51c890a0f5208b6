//! The sandbox and its builder: endpoints, clock, ledger and faults.

#[cfg(feature = "registry")]
use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

#[cfg(feature = "aws")]
use crate::aws::{Aws, Eks, Identities};
#[cfg(feature = "kube")]
use crate::kube::{Cluster, ClusterOptions};
use crate::{
    clock::Clock,
    endpoint::Pipeline,
    fault::Faults,
    ledger::Ledger,
    server::{self, Served},
    shared::Shared,
    sockets::Sockets,
    transport::Transport,
};
#[cfg(feature = "registry")]
use crate::{
    registry::{Registry, RegistryOptions},
    runtime::{Behaviour, Runtime},
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
        self.0.sockets.authority().pem()
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

    /// Sets what the image with `digest` does when it runs with this command, as set by a task definition or by RunTask.
    #[cfg(feature = "registry")]
    pub fn script_command(&self, digest: &str, command: &[&str], behaviour: Behaviour) {
        self.0.runtime.script_command(digest, command, behaviour);
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

/// Builder of a [`Sandbox`].
#[derive(Debug, Default)]
pub struct Builder {
    clock: Option<Clock>,
    #[cfg(feature = "registry")]
    registries: BTreeMap<String, RegistryOptions>,
    #[cfg(feature = "kube")]
    clusters: BTreeMap<String, ClusterOptions>,
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
    pub fn cluster(mut self, name: &str, options: ClusterOptions) -> Self {
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
        let sockets = Arc::new(Sockets::default());
        #[cfg(feature = "aws")]
        let identities = Arc::new(Identities::default());
        #[cfg(feature = "kube")]
        let clusters: BTreeMap<String, Arc<Cluster>> = self
            .clusters
            .into_iter()
            .map(|(name, options)| {
                let cluster = Cluster::new(
                    &name,
                    options,
                    clock.clone(),
                    Arc::clone(&runtime),
                    #[cfg(feature = "aws")]
                    Arc::clone(&identities),
                );
                (name, Arc::new(cluster))
            })
            .collect();
        #[cfg(feature = "aws")]
        let aws = {
            #[cfg(feature = "kube")]
            let eks = Eks::new(clusters.clone(), Arc::clone(&sockets));
            #[cfg(not(feature = "kube"))]
            let eks = Eks::default();
            Aws::new(clock.clone(), Arc::clone(&runtime), identities, eks)
        };
        Sandbox(Arc::new(Shared {
            pipeline: Pipeline { clock, ledger: Ledger::default(), faults: Faults::default() },
            sockets,
            by_host: OnceLock::new(),
            #[cfg(feature = "registry")]
            runtime,
            #[cfg(feature = "aws")]
            aws: Arc::new(aws),
            #[cfg(feature = "kube")]
            clusters,
        }))
    }
}
