//! Record a Helm release: its revisions and the workloads of its manifest.

use bp_artifact::recording::{Recorder, Recording};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::{error::HelmError, manifest::parse_workloads, release::HelmRelease};
use crate::record::record_objects;

/// The number of recorded revisions of the release.
const REVISIONS: usize = 10;

impl HelmRelease {
    /// Records the API's responses about the workloads of the release's manifest, as
    /// [`Namespace::record`](crate::Namespace::record), with status, chart and description of the newest revisions.
    /// The chart's values and templates are not recorded. Changes nothing.
    ///
    /// # Errors
    /// When helm is missing, the release does not exist, or nothing can be read.
    ///
    /// # Permissions
    /// RBAC: `get`, `list` on `secrets`; otherwise as [`Namespace::record`](crate::Namespace::record).
    ///
    /// # Cancel safety
    /// Cancel safe: it only reads.
    pub async fn record(&self, recorded_at: Timestamp) -> Result<Recording, HelmError> {
        let release = &self.0;
        let helm = release.program(None).await?;
        helm.check().await?;
        let workloads = parse_workloads(&release.manifest(&helm, None).await?, "get manifest")?;
        let mut history = release.history(&helm).await?;
        history.drain(..history.len().saturating_sub(REVISIONS));

        let mut recorder = Recorder::default();
        record_objects(&release.scope, Some(&workloads), &mut recorder).await?;
        let workloads: Vec<Value> = workloads.iter().map(|workload| workload.to_string().into()).collect();
        recorder.note(
            "release",
            json!({ "name": release.release, "workloads": workloads, "revisions": history }),
        );
        recorder.note("namespace", release.scope.namespace.clone().into());
        Ok(recorder.finish("eks-release", recorded_at))
    }
}
