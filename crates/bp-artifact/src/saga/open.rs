//! Opening a saga: what an earlier receipt means for this run, and the way back noted before the first change.

use std::{collections::BTreeSet, path::Path};

use futures_util::future::try_join_all;

use super::{Saga, SagaError, Step, verdict};
use crate::{
    deploy::{Current, Receipt, ReceiptState, Revision, Target, TargetId, TargetReceipt, Verdict},
    document::DocumentError,
};

/// The receipt to work from, and whether it goes on with an earlier run.
pub(super) struct Opened {
    pub(super) receipt: Receipt,
    pub(super) resumed: bool,
}

/// What an earlier receipt means for this run.
enum Earlier {
    /// It ended, or there is none. What runs now is the way back; except where what runs now is what that receipt
    /// put there: then its way back still holds.
    Ended(Option<Receipt>),
    /// It did not end: what it noted is the way back.
    Unfinished(Receipt),
}

/// Reads the earlier receipt and notes the way back of every target. Changes nothing.
pub(super) async fn open(saga: &Saga) -> Result<Opened, SagaError> {
    check_names(&ids(saga))?;
    match earlier(saga)? {
        Earlier::Unfinished(receipt)
            if receipt.state == ReceiptState::RollingBack && is_same(saga, &receipt) =>
        {
            Ok(Opened { receipt, resumed: true })
        }
        Earlier::Unfinished(earlier) => {
            // What somebody else deployed meanwhile is the way back of a target that was lost to them.
            let noted = |id: &TargetId, _: &Current| {
                let entry = earlier.target(id).filter(|entry| !verdict::is_lost(entry))?;
                Some(entry.previous.clone())
            };
            let mut receipt = note(saga, noted).await?;
            let resumed = is_same(saga, &earlier);
            if resumed {
                receipt.started_at = earlier.started_at;
                receipt = receipt.continuing(&earlier);
            }
            Ok(Opened { receipt, resumed })
        }
        Earlier::Ended(earlier) => {
            let still_holds = |id: &TargetId, current: &Current| {
                let entry = earlier.as_ref()?.target(id)?;
                let left = entry.outcome.as_ref()?.revision.as_ref()?;
                (left.id == current.stable.id).then(|| entry.previous.clone())
            };
            let receipt = note(saga, still_holds).await?;
            let receipt = match &earlier {
                Some(earlier) => receipt.continuing(earlier),
                None => receipt,
            };
            Ok(Opened { receipt, resumed: false })
        }
    }
}

fn earlier(saga: &Saga) -> Result<Earlier, SagaError> {
    let Some(receipt) = read_if_there(&saga.path)? else { return Ok(Earlier::Ended(None)) };
    if receipt.state == ReceiptState::Finished {
        // Ended and unobserved: by a verdict of a later version.
        let may_run = [Verdict::Deployed, Verdict::Unproven, Verdict::Unobserved];
        let ours_runs = receipt.verdict.is_some_and(|verdict| may_run.contains(&verdict));
        return Ok(Earlier::Ended(Some(receipt).filter(|receipt| ours_runs && is_same(saga, receipt))));
    }
    if !is_same(saga, &receipt) && !saga.supersede {
        return Err(SagaError::Unfinished {
            path: saga.path.clone(),
            image: receipt.image.reference,
            state: receipt.state,
        });
    }
    check_given(&receipt, &ids(saga), &saga.path)?;
    Ok(Earlier::Unfinished(receipt))
}

fn ids(saga: &Saga) -> Vec<TargetId> {
    saga.steps.iter().map(|step| step.target.id()).collect()
}

/// Whether the receipt is of the same images, as far as it is of the same targets.
fn is_same(saga: &Saga, receipt: &Receipt) -> bool {
    let mut known =
        saga.steps.iter().filter_map(|step| Some((step, receipt.image_of(&step.target.id())?))).peekable();
    if known.peek().is_none() {
        return saga.steps.iter().any(|step| step.image.reference == receipt.image.reference);
    }
    known.all(|(step, image)| step.image.reference == image.reference)
}

fn read_if_there(path: &Path) -> Result<Option<Receipt>, DocumentError> {
    match Receipt::read(path) {
        Ok(receipt) => Ok(Some(receipt)),
        Err(error) if error.is_missing() => Ok(None),
        Err(error) => Err(error),
    }
}

/// Reads what every target runs, all at once, and notes the way back: what `known` says, or else what runs.
async fn note(
    saga: &Saga,
    known: impl Fn(&TargetId, &Current) -> Option<Revision>,
) -> Result<Receipt, SagaError> {
    let currents = try_join_all(saga.steps.iter().map(|step| current(step.target.as_ref()))).await?;
    let Some(first) = saga.steps.first().map(|step| step.image.clone()) else {
        return Err(SagaError::NoTargets);
    };
    let entry = |(step, (id, current)): (&Step, (TargetId, Current))| {
        let previous = known(&id, &current).unwrap_or(current.stable);
        let image = Some(step.image.clone()).filter(|image| image.reference != first.reference);
        TargetReceipt { image, ..TargetReceipt::noted(id, previous) }
    };
    let entries = saga.steps.iter().zip(currents).map(entry).collect();
    Ok(Receipt::started(first.clone(), entries, saga.time.now()))
}

async fn current(target: &dyn Target) -> Result<(TargetId, Current), SagaError> {
    let id = target.id();
    match target.current().await {
        Ok(current) => Ok((id, current)),
        Err(source) => Err(SagaError::Target { target: id, source }),
    }
}

/// There are targets, each with a name of its own.
pub(super) fn check_names(ids: &[TargetId]) -> Result<(), SagaError> {
    if ids.is_empty() {
        return Err(SagaError::NoTargets);
    }
    let mut seen = BTreeSet::new();
    match ids.iter().find(|id| !seen.insert(*id)) {
        Some(target) => Err(SagaError::DuplicateTarget { target: target.clone() }),
        None => Ok(()),
    }
}

/// Every target that the receipt tells of is given.
pub(super) fn check_given(receipt: &Receipt, given: &[TargetId], path: &Path) -> Result<(), SagaError> {
    match receipt.targets.iter().find(|entry| !given.contains(&entry.target)) {
        Some(entry) => Err(SagaError::TargetNotGiven { path: path.to_owned(), target: entry.target.clone() }),
        None => Ok(()),
    }
}
