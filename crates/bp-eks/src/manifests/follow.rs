//! Follow all workloads concurrently, with one progress of the set.

use std::{collections::BTreeMap, sync::Mutex, time::Duration};

use bp_artifact::{
    Outcome, ResolvedImage, Verdict,
    config::WorkloadKind,
    deploy::{DeployEvent, Progress, run::Run},
    saga,
    sync::lock,
};
use futures_util::{StreamExt, stream::FuturesUnordered};
use tokio::time::Instant;

use super::{
    context::{Context, Item},
    error::ManifestsError,
};
use crate::{error::Error, target::EksTarget, workload::RolloutStatus};

/// How the rollout of one workload ended.
pub(super) struct Followed {
    /// The workload.
    pub(super) shown: String,
    pub(super) is_ours: bool,
    kind: WorkloadKind,
    /// The outcome, or why it could not be observed.
    pub(super) result: Result<Outcome, String>,
}

impl Followed {
    /// The outcome, unless it counts as success: a workload that does not run the deployed image has nothing to prove, nor
    /// has a Job that completed earlier and whose pods were deleted.
    pub(super) fn counts(&self) -> Option<&Outcome> {
        let outcome = self.result.as_ref().ok()?;
        let is_excused = outcome.verdict() == Verdict::Unproven
            && (!self.is_ours || self.kind == WorkloadKind::Job && outcome.proof.is_empty());
        (!is_excused).then_some(outcome)
    }

    /// Whether all workloads are rolled back because of it.
    pub(super) fn has_failed(&self) -> bool {
        self.counts().is_some_and(saga::rolls_back_all)
    }
}

/// The progress of each workload.
#[derive(Default)]
pub(super) struct Board(Mutex<State>);

#[derive(Default)]
struct State {
    progress: BTreeMap<String, Progress>,
    has_failed: bool,
}

impl Board {
    /// The event of a workload as an event of the set.
    pub(super) fn adapt(&self, shown: &str, event: DeployEvent) -> Option<DeployEvent> {
        let of = |text: &str| format!("{shown}: {text}");
        match event {
            DeployEvent::Applied { .. } | DeployEvent::RollingBack { .. } => None,
            DeployEvent::Progress { target, progress } => {
                let progress = self.sum(shown, progress);
                Some(DeployEvent::Progress { target, progress })
            }
            DeployEvent::Notice { target, message } => {
                Some(DeployEvent::Notice { target, message: of(&message) })
            }
            DeployEvent::Failing { target, mut failure } => {
                failure.message = of(&failure.message);
                let is_first = !std::mem::replace(&mut lock(&self.0).has_failed, true);
                Some(if is_first {
                    DeployEvent::Failing { target, failure }
                } else {
                    // Only the first failure is that of the operation.
                    DeployEvent::Notice { target, message: format!("FAILING: {failure}") }
                })
            }
            event @ (DeployEvent::Planned { .. }
            | DeployEvent::Log { .. }
            | DeployEvent::Finished { .. }
            | _) => Some(event),
        }
    }

    fn sum(&self, shown: &str, mut progress: Progress) -> Progress {
        let mut state = lock(&self.0);
        if !progress.stage.is_empty() {
            progress.stage = format!("{shown}: {}", progress.stage);
        }
        let mut sum = Progress::default();
        sum.stage.clone_from(&progress.stage);
        state.progress.insert(shown.to_owned(), progress);
        for one in state.progress.values() {
            sum.desired += one.desired;
            sum.running += one.running;
            sum.pending += one.pending;
            sum.failed += one.failed;
            sum.old += one.old;
        }
        sum
    }
}

impl Context {
    /// Follows the workloads until all have ended, or until one fails if that rolls back all.
    ///
    /// # Errors
    /// When the operation is cancelled.
    pub(super) async fn follow(
        &self,
        run: &Run,
        items: &[Item],
        image: &ResolvedImage,
        deadline: Instant,
        rolls_back: bool,
    ) -> Result<Vec<Followed>, ManifestsError> {
        let board = Board::default();
        let workloads = items.iter().filter_map(|item| {
            let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
            let (workload, _) = item.workload()?;
            let target = self.target_within(item, left)?.known_image(image.clone());
            Some((item.shown(&self.scope), item.is_ours(), workload.kind, target))
        });
        let mut watching: FuturesUnordered<_> = workloads
            .map(async |(shown, is_ours, kind, target)| {
                let result = watch(run, &board, &shown, target).await;
                (result, Followed { shown, is_ours, kind, result: Err(String::new()) })
            })
            .collect();
        let mut ended = Vec::new();
        while let Some((result, followed)) = watching.next().await {
            let result = match result {
                Ok(Some(outcome)) => Ok(outcome),
                // Not watched.
                Ok(None) => continue,
                Err(Error::Interrupted { .. }) => {
                    return Err(ManifestsError::Interrupted { applied: items.len(), of: items.len() });
                }
                Err(error) => Err(error.without_advice()),
            };
            let followed = Followed { result, ..followed };
            let stops = rolls_back && followed.has_failed();
            ended.push(followed);
            if stops {
                break;
            }
        }
        Ok(ended)
    }
}

/// Follows one workload; `None` if its pods are replaced only when somebody deletes them.
async fn watch(run: &Run, board: &Board, shown: &str, target: EksTarget) -> Result<Option<Outcome>, Error> {
    let live = target.0.api.workload().await?;
    if live.status(live.generation()) == RolloutStatus::OnDelete {
        run.notice(format!(
            "{shown}: the update strategy is OnDelete: its pods are replaced when they are deleted"
        ));
        return Ok(None);
    }
    run.nested_with(target.watch(), |event| board.adapt(shown, event)).await.map(Some)
}
