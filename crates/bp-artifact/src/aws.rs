//! Classify errors of AWS SDK calls, in the same way for every service, with the request ID and the denied action.
//!
//! Each service reports the same conditions with its own codes, and the SDK reports requests that never reached a
//! service in yet another way. [`AwsError`] handles both, so that expired credentials are the same error everywhere.

mod request_spans;
mod server_time;

use std::{error::Error as StdError, fmt};

use aws_smithy_runtime_api::{client::result::SdkError, http::Response};
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use aws_types::request_id::RequestId as _;

pub use self::{request_spans::RequestSpans, server_time::ServerTime};
pub use crate::error::RequestId;
use crate::error::{ErrorClass, chain};

/// The kind of an AWS error, independent of the service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum AwsErrorKind {
    /// The credentials are missing, expired or invalid.
    Credentials,
    /// The credentials are valid and a policy does not allow the call.
    Denied,
    /// Too many requests. The same call succeeds later.
    Throttled,
    /// The service failed or is not available. The same call may succeed later.
    Unavailable,
    /// No response: the connection failed, was interrupted or timed out. Whether the call was executed is unknown.
    Unreachable,
    /// The service rejected the request for another reason, given by its code.
    Refused,
    /// The SDK cannot parse the response.
    Unreadable,
}

impl AwsErrorKind {
    /// Whether the same call may succeed later without any change.
    pub fn is_retryable(self) -> bool {
        matches!(self, AwsErrorKind::Throttled | AwsErrorKind::Unavailable | AwsErrorKind::Unreachable)
    }

    /// The class of errors of this kind. A crate can choose another class for [`Refused`](Self::Refused) by the code.
    pub fn class(self) -> ErrorClass {
        match self {
            AwsErrorKind::Refused => ErrorClass::BadInput,
            AwsErrorKind::Unreadable => ErrorClass::Unexpected,
            AwsErrorKind::Credentials
            | AwsErrorKind::Denied
            | AwsErrorKind::Throttled
            | AwsErrorKind::Unavailable
            | AwsErrorKind::Unreachable => ErrorClass::Unavailable,
        }
    }
}

/// An error of an AWS call, classified. Displays as the service's own `Code: message`.
///
/// The HTTP response is not kept: its body may contain the requested data, such as a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AwsError {
    kind: AwsErrorKind,
    code: Option<String>,
    message: String,
    request_id: Option<String>,
}

/// Codes for missing, expired or invalid credentials. From the services' "common errors" pages, IAM's troubleshooting
/// guide and STS.
const CREDENTIALS: &[&str] = &[
    "ExpiredToken",
    "ExpiredTokenException",
    "IncompleteSignature",
    "IncompleteSignatureException",
    "InvalidAccessKeyId",
    "InvalidClientTokenId",
    "InvalidSignatureException",
    "InvalidToken",
    "MissingAuthenticationToken",
    "MissingAuthenticationTokenException",
    "RequestExpired",
    "SignatureDoesNotMatch",
    "UnrecognizedClientException",
];

/// Codes for calls that a policy does not allow.
const DENIED: &[&str] =
    &["AccessDenied", "AccessDeniedException", "UnauthorizedException", "UnauthorizedOperation"];

/// Codes for throttling: those that the SDK itself retries as such (`aws_runtime::retries::classifiers`), except
/// `LimitExceededException`, which ECS, ECR and Secrets Manager use for quotas.
const THROTTLED: &[&str] = &[
    "BandwidthLimitExceeded",
    "EC2ThrottledException",
    "PriorRequestNotComplete",
    "ProvisionedThroughputExceededException",
    "RequestLimitExceeded",
    "RequestThrottled",
    "RequestThrottledException",
    "SlowDown",
    "ThrottledException",
    "Throttling",
    "ThrottlingException",
    "TooManyRequestsException",
];

/// Codes for service failures, whatever the HTTP status.
const UNAVAILABLE: &[&str] = &[
    "InternalError",
    "InternalFailure",
    "InternalServerError",
    "InternalServiceError",
    "RequestTimeout",
    "RequestTimeoutException",
    "ServerException",
    "ServiceUnavailable",
    "ServiceUnavailableException",
];

