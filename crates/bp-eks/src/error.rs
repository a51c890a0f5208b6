//! What can go wrong with a roll-out, as far as a caller can act on it.

use std::error::Error as StdError;

use bp_artifact::{
    config::Workload,
    error::{Classified, ErrorClass, chain},
};

pub use crate::object::ObjectRef;

type BoxError = Box<dyn StdError + Send + Sync>;

/// An error of a roll-out. A roll-out that failed and was undone is none: that is a
/// [`Verdict`](bp_artifact::Verdict).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No such object.
    #[error("the namespace {:?} has no {object}: create it first, or correct the name", object.namespace)]
    NotFound {
        /// What is missing, as the API server names it.
        object: Box<ObjectRef>,
    },
    /// No such namespace.
    #[error("the cluster has no namespace {namespace:?}: check the cluster and the name")]
    NamespaceNotFound {
        /// The name that was given.
        namespace: String,
    },
    /// Its pods are replaced only when somebody deletes them.
    #[error(
        "{workload} has the update strategy OnDelete, so nothing would roll out: set it to RollingUpdate, or apply the \
         image and delete the pods yourself"
    )]
    OnDelete {
        /// The workload.
        workload: Workload,
    },
    /// What a Job has done cannot be undone.
    #[error("{workload} has done its work, and that cannot be taken back: run a Job that mends it")]
    NotUndoable {
        /// The workload.
        workload: Workload,
    },
    /// The Jobs of this image have failed again and again.
    #[error("{workload}: too many Jobs of this image have failed: delete them")]
    TooManyJobs {
        /// The Job that they were made after.
        workload: Workload,
    },
    /// No container of that name.
    #[error("{workload} has no container {container:?}; it has {}", containers.join(", "))]
    ContainerNotFound {
        /// The workload.
        workload: Workload,
        /// The name that was given.
        container: String,
        /// The names that are there, init containers last.
        containers: Vec<String>,
    },
    /// No container was named, and there is more than one.
    #[error("{workload} has several containers, so name the one to deploy: {}", containers.join(", "))]
    ContainerNotNamed {
        /// The workload.
        workload: Workload,
        /// The names that are there.
        containers: Vec<String>,
    },
    /// The workload is paused, or a Job suspended.
    #[error(
        "{workload} is paused, so nothing would roll out: resume it first (kubectl rollout resume {workload})"
    )]
    Paused {
        /// The workload.
        workload: Workload,
    },
    /// Somebody else owns the field.
    #[error(
        "the field of {object} belongs to {}: let it go there, or allow taking it over once (Options::take_over)",
        shown(conflicts)
    )]
    Conflict {
        /// The object.
        object: Box<ObjectRef>,
        /// Who owns what.
        conflicts: Vec<Conflict>,
    },
    /// Admission or validation refused the change. Nothing was changed.
    #[error(
        "the cluster refused the change of {object} at admission or validation: change it as the message says"
    )]
    AdmissionRefused {
        /// The object.
        object: Box<ObjectRef>,
        /// In the API server's words.
        source: BoxError,
    },
    /// The cluster does not know the caller.
    #[error("the cluster {cluster:?} does not accept this identity: {advice}")]
    Unauthorized {
        /// The cluster.
        cluster: String,
        /// What is missing and what mends it: as EKS says, where it [could be asked](crate::Connector::caller).
        advice: String,
        /// In the API server's words.
        source: BoxError,
    },
    /// RBAC says no.
    #[error(
        "not allowed: give the identity the verb {verb:?} on {resource} in the namespace {namespace:?}, with a Role and \
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
        /// In the API server's words.
        source: BoxError,
    },
    /// No AWS credentials for the cluster's token.
    #[error("no valid AWS credentials for the cluster's token: log in, or set AWS_PROFILE or the role")]
    NoCredentials {
        /// Why not.
        source: BoxError,
    },
    /// The Kubernetes API did not answer.
    #[error(
        "{operation}: the API of the cluster {cluster:?} cannot be reached: check network, endpoint access and proxy"
    )]
    Unreachable {
        /// What was asked, such as `get deployments`.
        operation: &'static str,
        /// The cluster.
        cluster: String,
        /// What failed.
        source: BoxError,
    },
    /// Something between us and the API server answered in its place.
    #[error(
        "{operation}: something in front of the API of the cluster {cluster:?} answered {code}, not the API server itself: \
         check proxy, firewall and the cluster's endpoint"
    )]
    Intercepted {
        /// What was asked.
        operation: &'static str,
        /// The cluster.
        cluster: String,
        /// The status of the answer.
        code: u16,
        /// The answer's text.
        source: BoxError,
    },
    /// An admission webhook that the change has to pass could not be asked, also after several tries. Nothing was changed.
    #[error(
        "{operation}: the admission webhook {webhook:?}, which the change of {object} has to pass, cannot be reached: check \
         the pods behind it, then run this again"
    )]
    WebhookUnavailable {
        /// What was asked.
        operation: &'static str,
        /// The object that was to be changed.
        object: Box<ObjectRef>,
        /// The webhook's name.
        webhook: String,
        /// In the API server's words.
        source: BoxError,
    },
    /// The Kubernetes API is overloaded or has an error of its own, also after several tries.
    #[error(
        "{operation}: the API of the cluster {cluster:?} is overloaded or failing, or somebody else wrote at the same time; \
         try again later"
    )]
    Unavailable {
        /// What was asked.
        operation: &'static str,
        /// The cluster.
        cluster: String,
        /// In the API server's words.
        source: BoxError,
    },
    /// The revision to put back is not known.
    #[error("{workload} has no earlier revision to go back to")]
    NoPrevious {
        /// The workload.
        workload: Workload,
    },
    /// The caller stopped watching. The roll-out goes on.
    #[error(
        "stopped watching; the roll-out of {workload} goes on if it was begun: run the same command again to follow it"
    )]
    Interrupted {
        /// The workload.
        workload: Workload,
    },
    /// The API answered something that cannot be understood.
    #[error("{operation}: unexpected answer from the API of the cluster {cluster:?}")]
    UnexpectedAnswer {
        /// What was asked.
        operation: &'static str,
        /// The cluster.
        cluster: String,
        /// What is wrong with it.
        source: BoxError,
    },
}

