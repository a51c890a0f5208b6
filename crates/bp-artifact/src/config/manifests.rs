//! Read the Kubernetes manifests of a service: `eks.manifests` and what they may contain.

use std::path::PathBuf;

use super::{
    error::ConfigError,
    layer::{Settings, list, switch},
};

/// Kubernetes manifests.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ManifestsConfig {
    /// Files and directories.
    pub paths: Vec<PathBuf>,
    /// Whether images of other repositories may have a tag. Defaults to `off`.
    pub allow_tags: bool,
    /// Whether objects may be cluster-scoped or in another namespace. Defaults to `off`.
    pub outside_namespace: bool,
}

/// The manifests, if the service has them.
pub(super) fn read(settings: &Settings) -> Result<Option<ManifestsConfig>, ConfigError> {
    let (allow_tags, outside_namespace) =
        (switch(settings, "eks.allow-tags")?, switch(settings, "eks.outside-namespace")?);
    let Some(setting) = settings.get("eks.manifests") else {
        let only = ["eks.allow-tags", "eks.outside-namespace"].iter().find_map(|key| settings.get(key));
        return match only {
            Some(setting) => Err(setting.invalid(format!("{} requires eks.manifests", setting.key))),
            None => Ok(None),
        };
    };
    let others = ["eks.workload", "eks.release", "eks.container", "eks.also"];
    if let Some(other) = others.iter().find_map(|key| settings.get(key)) {
        return Err(other.invalid(format!("{} and eks.manifests are mutually exclusive", other.key)));
    }
    let paths: Vec<PathBuf> = list(settings.text("eks.manifests")?).into_iter().map(Into::into).collect();
    if paths.is_empty() || paths.iter().any(|path| path.as_os_str() == "-") {
        return Err(setting
            .invalid("expected files or directories; standard input is only for deploy-manifests -f -"));
    }
    Ok(Some(ManifestsConfig {
        paths,
        allow_tags: allow_tags.unwrap_or(false),
        outside_namespace: outside_namespace.unwrap_or(false),
    }))
}
