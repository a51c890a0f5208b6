//! One image to several targets: deployed everywhere, or put back everywhere.
//!
//! It is a saga with compensation, not a transaction: there are moments when one target runs the new image and another
//! does not, and going back can fail. What it promises is that the way back is written down before the first change,
//! that a failure anywhere puts every target back, that a target which cannot be observed is not taken for a failed one,
//! that it says what really happened, and that a killed run is finished by running it again.

mod error;
mod event;
mod gate;
mod open;
mod plan;
mod run;
mod verdict;

use std::{path::PathBuf, sync::Arc};

pub use error::SagaError;
pub use event::SagaEvent;
pub use gate::{Answer, Decision, Gate};
pub use plan::{PlannedStage, SagaPlan};

use crate::{
    deploy::{Receipt, Target},
    image::ResolvedImage,
    operation::Operation,
    time::TimeSource,
};

/// A deployment of one image to several targets, with a receipt.
///
/// | the targets' deployments | what is done | verdict |
/// |---|---|---|
/// | all proven | nothing | `Deployed` |
/// | one failed, was rolled back, stopped, deleted, or was refused | all are put back | `RolledBack`, or `RollbackFailed` when one is not back; `Stopped` and `Gone` keep their name |
/// | one was superseded by another deployment | nothing: the other one is at work | `Superseded` |
/// | one could not be observed, is late, or awaits approval | nothing: run it again to resume | that verdict |
/// | one is unproven, or runs another digest | nothing: somebody has to look | that verdict |
///
/// An error of class [`Unavailable`](crate::error::ErrorClass::Unavailable) counts as unobserved, not as failed. A target that
/// was superseded or deleted is never touched. Targets that did not change need nothing. The rules for every pair are
/// the table in `docs/adr/0007-deployments-are-a-saga.md`.
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
    steps: Vec<Step>,
    gates: Vec<Gate>,
    answer: Option<Answer>,
    path: PathBuf,
    supersede: bool,
    time: TimeSource,
}

impl Saga {
    /// A deployment of `image` to `targets`, with its receipt at the path `receipt`.
    ///
    /// Each environment has a receipt of its own. Two runs at once with one receipt are not guarded against: let the
    /// pipeline run one at a time.
    pub fn new(targets: Vec<Arc<dyn Target>>, image: ResolvedImage, receipt: impl Into<PathBuf>) -> Self {
        let step = |target| Step { target, image: image.clone(), stage: 0 };
        Saga::of(targets.into_iter().map(step).collect(), receipt)
    }

    /// A deployment of several images, each to its target, in stages: a stage starts when all targets of the stages before
    /// it are deployed and proven. When one fails, the targets of all stages are put back.
    pub fn of(steps: Vec<Step>, receipt: impl Into<PathBuf>) -> Self {
        let (gates, answer, path) = (Vec::new(), None, receipt.into());
        Saga { steps, gates, answer, path, supersede: false, time: TimeSource::system() }
    }

    /// Adds gates between the stages, or behind the last one.
    pub fn gates(mut self, gates: impl IntoIterator<Item = Gate>) -> Self {
        self.gates.extend(gates);
        self
    }

    /// Answers the gate that an earlier run of the same images ended at. Answering again what was answered is no mistake.
    pub fn answer(mut self, answer: Option<Answer>) -> Self {
        self.answer = answer;
        self
    }

    /// Whether an unfinished run of another image may be given up for this one. Its noted revisions stay the way back.
    pub fn supersede(mut self, supersede: bool) -> Self {
        self.supersede = supersede;
        self
    }

    /// The clock of the receipt's time stamps.
    pub fn time_source(mut self, time: TimeSource) -> Self {
        self.time = time;
        self
    }

    /// Deploys to all targets of a stage at once and watches them to their end.
    ///
    /// Run again after it was killed, it goes on where it was: revisions noted in the receipt win over what runs now,
    /// and a rollback that had begun is finished. Run again after it ended well, it verifies that all still runs.
    ///
    /// The operation's error is one of: nothing was changed, it was cancelled, or the end could not be written down.
    ///
    /// # Permissions
    /// Those of the targets.
    ///
    /// # Cancel safety
    /// Cancelled or dropped, it stops watching; the platforms go on, nothing is rolled back, and the receipt stays
    /// unfinished, so that running it again goes on.
    pub fn run(self) -> Operation<SagaEvent, Result<Receipt, SagaError>> {
        Operation::spawn(|events| run::deploy(self, events))
    }

    /// Puts the targets of the receipt at the path `receipt` back to the revisions noted there.
    ///
    /// The receipt that it gives has the verdict in [`Receipt::rollback_verdict`].
    ///
    /// # Permissions
    /// Those of the targets.
    ///
    /// # Cancel safety
    /// As of [`run`](Self::run).
    pub fn rollback(
        targets: Vec<Arc<dyn Target>>,
        receipt: impl Into<PathBuf>,
    ) -> Operation<SagaEvent, Result<Receipt, SagaError>> {
        let path = receipt.into();
        Operation::spawn(|events| run::rollback(targets, path, TimeSource::system(), events))
    }
}

/// One target of a [`Saga`], and the image for it.
#[derive(Clone)]
pub struct Step {
    /// Where.
    pub target: Arc<dyn Target>,
    /// What.
    pub image: ResolvedImage,
    /// When: stages are deployed in the order of their numbers, the targets of one at once.
    pub stage: u32,
}

impl std::fmt::Debug for Step {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Step")
            .field("target", &self.target.id())
            .field("image", &self.image.reference)
            .field("stage", &self.stage)
            .finish()
    }
}

impl std::fmt::Debug for Saga {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Saga").field("steps", &self.steps).field("path", &self.path).finish_non_exhaustive()
    }
}
