//! Convert AWS SDK errors to errors of references.

use std::{error::Error as StdError, sync::Arc};

#[cfg(feature = "secretsmanager")]
use aws_sdk_secretsmanager::{
    config::http::HttpResponse,
    error::{ProvideErrorMetadata, SdkError},
};

#[cfg(not(feature = "secretsmanager"))]
use aws_sdk_ssm::{
    config::http::HttpResponse,
    error::{ProvideErrorMetadata, SdkError},
};

use bp_artifact::aws::{AwsError, AwsErrorKind};

use crate::{
    error::{Error, ErrorKind, Source},
    permissions::{Grant, resource},
    reference::Reference,
};

/// Why a call failed, independent of a reference.
#[derive(Debug, Clone)]
pub(super) struct Failure {
    pub(super) code: Code,
    request_id: Option<String>,
    source: Source,
}

/// The kind of a failure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Code {
    Missing,
    NoSuchVersion,
    Deleted,
    /// Access denied; with the action, if the service reported it.
    Denied(Option<String>),
    Credentials,
    Unavailable,
    Unreadable,
    Refused(String),
}

impl Failure {
    /// A failure that the service reported inside a response.
    pub(super) fn reported(code: &str, message: &str, request_id: Option<&str>) -> Self {
        Failure::from(AwsError::of_code(code, message, None, request_id.map(str::to_owned)))
    }

    /// A failed SDK call. An HTTP response that could not be parsed is dropped: it may contain the value.
    pub(super) fn of<E>(error: SdkError<E, HttpResponse>) -> Self
    where
        E: ProvideErrorMetadata + StdError + Send + Sync + 'static,
    {
        Failure::from(AwsError::of(&error))
    }

    /// The error for a reference. `action` is the IAM action of the call.
    pub(super) fn to_error(&self, reference: &Reference, action: &str) -> Error {
        let kind = match &self.code {
            Code::Missing => ErrorKind::Missing,
            Code::NoSuchVersion => ErrorKind::NoSuchVersion,
            Code::Deleted => ErrorKind::Deleted,
            Code::Denied(denied) => {
                let action = denied.as_deref().unwrap_or(action);
                ErrorKind::Denied { grant: grant(action, reference) }
            }
            Code::Credentials => ErrorKind::Credentials,
            Code::Unavailable => ErrorKind::Unavailable,
            Code::Unreadable => ErrorKind::Unreadable,
            Code::Refused(code) => ErrorKind::Refused { code: code.clone() },
        };
        Error::new(reference, kind).in_request(self.request_id.clone()).caused_by(Arc::clone(&self.source))
    }
}

/// The permission to allow, so that the reference can be read.
fn grant(action: &str, reference: &Reference) -> Grant {
    let resource = match action {
        "kms:Decrypt" => "the KMS key that it is encrypted with".to_owned(),
        "secretsmanager:BatchGetSecretValue" => "*".to_owned(),
        _ => resource(reference, None),
    };
    Grant::new(action, resource)
}

impl From<AwsError> for Failure {
    fn from(error: AwsError) -> Self {
        let (code, message) = (error.code().unwrap_or_default(), error.message());
        let code = match (code, error.kind()) {
            // The secret exists, only its value in this version does not.
            ("ResourceNotFoundException", _) if message.contains("secret value for") => Code::NoSuchVersion,
            ("ResourceNotFoundException" | "ParameterNotFound", _) => Code::Missing,
            ("ParameterVersionNotFound", _) => Code::NoSuchVersion,
            ("InvalidRequestException", _) if message.contains("deletion") => Code::Deleted,
            ("InvalidRequestException", _) if message.contains("not associated") => Code::NoSuchVersion,
            ("DecryptionFailure" | "KMSAccessDeniedException", _) => Code::Denied(Some("kms:Decrypt".into())),
            (_, AwsErrorKind::Denied) => Code::Denied(denied_action(&error)),
            (_, AwsErrorKind::Credentials) => Code::Credentials,
            (_, AwsErrorKind::Throttled | AwsErrorKind::Unavailable | AwsErrorKind::Unreachable) => {
                Code::Unavailable
            }
            (_, AwsErrorKind::Unreadable) => Code::Unreadable,
            (code, _) => Code::Refused(code.to_owned()),
        };
        Failure { code, request_id: error.request_id().map(str::to_owned), source: Arc::new(error) }
    }
}

/// The IAM action to allow: the one in the message, or `kms:Decrypt` when KMS denied access.
fn denied_action(error: &AwsError) -> Option<String> {
    let message = error.message();
    if message.contains("KMS") || message.contains("ciphertext") {
        return Some("kms:Decrypt".into());
    }
    error.denied_action().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn access_denied_errors_contain_the_action_to_allow() {
        for (message, action) in [
            (
                "User: arn:aws:sts::1:assumed-role/a/b is not authorized to perform: secretsmanager:GetSecretValue on \
                 resource: prod/db because no identity-based policy allows the secretsmanager:GetSecretValue action",
                Some("secretsmanager:GetSecretValue"),
            ),
            ("Access to KMS is not allowed", Some("kms:Decrypt")),
            ("The ciphertext refers to a customer master key that does not exist", Some("kms:Decrypt")),
            ("no", None),
        ] {
            let error = AwsError::of_code("AccessDeniedException", message, None, None);
            assert_eq!(denied_action(&error).as_deref(), action, "{message}");
        }
    }
}
