//! Errors of connecting to an EKS cluster, as cases that a caller can act on.

use std::path::PathBuf;

use aws_sdk_eks::{
    config::http::HttpResponse, error::SdkError, operation::describe_cluster::DescribeClusterError,
};
use bp_artifact::{
    aws::{AwsError, AwsErrorKind, RequestId},
    error::{Classified, ErrorClass},
};

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// An error of connecting to a cluster.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The cluster does not exist.
    #[error(
        "EKS cluster {cluster:?} does not exist in {region} in this account; check the name, region and role{}",
        RequestId(request_id)
    )]
    ClusterNotFound {
        /// The cluster.
        cluster: String,
        /// The region.
        region: String,
        /// AWS's id of the request.
        request_id: Option<String>,
    },
    /// The cluster is being created or deleted, or has failed.
    #[error("cannot connect to the EKS cluster {cluster:?}: its status is {status}, not ACTIVE")]
    NotActive {
        /// The cluster.
        cluster: String,
        /// Its status.
        status: String,
    },
    /// The description of the cluster is incomplete or invalid.
    #[error("cannot connect to the EKS cluster {cluster:?}: {reason}")]
    Malformed {
        /// The cluster.
        cluster: String,
        /// What is missing or invalid.
        reason: &'static str,
    },
    /// IAM denies the call.
    #[error(
        "access denied: grant the caller eks:DescribeCluster on the cluster {cluster:?}{}",
        RequestId(request_id)
    )]
    AccessDenied {
        /// The cluster.
        cluster: String,
        /// AWS's id of the request.
        request_id: Option<String>,
        /// The AWS error.
        source: BoxError,
    },
    /// No AWS credentials, or invalid ones.
    #[error("no valid AWS credentials; log in, or set AWS_PROFILE or the role")]
    NoCredentials {
        /// The cause.
        source: BoxError,
    },
    /// EKS did not answer.
    #[error("eks:DescribeCluster failed: cannot reach the EKS API; check the network, region and endpoint")]
    Unreachable {
        /// The cause.
        source: BoxError,
    },
    /// EKS throttled the call or failed, also after the SDK's retries.
    #[error(
        "eks:DescribeCluster failed: the EKS API is overloaded or failing, also after retries; nothing was changed, rerun \
        the same command later{}",
        RequestId(request_id)
    )]
    Unavailable {
        /// AWS's id of the request.
        request_id: Option<String>,
        /// The AWS error.
        source: BoxError,
    },
    /// EKS rejected the call.
    #[error("eks:DescribeCluster of {cluster:?} was rejected{}", RequestId(request_id))]
    Refused {
        /// The cluster.
        cluster: String,
        /// AWS's id of the request.
        request_id: Option<String>,
        /// The AWS error.
        source: BoxError,
    },
    /// The kubeconfig is missing or invalid.
    #[error("failed to load the kubeconfig{}{}", shown(path), in_context(context))]
    Kubeconfig {
        /// The file, if one was given.
        path: Option<PathBuf>,
        /// The context, if one was given.
        context: Option<String>,
        /// The cause.
        source: BoxError,
    },
    /// The process does not run in a pod with a service account.
    #[error("not running in a pod of a cluster; set an EKS cluster or a kubeconfig")]
    NotInCluster {
        /// What is missing.
        source: BoxError,
    },
    /// The client cannot be built.
    #[error("failed to build a client for the cluster; check its certificates and the proxy settings")]
    Unusable {
        /// The cause.
        source: BoxError,
    },
}

fn shown(path: &Option<PathBuf>) -> String {
    path.as_ref().map(|path| format!(" {}", path.display())).unwrap_or_default()
}

fn in_context(context: &Option<String>) -> String {
    context.as_ref().map(|context| format!(" with the context {context:?}")).unwrap_or_default()
}

impl Classified for ConnectError {
    fn class(&self) -> ErrorClass {
        match self {
            ConnectError::ClusterNotFound { .. }
            | ConnectError::Refused { .. }
            | ConnectError::Kubeconfig { .. }
            | ConnectError::NotInCluster { .. } => ErrorClass::BadInput,
            ConnectError::NotActive { .. } => ErrorClass::Refused,
            ConnectError::AccessDenied { .. }
            | ConnectError::NoCredentials { .. }
            | ConnectError::Unreachable { .. }
            | ConnectError::Unavailable { .. } => ErrorClass::Unavailable,
            ConnectError::Malformed { .. } | ConnectError::Unusable { .. } => ErrorClass::Unexpected,
        }
    }

    /// Whether the same call may succeed later without changes: not for missing permissions or credentials.
    fn is_retryable(&self) -> bool {
        matches!(self, ConnectError::Unreachable { .. } | ConnectError::Unavailable { .. })
    }
}

impl ConnectError {
    pub(super) fn of_describe(
        cluster: &str,
        region: &str,
        error: SdkError<DescribeClusterError, HttpResponse>,
    ) -> Self {
        let (cluster, region) = (cluster.to_owned(), region.to_owned());
        let error = AwsError::of(&error);
        let request_id = error.request_id().map(str::to_owned);
        if error.code() == Some("ResourceNotFoundException") {
            return ConnectError::ClusterNotFound { cluster, region, request_id };
        }
        match error.kind() {
            AwsErrorKind::Credentials => ConnectError::NoCredentials { source: error.into() },
            AwsErrorKind::Denied => ConnectError::AccessDenied { cluster, request_id, source: error.into() },
            AwsErrorKind::Throttled | AwsErrorKind::Unavailable => {
                ConnectError::Unavailable { request_id, source: error.into() }
            }
            AwsErrorKind::Unreachable => ConnectError::Unreachable { source: error.into() },
            AwsErrorKind::Refused | AwsErrorKind::Unreadable | _ => {
                ConnectError::Refused { cluster, request_id, source: error.into() }
            }
        }
    }
}
