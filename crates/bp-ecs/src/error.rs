//! What can go wrong, as far as a caller can act on it.

use std::error::Error as StdError;

use aws_sdk_ecs::error::{ProvideErrorMetadata, SdkError};
use bp_artifact::{
    aws::{AwsError, AwsErrorKind, RequestId},
    error::{Classified, ErrorClass},
};

type BoxError = Box<dyn StdError + Send + Sync>;

/// An error of this crate. A deployment that failed and was rolled back is none: that is a
/// [`Verdict`](bp_artifact::Verdict).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No such cluster.
    #[error("there is no ECS cluster {cluster:?} in this account and region: check name, region and role")]
    ClusterNotFound {
        /// The name that was given.
        cluster: String,
    },
    /// No such service.
    #[error("the ECS cluster {cluster:?} has no service {service:?}: create it first, or mend the name")]
    ServiceNotFound {
        /// The cluster that was looked in.
        cluster: String,
        /// The name that was given.
        service: String,
    },
    /// The service is being deleted, or is deleted.
    #[error("the service {service:?} is {status}, and only an ACTIVE one can be deployed to")]
    ServiceNotActive {
        /// The service.
        service: String,
        /// Its status.
        status: String,
    },
    /// The service is not deployed by ECS itself.
    #[error(
        "the service {service:?} has the deployment controller {controller}: only ECS is deployed to by UpdateService; \
             deploy it with {controller}'s own API, or recreate the service with the controller ECS"
    )]
    UnsupportedController {
        /// The service.
        service: String,
        /// `CODE_DEPLOY` or `EXTERNAL`.
        controller: String,
    },
    /// The service's launch type cannot do what is asked.
    #[error(
        "the service {service:?} has the launch type {launch_type}, which does not have {}",
        list(limits)
    )]
    LaunchTypeLimits {
        /// The service.
        service: String,
        /// `EXTERNAL`.
        launch_type: String,
        /// What it does not have, one entry for each thing that service or definition ask for.
        limits: Vec<String>,
    },
    /// No container of that name.
    #[error("{definition} has no container {container:?}; it has {}", list(containers))]
    ContainerNotFound {
        /// The name that was given.
        container: String,
        /// Where it was looked for.
        definition: String,
        /// The names that are there.
        containers: Vec<String>,
    },
    /// Several containers of that name, as only a file can have them.
    #[error("{definition} has more than one container {container:?}: {}", list(containers))]
    ContainerAmbiguous {
        /// The name that was given.
        container: String,
        /// Where it was looked for.
        definition: String,
        /// The names that are there.
        containers: Vec<String>,
    },
    /// Several containers, and none was named.
    #[error("{definition} has the containers {}: name the one to deploy to", list(containers))]
    ContainerNotNamed {
        /// Where they were looked for.
        definition: String,
        /// The names that are there.
        containers: Vec<String>,
    },
    /// No such task definition.
    #[error("there is no task definition {definition:?}")]
    DefinitionNotFound {
        /// The family, `family:revision` or ARN.
        definition: String,
    },
    /// The definition has members of which nobody here knows whether they are to be sent back.
    #[error(
        "{definition} has members that this version does not know: {}; registering it could lose them: mend their \
             names, or update this program",
        list(fields)
    )]
    UnknownFields {
        /// Which definition.
        definition: String,
        /// The names of the members.
        fields: Vec<String>,
    },
    /// More tags than AWS takes.
    #[error(
        "{definition} would have {count} tags, and ECS accepts {limit}: remove tags from bp.toml or from the definition"
    )]
    TooManyTags {
        /// Which definition.
        definition: String,
        /// How many it would have.
        count: usize,
        /// How many it may have.
        limit: usize,
    },
    /// What was read as a task definition is none.
    #[error("{definition} is no task definition: {reason}")]
    MalformedDefinition {
        /// A file or ARN.
        definition: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Another deployment is under way, and the policy is not to touch it.
    #[error(
        "another deployment of {service:?} is under way ({deployment}, bringing {definition}): wait for it, or \
             choose to supersede it"
    )]
    InFlight {
        /// The service.
        service: String,
        /// `ecs-svc/<number>`.
        deployment: String,
        /// The definition that it brings.
        definition: String,
    },
    /// The service has nothing to go back to.
    #[error("the service {service:?} has no earlier revision to go back to")]
    NoPrevious {
        /// The service.
        service: String,
    },
    /// Nothing waits for an answer.
    #[error(
        "no deployment of the service {service:?} awaits approval: it was answered, or has not come so far"
    )]
    NotAwaitingApproval {
        /// The service.
        service: String,
    },
    /// The caller stopped watching. The deployment goes on.
    #[error("stopped watching; {} goes on: run the same command again to follow it", deployment.as_deref().unwrap_or("what was begun"))]
    Interrupted {
        /// `ecs-svc/<number>`, if one was begun.
        deployment: Option<String>,
    },
    /// IAM says no.
    #[error("not allowed: give the caller the permission {action}")]
    AccessDenied {
        /// The action that is missing, such as `ecs:UpdateService` or `iam:PassRole`.
        action: String,
        /// AWS's id of the request.
        request_id: Option<String>,
        /// In AWS's words.
        source: BoxError,
    },
    /// IAM does not allow tags.
    #[error(
        "not allowed to tag task definitions: give the caller the permission ecs:TagResource, or register revisions without \
             tags (ecs.tagging = \"off\" in bp.toml)"
    )]
    TaggingDenied {
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
    /// The API did not answer.
    #[error("{operation}: the ECS API cannot be reached: check network, region and endpoint")]
    Unreachable {
        /// The call, such as `ecs:DescribeServices`.
        operation: &'static str,
        /// What failed.
        source: BoxError,
    },
    /// AWS is throttling or has an error of its own, also after the SDK's retries.
    #[error("{operation}: the ECS API is overloaded or failing; try again later{}", RequestId(request_id))]
    Unavailable {
        /// The call.
        operation: &'static str,
        /// AWS's id of the request.
        request_id: Option<String>,
        /// In AWS's words.
        source: BoxError,
    },
    /// AWS refused the call.
    #[error("{operation} was refused{}", RequestId(request_id))]
    Refused {
        /// The call.
        operation: &'static str,
        /// The error's code, such as `InvalidParameterException`.
        code: String,
        /// AWS's id of the request.
        request_id: Option<String>,
        /// In AWS's words.
        source: BoxError,
    },
    /// An answer that makes no sense.
    #[error("{operation}: the answer cannot be used: {reason}")]
    UnexpectedAnswer {
        /// The call.
        operation: &'static str,
        /// What is wrong with it.
        reason: String,
    },
}

