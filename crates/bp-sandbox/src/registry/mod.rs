//! OCI registries, by the distribution specification 1.1, with the quirks of Amazon ECR as switches.

mod store;

use std::sync::Arc;

use futures_core::future::BoxFuture;
use http::{Request, Response, request};

pub use self::store::Manifest;
use crate::{body::Body, clock::Clock, endpoint::Endpoint};

/// How a registry behaves.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct RegistryOptions {
    /// Amazon ECR's ways.
    pub ecr: bool,
}

impl RegistryOptions {
    /// A registry with Amazon ECR's ways.
    pub fn ecr() -> Self {
        RegistryOptions { ecr: true }
    }
}

/// One registry of the sandbox.
pub struct Registry {
    host: String,
    #[allow(dead_code)]
    options: RegistryOptions,
    #[allow(dead_code)]
    clock: Clock,
    store: store::Store,
}

impl Registry {
    pub(crate) fn new(host: String, options: RegistryOptions, clock: Clock) -> Self {
        Registry { host, options, clock, store: store::Store::default() }
    }

    /// The host name.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The manifest that `reference` (a tag or digest) names in `repository`.
    pub fn manifest(&self, repository: &str, reference: &str) -> Option<Manifest> {
        self.store.manifest(repository, reference)
    }

    /// The blob with `digest` in `repository`.
    pub fn blob(&self, repository: &str, digest: &str) -> Option<bytes::Bytes> {
        self.store.blob(repository, digest)
    }
}

impl Endpoint for Registry {
    fn name(&self) -> String {
        self.host.clone()
    }

    fn buffers(&self) -> bool {
        false
    }

    fn operation(&self, parts: &request::Parts, _: &[u8]) -> String {
        parts.method.to_string()
    }

    fn handle(self: Arc<Self>, _: Request<Body>) -> BoxFuture<'static, Response<Body>> {
        Box::pin(async { Response::new(Body::empty()) })
    }
}
