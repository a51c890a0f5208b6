//! Run a saga: deploy to all targets; when one fails, roll back all.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::Arc,
};

use futures_util::{StreamExt, future::BoxFuture, stream::FuturesUnordered};
use tokio_util::sync::CancellationToken;

use super::{
    Gate, Saga, SagaError, SagaEvent, Step,
    gate::{self, Condition, Stage},
    lock::lock,
    open::{self, Opened},
    outcome::{ended, unchanged, unobserved},
    verdict::{self, Joint},
};
use crate::{
    check::{CheckVerdict, check_until},
    deploy::{
        Current, DeployEvent, GateName, GateReceipt, GateState, OnFailure, Outcome, Receipt, ReceiptState,
        Revision, Target, TargetError, TargetId, Verdict,
    },
    error::{Classified, ErrorClass, chain},
    operation::{Emitter, Operation},
    reference::DigestRef,
    text::SingleLine,
    time::TimeSource,
};

type Ended = (TargetId, Result<Outcome, TargetError>);

impl Saga {
    /// Deploys to all targets of a stage concurrently and follows them to their end.
    ///
    /// Rerun after it was killed, it resumes: revisions recorded in the receipt take precedence over those that run
    /// now, and a rollback that had started is finished. Rerun after success, it verifies that everything still runs.
    ///
    /// The operation's error is one of: nothing was changed, it was cancelled, or the result could not be written to
    /// the receipt.
    ///
    /// # Permissions
    /// Those of the targets.
    ///
    /// # Cancel safety
    /// Cancelled or dropped, it stops following; the platforms continue, nothing is rolled back, and the receipt stays
    /// unfinished, so that a rerun resumes.
    pub fn run(self) -> Operation<SagaEvent, Result<Receipt, SagaError>> {
        let receipt = SingleLine(self.path.display());
        let span = tracing::info_span!("saga_run", %receipt, targets = self.steps.len());
        span.in_scope(|| Operation::spawn(|events| deploy(self, events)))
    }

    /// Rolls the targets of the receipt at the path `receipt` back to the revisions recorded there.
    ///
    /// [`Receipt::rollback_verdict`] of the returned receipt is the verdict.
    ///
    /// # Permissions
    /// Those of the targets.
    ///
    /// # Cancel safety
    /// As for [`run`](Self::run).
    pub fn rollback(
        targets: Vec<Arc<dyn Target>>,
        receipt: impl Into<PathBuf>,
    ) -> Operation<SagaEvent, Result<Receipt, SagaError>> {
        let path = receipt.into();
        let receipt = SingleLine(path.display());
        let span = tracing::info_span!("saga_rollback", %receipt, targets = targets.len());
        span.in_scope(|| Operation::spawn(|events| rollback(targets, path, TimeSource::system(), events)))
    }

    /// Rolls the targets back to the revisions that [`Target::previous`] returns, and writes a receipt at the path
    /// `receipt` before the first change. A rerun resumes from that receipt with [`rollback`](Self::rollback); without
    /// it, a rerun could restore the revision that was rolled back.
    ///
    /// # Errors
    /// When a target has no previous revision, or no image has a digest, which a receipt requires: nothing was changed.
    ///
    /// # Permissions
    /// Those of the targets.
    ///
    /// # Cancel safety
    /// As for [`run`](Self::run).
    pub fn rollback_to_previous(
        targets: Vec<Arc<dyn Target>>,
        receipt: impl Into<PathBuf>,
    ) -> Operation<SagaEvent, Result<Receipt, SagaError>> {
        let path = receipt.into();
        let receipt = SingleLine(path.display());
        let span = tracing::info_span!("saga_rollback", %receipt, targets = targets.len());
        span.in_scope(|| {
            Operation::spawn(|events| rollback_to_previous(targets, path, TimeSource::system(), events))
        })
    }
}

