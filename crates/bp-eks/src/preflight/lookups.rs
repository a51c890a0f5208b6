//! Where preflight looks besides the Kubernetes API.

use std::fmt;

/// Where [`preflight`](crate::EksTarget::preflight) looks besides the Kubernetes API. What is not given is not looked up.
///
/// With [`eks`](Self::eks) it finds the role that EKS Pod Identity gives to the pods, and says when the service account
/// has no role at all. With `iam` (feature `iam`) it looks whether the role is there and trusts the pods.
#[derive(Clone, Default)]
pub struct Lookups {
    pub(super) eks: Option<aws_sdk_eks::Client>,
    #[cfg(feature = "iam")]
    pub(super) iam: Option<aws_sdk_iam::Client>,
}

impl fmt::Debug for Lookups {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lookups").field("eks", &self.eks.is_some()).finish_non_exhaustive()
    }
}

impl Lookups {
    /// Asks EKS for Pod Identity associations.
    pub fn eks(mut self, client: aws_sdk_eks::Client) -> Self {
        self.eks = Some(client);
        self
    }

    /// Asks IAM for the roles.
    #[cfg(feature = "iam")]
    pub fn iam(mut self, client: aws_sdk_iam::Client) -> Self {
        self.iam = Some(client);
        self
    }
}
