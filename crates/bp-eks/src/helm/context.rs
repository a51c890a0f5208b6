//! The configuration of a Helm release, and its revision history entries.

use std::{fmt, path::PathBuf, time::Duration};

use bp_artifact::{ResolvedImage, config::Workload, deploy::TargetId, time::TimeSource};
use serde::{Deserialize, Serialize};

use super::{
    chart::Chart,
    error::HelmError,
    lease::{self, LeaseConfig},
    manifest::ManifestContainer,
};
use crate::{api::scope::Scope, options::Options, target::EksTarget};

/// The maximum length of a release's name, as in helm.
const LONGEST_NAME: usize = 53;

/// A release and its configuration.
#[derive(Clone)]
pub(super) struct Release {
    pub(super) scope: Scope,
    pub(super) release: String,
    pub(super) chart: Chart,
    pub(super) options: Options,
    pub(super) program: PathBuf,
    /// Images whose platforms are known.
    pub(super) images: Vec<ResolvedImage>,
    pub(super) assume_dead_after: Option<Duration>,
    pub(super) time: TimeSource,
    pub(super) id: TargetId,
}

impl fmt::Debug for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HelmRelease")
            .field("id", &self.id)
            .field("chart", &self.chart.name)
            .finish_non_exhaustive()
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
    /// Checks the name, which is a part of the names of other objects.
    pub(super) fn check_name(&self) -> Result<(), HelmError> {
        let is_label = |label: &str| {
            let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
            edge(label.chars().next())
                && edge(label.chars().next_back())
                && label.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
        };
        if self.release.len() <= LONGEST_NAME && self.release.split('.').all(is_label) {
            Ok(())
        } else {
            Err(HelmError::Name { release: self.release.clone() })
        }
    }

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

    /// The namespace of an object of the manifest, which defaults to that of the release.
    pub(super) fn scope_of(&self, namespace: Option<&str>) -> Scope {
        let namespace = namespace.unwrap_or(&self.scope.namespace).to_owned();
        Scope { namespace, ..self.scope.clone() }
    }

    /// The workload of a place in its namespace, watched but never changed.
    pub(super) fn target(&self, workload: &Workload, place: &ManifestContainer) -> EksTarget {
        self.target_for(workload, place, self.options.deadline)
    }

    /// As [`target`](Self::target), watched for at most `time`.
    pub(super) fn target_for(
        &self,
        workload: &Workload,
        place: &ManifestContainer,
        time: Duration,
    ) -> EksTarget {
        let options = Options { deadline: time, ..self.options.clone().adopt_only() };
        let scope = self.scope_of(place.namespace.as_deref());
        EksTarget::of(scope, workload.clone(), Some(place.container.clone()), options).part_of(&self.id)
    }

    /// A place's workload for messages: with its namespace, if that is not the release's.
    pub(super) fn shown(&self, workload: &Workload, place: &ManifestContainer) -> String {
        match place.namespace.as_deref().filter(|namespace| *namespace != self.scope.namespace) {
            Some(namespace) => format!("{workload} in the namespace {namespace}"),
            None => workload.to_string(),
        }
    }
}
