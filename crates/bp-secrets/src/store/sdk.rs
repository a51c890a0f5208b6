//! What the AWS SDKs' errors mean for a reference.

use std::{error::Error as StdError, sync::Arc};

#[cfg(feature = "secretsmanager")]
use aws_sdk_secretsmanager::{
    config::http::HttpResponse,
    error::{ProvideErrorMetadata, SdkError},
    operation::RequestId,
};
#[cfg(not(feature = "secretsmanager"))]
use aws_sdk_ssm::{
    config::http::HttpResponse,
    error::{ProvideErrorMetadata, SdkError},
    operation::RequestId,
};

use crate::{Error, ErrorKind, Grant, Reference, error::Source, permissions::resource};

/// Why a call failed, before it is said of a reference.
#[derive(Debug, Clone)]
pub(super) struct Failure {
    pub(super) code: Code,
    request_id: Option<String>,
    source: Source,
}

/// What a failure means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Code {
    Missing,
    NoSuchVersion,
    Deleted,
    /// Denied; with the action, if the service named it.
    Denied(Option<String>),
    Credentials,
    Unavailable,
    Unreadable,
    Refused(String),
}

/// The service's own word, without the HTTP answer that it came in.
#[derive(Debug, thiserror::Error)]
#[error("{code}: {message}")]
struct Word {
    code: String,
    message: String,
}

impl Failure {
    /// A failure that the service told in its own words.
    pub(super) fn told(code: &str, message: &str, request_id: Option<&str>) -> Self {
        Failure {
            code: meaning(code, message),
            request_id: request_id.map(str::to_owned),
            source: Arc::new(Word { code: code.to_owned(), message: message.to_owned() }),
        }
    }

    /// What an SDK call failed with. Of the HTTP answer only status and request id are kept, since an answer that
    /// could not be read may hold the value.
    pub(super) fn of<E>(error: SdkError<E, HttpResponse>) -> Self
    where
        E: ProvideErrorMetadata + StdError + Send + Sync + 'static,
    {
        let request_id = error.request_id().map(str::to_owned);
        let status = error.raw_response().map(|raw| raw.status().as_u16());
        if let SdkError::ServiceError(service) = &error
            && let Some(code) = service.err().code()
        {
            let message = service.err().message().unwrap_or_default();
            let mut failure = Failure::told(code, message, request_id.as_deref());
            if status.is_some_and(|status| status >= 500) {
                failure.code = Code::Unavailable;
            }
            return failure;
        }
        if let Some(status) = status {
            let code = if status >= 500 || status == 429 { Code::Unavailable } else { Code::Unreadable };
            let word = Word { code: format!("HTTP {status}"), message: "the answer is not shown".into() };
            return Failure { code, request_id, source: Arc::new(word) };
        }
        // No HTTP answer: nothing that the service said can be in here.
        let code = match &error {
            SdkError::ConstructionFailure(_) => Code::Credentials,
            SdkError::DispatchFailure(failure) if failure.is_user() || failure.is_other() => {
                match caused_by_credentials(&error) {
                    true => Code::Credentials,
                    false => Code::Unavailable,
                }
            }
            _ => Code::Unavailable,
        };
        let source: Box<dyn StdError + Send + Sync> = error.into_source().unwrap_or_else(|_| {
            Box::new(Word { code: "SdkError".into(), message: "without a source".into() })
        });
        Failure { code, request_id, source: Arc::from(source) }
    }

    /// The failure, said of a reference. `action` is what the call needed.
    pub(super) fn about(&self, reference: &Reference, action: &str) -> Error {
        let kind = match &self.code {
            Code::Missing => ErrorKind::Missing,
            Code::NoSuchVersion => ErrorKind::NoSuchVersion,
            Code::Deleted => ErrorKind::Deleted,
            Code::Denied(told) => {
                let action = told.as_deref().unwrap_or(action);
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

/// What to allow, so that the reference can be read.
fn grant(action: &str, reference: &Reference) -> Grant {
    let resource = match action {
        "kms:Decrypt" => "the KMS key that it is encrypted with".to_owned(),
        "secretsmanager:BatchGetSecretValue" => "*".to_owned(),
        _ => resource(reference, None),
    };
    Grant { action: action.to_owned(), resource }
}

fn meaning(code: &str, message: &str) -> Code {
    match code {
        // The secret is there when only its value in this version is not.
        "ResourceNotFoundException" if message.contains("secret value for") => Code::NoSuchVersion,
        "ResourceNotFoundException" | "ParameterNotFound" => Code::Missing,
        "ParameterVersionNotFound" => Code::NoSuchVersion,
        "InvalidRequestException" if message.contains("deletion") => Code::Deleted,
        "InvalidRequestException" if message.contains("not associated") => Code::NoSuchVersion,
        "AccessDeniedException" | "AccessDenied" => Code::Denied(denied_action(message)),
        "DecryptionFailure" | "KMSAccessDeniedException" => Code::Denied(Some("kms:Decrypt".into())),
        "ExpiredTokenException"
        | "ExpiredToken"
        | "UnrecognizedClientException"
        | "InvalidSignatureException"
        | "InvalidClientTokenId"
        | "MissingAuthenticationTokenException"
        | "IncompleteSignature" => Code::Credentials,
        "InternalServiceError"
        | "InternalServerError"
        | "InternalFailure"
        | "ServiceUnavailable"
        | "ServiceUnavailableException"
        | "ThrottlingException"
        | "Throttling"
        | "TooManyRequestsException"
        | "RequestLimitExceeded"
        | "RequestTimeout"
        | "RequestTimeoutException" => Code::Unavailable,
        other => Code::Refused(other.to_owned()),
    }
}

/// The action that a denial names: "... is not authorized to perform: ACTION on resource: ...".
fn denied_action(message: &str) -> Option<String> {
    if message.contains("KMS") || message.contains("ciphertext") {
        return Some("kms:Decrypt".into());
    }
    let (_, rest) = message.split_once("perform: ")?;
    let action = rest.split_whitespace().next()?;
    action.contains(':').then(|| action.to_owned())
}

fn caused_by_credentials(error: &dyn StdError) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if error.to_string().to_ascii_lowercase().contains("credential") {
            return true;
        }
        cause = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_denial_names_the_action_to_allow() {
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
            assert_eq!(denied_action(message).as_deref(), action, "{message}");
        }
    }
}