impl Error {
    /// Whether the identity is not let in or lacks a verb.
    pub(crate) fn is_refusal(&self) -> bool {
        matches!(self, Error::Unauthorized { .. } | Error::Forbidden { .. } | Error::NoCredentials { .. })
    }

    /// The error and its sources in one line; of a refusal without the advice for those who were never let in.
    pub(crate) fn without_advice(&self) -> String {
        match self {
            Error::Unauthorized { .. } => {
                "the API server does not accept the credentials (401); they may have expired".to_owned()
            }
            Error::Forbidden { verb, resource, .. } => {
                format!("the verb {verb:?} on {resource} is denied (403)")
            }
            Error::NoCredentials { source } => {
                format!("there are no valid AWS credentials: {}", chain(&**source))
            }
            error => chain(error),
        }
    }

    /// What is reported of a change that cannot be observed any more.
    pub(crate) fn unobserved(&self, what: &str) -> String {
        let why = self.without_advice();
        format!("{what} and continues; it can no longer be observed: {why}; run the same command to resume")
    }

    /// What is reported of a change of `object` that was sent and not answered.
    ///
    /// # Errors
    /// When it was answered: nothing was changed.
    pub(crate) fn may_be_applied(self, object: &impl std::fmt::Display) -> Result<String, Error> {
        let Error::Unreachable { .. } = &self else { return Err(self) };
        let why = self.without_advice();
        Ok(format!(
            "the change of {object} may have been applied, and no answer came back: {why}; run the same command to resume"
        ))
    }
}

/// A field that somebody else owns.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Conflict {
    /// The field manager: `kubectl-client-side-apply`, `helm`, `Terraform`.
    pub manager: String,
    /// The field, as the API writes it.
    pub field: String,
}

fn shown(conflicts: &[Conflict]) -> String {
    let one = |conflict: &Conflict| format!("the field manager {:?} ({})", conflict.manager, conflict.field);
    conflicts.iter().map(one).collect::<Vec<_>>().join(" and ")
}

impl Classified for Error {
    fn class(&self) -> ErrorClass {
        match self {
            Error::NotFound { .. }
            | Error::NamespaceNotFound { .. }
            | Error::ContainerNotFound { .. }
            | Error::ContainerNotNamed { .. } => ErrorClass::BadInput,
            Error::Paused { .. }
            | Error::OnDelete { .. }
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
            Error::UnexpectedAnswer { .. } => ErrorClass::Unexpected,
        }
    }

    /// Whether the same call may go well later without anything being changed: not without permission or credentials.
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