async fn deploy(saga: Saga, events: Emitter<SagaEvent>) -> Result<Receipt, SagaError> {
    let opening = async {
        let locked = lock(&saga.path).await?;
        Ok::<_, SagaError>((locked, open::open(&saga).await?))
    };
    let (_locked, Opened { receipt, resumed }) = tokio::select! {
        opened = opening => opened?,
        () = events.cancelled() => return Err(SagaError::Interrupted { path: saga.path, recorded: false }),
    };
    let targets = saga.steps.iter().map(|step| Arc::clone(&step.target)).collect();
    let mut run = Run { targets, path: saga.path, time: saga.time, receipt, events, may_be_restored: true };
    if run.receipt.state == ReceiptState::RollingBack {
        run.emit_noted(resumed);
        return run.roll_back().await;
    }
    if run.receipt.state == ReceiptState::Finished {
        run.emit_noted(resumed);
        if let Some(verdict) = run.receipt.verdict {
            run.events.emit(SagaEvent::Ended { verdict });
        }
        return Ok(run.receipt);
    }
    let rejected = run.receipt.gates.iter().find(|gate| gate.state == GateState::Rejected).cloned();
    if let Some(gate) = &rejected
        && on_failure(&saga.gates, gate) == OnFailure::RollBack
    {
        run.receipt.state = ReceiptState::RollingBack;
    }
    run.write()?;
    run.emit_noted(resumed);
    if let Some(gate) = rejected {
        run.events.emit(SagaEvent::Gate(gate));
        return match run.receipt.state {
            ReceiptState::RollingBack => run.roll_back().await,
            ReceiptState::Started | ReceiptState::Finished | ReceiptState::Other => {
                run.finish(verdict::LEFT, None)
            }
        };
    }
    let Deployed { failure, started, gate } = run.deploy_all(&saga.steps, &saga.gates).await?;
    let joint = match (run.receipt.state, gate) {
        (ReceiptState::RollingBack, _) => {
            run.restore_all().await?;
            verdict::compensated(&run.receipt)
        }
        (_, Some(joint)) => joint,
        (ReceiptState::Started | ReceiptState::Finished | ReceiptState::Other, None) => {
            let mut joint =
                verdict::deployed(run.receipt.targets.iter().filter(|e| started.contains(&e.target)));
            joint.open |= started.len() < run.receipt.targets.len();
            joint
        }
    };
    let nothing_changed = joint.verdict != Verdict::RollbackFailed && !run.receipt.is_changed();
    run.finish(joint, failure.filter(|_| nothing_changed))
}

async fn rollback(
    targets: Vec<Arc<dyn Target>>,
    path: PathBuf,
    time: TimeSource,
    events: Emitter<SagaEvent>,
) -> Result<Receipt, SagaError> {
    let ids: Vec<TargetId> = targets.iter().map(|target| target.id()).collect();
    open::check_names(&ids)?;
    Receipt::read(&path)?;
    let _locked = tokio::select! {
        locked = lock(&path) => locked?,
        () = events.cancelled() => return Err(SagaError::Interrupted { path, recorded: true }),
    };
    let receipt = Receipt::read(&path)?;
    open::check_given(&receipt, &ids, &path)?;
    let mut run = Run { targets, path, time, receipt, events, may_be_restored: true };
    if run.receipt.state != ReceiptState::RollingBack {
        run.receipt.state = ReceiptState::RollingBack;
        run.receipt.verdict = None;
        for entry in &mut run.receipt.targets {
            (entry.restored, entry.error) = (None, None);
        }
        run.write()?;
    }
    run.emit_noted(true);
    run.roll_back().await
}

async fn rollback_to_previous(
    targets: Vec<Arc<dyn Target>>,
    path: PathBuf,
    time: TimeSource,
    events: Emitter<SagaEvent>,
) -> Result<Receipt, SagaError> {
    let opening = async {
        let locked = lock(&path).await?;
        Ok::<_, SagaError>((locked, open::previous(&targets, time.now()).await?))
    };
    let (_locked, receipt) = tokio::select! {
        opened = opening => opened?,
        () = events.cancelled() => return Err(SagaError::Interrupted { path, recorded: false }),
    };
    let mut run = Run { targets, path, time, receipt, events, may_be_restored: false };
    run.write()?;
    run.emit_noted(false);
    run.roll_back().await
}

/// A saga in progress.
struct Run {
    targets: Vec<Arc<dyn Target>>,
    path: PathBuf,
    time: TimeSource,
    receipt: Receipt,
    events: Emitter<SagaEvent>,
    /// Whether an earlier run may have restored a target, which is then left as it is.
    may_be_restored: bool,
}

