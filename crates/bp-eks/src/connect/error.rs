//! Why there is no connection.

use std::path::PathBuf;

use aws_sdk_eks::{
    config::http::HttpResponse, error::SdkError, operation::describe_cluster::DescribeClusterError,
};
use bp_artifact::{
    aws::{AwsError, AwsErrorKind, RequestId},
    error::{Classified, ErrorClass},
};

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Why a cluster could not be connected to.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// No such cluster.
    #[error(
        "there is no EKS cluster {cluster:?} in {region} in this account: check name, region and role{}",
        RequestId(request_id)
    )]
    ClusterNotFound {
        /// The name that was given.
        cluster: String,
        /// Where it was looked for.
        region: String,
        /// AWS's id of the request.
        request_id: Option<String>,
    },
    /// The cluster is being made or deleted, or has failed.
    #[error("the EKS cluster {cluster:?} is {status}, and only an ACTIVE one can be connected to")]
    NotActive {
        /// The cluster.
        cluster: String,
        /// Its status.
        status: String,
    },
    /// What EKS tells of the cluster cannot be used.
    #[error("the EKS cluster {cluster:?} cannot be connected to: {reason}")]
    Malformed {
        /// The cluster.
        cluster: String,
        /// What is wrong.
        reason: &'static str,
    },
    /// IAM says no.
    #[error(
        "not allowed: give the caller the permission eks:DescribeCluster on the cluster {cluster:?}{}",
        RequestId(request_id)
    )]
    AccessDenied {
        /// The cluster.
        cluster: String,
        /// AWS's id of the request.
        request_id: Option<String>,
        /// In AWS's words.
        source: BoxError,
    },
    /// No credentials, or ones that AWS does not take.
    #[error("no valid AWS credentials: log in, or set AWS_PROFILE or the role")]
    NoCredentials {
        /// Why not.
        source: BoxError,
    },
    /// EKS did not answer.
    #[error("eks:DescribeCluster: the EKS API cannot be reached: check network, region and endpoint")]
    Unreachable {
        /// What failed.
        source: BoxError,
    },
    /// EKS is throttling or has an error of its own, also after the SDK's retries.
    #[error(
        "eks:DescribeCluster: the EKS API is overloaded or failing; try again later{}",
        RequestId(request_id)
    )]
    Unavailable {
        /// AWS's id of the request.
        request_id: Option<String>,
        /// In AWS's words.
        source: BoxError,
    },
    /// EKS refused the call.
    #[error("eks:DescribeCluster of {cluster:?} was refused{}", RequestId(request_id))]
    Refused {
        /// The cluster.
        cluster: String,
        /// AWS's id of the request.
        request_id: Option<String>,
        /// In AWS's words.
        source: BoxError,
    },
    /// The kubeconfig is missing or wrong.
    #[error("the kubeconfig{} cannot be used{}", shown(path), in_context(context))]
    Kubeconfig {
        /// The file, if one was named.
        path: Option<PathBuf>,
        /// The context, if one was named.
        context: Option<String>,
        /// What is wrong with it.
        source: BoxError,
    },
    /// There is no service account here.
    #[error("this is no pod of a cluster: name an EKS cluster or a kubeconfig")]
    NotInCluster {
        /// What was looked for.
        source: BoxError,
    },
    /// No client can be made of what is known of the cluster.
    #[error("no client can be made for the cluster: its certificates or proxy cannot be used")]
    Unusable {
        /// What is wrong.
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

    /// Whether the same call may go well later without anything being changed: not without permission or credentials.
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
            _ => ConnectError::Refused { cluster, request_id, source: error.into() },
        }
    }
}
