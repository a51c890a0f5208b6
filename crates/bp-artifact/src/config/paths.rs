//! Read the paths of a service in its repository: `paths`, `ecs.paths`, `eks.paths`.

use super::{
    error::ConfigError,
    layer::{Settings, list_of_strings},
};
use crate::paths::PathPatterns;

/// The files of the repository that a service is built and deployed from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServicePaths {
    /// Those of all its targets.
    pub all: PathPatterns,
    /// Those of the target on ECS, instead.
    pub ecs: Option<PathPatterns>,
    /// Those of the target on EKS, instead.
    pub eks: Option<PathPatterns>,
}

pub(super) fn read(settings: &Settings) -> Result<ServicePaths, ConfigError> {
    let patterns = |key: &str| {
        let Some(setting) = settings.get(key) else { return Ok(None) };
        let patterns = list_of_strings(setting);
        if patterns.is_empty() {
            return Err(setting.invalid("expected path patterns, as in [\"services/web\", \"Cargo.lock\"]"));
        }
        let patterns = PathPatterns::new(patterns.iter().map(String::as_str));
        patterns.map(Some).map_err(|error| setting.invalid(error.to_string()))
    };
    Ok(ServicePaths {
        all: patterns("paths")?.unwrap_or_default(),
        ecs: patterns("ecs.paths")?,
        eks: patterns("eks.paths")?,
    })
}