impl Run {
    /// Deploys stage by stage, while all previous targets are deployed and all previous gates are open.
    async fn deploy_all(&mut self, steps: &[Step], gates: &[Gate]) -> Result<Deployed, SagaError> {
        let mut deployed = Deployed::default();
        let images = gate::images(steps);
        for Stage { steps, gates } in gate::stages(steps, gates) {
            deployed.started.extend(steps.iter().map(|step| step.target.id()));
            deployed.failure = self.deploy_stage(steps.iter().copied()).await?;
            let is_done = |step: &&Step| {
                let entry = self.receipt.target(&step.target.id());
                entry.is_some_and(|entry| entry.verdict().is_some_and(Verdict::is_success))
            };
            if !steps.iter().all(is_done) {
                break;
            }
            for gate in gates {
                deployed.gate = self.pass(gate, &images).await?;
                if deployed.gate.is_some() {
                    return Ok(deployed);
                }
            }
        }
        Ok(deployed)
    }

    /// Evaluates a gate and records its state. Returns how the run ends there, unless the gate is open.
    async fn pass(&mut self, gate: &Gate, images: &[DigestRef]) -> Result<Option<Joint>, SagaError> {
        let name = gate.name();
        let mut noted = match &gate.condition {
            Condition::Approval => match self.receipt.gate(name) {
                Some(earlier) => earlier.clone(),
                None => self.gate(name, GateState::AwaitingApproval, images),
            },
            Condition::Check { check, wait } => {
                self.events.emit(SagaEvent::Checking { gate: name.clone(), check: check.name() });
                let report = tokio::select! {
                    report = check_until(check.as_ref(), *wait) => report,
                    () = self.events.cancelled() => return Err(self.interrupted()),
                };
                let state = match report.verdict {
                    CheckVerdict::Passed => GateState::Passed,
                    CheckVerdict::Failed { .. } => GateState::Failed,
                    CheckVerdict::Unobserved { .. } => GateState::Unobserved,
                };
                GateReceipt { detail: report.to_string(), ..self.gate(name, state, images) }
            }
        };
        if noted.state == GateState::AwaitingApproval {
            noted.detail = format!("continue with --approve {name}, or undo with --reject {name}");
        }
        let state = noted.state;
        self.receipt.note_gate(noted.clone());
        self.events.emit(SagaEvent::Gate(noted));
        let end = match state {
            GateState::Approved | GateState::Passed => None,
            GateState::AwaitingApproval => Some(Joint { verdict: Verdict::AwaitingApproval, open: true }),
            GateState::Unobserved => Some(Joint { verdict: Verdict::Unobserved, open: true }),
            GateState::Failed | GateState::Rejected => {
                if gate.on_failure == OnFailure::RollBack {
                    self.receipt.state = ReceiptState::RollingBack;
                    self.emit_compensating();
                }
                Some(verdict::LEFT)
            }
        };
        self.write_if_possible();
        Ok(end)
    }

    fn gate(&self, name: &GateName, state: GateState, images: &[DigestRef]) -> GateReceipt {
        GateReceipt::new(name.clone(), state, images.to_vec(), self.time.now())
    }