impl AwsError {
    /// Classifies the error of an SDK call.
    pub fn of<E>(error: &SdkError<E, Response>) -> Self
    where
        E: ProvideErrorMetadata + StdError + 'static,
    {
        let request_id = error.request_id().map(str::to_owned);
        let status = error.raw_response().map(|response| response.status().as_u16());
        if let SdkError::ServiceError(service) = error
            && let Some(code) = service.err().code()
        {
            let message = service.err().message().unwrap_or_default();
            return AwsError::of_code(code, message, status, request_id);
        }
        // The rest of the response is not shown.
        if let Some(status) = status {
            let kind = of_status(status).unwrap_or(AwsErrorKind::Unreadable);
            let message = format!("HTTP status {status} without an error code");
            return AwsError { kind, code: None, message, request_id };
        }
        let on_the_wire = match error {
            SdkError::TimeoutError(_) => true,
            SdkError::DispatchFailure(failure) => failure.is_io() || failure.is_timeout(),
            _ => false,
        };
        let unsigned = !on_the_wire && is_about_credentials(error);
        let kind = if unsigned { AwsErrorKind::Credentials } else { AwsErrorKind::Unreachable };
        AwsError { kind, code: None, message: chain(error), request_id }
    }

    /// Classifies an error that a service reported with `code`, also inside a successful response.
    pub fn of_code(code: &str, message: &str, status: Option<u16>, request_id: Option<String>) -> Self {
        // A few services write the shape's namespace before the code, or a URL after it.
        let code = code.rsplit('#').next().unwrap_or(code);
        let code = code.split(':').next().unwrap_or(code);
        let by_code = [
            (CREDENTIALS, AwsErrorKind::Credentials),
            (DENIED, AwsErrorKind::Denied),
            (THROTTLED, AwsErrorKind::Throttled),
            (UNAVAILABLE, AwsErrorKind::Unavailable),
        ];
        let known = by_code.into_iter().find(|(codes, _)| codes.contains(&code)).map(|(_, kind)| kind);
        let failing = status.and_then(of_status).filter(|kind| kind.is_retryable());
        // ECS reports a missing iam:PassRole as a ClientException.
        let denied = denied_action(message).map(|_| AwsErrorKind::Denied);
        let kind = known.or(failing).or(denied).unwrap_or(AwsErrorKind::Refused);
        AwsError { kind, code: Some(code.to_owned()), message: message.to_owned(), request_id }
    }

    /// The kind of the error.
    pub fn kind(&self) -> AwsErrorKind {
        self.kind
    }

    /// The service's code, such as `ServiceNotFoundException`. `None` without a response of a service.
    pub fn code(&self) -> Option<&str> {
        self.code.as_deref()
    }

    /// The service's message, or the SDK's without a response of a service.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The request ID, for a support case.
    pub fn request_id(&self) -> Option<&str> {
        self.request_id.as_deref()
    }

    /// The action that a policy does not allow, such as `iam:PassRole`, if the message contains it.
    pub fn denied_action(&self) -> Option<&str> {
        denied_action(&self.message)
    }
}

impl fmt::Display for AwsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.code {
            Some(code) if self.message.is_empty() => f.write_str(code),
            Some(code) => write!(f, "{code}: {}", self.message),
            None => f.write_str(&self.message),
        }
    }
}

impl StdError for AwsError {}

fn of_status(status: u16) -> Option<AwsErrorKind> {
    match status {
        401 => Some(AwsErrorKind::Credentials),
        403 => Some(AwsErrorKind::Denied),
        429 => Some(AwsErrorKind::Throttled),
        500.. => Some(AwsErrorKind::Unavailable),
        _ => None,
    }
}

/// The action in `... is not authorized to perform: iam:PassRole on resource: ...`.
fn denied_action(message: &str) -> Option<&str> {
    let (_, rest) = message.split_once("not authorized to perform: ")?;
    let action = rest.split_whitespace().next()?.trim_end_matches(['.', ',']);
    action.contains(':').then_some(action)
}

