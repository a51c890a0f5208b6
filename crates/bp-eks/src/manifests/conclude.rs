//! One verdict of all workloads: the worst decides, and a failure rolls back those that had an earlier revision.

use bp_artifact::{
    Outcome, Verdict,
    deploy::{
        OnFailure, Proof,
        run::{Ended, Run},
    },
    saga,
};
use futures_util::future::join_all;

use super::{
    context::Context,
    follow::{Board, Followed},
    revision::Before,
};
use crate::ending::Ending;

impl Context {
    /// The ending when every object was applied.
    pub(super) async fn conclude(&self, run: &mut Run, ended: &[Followed], before: &[Before]) -> Ending {
        if let Some(failed) = ended.iter().find(|followed| followed.has_failed()) {
            let why = failed.counts().map(|outcome| format!("{}: {}", failed.shown, outcome.detail));
            if let Some(failure) = failed.counts().and_then(|outcome| outcome.failure.clone()) {
                run.failing(failure);
            }
            return self.roll_back(run, before, &why.unwrap_or_default()).await;
        }
        let worst = saga::worst(ended.iter().filter_map(Followed::counts));
        let unobserved = ended.iter().find_map(|followed| {
            followed
                .result
                .as_ref()
                .err()
                .map(|why| format!("{} can no longer be observed: {why}", followed.shown))
        });
        if let Some(outcome) = worst.filter(|outcome| is_decisive(outcome, unobserved.is_some())) {
            let shown = ended.iter().find(|followed| followed.counts() == Some(outcome));
            let shown = shown.map(|followed| followed.shown.as_str()).unwrap_or_default();
            run.observed(proof(ended));
            let ended = Ended::of(outcome.verdict()).unwrap_or(Ended::Unproven);
            return Ending::Ended(ended, format!("{shown}: {}", outcome.detail));
        }
        match unobserved {
            Some(why) => Ending::Ended(
                Ended::Unobserved,
                format!(
                    "the objects were applied and the rollouts continue, but {why}; rerun the same command to resume"
                ),
            ),
            None => Ending::Proven(proof(ended), String::new()),
        }
    }

    /// Rolls back the workloads that had an earlier revision; what was created, and objects other than workloads, stay.
    pub(super) async fn roll_back(&self, run: &mut Run, before: &[Before], why: &str) -> Ending {
        if self.options.on_failure == OnFailure::Leave {
            return Ending::Ended(Ended::FailedInPlace, format!("left in place as configured; {why}"));
        }
        let changed: Vec<&Before> = before.iter().filter(|before| before.is_changed).collect();
        let created: Vec<&str> = changed
            .iter()
            .filter(|before| before.current.is_none())
            .map(|before| before.shown.as_str())
            .collect();
        let restored: Vec<&Before> = changed
            .iter()
            .copied()
            .filter(|before| before.current.is_some() && before.can_be_restored())
            .collect();
        if restored.is_empty() {
            let detail = "there is no revision to roll back to: no workload that changed existed before";
            return Ending::Ended(Ended::FailedInPlace, format!("{detail}; {why}"));
        }
        let previous = run.outcome().previous.clone();
        run.rolling_back(previous.clone());
        let board = Board::default();
        let work = restored.iter().filter_map(|before| {
            let revision = &before.current.as_ref()?.stable;
            Some((before.shown.as_str(), self.restored(before, revision)))
        });
        let ends = work.map(async |(shown, rollout)| {
            (shown, run.nested_with(rollout, |event| board.adapt(shown, event)).await)
        });
        let ends = join_all(ends.collect::<Vec<_>>()).await;
        let (mut failed, mut unobserved) = (Vec::new(), Vec::new());
        for (shown, end) in ends {
            match end {
                Ok(outcome) if matches!(outcome.verdict(), Verdict::Deployed | Verdict::Unproven) => {}
                Ok(outcome) if outcome.verdict() == Verdict::Unobserved => {
                    unobserved.push(format!("{shown}: {}", outcome.detail));
                }
                Ok(outcome) => failed.push(format!("{shown}: {} ({})", outcome.verdict(), outcome.detail)),
                Err(error) => failed.push(format!("{shown}: {}", error.without_advice())),
            }
        }
        if !failed.is_empty() {
            return Ending::Ended(Ended::RollbackFailed, failed.join("; "));
        }
        if !unobserved.is_empty() {
            return Ending::Ended(Ended::Unobserved, unobserved.join("; "));
        }
        run.in_place(previous);
        let names: Vec<&str> = restored.iter().map(|before| before.shown.as_str()).collect();
        let back = format!("the previous revisions run again: {}", names.join(", "));
        if created.is_empty() {
            return Ending::Ended(
                Ended::RolledBack,
                format!("{back}; other objects keep what was applied; {why}"),
            );
        }
        let detail = format!("{back}; created by this run and left in place: {}; {why}", created.join(", "));
        Ending::Ended(Ended::FailedInPlace, detail)
    }
}

/// Whether the outcome decides, although another one could not be observed.
fn is_decisive(outcome: &Outcome, is_unobserved: bool) -> bool {
    match outcome.verdict() {
        Verdict::Deployed => false,
        // They would be unobserved in a saga.
        Verdict::Unproven | Verdict::AwaitingApproval | Verdict::DeadlineExceeded => !is_unobserved,
        Verdict::DigestMismatch
        | Verdict::RolledBack
        | Verdict::RollbackFailed
        | Verdict::FailedInPlace
        | Verdict::Stopped
        | Verdict::Superseded
        | Verdict::Gone
        | Verdict::Unobserved => true,
    }
}

/// The digests of the containers with the deployed image.
fn proof(ended: &[Followed]) -> Proof {
    let ours =
        ended.iter().filter(|followed| followed.is_ours).filter_map(|followed| followed.result.as_ref().ok());
    Proof::of(ours.flat_map(|outcome| outcome.proof.observations.clone()))
}