    /// Deploys to the targets of a stage concurrently and records each result. At the first failure the others are
    /// cancelled, and the receipt's state becomes rolling back. Returns the error of the first target.
    async fn deploy_stage<'a>(
        &mut self,
        steps: impl Iterator<Item = &'a Step>,
    ) -> Result<Option<Failed>, SagaError> {
        let stop = CancellationToken::new();
        let mut running = FuturesUnordered::new();
        for Step { target, image, .. } in steps {
            running.push(watch(target.id(), target.deploy(image), self.events.clone(), stop.clone()));
        }
        let mut failure = None;
        while let Some((id, result)) = self.next(&mut running, &stop).await {
            let error = self.note(&id, result);
            let fails = self.receipt.target(&id).is_some_and(verdict::compensates);
            if fails && !self.events.is_cancelled() && self.receipt.state == ReceiptState::Started {
                self.receipt.state = ReceiptState::RollingBack;
                let targets = self.receipt.targets.iter().map(|entry| entry.target.clone()).collect();
                self.events.emit(SagaEvent::Compensating { failed: Some(id.clone()), targets });
                stop.cancel();
            }
            self.write_if_possible();
            if let Some(error) = error {
                failure.get_or_insert(error);
            }
        }
        if self.events.is_cancelled() { Err(self.interrupted()) } else { Ok(failure) }
    }

    /// Rolls every target back to its recorded revision, and records each result.
    async fn restore_all(&mut self) -> Result<(), SagaError> {
        let stop = CancellationToken::new();
        let mut running = FuturesUnordered::new();
        for entry in self.receipt.targets.iter_mut().filter(|entry| !verdict::is_lost(entry)) {
            if entry.is_restored() {
                continue;
            }
            // A target that rolled itself back is already restored.
            if entry.verdict() == Some(Verdict::RolledBack) {
                let seen = entry.outcome.as_ref().map(|outcome| outcome.proof.clone()).unwrap_or_default();
                entry.restored = Some(unchanged(&entry.target, &entry.previous, seen));
                continue;
            }
            let target = self.targets.iter().find(|target| target.id() == entry.target);
            let target = Arc::clone(target.expect("checked when the saga was opened"));
            let previous = entry.previous.clone();
            let (events, stop) = (self.events.clone(), stop.clone());
            running.push(if self.may_be_restored {
                restore(target, previous, events, stop)
            } else {
                watch(target.id(), target.restore(&previous), events, stop)
            });
        }
        while let Some((id, result)) = self.next(&mut running, &stop).await {
            if let Some(entry) = self.receipt.targets.iter_mut().find(|entry| entry.target == id) {
                entry.restored = match result {
                    Ok(outcome) => Some(outcome),
                    Err(error) => match error.class() {
                        ErrorClass::Interrupted => None,
                        ErrorClass::Unavailable => Some(unobserved(entry, &error)),
                        ErrorClass::BadInput
                        | ErrorClass::Refused
                        | ErrorClass::Superseded
                        | ErrorClass::DigestMismatch
                        | ErrorClass::Unexpected => {
                            entry.error = Some(chain(&error));
                            Some(ended(entry, Verdict::RollbackFailed, &error))
                        }
                    },
                };
            }
            self.write_if_possible();
        }
        if self.events.is_cancelled() { Err(self.interrupted()) } else { Ok(()) }
    }

    /// A rollback that was requested, or started by an earlier run.
    async fn roll_back(mut self) -> Result<Receipt, SagaError> {
        self.emit_compensating();
        self.restore_all().await?;
        let joint = verdict::compensated(&self.receipt);
        self.finish(joint, None)
    }

    /// The next target that ended. When the caller cancels, the others are cancelled.
    async fn next(
        &self,
        running: &mut FuturesUnordered<BoxFuture<'static, Ended>>,
        stop: &CancellationToken,
    ) -> Option<Ended> {
        loop {
            tokio::select! {
                ended = running.next() => return ended,
                () = self.events.cancelled(), if !stop.is_cancelled() => stop.cancel(),
            }
        }
    }

    /// Records the result of a deployment. A cancelled target has neither outcome nor error; one that cannot be
    /// observed has an outcome. Returns the error of a target that ended without an outcome of its own and is not
    /// unobserved.
    fn note(&mut self, id: &TargetId, result: Result<Outcome, TargetError>) -> Option<Failed> {
        let entry = self.receipt.targets.iter_mut().find(|entry| entry.target == *id)?;
        let error = match result {
            Ok(outcome) => {
                entry.outcome = Some(outcome);
                return None;
            }
            Err(error) => error,
        };
        match error.class() {
            ErrorClass::Interrupted => return None,
            ErrorClass::Unavailable => {
                entry.outcome = Some(unobserved(entry, &error));
                return None;
            }
            ErrorClass::Superseded => {
                let changed = false;
                entry.outcome = Some(Outcome { changed, ..ended(entry, Verdict::Superseded, &error) });
            }
            ErrorClass::BadInput
            | ErrorClass::Refused
            | ErrorClass::DigestMismatch
            | ErrorClass::Unexpected => {}
        }
        entry.error = Some(chain(&error));
        Some(Failed { target: id.clone(), error })
    }

    /// Writes the result to the receipt. With `failure` nothing was changed, and that error is the result.
    fn finish(mut self, joint: Joint, failure: Option<Failed>) -> Result<Receipt, SagaError> {
        let Joint { verdict, open } = joint;
        self.receipt.verdict = failure.is_none().then_some(verdict);
        if !open {
            self.receipt.state = ReceiptState::Finished;
        }
        let written = self.write();
        if let Some(Failed { target, error }) = failure {
            return Err(SagaError::Target { target, source: error });
        }
        self.events.emit(SagaEvent::Ended { verdict });
        written.map_err(|source| SagaError::NotNoted { verdict, source })?;
        Ok(self.receipt)
    }

    /// Writes the receipt on this thread: it must be on disk before the next step.
    fn write(&mut self) -> Result<(), crate::document::DocumentError> {
        self.receipt.updated_at = self.time.now();
        self.receipt.write(&self.path)
    }

    /// Writes a step that is not required for a rollback: the next run would detect it again.
    fn write_if_possible(&mut self) {
        if let Err(error) = self.write() {
            self.events.emit(SagaEvent::NotNoted { message: chain(&error) });
        }
    }

    fn emit_noted(&self, resumed: bool) {
        let previous = self.receipt.targets.iter().map(|e| (e.target.clone(), e.previous.clone()));
        self.events.emit(SagaEvent::Noted {
            receipt: self.path.clone(),
            image: self.receipt.image.reference.clone(),
            previous: previous.collect(),
            resumed,
        });
        for entry in &self.receipt.targets {
            if let Some(check) =
                entry.rollback.as_ref().filter(|_| self.receipt.state == ReceiptState::Started)
            {
                let (target, message) = (entry.target.clone(), check.summary());
                self.events.emit(SagaEvent::Target(DeployEvent::Notice { target, message }));
            }
        }
    }

    fn emit_compensating(&self) {
        let targets = self.receipt.targets.iter().map(|entry| entry.target.clone()).collect();
        self.events.emit(SagaEvent::Compensating { failed: None, targets });
    }

    fn interrupted(&self) -> SagaError {
        SagaError::Interrupted { path: Path::to_owned(&self.path), recorded: true }
    }
}

