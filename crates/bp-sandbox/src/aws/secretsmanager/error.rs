//! Error responses of Secrets Manager.

use crate::aws::wire::ApiError;

/// The code of [`not_found`].
pub(super) const NOT_FOUND: &str = "ResourceNotFoundException";

pub(super) fn not_found(message: impl Into<String>) -> ApiError {
    ApiError::new(400, NOT_FOUND, message)
}

pub(super) fn invalid_request(message: impl Into<String>) -> ApiError {
    ApiError::new(400, "InvalidRequestException", message)
}

pub(super) fn invalid_parameter(message: impl Into<String>) -> ApiError {
    ApiError::new(400, "InvalidParameterException", message)
}

pub(super) fn marked_for_deletion() -> ApiError {
    invalid_request("You can't perform this operation on the secret because it was marked for deletion.")
}

pub(super) fn validation(message: impl Into<String>) -> ApiError {
    ApiError::new(400, "ValidationException", message)
}
