//! Errors of ECS deployments, one variant for each case that a caller can handle.

use std::error::Error as StdError;

use aws_sdk_ecs::error::{ProvideErrorMetadata, SdkError};
use bp_artifact::{
    aws::{AwsError, AwsErrorKind, RequestId},
    deploy::RollbackCheck,
    error::{Classified, ErrorClass},
};

type BoxError = Box<dyn StdError + Send + Sync>;

/// An error of this crate. A deployment that failed and was rolled back is not an error but a
/// [`Verdict`](bp_artifact::Verdict).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The cluster does not exist.
    #[error("there is no ECS cluster {cluster:?} in this account and region; check name, region and role")]
    ClusterNotFound {
        /// The requested name.
        cluster: String,
    },
    /// The service does not exist.
    #[error("the ECS cluster {cluster:?} has no service {service:?}; create it first, or correct the name")]
    ServiceNotFound {
        /// The cluster that was searched.
        cluster: String,
        /// The requested name.
        service: String,
    },
    /// The service is being deleted, or is deleted.
    #[error("the service {service:?} is {status}, but only an ACTIVE service can be deployed to")]
    ServiceNotActive {
        /// The service.
        service: String,
        /// Its status.
        status: String,
    },
    /// The service's deployment controller is not ECS.
    #[error(
        "the service {service:?} has the deployment controller {controller}, but UpdateService requires ECS; \
             deploy with the API of {controller}, or recreate the service with the controller ECS"
    )]
    UnsupportedController {
        /// The service.
        service: String,
        /// `CODE_DEPLOY` or `EXTERNAL`.
        controller: String,
    },
    /// An Express Mode service, whose task definition and load balancer ECS manages.
    #[error(
        "{service:?} is an Express Mode service (resourceManagementType ECS), whose task definition and load balancer \
             ECS manages: UpdateService would conflict with that; deploy with ecs:UpdateExpressGatewayService"
    )]
    ExpressService {
        /// The service.
        service: String,
    },
    /// The service's launch type does not support what the service or definition requires.
    #[error(
        "the service {service:?} has the launch type {launch_type}, which does not support {}",
        list(limits)
    )]
    LaunchTypeLimits {
        /// The service.
        service: String,
        /// `EXTERNAL`.
        launch_type: String,
        /// The unsupported features, one entry for each that the service or definition requires.
        limits: Vec<String>,
    },
    /// The definition has no container with this name.
    #[error("{definition} has no container {container:?}; it has {}", list(containers))]
    ContainerNotFound {
        /// The requested name.
        container: String,
        /// The definition that was searched.
        definition: String,
        /// The existing names.
        containers: Vec<String>,
    },
    /// Several containers have this name, which is possible only in a file.
    #[error("{definition} has more than one container {container:?}: {}", list(containers))]
    ContainerAmbiguous {
        /// The requested name.
        container: String,
        /// The definition that was searched.
        definition: String,
        /// The existing names.
        containers: Vec<String>,
    },
    /// The definition has several containers, and none was specified.
    #[error("{definition} has several containers; specify the one to deploy to: {}", list(containers))]
    ContainerNotNamed {
        /// The definition that was searched.
        definition: String,
        /// The existing names.
        containers: Vec<String>,
    },
    /// The task definition does not exist.
    #[error("there is no task definition {definition:?}")]
    DefinitionNotFound {
        /// The family, `family:revision` or ARN.
        definition: String,
    },
    /// CloudWatch alarms do not exist.
    #[error(
        "there is no CloudWatch alarm {} in this account and region; create it first, or correct the name \
             (only metric and composite alarms can be checked)",
        list(alarms)
    )]
    AlarmsNotFound {
        /// Their names.
        alarms: Vec<String>,
    },
    /// The definition has members that this version does not support, and registering it could drop them.
    #[error(
        "{definition} has members that this version does not support: {}; registering it could drop them: \
             correct their names, update this program, or remove them with ecs.without-members in bp.toml",
        list(fields)
    )]
    UnknownFields {
        /// The definition.
        definition: String,
        /// The names of the members.
        fields: Vec<String>,
    },
    /// A schedule has members that this version does not support, and replacing it could drop them. Nothing was changed.
    #[error(
        "{schedule} has members that this version does not support: {}; UpdateSchedule could drop them: update this \
             program, or move the schedule yourself and set ecs.schedules = \"off\" in bp.toml",
        list(members)
    )]
    UnknownScheduleMembers {
        /// The schedule.
        schedule: String,
        /// The names of the members.
        members: Vec<String>,
    },
    /// More tags than AWS accepts.
    #[error(
        "{definition} would have {count} tags, but ECS accepts {limit}; remove tags from bp.toml or \
             from the definition"
    )]
    TooManyTags {
        /// The definition.
        definition: String,
        /// The number of tags that it would have.
        count: usize,
        /// The maximum number of tags.
        limit: usize,
    },
    /// The input is not a valid task definition.
    #[error("{definition} is not a valid task definition: {reason}")]
    MalformedDefinition {
        /// The file or ARN.
        definition: String,
        /// The reason.
        reason: String,
    },
    /// Another deployment is in progress, and the policy is to leave it alone.
    #[error(
        "another deployment of {service:?} is in progress ({deployment}, deploying {definition}); wait for it \
             (--in-flight wait), or replace it (--in-flight supersede)"
    )]
    InFlight {
        /// The service.
        service: String,
        /// `ecs-svc/<number>`.
        deployment: String,
        /// The definition that it deploys.
        definition: String,
    },
    /// The revision that a failed deployment would return to cannot run any more. Nothing was changed.
    #[error(
        "the service {service:?} could not be rolled back: {}; correct that, or deploy anyway with \
             --accept-unproven-rollback (nothing was changed)",
        check.reasons()
    )]
    UnprovenRollback {
        /// The service.
        service: String,
        /// What is missing.
        check: Box<RollbackCheck>,
    },
    /// The service has no revision to roll back to.
    #[error("the service {service:?} has no earlier revision to roll back to")]
    NoPrevious {
        /// The service.
        service: String,
    },
    /// No deployment awaits approval.
    #[error(
        "no deployment of the service {service:?} awaits approval; it was already \
             answered, or has not reached its pause hook"
    )]
    NotAwaitingApproval {
        /// The service.
        service: String,
    },
    /// The container of a one-off task does not run the deployed image.
    #[error("the container {container:?} does not run the image; specify one of: {}", list(containers))]
    NotOurContainer {
        /// The requested name.
        container: String,
        /// The containers that run the image.
        containers: Vec<String>,
    },
    /// The caller cancelled a one-off task, which is stopped if that is possible.
    #[error("interrupted; {state}")]
    TaskInterrupted {
        /// The task's id, if one was started.
        task: Option<String>,
        /// What happens to the task.
        state: String,
    },
    /// The caller stopped watching. The deployment continues.
    #[error(
        "interrupted; {} continues in ECS: run the same command again to follow it",
        deployment.as_deref().unwrap_or("any deployment that was already started")
    )]
    Interrupted {
        /// `ecs-svc/<number>`, if one was started.
        deployment: Option<String>,
    },
    /// IAM denies the call.
    #[error("access denied; grant the caller the permission {action}")]
    AccessDenied {
        /// The action that is missing, such as `ecs:UpdateService` or `iam:PassRole`.
        action: String,
        /// AWS's request id.
        request_id: Option<String>,
        /// AWS's error.
        source: BoxError,
    },
    /// IAM denies tagging.
    #[error(
        "access denied, cannot tag task definitions and tasks; grant the caller the permission ecs:TagResource, \
             or register revisions and start tasks without tags (ecs.tagging = \"off\" in bp.toml)"
    )]
    TaggingDenied {
        /// AWS's request id.
        request_id: Option<String>,
        /// AWS's error.
        source: BoxError,
    },
    /// No credentials, or ones that AWS rejects.
    #[error("no valid AWS credentials; log in, or set AWS_PROFILE or the role")]
    NoCredentials {
        /// The cause.
        source: BoxError,
    },
    /// The API cannot be reached.
    #[error("{operation}: the API cannot be reached; check network, region and endpoint")]
    Unreachable {
        /// The call, such as `ecs:DescribeServices`.
        operation: &'static str,
        /// The cause.
        source: BoxError,
    },
    /// AWS throttles the call or has an internal error, also after the SDK's retries.
    #[error("{operation}: the API is overloaded or failing; retry later{}", RequestId(request_id))]
    Unavailable {
        /// The call.
        operation: &'static str,
        /// AWS's request id.
        request_id: Option<String>,
        /// AWS's error.
        source: BoxError,
    },
    /// AWS rejected the call.
    #[error("{operation} was refused{}", RequestId(request_id))]
    Refused {
        /// The call.
        operation: &'static str,
        /// The error's code, such as `InvalidParameterException`.
        code: String,
        /// AWS's request id.
        request_id: Option<String>,
        /// AWS's error.
        source: BoxError,
    },
    /// AWS sent an unexpected response.
    #[error("{operation}: unexpected response: {reason}")]
    UnexpectedResponse {
        /// The call.
        operation: &'static str,
        /// The reason.
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
            | Error::NotOurContainer { .. }
            | Error::DefinitionNotFound { .. }
            | Error::AlarmsNotFound { .. }
            | Error::MalformedDefinition { .. }
            | Error::TooManyTags { .. }
            | Error::Refused { .. } => ErrorClass::BadInput,
            Error::ServiceNotActive { .. }
            | Error::UnsupportedController { .. }
            | Error::ExpressService { .. }
            | Error::LaunchTypeLimits { .. }
            | Error::UnknownFields { .. }
            | Error::UnknownScheduleMembers { .. }
            | Error::InFlight { .. }
            | Error::UnprovenRollback { .. }
            | Error::NoPrevious { .. }
            | Error::NotAwaitingApproval { .. } => ErrorClass::Refused,
            Error::AccessDenied { .. }
            | Error::TaggingDenied { .. }
            | Error::NoCredentials { .. }
            | Error::Unreachable { .. }
            | Error::Unavailable { .. } => ErrorClass::Unavailable,
            Error::Interrupted { .. } | Error::TaskInterrupted { .. } => ErrorClass::Interrupted,
            Error::UnexpectedResponse { .. } => ErrorClass::Unexpected,
        }
    }

    /// Whether the same call may succeed later without a change of permissions, credentials or input.
    fn is_retryable(&self) -> bool {
        matches!(self, Error::Unreachable { .. } | Error::Unavailable { .. } | Error::InFlight { .. })
    }
}