/// Whether the SDK had no credentials to sign with. Its identity errors are private types, so their messages are
/// matched; any failure of a credentials provider counts.
fn is_about_credentials(error: &(dyn StdError + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        let text = error.to_string().to_ascii_lowercase();
        if ["credential", "auth scheme", "identity"].iter().any(|word| text.contains(word)) {
            return true;
        }
        cause = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use aws_smithy_runtime_api::{
        client::result::ConnectorError,
        http::{Response, StatusCode},
    };
    use aws_smithy_types::{body::SdkBody, error::ErrorMetadata};

    use super::{AwsErrorKind::*, *};

    #[derive(Debug, thiserror::Error)]
    #[error("service error")]
    struct Service(ErrorMetadata);

    impl ProvideErrorMetadata for Service {
        fn meta(&self) -> &ErrorMetadata {
            &self.0
        }
    }

    fn response(status: u16) -> Response {
        let mut response = Response::new(StatusCode::try_from(status).unwrap(), SdkBody::from("the secret"));
        response.headers_mut().insert("x-amzn-requestid", "r-1");
        response
    }

    fn answered(code: Option<&str>, message: &str, status: u16) -> AwsError {
        let mut meta = ErrorMetadata::builder().message(message);
        if let Some(code) = code {
            meta = meta.code(code);
        }
        AwsError::of(&SdkError::service_error(Service(meta.build()), response(status)))
    }

    #[test]
    fn every_code_is_in_one_list() {
        let lists = [
            (CREDENTIALS, Credentials),
            (DENIED, Denied),
            (THROTTLED, Throttled),
            (UNAVAILABLE, Unavailable),
        ];
        for (codes, kind) in lists {
            for code in codes {
                assert_eq!(answered(Some(code), "", 400).kind(), kind, "{code}");
                let lists = lists.iter().filter(|(codes, _)| codes.contains(code)).count();
                assert_eq!(lists, 1, "{code} is in more than one list");
            }
            assert!(codes.is_sorted(), "{codes:?}");
        }
    }

    #[test]
    fn classifies_codes_in_the_formats_of_the_services() {
        for (code, message, status, kind) in [
            ("com.amazonaws.ecs#ThrottlingException", "Rate exceeded", 400, Throttled),
            ("AccessDeniedException:http://internal.amazon.com/coral/", "", 400, Denied),
            (
                "ExpiredTokenException",
                "The security token included in the request is expired",
                403,
                Credentials,
            ),
            ("ServiceNotFoundException", "Service not found.", 400, Refused),
            ("LimitExceededException", "too many task definitions", 400, Refused),
            (
                "ClientException",
                "User: arn:aws:iam::1:user/ci is not authorized to perform: iam:PassRole on resource: role/x",
                400,
                Denied,
            ),
            ("SomethingNew", "", 503, Unavailable),
            ("SomethingNew", "", 429, Throttled),
            ("SomethingNew", "", 403, Refused),
        ] {
            assert_eq!(answered(Some(code), message, status).kind(), kind, "{code} {status}");
        }
    }

    #[test]
    fn classifies_a_response_without_a_code_by_status_and_hides_its_body() {
        for (status, kind) in [
            (401, Credentials),
            (403, Denied),
            (429, Throttled),
            (502, Unavailable),
            (200, Unreadable),
            (418, Unreadable),
        ] {
            let error = answered(None, "", status);
            assert_eq!((error.kind(), error.request_id()), (kind, Some("r-1")), "{status}");
            assert!(!error.to_string().contains("secret"), "{error}");
        }
    }

    #[test]
    fn classifies_errors_without_a_response() {
        let of = |error: SdkError<Service, Response>| AwsError::of(&error).kind();
        let io = ConnectorError::io("connection refused by identity.example.com".into());
        assert_eq!(of(SdkError::dispatch_failure(io)), Unreachable);
        let unsigned = ConnectorError::other("the credential provider was not enabled".into(), None);
        assert_eq!(of(SdkError::dispatch_failure(unsigned)), Credentials);
        assert_eq!(of(SdkError::timeout_error("too slow")), Unreachable);
        assert_eq!(of(SdkError::construction_failure("no credentials in the environment")), Credentials);
    }

    #[test]
    fn extracts_the_denied_action() {
        let message = "User: arn:aws:sts::1:assumed-role/a/b is not authorized to perform: \
                       secretsmanager:GetSecretValue on resource: prod/db because no identity-based policy allows it";
        let error = answered(Some("AccessDeniedException"), message, 400);
        assert_eq!(error.denied_action(), Some("secretsmanager:GetSecretValue"));
        assert_eq!(error.to_string(), format!("AccessDeniedException: {message}"));
        assert_eq!(answered(Some("AccessDenied"), "no", 403).denied_action(), None);
    }
}
