//! Errors of a rollout, as cases that a caller can act on.

use std::error::Error as StdError;

use bp_artifact::{
    config::Workload,
    error::{Classified, ErrorClass, chain},
};

pub use crate::object::ObjectRef;

type BoxError = Box<dyn StdError + Send + Sync>;

/// An error of a rollout. A rollout that failed and was rolled back is not an error but a
/// [`Verdict`](bp_artifact::Verdict).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The object does not exist.
    #[error("{object} does not exist in the namespace {:?}; create it first, or correct the name", object.namespace)]
    NotFound {
        /// The missing object.
        object: Box<ObjectRef>,
    },
    /// The namespace does not exist.
    #[error("the namespace {namespace:?} does not exist in the cluster; check the cluster and the name")]
    NamespaceNotFound {
        /// The namespace.
        namespace: String,
    },
    /// The update strategy is `OnDelete`.
    #[error(
        "{workload} has the update strategy OnDelete, so nothing would roll out; set it to RollingUpdate, or apply the \
        image and delete the pods manually"
    )]
    OnDelete {
        /// The workload.
        workload: Workload,
    },
    /// A Job cannot be rolled back.
    #[error("{workload} has completed and cannot be rolled back; run a compensating Job")]
    NotUndoable {
        /// The workload.
        workload: Workload,
    },
    /// Too many Jobs of this image have failed.
    #[error("{workload}: too many Jobs of this image have failed; delete them")]
    TooManyJobs {
        /// The Job that they were derived from.
        workload: Workload,
    },
    /// The container does not exist.
    #[error("{workload} has no container {container:?}; it has {}", containers.join(", "))]
    ContainerNotFound {
        /// The workload.
        workload: Workload,
        /// The requested container.
        container: String,
        /// The existing containers, init containers last.
        containers: Vec<String>,
    },
    /// No container was specified, and the workload has several.
    #[error("{workload} has several containers; specify the one to deploy: {}", containers.join(", "))]
    ContainerNotNamed {
        /// The workload.
        workload: Workload,
        /// The existing containers.
        containers: Vec<String>,
    },
    /// The workload is paused, or a Job suspended.
    #[error(
        "{workload} is paused, so nothing would roll out; resume it first (kubectl rollout resume {workload})"
    )]
    Paused {
        /// The workload.
        workload: Workload,
    },
    /// Another controller owns the workload, and would restore its own image.
    #[error(
        "{workload} is owned by {owner}, whose controller may restore its own image; change the image in {owner}, or allow \
        the change (eks.allow-owner of bp.toml, option allow_owner)"
    )]
    Owned {
        /// The workload.
        workload: Workload,
        /// Kind and name of the owner, such as `Kafka/events`.
        owner: String,
    },
    /// Another field manager owns the field.
    #[error(
        "the field of {object} is owned by {}; remove it there, or take it over once (--take-over, option take_over)",
        shown(conflicts)
    )]
    Conflict {
        /// The object.
        object: Box<ObjectRef>,
        /// The field managers and their fields.
        conflicts: Vec<Conflict>,
    },
    /// Admission or validation refused the change. Nothing was changed.
    #[error(
        "the cluster refused the change of {object} at admission or validation; correct it as the message states"
    )]
    AdmissionRefused {
        /// The object.
        object: Box<ObjectRef>,
        /// The API server's error.
        source: BoxError,
    },
    /// The cluster rejects the caller's credentials.
    #[error("the cluster {cluster:?} does not accept this identity: {advice}")]
    Unauthorized {
        /// The cluster.
        cluster: String,
        /// What is missing and how to fix it; from the EKS API if the [caller](crate::Connector::caller) is known.
        advice: String,
        /// The API server's error.
        source: BoxError,
    },
    /// RBAC denies the call.
    #[error(
        "access denied: grant the identity the verb {verb:?} on {resource} in the namespace {namespace:?}, with a Role and \
        RoleBinding (docs/iam/deploy-eks-rbac.yaml), or with an access policy (aws eks associate-access-policy \
         --cluster-name {cluster} --principal-arn <role> --access-scope type=namespace,namespaces={namespace} \
         --policy-arn arn:aws:eks::aws:cluster-access-policy/AmazonEKSEditPolicy)"
    )]
    Forbidden {
        /// The cluster.
        cluster: String,
        /// The verb that is missing, such as `patch`.
        verb: String,
        /// The resource, such as `deployments.apps`.
        resource: String,
        /// The namespace.
        namespace: String,
        /// The API server's error.
        source: BoxError,
    },
    /// No AWS credentials for the cluster's token.
    #[error("no valid AWS credentials for the cluster's token; log in, or set AWS_PROFILE or the role")]
    NoCredentials {
        /// The cause.
        source: BoxError,
    },
    /// The Kubernetes API did not answer.
    #[error(
        "{operation} failed: cannot reach the API server of the cluster {cluster:?}; check the network, endpoint access \
        and proxy"
    )]
    Unreachable {
        /// The operation, such as `get deployments`.
        operation: &'static str,
        /// The cluster.
        cluster: String,
        /// The cause.
        source: BoxError,
    },
    /// A proxy or firewall in front of the API server answered.
    #[error(
        "{operation} failed: a proxy or firewall in front of the API server of the cluster {cluster:?} answered {code}; \
        check the proxy, the firewall and the cluster's endpoint"
    )]
    Intercepted {
        /// The operation.
        operation: &'static str,
        /// The cluster.
        cluster: String,
        /// The HTTP status of the response.
        code: u16,
        /// The text of the response.
        source: BoxError,
    },
    /// An admission webhook could not be called, also after retries. Nothing was changed.
    #[error(
        "{operation} failed: the admission webhook {webhook:?} for the change of {object} cannot be reached; check its pods, \
        then rerun"
    )]
    WebhookUnavailable {
        /// The operation.
        operation: &'static str,
        /// The object to change.
        object: Box<ObjectRef>,
        /// The webhook's name.
        webhook: String,
        /// The API server's error.
        source: BoxError,
    },
    /// The Kubernetes API is overloaded or failing, also after retries.
    #[error(
        "{operation} failed: the API server of the cluster {cluster:?} is overloaded or failing, or the object was changed \
        concurrently; retry later"
    )]
    Unavailable {
        /// The operation.
        operation: &'static str,
        /// The cluster.
        cluster: String,
        /// The API server's error.
        source: BoxError,
    },
    /// There is no rollback revision.
    #[error("{workload} has no earlier revision to roll back to")]
    NoPrevious {
        /// The workload.
        workload: Workload,
    },
    /// There is no revision with this number.
    #[error("{workload} has no revision {revision}; it has {}", numbers(known))]
    NoRevision {
        /// The workload.
        workload: Workload,
        /// The number.
        revision: String,
        /// The numbers of the revisions that its controller has kept.
        known: Vec<u64>,
    },
    /// The operation was cancelled. The rollout continues.
    #[error(
        "interrupted: changes already applied to {workload} remain and the rollout continues; rerun the same command to resume"
    )]
    Interrupted {
        /// The workload.
        workload: Workload,
    },
    /// The API server sent an unexpected response.
    #[error("{operation} failed: unexpected response from the API server of the cluster {cluster:?}")]
    UnexpectedResponse {
        /// The operation.
        operation: &'static str,
        /// The cluster.
        cluster: String,
        /// The cause.
        source: BoxError,
    },
}

