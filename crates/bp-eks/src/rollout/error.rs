//! What can go wrong with a roll-out, as far as a caller can act on it.

use std::error::Error as StdError;

use bp_artifact::{Classified, ErrorClass, Workload};
use kube::core::Status;

use crate::connect::{TokenError, explanation};

type BoxError = Box<dyn StdError + Send + Sync>;

/// An error of a roll-out. A roll-out that failed and was undone is none: that is a
/// [`Verdict`](bp_artifact::Verdict).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No such workload.
    #[error("the namespace {namespace:?} has no {workload}: create it first, or mend the name")]
    WorkloadNotFound {
        /// Where it was looked for.
        namespace: String,
        /// What was looked for.
        workload: Workload,
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
    /// Somebody else owns the image's field.
    #[error(
        "the image of {workload} belongs to {}: let it go there, or allow taking it over once (Options::take_over)",
        shown(conflicts)
    )]
    Conflict {
        /// The workload.
        workload: Workload,
        /// Who owns what.
        conflicts: Vec<Conflict>,
    },
    /// Admission or validation refused the change. Nothing was changed.
    #[error("the cluster refused the change of {workload} at admission: change it as the message says")]
    AdmissionRefused {
        /// The workload.
        workload: Workload,
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
    /// The Kubernetes API is overloaded or has an error of its own, also after several tries.
    #[error("{operation}: the API of the cluster {cluster:?} is overloaded or failing; try again later")]
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

/// A field that somebody else owns.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Conflict {
    /// The field manager: `kubectl-client-side-apply`, `helm`, `Terraform`.
    pub manager: String,
    /// The field, as the API writes it.
    pub field: String,
}

pub(crate) fn shown(conflicts: &[Conflict]) -> String {
    let one = |conflict: &Conflict| format!("the field manager {:?} ({})", conflict.manager, conflict.field);
    conflicts.iter().map(one).collect::<Vec<_>>().join(" and ")
}

impl Classified for Error {
    fn class(&self) -> ErrorClass {
        match self {
            Error::WorkloadNotFound { .. }
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
            | Error::Unavailable { .. } => ErrorClass::Unavailable,
            Error::Interrupted { .. } => ErrorClass::Interrupted,
            Error::UnexpectedAnswer { .. } => ErrorClass::Unexpected,
        }
    }

    /// Whether the same call may go well later without anything being changed: not without permission or credentials.
    fn is_retryable(&self) -> bool {
        matches!(self, Error::Unreachable { .. } | Error::Unavailable { .. })
    }
}

/// What an error is about.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) cluster: String,
    pub(crate) namespace: String,
    pub(crate) workload: Workload,
}

impl Place {
    /// Reads kube's error of an operation such as `patch deployments`.
    pub(crate) fn error(&self, operation: &'static str, error: kube::Error) -> Error {
        let cluster = self.cluster.clone();
        match error {
            kube::Error::Api(status) => self.refused(operation, status),
            kube::Error::SerdeError(e) => Error::UnexpectedAnswer { operation, cluster, source: e.into() },
            kube::Error::Service(source) if source.is::<TokenError>() => Error::NoCredentials { source },
            kube::Error::Service(source) => Error::Unreachable { operation, cluster, source },
            kube::Error::HyperError(e) => Error::Unreachable { operation, cluster, source: e.into() },
            kube::Error::ReadEvents(e) => Error::Unreachable { operation, cluster, source: e.into() },
            other => Error::UnexpectedAnswer { operation, cluster, source: other.into() },
        }
    }

    fn refused(&self, operation: &'static str, status: Box<Status>) -> Error {
        let Place { cluster, namespace, workload } = self.clone();
        let source: BoxError = status.clone();
        match status.code {
            401 => {
                let guess = || {
                    format!(
                        "check that this is the cluster's name, and give the identity an access entry (aws eks \
                         create-access-entry --cluster-name {cluster} --principal-arn <role>)"
                    )
                };
                let advice = explanation(&status).map_or_else(guess, str::to_owned);
                Error::Unauthorized { cluster, advice, source: "401 Unauthorized".into() }
            }
            403 => match denied(&status.message) {
                Some((verb, resource)) => Error::Forbidden { cluster, verb, resource, namespace, source },
                None => Error::AdmissionRefused { workload, source },
            },
            404 => Error::WorkloadNotFound { namespace, workload },
            // Deleted, or made anew, since it was read.
            409 if status.message.to_ascii_lowercase().contains("uid") => {
                Error::WorkloadNotFound { namespace, workload }
            }
            409 if !conflicts(&status).is_empty() => {
                Error::Conflict { workload, conflicts: conflicts(&status) }
            }
            400 | 422 => Error::AdmissionRefused { workload, source },
            408 | 409 | 429 => Error::Unavailable { operation, cluster, source },
            code if code >= 500 => Error::Unavailable { operation, cluster, source },
            _ => Error::UnexpectedAnswer { operation, cluster, source },
        }
    }
}

