//! A deployment that was started and is not followed.

use bp_artifact::deploy::{Revision, TargetId};
use serde::Serialize;

/// A deployment that was started and is not followed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Started {
    /// The target.
    pub target: TargetId,
    /// The revision that is deployed.
    pub revision: Revision,
    /// The platform's ID of the deployment.
    pub deployment: String,
    /// Whether it was already in progress.
    pub adopted: bool,
}