impl Error {
    /// Whether the credentials are rejected or a verb is denied.
    pub(crate) fn is_refusal(&self) -> bool {
        matches!(self, Error::Unauthorized { .. } | Error::Forbidden { .. } | Error::NoCredentials { .. })
    }

    /// The error and its sources in one line; for refusals without the advice for first-time setup.
    pub(crate) fn without_advice(&self) -> String {
        if let Error::Unauthorized { .. } = self {
            "the API server rejects the credentials (401); they may have expired".to_owned()
        } else if let Error::Forbidden { verb, resource, .. } = self {
            format!("the verb {verb:?} on {resource} is denied (403)")
        } else if let Error::NoCredentials { source } = self {
            format!("there are no valid AWS credentials: {}", chain(&**source))
        } else {
            chain(self)
        }
    }

    /// The message for a change that can no longer be observed.
    pub(crate) fn unobserved(&self, what: &str) -> String {
        let why = self.without_advice();
        format!(
            "{what} and continues, but can no longer be observed: {why}; rerun the same command to resume"
        )
    }

    /// The message for a change of `object` that was sent but not answered.
    ///
    /// # Errors
    /// When it was answered with an error: nothing was changed.
    pub(crate) fn may_be_applied(self, object: &impl std::fmt::Display) -> Result<String, Error> {
        if matches!(self, Error::Unreachable { .. }) { Ok(self.as_unanswered(object)) } else { Err(self) }
    }

    /// The message for a change of `object` of which an attempt was not answered, and the last one ended like this.
    pub(crate) fn as_unanswered(&self, object: &impl std::fmt::Display) -> String {
        let why = self.without_advice();
        format!(
            "the change of {object} may have been applied, but was not answered: {why}; rerun the same command to resume"
        )
    }
}

/// A field of another field manager.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Conflict {
    /// The field manager, for example `kubectl-client-side-apply`, `helm` or `Terraform`.
    pub manager: String,
    /// The field path, as the API server reports it.
    pub field: String,
}

fn shown(conflicts: &[Conflict]) -> String {
    let one = |conflict: &Conflict| format!("the field manager {:?} ({})", conflict.manager, conflict.field);
    conflicts.iter().map(one).collect::<Vec<_>>().join(" and ")
}

fn numbers(known: &[u64]) -> String {
    match known {
        [] => "none".to_owned(),
        known => known.iter().map(u64::to_string).collect::<Vec<_>>().join(", "),
    }
}

impl Classified for Error {
    fn class(&self) -> ErrorClass {
        match self {
            Error::NotFound { .. }
            | Error::NamespaceNotFound { .. }
            | Error::ContainerNotFound { .. }
            | Error::NoRevision { .. }
            | Error::ContainerNotNamed { .. } => ErrorClass::BadInput,
            Error::Paused { .. }
            | Error::OnDelete { .. }
            | Error::Owned { .. }
            | Error::NotUndoable { .. }
            | Error::TooManyJobs { .. }
            | Error::Conflict { .. }
            | Error::AdmissionRefused { .. }
            | Error::NoPrevious { .. } => ErrorClass::Refused,
            Error::Unauthorized { .. }
            | Error::Forbidden { .. }
            | Error::NoCredentials { .. }
            | Error::Unreachable { .. }
            | Error::Intercepted { .. }
            | Error::WebhookUnavailable { .. }
            | Error::Unavailable { .. } => ErrorClass::Unavailable,
            Error::Interrupted { .. } => ErrorClass::Interrupted,
            Error::UnexpectedResponse { .. } => ErrorClass::Unexpected,
        }
    }

    /// Whether the same call may succeed later without changes: not for missing permissions or credentials.
    fn is_retryable(&self) -> bool {
        matches!(
            self,
            Error::Unreachable { .. }
                | Error::Intercepted { .. }
                | Error::WebhookUnavailable { .. }
                | Error::Unavailable { .. }
        )
    }
}
