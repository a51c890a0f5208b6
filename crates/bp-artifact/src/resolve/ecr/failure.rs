//! Convert errors of Amazon ECR calls to [`ResolveError`].

use aws_sdk_ecr::error::{ProvideErrorMetadata, SdkError};

use crate::{
    aws::{AwsError, AwsErrorKind},
    reference::Repository,
    resolve::ResolveError,
};

/// Converts the error of a call that requires the IAM permission `action`.
pub(super) fn failed<E>(repository: &Repository, action: &str, error: SdkError<E>) -> ResolveError
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
{
    let error = AwsError::of(&error);
    let (repository, request_id) = (repository.clone(), error.request_id().map(str::to_owned));
    if error.code() == Some("RepositoryNotFoundException") {
        return ResolveError::RepositoryNotFound { repository, request_id };
    }
    match error.kind() {
        AwsErrorKind::Denied => {
            let permission = error.denied_action().unwrap_or(action).to_owned();
            ResolveError::AccessDenied { repository, permission, request_id, source: Some(error.into()) }
        }
        AwsErrorKind::Credentials => ResolveError::NoCredentials { repository, source: error.into() },
        AwsErrorKind::Throttled
        | AwsErrorKind::Unavailable
        | AwsErrorKind::Unreachable
        | AwsErrorKind::Refused
        | AwsErrorKind::Unreadable => unavailable(&repository, request_id, error.into()),
    }
}

pub(super) fn unavailable(
    repository: &Repository,
    request_id: Option<String>,
    source: Box<dyn std::error::Error + Send + Sync>,
) -> ResolveError {
    ResolveError::Unavailable { repository: repository.clone(), request_id, source }
}
