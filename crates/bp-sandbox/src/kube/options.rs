//! Options of a simulated cluster.

/// Options of a simulated cluster.
///
/// ```
/// use bp_sandbox::kube::ClusterOptions;
///
/// let options = ClusterOptions::default().region("eu-west-1").account("222222222222").architecture("arm64");
/// ```
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ClusterOptions {
    /// The account that owns the cluster; by default, all principals of this account have an access entry.
    pub account: String,
    /// The region.
    pub region: String,
    /// The Kubernetes version.
    pub version: String,
    /// The number of nodes.
    pub nodes: usize,
    /// The architecture of the nodes.
    pub architecture: String,
}

impl Default for ClusterOptions {
    fn default() -> Self {
        ClusterOptions {
            account: "111111111111".to_owned(),
            region: "eu-central-1".to_owned(),
            version: "1.34".to_owned(),
            nodes: 2,
            architecture: "amd64".to_owned(),
        }
    }
}

impl ClusterOptions {
    /// Sets the owning account.
    pub fn account(mut self, account: &str) -> Self {
        self.account = account.to_owned();
        self
    }

    /// Sets the region.
    pub fn region(mut self, region: &str) -> Self {
        self.region = region.to_owned();
        self
    }

    /// Sets the Kubernetes version, such as `1.34`.
    pub fn version(mut self, version: &str) -> Self {
        self.version = version.to_owned();
        self
    }

    /// Sets the number of nodes.
    pub fn nodes(mut self, nodes: usize) -> Self {
        self.nodes = nodes;
        self
    }

    /// Sets the architecture of the nodes, such as `arm64`.
    pub fn architecture(mut self, architecture: &str) -> Self {
        self.architecture = architecture.to_owned();
        self
    }
}
