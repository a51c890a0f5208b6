//! Open a saga: evaluate an earlier receipt, and record the rollback revisions before the first change.

use std::{collections::BTreeSet, path::Path, sync::Arc};

use futures_util::future::join_all;
use jiff::Timestamp;

use super::{
    Answer, Decision, Saga, SagaError, Step,
    gate::{self, Condition},
    verdict,
};
use crate::{
    deploy::{
        Current, GateName, GateReceipt, GateState, Receipt, ReceiptState, Revision, RollbackCheck, Target,
        TargetId, TargetReceipt, Verdict,
    },
    document::DocumentError,
    image::ResolvedImage,
};

/// The receipt to continue with, and whether it resumes an earlier run.
pub(super) struct Opened {
    pub(super) receipt: Receipt,
    pub(super) resumed: bool,
}

/// What an earlier receipt means for this run.
enum Earlier {
    /// It ended, or there is none. The running revisions are the rollback revisions; except where that receipt deployed
    /// the running revision: then its rollback revision still applies.
    Ended(Option<Receipt>),
    /// It did not end: its recorded revisions are the rollback revisions.
    Unfinished(Receipt),
    /// It ended with the same rejection as in this run.
    Rejected(Receipt),
}

/// Reads the earlier receipt and records the rollback revision of every target. Changes no target.
pub(super) async fn open(saga: &Saga) -> Result<Opened, SagaError> {
    check_names(&ids(saga))?;
    check_gates(saga)?;
    match earlier(saga)? {
        Earlier::Rejected(receipt) => Ok(Opened { receipt, resumed: true }),
        Earlier::Unfinished(mut receipt)
            if is_same(saga, &receipt) && (receipt.state == ReceiptState::RollingBack || rejects(saga)) =>
        {
            answer(saga, &mut receipt)?;
            Ok(Opened { receipt, resumed: true })
        }
        Earlier::Unfinished(earlier) => {
            // For a target that was superseded, the rollback revision is what the other party deployed in the meantime.
            let noted = |id: &TargetId, _: &Current| {
                let entry = earlier.target(id).filter(|entry| !verdict::is_lost(entry))?;
                Some(entry.previous.clone())
            };
            let resumed = is_same(saga, &earlier);
            // An interrupted deployment is completed, whatever became of its rollback revisions.
            let mut receipt = note(saga, noted, !resumed).await?;
            if resumed {
                receipt.started_at = earlier.started_at;
                receipt = receipt.continuing(&earlier);
                receipt.gates = approvals(saga, &earlier);
            }
            answer(saga, &mut receipt)?;
            Ok(Opened { receipt, resumed })
        }
        Earlier::Ended(earlier) => {
            let still_holds = |id: &TargetId, current: &Current| {
                let entry = earlier.as_ref()?.target(id)?;
                let left = entry.outcome.as_ref()?.revision.as_ref()?;
                (left.id == current.stable.id).then(|| entry.previous.clone())
            };
            let receipt = note(saga, still_holds, true).await?;
            let mut receipt = match &earlier {
                Some(earlier) => receipt.continuing(earlier),
                None => receipt,
            };
            receipt.gates = earlier.iter().flat_map(|earlier| approvals(saga, earlier)).collect();
            answer(saga, &mut receipt)?;
            Ok(Opened { receipt, resumed: false })
        }
    }
}

