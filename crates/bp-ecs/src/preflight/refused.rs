//! A lookup that AWS refused.

use bp_artifact::deploy::preflight::{Finding, FindingState};

/// What a lookup that failed says.
pub(super) fn failed<E>(
    subject: String,
    action: &str,
    error: &aws_sdk_ecs::error::SdkError<E, aws_sdk_ecs::config::http::HttpResponse>,
) -> Finding
where
    E: aws_sdk_ecs::error::ProvideErrorMetadata + std::error::Error + 'static,
{
    use aws_sdk_ecs::error::ProvideErrorMetadata as _;
    let said = match error.code() {
        Some(code) => format!("{code}: {}", error.message().unwrap_or("no message")),
        None => "the API cannot be reached".to_owned(),
    };
    Finding::new(subject, FindingState::Unknown, format!("{action}: {said}"))
}
