//! What a saga deploys: targets with their images, gates between stages, and the receipt.

use std::{path::PathBuf, sync::Arc};

use super::{
    gate::{Answer, Gate},
    step::Step,
};
use crate::{deploy::Target, image::ResolvedImage, time::TimeSource};

/// A deployment to several targets, with a receipt.
///
/// | the targets' deployments | action | verdict |
/// |---|---|---|
/// | all proven | nothing | `Deployed` |
/// | one failed, was rolled back, stopped, deleted, or rejected | all are rolled back | `RolledBack`, or `RollbackFailed` if a rollback failed; `Stopped` and `Gone` are kept |
/// | one was superseded by another deployment | nothing: the other one is in progress | `Superseded` |
/// | one could not be observed, is late, or awaits approval | nothing: rerun to resume | that verdict |
/// | one is unproven, or runs another digest | nothing: it has to be examined | that verdict |
///
/// An error of class [`Unavailable`](crate::error::ErrorClass::Unavailable) counts as unobserved, not as failed. A
/// target that was superseded or deleted is never changed, and neither is one that is already in its previous revision.
/// `docs/adr/0007-deployments-are-a-saga.md` has the table of every pair.
///
/// ```no_run
/// use std::sync::Arc;
/// use bp_artifact::{ExitCode, ResolvedImage, deploy::Target, saga::Saga};
///
/// # async fn run(ecs: Arc<dyn Target>, eks: Arc<dyn Target>, image: ResolvedImage)
/// # -> Result<(), Box<dyn std::error::Error>> {
/// let mut saga = Saga::new(vec![ecs, eks], image, "receipt.json").run();
/// while let Some(event) = saga.next_event().await {
///     println!("{}", serde_json::to_string(&event)?);
/// }
/// let receipt = saga.await?;
/// let code = receipt.verdict.map_or(ExitCode::Unexpected, ExitCode::from);
/// # let _ = code; Ok(()) }
/// ```
///
/// # Permissions
/// Those of the targets.
#[must_use = "a saga does nothing until it is run"]
pub struct Saga {
    pub(super) steps: Vec<Step>,
    pub(super) gates: Vec<Gate>,
    pub(super) answer: Option<Answer>,
    pub(super) path: PathBuf,
    pub(super) supersede: bool,
    pub(super) anew: bool,
    pub(super) time: TimeSource,
}

impl Saga {
    /// A deployment of `image` to `targets`, with its receipt at the path `receipt`.
    ///
    /// Each environment has its own receipt. A second run with the same receipt waits for a short time, then ends with
    /// [`SagaError::InUse`](super::SagaError::InUse). Runs on machines that do not share the file are not prevented: a
    /// deployment of theirs in progress is never recorded as the rollback revision.
    pub fn new(targets: Vec<Arc<dyn Target>>, image: ResolvedImage, receipt: impl Into<PathBuf>) -> Self {
        let step = |target| Step { target, image: image.clone(), stage: 0 };
        Saga::of(targets.into_iter().map(step).collect(), receipt)
    }

    /// A deployment of several images, each to its target, in stages: a stage starts when all targets of the previous
    /// stages are deployed and proven. When one fails, the targets of all stages are rolled back.
    pub fn of(steps: Vec<Step>, receipt: impl Into<PathBuf>) -> Self {
        let (gates, answer, path) = (Vec::new(), None, receipt.into());
        Saga { steps, gates, answer, path, supersede: false, anew: false, time: TimeSource::system() }
    }

    /// Adds gates between the stages, or after the last one.
    pub fn gates(mut self, gates: impl IntoIterator<Item = Gate>) -> Self {
        self.gates.extend(gates);
        self
    }

    /// Answers the gate at which an earlier run of the same images ended. Repeating the same answer is allowed.
    pub fn answer(mut self, answer: Option<Answer>) -> Self {
        self.answer = answer;
        self
    }

    /// Whether an unfinished run of another image may be superseded by this one. Its recorded revisions remain the
    /// rollback revisions.
    pub fn supersede(mut self, supersede: bool) -> Self {
        self.supersede = supersede;
        self
    }

    /// Whether the revisions that run now are the rollback revisions although an earlier run of the same images, recorded
    /// in the receipt, has ended: for a deployment that changes something else than the images, such as secrets. An
    /// unfinished run is resumed nevertheless.
    pub fn anew(mut self, anew: bool) -> Self {
        self.anew = anew;
        self
    }

    /// The clock of the receipt's timestamps.
    pub fn time_source(mut self, time: TimeSource) -> Self {
        self.time = time;
        self
    }
}

impl std::fmt::Debug for Saga {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Saga").field("steps", &self.steps).field("path", &self.path).finish_non_exhaustive()
    }
}
