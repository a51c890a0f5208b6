//! A Kubernetes API with Deployments, ReplicaSets and a scripted kubelet.

use std::sync::Arc;

use futures_core::future::BoxFuture;
use http::{Request, Response, request};

use crate::{body::Body, clock::Clock, endpoint::Endpoint, runtime::Runtime};

/// How a cluster behaves.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct ClusterOptions {}

/// The Kubernetes API of one EKS cluster.
pub struct Cluster {
    host: String,
}

impl Cluster {
    pub(crate) fn new(name: &str, _options: ClusterOptions, _clock: Clock, _runtime: Arc<Runtime>) -> Self {
        Cluster { host: format!("{name}.gr7.eu-central-1.eks.amazonaws.com") }
    }

    /// The host of the cluster's endpoint.
    pub fn host(&self) -> &str {
        &self.host
    }
}

impl Endpoint for Cluster {
    fn name(&self) -> String {
        self.host.clone()
    }

    fn operation(&self, parts: &request::Parts, _: &[u8]) -> String {
        format!("{} {}", parts.method, parts.uri.path())
    }

    fn handle(self: Arc<Self>, _: Request<Body>) -> BoxFuture<'static, Response<Body>> {
        Box::pin(async { Response::new(Body::empty()) })
    }
}
