//! Where an image is deployed to: what ECS services and Kubernetes workloads have in common.

use std::{error::Error as StdError, fmt};

use futures_core::future::BoxFuture;
use serde::{Deserialize, Serialize};

use super::{DeployEvent, Drift, Outcome, Proof, Revision, TargetId};
use crate::{
    error::{Classified, ErrorClass},
    image::ResolvedImage,
    operation::Operation,
};

/// What a target runs, read before the first change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Current {
    /// The revision to go back to: the last one that finished deploying, which during a failed or running deployment
    /// is not the one asked for last.
    pub stable: Revision,
    /// The revision that a deployment under way is rolling out, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rolling_out: Option<Revision>,
}

impl Current {
    /// A target that runs `stable`, while `rolling_out` may be on its way.
    pub fn new(stable: Revision, rolling_out: Option<Revision>) -> Self {
        Current { stable, rolling_out }
    }
}

/// What to do when a deployment fails and the platform does not go back by itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum OnFailure {
    /// Go back to the revision that was stable before.
    #[default]
    RollBack,
    /// Leave it as it is: [`FailedInPlace`](super::Verdict::FailedInPlace).
    Leave,
}

/// One place that an image is deployed to. Implemented by `bp-ecs` and `bp-eks`, composed by the saga.
pub trait Target: Send + Sync {
    /// The name of this target.
    fn id(&self) -> TargetId;

    /// What runs now. Reads only.
    fn current(&self) -> BoxFuture<'_, Result<Current, TargetError>>;

    /// Deploys `image` and watches it to its end.
    ///
    /// Running it again adopts a deployment under way, or finds that nothing has to change. Cancelling it stops
    /// watching and leaves the platform at work.
    ///
    /// An error says that nothing was changed. Once a change was applied, or may have been, what can no longer be
    /// observed is an outcome: [`Verdict::Unobserved`](super::Verdict::Unobserved), with a detail that says which
    /// deployment was started, that it continues, and why it could not be observed. With a failure in the outcome it
    /// was seen to fail. A saga takes an error of class [`ErrorClass::Unavailable`] for unobserved all the same.
    fn deploy(&self, image: &ResolvedImage) -> Operation<DeployEvent, Result<Outcome, TargetError>>;

    /// Puts `revision` back and watches it to its end.
    ///
    /// The outcome's verdict is of the restored revision itself: [`Verdict::Deployed`](super::Verdict::Deployed), or
    /// `Unproven` when that revision's image names no digest, is success here. Errors are as those of
    /// [`deploy`](Self::deploy).
    fn restore(&self, revision: &Revision) -> Operation<DeployEvent, Result<Outcome, TargetError>>;

    /// What is running now, to be judged against an image. Reads only.
    fn prove(&self) -> BoxFuture<'_, Result<Proof, TargetError>>;

    /// How the target differs from one that `image` was deployed to and that is at rest. Reads only.
    ///
    /// By default the running digests alone are compared; targets that know their definition compare it too.
    fn drift<'a>(&'a self, image: &'a ResolvedImage) -> BoxFuture<'a, Result<Drift, TargetError>> {
        Box::pin(async { Ok(Drift::of_proof(self.id(), image, self.prove().await?)) })
    }
}

/// An error of a target, with the class that the saga and the exit code need. The whole chain is kept as its source.
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

/// Shows the wrapped error; this type adds nothing of its own.
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