fn earlier(saga: &Saga) -> Result<Earlier, SagaError> {
    let Some(receipt) = read_if_exists(&saga.path)? else { return Ok(Earlier::Ended(None)) };
    if receipt.state == ReceiptState::Finished && is_rejected(saga, &receipt) {
        return Ok(Earlier::Rejected(receipt));
    }
    if receipt.state == ReceiptState::Finished {
        // Finished and unobserved: an unknown verdict of a later version.
        let may_run = [Verdict::Deployed, Verdict::Unproven, Verdict::Unobserved];
        let ours_runs = receipt.verdict.is_some_and(|verdict| may_run.contains(&verdict));
        let still_applies = |receipt: &Receipt| !saga.anew && ours_runs && is_same(saga, receipt);
        return Ok(Earlier::Ended(Some(receipt).filter(still_applies)));
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

/// The approval gates of the earlier run, answered or not, for the same images. Checks are repeated.
fn approvals(saga: &Saga, earlier: &Receipt) -> Vec<GateReceipt> {
    let images = gate::images(&saga.steps);
    let is_kept = |entry: &&GateReceipt| {
        let answered =
            matches!(entry.state, GateState::AwaitingApproval | GateState::Approved | GateState::Rejected);
        answered && entry.images == images
    };
    earlier.gates.iter().filter(is_kept).cloned().collect()
}

/// Whether the answer is to reject.
fn rejects(saga: &Saga) -> bool {
    saga.answer.as_ref().is_some_and(|answer| answer.decision == Decision::Reject)
}

/// Whether the answer is to reject, and was recorded for these images.
fn is_rejected(saga: &Saga, receipt: &Receipt) -> bool {
    let noted = saga.answer.as_ref().and_then(|answer| receipt.gate(&answer.gate));
    let is_noted =
        |gate: &GateReceipt| gate.state == GateState::Rejected && gate.images == gate::images(&saga.steps);
    rejects(saga) && noted.is_some_and(is_noted)
}

/// Records the answer to a gate. It is valid if the gate awaits approval of exactly these images; the same answer may
/// be repeated.
fn answer(saga: &Saga, receipt: &mut Receipt) -> Result<(), SagaError> {
    let Some(Answer { gate, decision, by }) = &saga.answer else { return Ok(()) };
    let approvals = || saga.gates.iter().filter(|gate| matches!(gate.condition, Condition::Approval));
    if !approvals().any(|approval| approval.name() == gate) {
        let known: Vec<GateName> = approvals().map(|approval| approval.name().clone()).collect();
        return Err(SagaError::UnknownGate { gate: gate.clone(), known });
    }
    let images = gate::images(&saga.steps);
    let state = receipt.gate(gate).filter(|entry| entry.images == images).map(|entry| entry.state);
    let wanted = match decision {
        Decision::Approve => GateState::Approved,
        Decision::Reject => GateState::Rejected,
    };
    if state == Some(wanted) {
        return Ok(());
    }
    if state != Some(GateState::AwaitingApproval) || receipt.state == ReceiptState::RollingBack {
        return Err(SagaError::NotAwaiting { gate: gate.clone(), path: saga.path.clone(), state });
    }
    let noted = GateReceipt::new(gate.clone(), wanted, images, saga.time.now());
    receipt.note_gate(GateReceipt { by: by.clone(), ..noted });
    Ok(())
}

/// Checks that gate names are unique.
fn check_gates(saga: &Saga) -> Result<(), SagaError> {
    let mut seen = BTreeSet::new();
    match saga.gates.iter().map(super::Gate::name).find(|name| !seen.insert(*name)) {
        Some(gate) => Err(SagaError::DuplicateGate { gate: gate.clone() }),
        None => Ok(()),
    }
}

fn ids(saga: &Saga) -> Vec<TargetId> {
    saga.steps.iter().map(|step| step.target.id()).collect()
}

/// Whether the receipt has the same images, for the targets that are in both.
fn is_same(saga: &Saga, receipt: &Receipt) -> bool {
    let mut known =
        saga.steps.iter().filter_map(|step| Some((step, receipt.image_of(&step.target.id())?))).peekable();
    if known.peek().is_none() {
        return saga.steps.iter().any(|step| step.image.reference == receipt.image.reference);
    }
    known.all(|(step, image)| step.image.reference == image.reference)
}

pub(super) fn read_if_exists(path: &Path) -> Result<Option<Receipt>, DocumentError> {
    match Receipt::read(path) {
        Ok(receipt) => Ok(Some(receipt)),
        Err(error) if error.is_missing() => Ok(None),
        Err(error) => Err(error),
    }
}

/// Reads the revisions of all targets concurrently, and records the rollback revisions: those of `known`, or else the
/// stable ones. Returns an error if one cannot run any more and `refuses` is set.
async fn note(
    saga: &Saga,
    known: impl Fn(&TargetId, &Current) -> Option<Revision>,
    refuses: bool,
) -> Result<Receipt, SagaError> {
    let currents = in_order(saga.steps.iter().map(|step| current(step.target.as_ref()))).await?;
    let Some(first) = saga.steps.first().map(|step| step.image.clone()) else {
        return Err(SagaError::NoTargets);
    };
    let entry = |(step, (id, current)): (&Step, (TargetId, Current))| {
        let previous = known(&id, &current).unwrap_or(current.stable);
        let image = Some(step.image.clone()).filter(|image| image.reference != first.reference);
        TargetReceipt { image, ..TargetReceipt::noted(id, previous) }
    };
    let mut entries: Vec<TargetReceipt> = saga.steps.iter().zip(currents).map(entry).collect();
    let checks = saga
        .steps
        .iter()
        .zip(&entries)
        .map(|(step, entry)| rollback_check(step.target.as_ref(), &step.image, &entry.previous));
    let checks = in_order(checks).await?;
    for (entry, check) in entries.iter_mut().zip(checks) {
        if let Some(check) = check.as_ref().filter(|check| refuses && check.is_refused()) {
            let (target, check) = (entry.target.clone(), Box::new(check.clone()));
            return Err(SagaError::UnprovenRollback { target, check });
        }
        entry.rollback = check;
    }
    Ok(Receipt::started(first.clone(), entries, saga.time.now()))
}

/// Reads all targets concurrently. Of several errors, the one of the first target is returned: which error is reported
/// does not depend on which response arrives first.
async fn in_order<T>(
    reads: impl Iterator<Item = impl Future<Output = Result<T, SagaError>>>,
) -> Result<Vec<T>, SagaError> {
    join_all(reads).await.into_iter().collect()
}

/// Whether `previous`, the revision that a failed deployment of `image` returns to, can still run.
pub(super) async fn rollback_check(
    target: &dyn Target,
    image: &ResolvedImage,
    previous: &Revision,
) -> Result<Option<RollbackCheck>, SagaError> {
    let checked = target.check_rollback(image, previous).await;
    checked.map_err(|source| SagaError::Target { target: target.id(), source })
}

pub(super) async fn current(target: &dyn Target) -> Result<(TargetId, Current), SagaError> {
    let id = target.id();
    match target.current().await {
        Ok(current) => Ok((id, current)),
        Err(source) => Err(SagaError::Target { target: id, source }),
    }
}

/// The receipt of a rollback of the targets to their previous revisions. Changes nothing.
pub(super) async fn previous(targets: &[Arc<dyn Target>], now: Timestamp) -> Result<Receipt, SagaError> {
    check_names(&targets.iter().map(|target| target.id()).collect::<Vec<_>>())?;
    let mut entries = in_order(targets.iter().map(|target| previous_of(target.as_ref()))).await?;
    let Some(image) = entries.iter().find_map(|entry| entry.image.clone()) else {
        return Err(SagaError::NoDigest);
    };
    for entry in &mut entries {
        entry.image = entry.image.take().filter(|own| own.reference != image.reference);
    }
    let mut receipt = Receipt::started(image, entries, now);
    receipt.state = ReceiptState::RollingBack;
    Ok(receipt)
}

/// The entry of a target with its previous revision, and with the image from which it is rolled back.
async fn previous_of(target: &dyn Target) -> Result<TargetReceipt, SagaError> {
    let (id, current) = current(target).await?;
    let previous = match target.previous().await {
        Ok(previous) => previous,
        Err(source) => return Err(SagaError::NotRolledBack { target: id, source }),
    };
    let deployed = current.rolling_out.unwrap_or(current.stable).image.resolved();
    let image = deployed.or_else(|| previous.image.resolved());
    Ok(TargetReceipt { image, ..TargetReceipt::noted(id, previous) })
}

/// Checks that there are targets, and that their names are unique.
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

/// Checks that every target in the receipt is given.
pub(super) fn check_given(receipt: &Receipt, given: &[TargetId], path: &Path) -> Result<(), SagaError> {
    match receipt.targets.iter().find(|entry| !given.contains(&entry.target)) {
        Some(entry) => Err(SagaError::TargetNotGiven { path: path.to_owned(), target: entry.target.clone() }),
        None => Ok(()),
    }
}
