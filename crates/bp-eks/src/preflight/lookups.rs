//! AWS clients for preflight lookups besides the Kubernetes API.

use std::fmt;

/// AWS clients that [`preflight`](crate::EksTarget::preflight) uses besides the Kubernetes API. Lookups without a
/// client are skipped.
///
/// With [`eks`](Self::eks) it finds the role that EKS Pod Identity assigns to the pods, and reports a service account
/// without any role. With `iam` (feature `iam`) it checks that the role exists and trusts the pods.
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
    /// Looks up EKS Pod Identity associations with this client.
    pub fn eks(mut self, client: aws_sdk_eks::Client) -> Self {
        self.eks = Some(client);
        self
    }

    /// Looks up IAM roles with this client.
    #[cfg(feature = "iam")]
    pub fn iam(mut self, client: aws_sdk_iam::Client) -> Self {
        self.iam = Some(client);
        self
    }
}