/// The result of deploying all stages.
#[derive(Default)]
struct Deployed {
    /// The error of the first target that returned one.
    failure: Option<Failed>,
    /// The targets whose deployment was started.
    started: BTreeSet<TargetId>,
    /// How the run ends at a gate that is not open.
    gate: Option<Joint>,
}

/// A target and its error.
struct Failed {
    target: TargetId,
    error: TargetError,
}

/// What to do for a rejected gate.
fn on_failure(gates: &[Gate], rejected: &GateReceipt) -> OnFailure {
    gates
        .iter()
        .find(|gate| *gate.name() == rejected.gate)
        .map_or(OnFailure::default(), |gate| gate.on_failure)
}

/// Forwards a target's events until it ends; `stop` cancels it at its next safe point.
fn watch(
    id: TargetId,
    mut work: Operation<DeployEvent, Result<Outcome, TargetError>>,
    events: Emitter<SagaEvent>,
    stop: CancellationToken,
) -> BoxFuture<'static, Ended> {
    Box::pin(async move {
        let mut stopping = false;
        loop {
            tokio::select! {
                () = stop.cancelled(), if !stopping => {
                    stopping = true;
                    work.cancel();
                }
                event = work.next_event() => match event {
                    Some(event) => events.emit(event.into()),
                    None => return (id, work.await),
                },
            }
        }
    })
}

/// Restores a target, unless it already runs the previous revision.
fn restore(
    target: Arc<dyn Target>,
    previous: Revision,
    events: Emitter<SagaEvent>,
    stop: CancellationToken,
) -> BoxFuture<'static, Ended> {
    Box::pin(async move {
        let id = target.id();
        let restored = tokio::select! {
            current = target.current() => current.is_ok_and(|current| is_restored_to(&current, &previous)),
            () = stop.cancelled() => false,
        };
        if restored {
            let seen = target.prove().await.unwrap_or_default();
            (id.clone(), Ok(unchanged(&id, &previous, seen)))
        } else {
            watch(id, target.restore(&previous), events, stop).await
        }
    })
}

/// Whether `previous` runs and no deployment is in progress. Compared by ID or image: Kubernetes gives a restored
/// revision a new number. Scheduled tasks that were deleted in the meantime cannot be restored.
fn is_restored_to(current: &Current, previous: &Revision) -> bool {
    let stable = &current.stable;
    let is_scheduled = previous.schedules.iter().all(|recorded| {
        let mut now = stable.schedules.iter().filter(|now| now.schedule == recorded.schedule);
        now.all(|now| now.definition == recorded.definition)
    });
    let is_same = stable.id == previous.id || stable.image == previous.image;
    current.rolling_out.is_none() && is_same && is_scheduled
}
