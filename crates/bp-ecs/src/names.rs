//! The short names of what ECS calls by ARNs and paths.

/// The last part of an ARN's resource or of an id such as `ecs-svc/123`, or a plain name.
pub(crate) fn name_of(text: &str) -> &str {
    text.rsplit('/').next().unwrap_or(text)
}
