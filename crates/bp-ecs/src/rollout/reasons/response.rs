//! The response of the API that a failed step called.

use super::message::ServiceMessage;

/// The class of a response, as far as the message states it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Response {
    /// The caller is not authorized.
    Denied,
    /// No response, or none in time.
    Unreachable,
    /// The object does not exist.
    Missing,
    /// The request is not valid.
    Invalid,
    /// A quota is exceeded.
    QuotaExceeded,
    /// Throttled, or a server error.
    Overloaded,
    /// Any other.
    Other,
}

impl Response {
    pub(super) fn of(message: &ServiceMessage) -> Self {
        const MISSING: [&str; 10] = [
            "notfound",
            "can't find the specified",
            "invalid parameters",
            "invalid ssm parameters",
            "json key",
            "marked for deletion",
            "not found",
            "does not exist",
            "whether the secret exists",
            "whether the parameter exists",
        ];
        const INVALID: [&str; 4] =
            ["validationexception", "unexpected arn format", "invalid character", "invalid name"];
        const QUOTA: [&str; 6] = [
            "reached the limit",
            "above your limit",
            "limit exceeded",
            "limitexceeded",
            "limit was exceeded",
            "countexceeded",
        ];
        if message.is_denied() {
            Response::Denied
        } else if message.is_connection_error() {
            Response::Unreachable
        } else if message.contains_any(&MISSING) {
            Response::Missing
        } else if message.contains_any(&INVALID) {
            Response::Invalid
        } else if message.contains_any(&["requestlimitexceeded"]) || message.is_overloaded() {
            Response::Overloaded
        } else if message.contains_any(&QUOTA) || message.contains("quota") {
            Response::QuotaExceeded
        } else {
            Response::Other
        }
    }
}
