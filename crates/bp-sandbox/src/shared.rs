//! State that the clones of a sandbox, its transports and its servers share: the endpoints by host.

#[cfg(feature = "kube")]
use std::collections::BTreeMap;
use std::{
    collections::HashMap,
    sync::{Arc, OnceLock},
};

#[cfg(feature = "aws")]
use crate::aws::{Aws, is_api_host};
#[cfg(feature = "kube")]
use crate::kube::Cluster;
use crate::{
    endpoint::{Endpoint, Pipeline},
    sockets::Sockets,
};
#[cfg(feature = "registry")]
use crate::{registry::Storage, runtime::Runtime};

/// The shared state of one sandbox.
pub(crate) struct Shared {
    pub(crate) pipeline: Pipeline,
    pub(crate) sockets: Arc<Sockets>,
    /// The endpoints by host, for the in-memory transport.
    pub(crate) by_host: OnceLock<HashMap<String, Arc<dyn Endpoint>>>,
    #[cfg(feature = "registry")]
    pub(crate) runtime: Arc<Runtime>,
    #[cfg(feature = "aws")]
    pub(crate) aws: Arc<Aws>,
    #[cfg(feature = "kube")]
    pub(crate) clusters: BTreeMap<String, Arc<Cluster>>,
}

impl Shared {
    /// The endpoint of `host`, with or without a port.
    pub(crate) fn endpoint(&self, host: &str) -> Option<Arc<dyn Endpoint>> {
        let bare = host.strip_suffix(":443").or_else(|| host.strip_suffix(":80")).unwrap_or(host);
        let by_host = || self.endpoints().into_iter().map(|(host, endpoint, _)| (host, endpoint)).collect();
        let exact = self.by_host.get_or_init(by_host).get(bare).cloned();
        #[cfg(feature = "aws")]
        let exact = exact.or_else(|| is_api_host(bare).then(|| Arc::clone(&self.aws) as Arc<dyn Endpoint>));
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
}
