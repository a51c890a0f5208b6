//! The [`Target`] trait: the common interface of ECS services and Kubernetes workloads.

use std::{error::Error as StdError, fmt};

use futures_core::future::BoxFuture;
use serde::{Deserialize, Serialize};

use super::{DeployEvent, Drift, Outcome, Proof, Revision, RollbackCheck, TargetId};
use crate::{
    error::{Classified, ErrorClass},
    image::ResolvedImage,
    operation::Operation,
};

/// The revisions of a target, read before the first change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Current {
    /// The rollback revision: the last one that completed its deployment. During a deployment, or after a failed one,
    /// it is not the most recent revision.
    pub stable: Revision,
    /// The revision that a deployment in progress is rolling out, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rolling_out: Option<Revision>,
}

impl Current {
    /// A target that runs `stable`, while `rolling_out` may be in progress.
    pub fn new(stable: Revision, rolling_out: Option<Revision>) -> Self {
        Current { stable, rolling_out }
    }
}

/// What to do when a deployment fails and the platform does not roll back by itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum OnFailure {
    /// Roll back to the previous stable revision.
    #[default]
    RollBack,
    /// Leave the failed revision in place: [`FailedInPlace`](super::Verdict::FailedInPlace).
    Leave,
}

/// A target that an image is deployed to. Implemented by `bp-ecs` and `bp-eks`, composed by the
/// [saga](crate::saga).
pub trait Target: Send + Sync {
    /// The ID of this target.
    fn id(&self) -> TargetId;

    /// The current revisions. Read-only.
    fn current(&self) -> BoxFuture<'_, Result<Current, TargetError>>;

    /// The revision that a rollback without a receipt restores: while a deployment is in progress or has failed in
    /// place, the stable one; otherwise the one that ran before the current one. An error when there is none. Read-only.
    fn previous(&self) -> BoxFuture<'_, Result<Revision, TargetError>>;

    /// Checks whether `previous`, the revision that a failed deployment of `image` returns to, can still run. Read-only.
    /// `None` when nothing would be changed, or the target has no such check, as by default.
    ///
    /// A saga calls it for every target before it changes any.
    fn check_rollback<'a>(
        &'a self,
        image: &'a ResolvedImage,
        previous: &'a Revision,
    ) -> BoxFuture<'a, Result<Option<RollbackCheck>, TargetError>> {
        let _ = (image, previous);
        Box::pin(async { Ok(None) })
    }

    /// Deploys `image` and follows the deployment to its end. The rollback revision is not checked: see
    /// [`check_rollback`](Self::check_rollback).
    ///
    /// Running it again adopts a deployment in progress, or finds that no change is required. Cancelling it stops
    /// following; the deployment continues on the platform.
    ///
    /// An error means that nothing was changed. Once a change was applied, or may have been, a result that cannot be
    /// observed is an outcome: [`Verdict::Unobserved`](super::Verdict::Unobserved), with a detail that states which
    /// deployment was started, that it continues, and why it could not be observed. If the outcome has a failure, the
    /// deployment is known to have failed. A saga treats an error of class [`ErrorClass::Unavailable`] as unobserved
    /// too.
    fn deploy(&self, image: &ResolvedImage) -> Operation<DeployEvent, Result<Outcome, TargetError>>;

    /// Restores `revision` and follows that to its end.
    ///
    /// The verdict is about the restored revision: [`Verdict::Deployed`](super::Verdict::Deployed), or `Unproven` when
    /// that revision's image has no digest, is success. Errors are as for [`deploy`](Self::deploy).
    fn restore(&self, revision: &Revision) -> Operation<DeployEvent, Result<Outcome, TargetError>>;

    /// The digests that are running now, to be verified against an image. Read-only.
    fn prove(&self) -> BoxFuture<'_, Result<Proof, TargetError>>;

    /// How the target differs from a stable deployment of `image`. Read-only.
    ///
    /// By default only the running digests are compared; targets with a definition compare that too.
    fn drift<'a>(&'a self, image: &'a ResolvedImage) -> BoxFuture<'a, Result<Drift, TargetError>> {
        Box::pin(async { Ok(Drift::of_proof(self.id(), image, self.prove().await?)) })
    }
}

/// An error of a target, with the class that the saga and the exit code need. The error chain is preserved.
#[derive(Debug)]
pub struct TargetError {
    class: ErrorClass,
    source: Box<dyn StdError + Send + Sync>,
}

impl TargetError {
    /// Wraps an error of `bp-ecs`, `bp-eks` or a target of your own.
    pub fn new(error: impl Classified + Send + Sync + 'static) -> Self {
        TargetError { class: error.class(), source: Box::new(error) }
    }
}

/// Displays the wrapped error unchanged.
impl fmt::Display for TargetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.source.fmt(f)
    }
}

impl StdError for TargetError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.source()
    }
}

impl Classified for TargetError {
    fn class(&self) -> ErrorClass {
        self.class
    }
}