fn list(names: &[String]) -> String {
    match names {
        [] => "none".to_owned(),
        names => names.join(", "),
    }
}

impl Classified for Error {
    fn class(&self) -> ErrorClass {
        match self {
            Error::ClusterNotFound { .. }
            | Error::ServiceNotFound { .. }
            | Error::ContainerNotFound { .. }
            | Error::ContainerAmbiguous { .. }
            | Error::ContainerNotNamed { .. }
            | Error::DefinitionNotFound { .. }
            | Error::MalformedDefinition { .. }
            | Error::TooManyTags { .. }
            | Error::Refused { .. } => ErrorClass::BadInput,
            Error::ServiceNotActive { .. }
            | Error::UnsupportedController { .. }
            | Error::LaunchTypeLimits { .. }
            | Error::UnknownFields { .. }
            | Error::InFlight { .. }
            | Error::NoPrevious { .. }
            | Error::NotAwaitingApproval { .. } => ErrorClass::Refused,
            Error::AccessDenied { .. }
            | Error::TaggingDenied { .. }
            | Error::NoCredentials { .. }
            | Error::Unreachable { .. }
            | Error::Unavailable { .. } => ErrorClass::Unavailable,
            Error::Interrupted { .. } => ErrorClass::Interrupted,
            Error::UnexpectedAnswer { .. } => ErrorClass::Unexpected,
        }
    }

    /// Whether the same call may go well later without anything being changed: not without permission or credentials.
    fn is_retryable(&self) -> bool {
        matches!(self, Error::Unreachable { .. } | Error::Unavailable { .. } | Error::InFlight { .. })
    }
}

impl Error {
    /// Reads the SDK's error of a call such as `ecs:UpdateService`.
    pub(crate) fn of_call<E>(
        operation: &'static str,
        error: SdkError<E, aws_sdk_ecs::config::http::HttpResponse>,
    ) -> Self
    where
        E: ProvideErrorMetadata + StdError + Send + Sync + 'static,
    {
        let error = AwsError::of(&error);
        let request_id = error.request_id().map(str::to_owned);
        match error.kind() {
            AwsErrorKind::Credentials => Error::NoCredentials { source: error.into() },
            AwsErrorKind::Denied if error.denied_action() == Some("ecs:TagResource") => {
                Error::TaggingDenied { request_id, source: error.into() }
            }
            AwsErrorKind::Denied => Error::AccessDenied {
                action: error.denied_action().unwrap_or(operation).to_owned(),
                request_id,
                source: error.into(),
            },
            // A proxy or load balancer may answer in words that are not the service's own.
            AwsErrorKind::Throttled | AwsErrorKind::Unavailable | AwsErrorKind::Unreadable => {
                Error::Unavailable { operation, request_id, source: error.into() }
            }
            AwsErrorKind::Unreachable => Error::Unreachable { operation, source: error.into() },
            _ => {
                let code = error.code().unwrap_or("Unknown").to_owned();
                Error::Refused { operation, code, request_id, source: error.into() }
            }
        }
    }

    /// Whether the request may have been carried out although this came back: the answer was lost, or the service
    /// failed. Throttled requests were not.
    pub(crate) fn may_have_been_handled(&self) -> bool {
        if let Error::Unavailable { source, .. } = self {
            let error = source.downcast_ref::<AwsError>();
            return error.is_none_or(|error| error.kind() != AwsErrorKind::Throttled);
        }
        matches!(self, Error::Unreachable { .. })
    }

    /// The error with its source, in one line.
    pub(crate) fn in_one_line(&self) -> String {
        match StdError::source(self) {
            Some(source) => format!("{self}: {source}"),
            None => self.to_string(),
        }
    }

    /// The same for another one who waited for the same call. For what may pass only.
    pub(crate) fn again(&self) -> Error {
        match self {
            Error::Unavailable { operation, request_id, source } => Error::Unavailable {
                operation,
                request_id: request_id.clone(),
                source: source.to_string().into(),
            },
            Error::Unreachable { operation, source } => {
                Error::Unreachable { operation, source: source.to_string().into() }
            }
            other => Error::Unreachable { operation: "ecs", source: other.to_string().into() },
        }
    }

    /// The error's code when AWS refused the call.
    pub(crate) fn code(&self) -> Option<&str> {
        match self {
            Error::Refused { code, .. } => Some(code),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_what_is_there() {
        let error = Error::ContainerNotFound {
            container: "wbe".into(),
            definition: "web:3".into(),
            containers: vec!["proxy".into(), "web".into()],
        };
        assert_eq!(error.to_string(), "web:3 has no container \"wbe\"; it has proxy, web");
    }
}