impl Error {
    /// Converts the SDK's error of a call such as `ecs:UpdateService`.
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
            // A proxy or load balancer in between may send a response that is not the service's.
            AwsErrorKind::Throttled | AwsErrorKind::Unavailable | AwsErrorKind::Unreadable => {
                Error::Unavailable { operation, request_id, source: error.into() }
            }
            AwsErrorKind::Unreachable => Error::Unreachable { operation, source: error.into() },
            AwsErrorKind::Refused | _ => {
                let code = error.code().unwrap_or("Unknown").to_owned();
                Error::Refused { operation, code, request_id, source: error.into() }
            }
        }
    }

    /// Whether AWS may have processed the request in spite of this error: the response was lost, or the service failed.
    /// Throttled requests are not processed.
    pub(crate) fn may_have_been_handled(&self) -> bool {
        if let Error::Unavailable { source, .. } = self {
            let error = source.downcast_ref::<AwsError>();
            return error.is_none_or(|error| error.kind() != AwsErrorKind::Throttled);
        }
        matches!(self, Error::Unreachable { .. })
    }

    /// The error and its source in one line.
    pub(crate) fn in_one_line(&self) -> String {
        match StdError::source(self) {
            Some(source) => format!("{self}: {source}"),
            None => self.to_string(),
        }
    }

    /// A copy for another caller of the same joint call. For retryable errors only.
    pub(crate) fn copy_for_waiter(&self) -> Error {
        if let Error::Unavailable { operation, request_id, source } = self {
            let (request_id, source) = (request_id.clone(), source.to_string().into());
            return Error::Unavailable { operation, request_id, source };
        }
        if let Error::Unreachable { operation, source } = self {
            return Error::Unreachable { operation, source: source.to_string().into() };
        }
        Error::Unreachable { operation: "ecs", source: self.to_string().into() }
    }

    /// AWS's message when it rejected the call.
    pub(crate) fn refusal(&self) -> Option<&str> {
        let Error::Refused { source, .. } = self else { return None };
        source.downcast_ref::<AwsError>().map(AwsError::message)
    }

    /// The error's code when AWS rejected the call.
    pub(crate) fn code(&self) -> Option<&str> {
        if let Error::Refused { code, .. } = self { Some(code) } else { None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn container_not_found_lists_the_containers() {
        let error = Error::ContainerNotFound {
            container: "wbe".into(),
            definition: "web:3".into(),
            containers: vec!["proxy".into(), "web".into()],
        };
        assert_eq!(error.to_string(), "web:3 has no container \"wbe\"; it has proxy, web");
    }
}
