//! Entry point for a Kubernetes cluster: namespaces and their deployment targets.

use std::fmt;

use kube::Client;

use crate::{api::scope::Scope, namespace::Namespace};

/// A Kubernetes cluster and its client. Cheap to clone.
///
/// ```no_run
/// # async fn run(client: kube::Client) -> Result<(), Box<dyn std::error::Error>> {
/// use std::time::Duration;
/// use bp_eks::{Cluster, Options};
///
/// let options = Options::new(Duration::from_secs(900))?;
/// let shop = Cluster::new(client, "prod").namespace("shop");
/// let web = shop.workload("deployment/web".parse()?, options).container("web");
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Cluster {
    client: Client,
    name: String,
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Cluster {
    /// A cluster that is reached with `client`. `name` is used in target ids and messages.
    pub fn new(client: Client, name: impl Into<String>) -> Self {
        Cluster { client, name: name.into() }
    }

    /// A namespace of the cluster.
    pub fn namespace(&self, name: impl Into<String>) -> Namespace {
        let (client, cluster) = (self.client.clone(), self.name.clone());
        Namespace(Scope { client, cluster, namespace: name.into() })
    }
}
