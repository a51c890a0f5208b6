//! The configuration of a Helm release, the values keys of its image, and its revision history entries.

use std::{fmt, path::PathBuf, time::Duration};

use bp_artifact::{ResolvedImage, config::Workload, deploy::TargetId, time::TimeSource};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::lease::{self, LeaseConfig};
use crate::{api::scope::Scope, options::Options, target::EksTarget};

/// A release and its configuration.
#[derive(Clone)]
pub(super) struct Release {
    pub(super) scope: Scope,
    pub(super) release: String,
    pub(super) chart: Option<String>,
    pub(super) options: Options,
    pub(super) program: PathBuf,
    pub(super) values_files: Vec<PathBuf>,
    pub(super) values: Value,
    pub(super) keys: ImageKeys,
    pub(super) tag: Option<String>,
    pub(super) assume_dead_after: Option<Duration>,
    pub(super) time: TimeSource,
    pub(super) id: TargetId,
}

impl fmt::Debug for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HelmRelease")
            .field("id", &self.id)
            .field("chart", &self.chart)
            .finish_non_exhaustive()
    }
}

/// The values keys of a chart's image, as dotted paths.
///
/// ```
/// use bp_eks::helm::ImageKeys;
///
/// let keys = ImageKeys::default().digest("web.image.digest");
/// assert_eq!((keys.repository.as_str(), keys.digest.as_str()), ("image.repository", "web.image.digest"));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ImageKeys {
    /// The repository; defaults to `image.repository`.
    pub repository: String,
    /// The digest; defaults to `image.digest`.
    pub digest: String,
    /// The tag, for charts that use it next to the digest; defaults to `image.tag`.
    pub tag: String,
}

impl ImageKeys {
    /// Sets the key of the repository.
    pub fn repository(self, key: impl Into<String>) -> Self {
        ImageKeys { repository: key.into(), ..self }
    }

    /// Sets the key of the digest.
    pub fn digest(self, key: impl Into<String>) -> Self {
        ImageKeys { digest: key.into(), ..self }
    }

    /// Sets the key of the tag.
    pub fn tag(self, key: impl Into<String>) -> Self {
        ImageKeys { tag: key.into(), ..self }
    }
}

impl Default for ImageKeys {
    fn default() -> Self {
        let key = |name: &str| format!("image.{name}");
        ImageKeys { repository: key("repository"), digest: key("digest"), tag: key("tag") }
    }
}

/// A revision of a release, as in `helm history`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct HelmRevision {
    /// The revision number.
    pub revision: u32,
    /// `deployed`, `superseded`, `failed`, `pending-upgrade` and so on.
    pub status: String,
    /// The chart with its version.
    #[serde(default)]
    pub chart: String,
    /// When it was last updated.
    #[serde(default)]
    pub updated: Option<jiff::Timestamp>,
    /// Helm's description.
    #[serde(default)]
    pub description: String,
}

impl Release {
    pub(super) fn lease_config(&self) -> LeaseConfig {
        let name = lease::name(&self.release);
        LeaseConfig {
            api: self.scope.api(),
            object: self.scope.object("lease", &name),
            release: self.release.clone(),
            time: self.time.clone(),
        }
    }

    /// The holder identity of this run, shown in the error of a run that finds the Lease held.
    pub(super) fn holder(&self) -> String {
        let host = std::env::var("HOSTNAME").unwrap_or_else(|_| "bp".to_owned());
        format!("{host}-{}-{:08x}", std::process::id(), fastrand::u32(..))
    }

    /// A workload of the release, watched but never changed.
    pub(super) fn target(&self, workload: &Workload, container: &str) -> EksTarget {
        self.target_for(workload, container, self.options.deadline)
    }

    /// As [`target`](Self::target), watched for at most `time`.
    pub(super) fn target_for(&self, workload: &Workload, container: &str, time: Duration) -> EksTarget {
        let options = Options { deadline: time, ..self.options.clone().adopt_only() };
        EksTarget::of(self.scope.clone(), workload.clone(), Some(container.to_owned()), options)
            .part_of(&self.id)
    }

    /// The values that override those of the values files.
    pub(super) fn values_for(&self, image: &ResolvedImage) -> Value {
        let mut values = self.values.clone();
        let reference = &image.reference;
        put(&mut values, &self.keys.repository, reference.repository().to_string().into());
        put(&mut values, &self.keys.digest, reference.digest().to_string().into());
        if let Some(tag) = &self.tag {
            put(&mut values, &self.keys.tag, tag.clone().into());
        }
        values
    }
}

/// Sets the value at a dotted key.
pub(super) fn put(values: &mut Value, key: &str, value: Value) {
    let mut at = values;
    for part in key.split('.') {
        if !at.is_object() {
            *at = Value::Object(Map::new());
        }
        at = &mut at[part];
    }
    *at = value;
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn sets_values_at_dotted_keys() {
        let mut values = json!({ "image": { "pullPolicy": "Always" }, "flat": 1 });
        put(&mut values, "image.digest", "sha256:1".into());
        put(&mut values, "flat.deep", true.into());
        put(&mut values, "buildVersion", "1.2".into());
        assert_eq!(
            values,
            json!({
                "image": { "pullPolicy": "Always", "digest": "sha256:1" }, "flat": { "deep": true }, "buildVersion": "1.2",
            })
        );
    }
}
