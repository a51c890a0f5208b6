//! Short names of ECS resources from their ARNs.

/// The last part of an ARN's resource or of an id such as `ecs-svc/123`; a plain name is returned as it is.
pub(crate) fn name_of(text: &str) -> &str {
    text.rsplit('/').next().unwrap_or(text)
}
