//! Findings of lookups that failed.

use bp_artifact::deploy::preflight::{Finding, FindingState};

/// The finding of a failed lookup: the state is unknown.
pub(super) fn lookup_failed<E>(
    subject: String,
    action: &str,
    error: &aws_sdk_ecs::error::SdkError<E, aws_sdk_ecs::config::http::HttpResponse>,
) -> Finding
where
    E: aws_sdk_ecs::error::ProvideErrorMetadata + std::error::Error + 'static,
{
    use aws_sdk_ecs::error::ProvideErrorMetadata as _;
    let reason = match error.code() {
        Some(code) => format!("{code}: {}", error.message().unwrap_or("no message")),
        None => "the API cannot be reached".to_owned(),
    };
    Finding::new(subject, FindingState::Unknown, format!("{action}: {reason}"))
}