/// Verb and resource in `User "x" cannot patch resource "deployments" in API group "apps" …`.
fn denied(message: &str) -> Option<(String, String)> {
    let (_, rest) = message.split_once(" cannot ")?;
    let (verb, rest) = rest.split_once(" resource ")?;
    let mut quoted = rest.split('"').skip(1).step_by(2);
    let resource = quoted.next()?;
    let group = quoted.next().filter(|group| !group.is_empty());
    Some((verb.to_owned(), group.map_or(resource.to_owned(), |group| format!("{resource}.{group}"))))
}

/// The owners in the causes of a refused apply.
pub(crate) fn conflicts(status: &Status) -> Vec<Conflict> {
    let causes = status.details.iter().flat_map(|details| &details.causes);
    causes
        .filter(|cause| cause.reason == "FieldManagerConflict")
        .map(|cause| Conflict {
            manager: cause.message.split('"').nth(1).unwrap_or(&cause.message).to_owned(),
            field: cause.field.clone(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn place() -> Place {
        Place { cluster: "shop".into(), namespace: "web".into(), workload: "deployment/web".parse().unwrap() }
    }

    fn read(operation: &'static str, status: serde_json::Value) -> Error {
        place().error(operation, kube::Error::Api(Box::new(serde_json::from_value(status).unwrap())))
    }

    #[test]
    fn the_missing_verb_is_named() {
        let error = read(
            "list pods",
            json!({ "code": 403, "reason": "Forbidden", "message":
                "pods is forbidden: User \"ci\" cannot list resource \"pods\" in API group \"\" in the namespace \"web\"" }),
        );
        assert!(error.to_string().contains("the verb \"list\" on pods in the namespace \"web\""), "{error}");
        let message = "deployments.apps \"web\" is forbidden: User \"ci\" cannot patch resource \"deployments\" in API \
                       group \"apps\" in the namespace \"web\"";
        assert_eq!(denied(message), Some(("patch".into(), "deployments.apps".into())));
    }

    #[test]
    fn what_was_deleted_since_it_was_read_is_not_there() {
        for message in [
            "uid mismatch: the provided object specified uid 1, and no existing object was found",
            "Operation cannot be fulfilled on deployments.apps \"web\": Precondition failed: UID in precondition: 1, UID in object meta: 2",
        ] {
            let error =
                read("patch deployments", json!({ "code": 409, "reason": "Conflict", "message": message }));
            assert!(matches!(error, Error::WorkloadNotFound { .. }), "{error}");
        }
    }

    #[test]
    fn what_the_api_refuses_is_told_apart() {
        let webhook = "admission webhook \"policy\" denied the request: no";
        for (code, message, class) in [
            (401, "Unauthorized", ErrorClass::Unavailable),
            (403, webhook, ErrorClass::Refused),
            (404, "deployments.apps \"web\" not found", ErrorClass::BadInput),
            (422, "Deployment.apps \"web\" is invalid", ErrorClass::Refused),
            (429, "too many requests", ErrorClass::Unavailable),
            (500, "etcdserver: leader changed", ErrorClass::Unavailable),
            (418, "?", ErrorClass::Unexpected),
        ] {
            let error = read("get deployments", json!({ "code": code, "message": message }));
            assert_eq!(error.class(), class, "{error}");
        }
        assert!(!read("get deployments", json!({ "code": 401 })).is_retryable());
    }

    #[test]
    fn a_conflict_names_owner_and_field() {
        let field = ".spec.template.spec.containers[name=\"web\"].image";
        let error = read(
            "patch deployments",
            json!({ "code": 409, "reason": "Conflict", "message": "Apply failed with 1 conflict", "details": {
                "causes": [{
                    "reason": "FieldManagerConflict",
                    "message": "conflict with \"kubectl-client-side-apply\" using apps/v1",
                    "field": field,
                }],
            } }),
        );
        let Error::Conflict { conflicts, .. } = &error else { panic!("{error}") };
        assert_eq!(
            *conflicts,
            [Conflict { manager: "kubectl-client-side-apply".into(), field: field.into() }]
        );
        assert!(error.to_string().contains("take_over"), "{error}");
    }
}
