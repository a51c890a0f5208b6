//! Record one deployment to one target while it runs: its events under one id, and the outcome under construction.

use std::{
    ops::Deref,
    sync::atomic::{AtomicBool, Ordering},
};

use super::{DeployEvent, FailureReport, Outcome, Proof, Reporter, Revision, Verdict};
use crate::{image::ResolvedImage, operation::Operation};

/// What a deployment is about to do, known once its target was read.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Intent {
    /// The image asked for. `None` when a revision is restored whose image names no digest.
    pub image: Option<ResolvedImage>,
    /// The revision that is in place before the first change.
    pub current: Option<Revision>,
    /// The revision to return to when it fails.
    pub previous: Option<Revision>,
    /// Whether anything has to change.
    pub changes: bool,
}

impl Intent {
    /// A deployment of `image`.
    pub fn deploy(image: &ResolvedImage) -> Self {
        Intent { image: Some(image.clone()), current: None, previous: None, changes: true }
    }

    /// A return to `revision`: its image is what the proof is judged against, when it names a digest.
    pub fn restore(revision: &Revision) -> Self {
        Intent { image: revision.image.resolved(), current: None, previous: None, changes: true }
    }

    /// The revision in place now.
    pub fn current(mut self, current: Option<Revision>) -> Self {
        self.current = current;
        self
    }

    /// The revision to return to when it fails.
    pub fn previous(mut self, previous: Option<Revision>) -> Self {
        self.previous = previous;
        self
    }

    /// Whether anything has to change.
    pub fn changes(mut self, changes: bool) -> Self {
        self.changes = changes;
        self
    }
}

/// Every end but [`Verdict::Deployed`], which comes from a [`Proof`] alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Ended {
    /// [`Verdict::Unproven`]: the platform reports success, and what runs could not be read.
    Unproven,
    /// [`Verdict::DigestMismatch`].
    DigestMismatch,
    /// [`Verdict::RolledBack`].
    RolledBack,
    /// [`Verdict::RollbackFailed`].
    RollbackFailed,
    /// [`Verdict::FailedInPlace`].
    FailedInPlace,
    /// [`Verdict::Stopped`].
    Stopped,
    /// [`Verdict::Superseded`].
    Superseded,
    /// [`Verdict::Gone`].
    Gone,
    /// [`Verdict::AwaitingApproval`].
    AwaitingApproval,
    /// [`Verdict::DeadlineExceeded`].
    DeadlineExceeded,
    /// [`Verdict::Unobserved`].
    Unobserved,
}

impl From<Ended> for Verdict {
    fn from(ended: Ended) -> Self {
        match ended {
            Ended::Unproven => Verdict::Unproven,
            Ended::DigestMismatch => Verdict::DigestMismatch,
            Ended::RolledBack => Verdict::RolledBack,
            Ended::RollbackFailed => Verdict::RollbackFailed,
            Ended::FailedInPlace => Verdict::FailedInPlace,
            Ended::Stopped => Verdict::Stopped,
            Ended::Superseded => Verdict::Superseded,
            Ended::Gone => Verdict::Gone,
            Ended::AwaitingApproval => Verdict::AwaitingApproval,
            Ended::DeadlineExceeded => Verdict::DeadlineExceeded,
            Ended::Unobserved => Verdict::Unobserved,
        }
    }
}

impl Ended {
    /// The end that a verdict is; `None` for [`Verdict::Deployed`].
    pub fn of(verdict: Verdict) -> Option<Self> {
        match verdict {
            Verdict::Deployed => None,
            Verdict::Unproven => Some(Ended::Unproven),
            Verdict::DigestMismatch => Some(Ended::DigestMismatch),
            Verdict::RolledBack => Some(Ended::RolledBack),
            Verdict::RollbackFailed => Some(Ended::RollbackFailed),
            Verdict::FailedInPlace => Some(Ended::FailedInPlace),
            Verdict::Stopped => Some(Ended::Stopped),
            Verdict::Superseded => Some(Ended::Superseded),
            Verdict::Gone => Some(Ended::Gone),
            Verdict::AwaitingApproval => Some(Ended::AwaitingApproval),
            Verdict::DeadlineExceeded => Some(Ended::DeadlineExceeded),
            Verdict::Unobserved => Some(Ended::Unobserved),
        }
    }
}

/// The caller asked the work to stop. What was applied stays applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cancelled;

/// One deployment to one target, from its plan to its outcome.
///
/// It emits [`DeployEvent::Planned`] when it is made and [`DeployEvent::Finished`] when it is consumed, so that each
/// operation has one of both, and every event carries the operation's own target. The outcome starts as
/// [`Verdict::Unproven`]; [`Verdict::Deployed`] comes from a [`Proof`] alone.
///
/// ```
/// use bp_artifact::{Digest, DigestRef, Operation, ResolvedImage, Verdict, deploy::{Observation, Proof, TargetId}};
/// use bp_artifact::deploy::{Reporter, run::{Intent, Run}};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), bp_artifact::error::ParseError> {
/// let digest = Digest::sha256("x");
/// let image = ResolvedImage::from(format!("registry.example.com/web@{digest}").parse::<DigestRef>()?);
/// let work = Operation::spawn(move |events| async move {
///     let reporter = Reporter::new(&events, TargetId::new("ecs/shop/web"));
///     let run = Run::planned(&reporter, Intent::deploy(&image));
///     run.proven(Proof::of([Observation::new("task/1", "web", Some(digest))]))
/// });
/// assert_eq!(work.await.verdict(), Verdict::Deployed);
/// # Ok(()) }
/// ```
#[must_use = "a run has no outcome until it is ended"]
#[derive(Debug)]
pub struct Run {
    reporter: Reporter,
    image: Option<ResolvedImage>,
    outcome: Outcome,
    /// Whether a failure was reported, by this operation or by one inside it.
    reported: AtomicBool,
}

/// What a run reports besides its own steps: progress, notices and log lines.
impl Deref for Run {
    type Target = Reporter;

    fn deref(&self) -> &Reporter {
        &self.reporter
    }
}

impl Run {
    /// Begins: emits [`DeployEvent::Planned`].
    pub fn planned(reporter: &Reporter, intent: Intent) -> Self {
        let Intent { image, current, previous, changes } = intent;
        let asked = image.as_ref().map(|image| image.reference.clone());
        let target = reporter.target().clone();
        let outcome = Outcome {
            image: asked.clone(),
            changed: changes,
            revision: current.clone(),
            previous,
            ..Outcome::unproven(target)
        };
        reporter.emit(|target| DeployEvent::Planned { target, image: asked, current, changes });
        Run { reporter: reporter.clone(), image, outcome, reported: AtomicBool::new(false) }
    }

    /// The outcome as it stands: [`Verdict::Unproven`] until it ends.
    pub fn outcome(&self) -> &Outcome {
        &self.outcome
    }

    /// The image whose digest has to be proven, when one is known.
    pub fn image(&self) -> Option<&ResolvedImage> {
        self.image.as_ref()
    }

    /// To be asked before every change.
    ///
    /// # Errors
    /// When the caller asked the operation to stop.
    pub fn checkpoint(&self) -> Result<(), Cancelled> {
        if self.is_cancelled() { Err(Cancelled) } else { Ok(()) }
    }

    /// The change was made, or a deployment in progress is followed.
    pub fn applied(&mut self, revision: Revision, deployment: impl Into<String>, adopted: bool) {
        self.outcome.revision = Some(revision.clone());
        let deployment = deployment.into();
        self.reporter.emit(|target| DeployEvent::Applied { target, revision, deployment, adopted });
    }

    /// The target differs from what was in place before: a change was sent, or an earlier run made it.
    pub fn changed(&mut self) {
        self.outcome.changed = true;
    }

    /// Nothing was changed so far, whatever was planned.
    pub fn unchanged(&mut self) {
        self.outcome.changed = false;
    }

    /// It fails. Reported at once, before anything is undone, and once: a report of an operation inside this one counts.
    pub fn failing(&mut self, report: FailureReport) {
        self.report(&report);
        self.outcome.failure = Some(report);
    }

    fn report(&self, report: &FailureReport) {
        if !self.reported.swap(true, Ordering::Relaxed) {
            let failure = report.clone();
            self.reporter.emit(|target| DeployEvent::Failing { target, failure });
        }
    }

    /// The failure that was reported is why the revision is restored, not how the restore ended.
    pub fn recovered(&mut self) {
        self.outcome.failure = None;
    }

    /// The previous revision is being restored.
    pub fn rolling_back(&mut self, to: Option<Revision>) {
        self.reporter.emit(|target| DeployEvent::RollingBack { target, to });
    }

    /// The revision that is in place now.
    pub fn in_place(&mut self, revision: Option<Revision>) {
        self.outcome.revision = revision;
    }

    /// The platform's own, finer word for the state.
    pub fn detail(&mut self, detail: impl Into<String>) {
        self.outcome.detail = detail.into();
    }

    /// Runs another operation as a part of this one: its events appear under this operation's target, without its
    /// plan, its change and its end. When this operation is cancelled, so is the other.
    pub async fn nested<R: Send + 'static>(&self, inner: Operation<DeployEvent, R>) -> R {
        let without_change = |event| match event {
            DeployEvent::Applied { .. } => None,
            event => Some(event),
        };
        self.nested_with(inner, without_change).await
    }

    /// The same with events as `adapt` returns them, `None` for one that is left out. Where the change of this operation
    /// is made by the other one, it keeps that one's [`DeployEvent::Applied`].
    pub async fn nested_with<R: Send + 'static>(
        &self,
        mut inner: Operation<DeployEvent, R>,
        mut adapt: impl FnMut(DeployEvent) -> Option<DeployEvent>,
    ) -> R {
        let mut cancelled = false;
        loop {
            tokio::select! {
                event = inner.next_event() => match event {
                    Some(event) => adapt(event).into_iter().for_each(|event| self.forward(event)),
                    None => return inner.await,
                },
                () = self.cancelled(), if !cancelled => {
                    cancelled = true;
                    inner.cancel();
                }
            }
        }
    }

    fn forward(&self, event: DeployEvent) {
        match event {
            DeployEvent::Planned { .. } | DeployEvent::Finished { .. } => {}
            DeployEvent::Applied { revision, deployment, adopted, .. } => {
                self.reporter.emit(|target| DeployEvent::Applied { target, revision, deployment, adopted });
            }
            DeployEvent::Progress { progress, .. } => self.progress(progress),
            DeployEvent::Notice { message, .. } => self.notice(message),
            DeployEvent::Log { source, line, at, left_out, .. } => self.log(source, line, at, left_out),
            DeployEvent::Failing { failure, .. } => self.report(&failure),
            DeployEvent::RollingBack { to, .. } => {
                self.reporter.emit(|target| DeployEvent::RollingBack { target, to });
            }
        }
    }

    /// Ends with what was seen running: the only way to [`Verdict::Deployed`].
    pub fn proven(mut self, proof: Proof) -> Outcome {
        let verdict = self.image.as_ref().map_or(Verdict::Unproven, |image| proof.judge(image));
        self.outcome.proof = proof;
        self.finish(verdict)
    }

    /// What was seen running, where it informs and does not decide: after a rollback.
    pub fn observed(&mut self, proof: Proof) {
        self.outcome.proof = proof;
    }

    /// Ends without success.
    pub fn ended(mut self, ended: Ended, detail: impl Into<String>) -> Outcome {
        self.detail(detail);
        self.finish(ended.into())
    }

    fn finish(self, verdict: Verdict) -> Outcome {
        let Run { reporter, mut outcome, .. } = self;
        outcome.verdict = verdict;
        let finished = Box::new(outcome.clone());
        reporter.emit(|_| DeployEvent::Finished { outcome: finished });
        outcome
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        deploy::{Cause, Observation, TargetId},
        digest::Digest,
        operation::Emitter,
        reference::DigestRef,
    };

    fn planned(events: &Emitter<DeployEvent>, target: &str, intent: Intent) -> Run {
        Run::planned(&Reporter::new(events, TargetId::new(target)), intent)
    }

    fn image() -> ResolvedImage {
        let image = format!("registry.example.com/web@{}", Digest::sha256("x"));
        ResolvedImage::from(image.parse::<DigestRef>().unwrap())
    }

    fn revision(id: &str) -> Revision {
        Revision::new(id, &image().reference)
    }

    fn kinds(events: &[DeployEvent]) -> Vec<String> {
        let kind =
            |event: &DeployEvent| serde_json::to_value(event).unwrap()["event"].as_str().unwrap().to_owned();
        events.iter().map(kind).collect()
    }

    async fn collect(mut work: Operation<DeployEvent, Outcome>) -> (Vec<DeployEvent>, Outcome) {
        let mut events = Vec::new();
        while let Some(event) = work.next_event().await {
            events.push(event);
        }
        (events, work.await)
    }

    fn inner() -> Operation<DeployEvent, Outcome> {
        Operation::spawn(|events| async move {
            let mut run = planned(&events, "inner", Intent::deploy(&image()));
            run.applied(revision("2"), "generation 2", false);
            run.notice("pulling");
            run.failing(FailureReport::new(Cause::ImageNotFound, "no such image"));
            run.rolling_back(None);
            run.ended(Ended::FailedInPlace, "left as it is")
        })
    }

    #[tokio::test]
    async fn success_comes_from_a_proof_alone() {
        for (seen, verdict) in [
            (vec![], Verdict::Unproven),
            (vec![Observation::new("task/1", "web", None)], Verdict::Unproven),
            (vec![Observation::new("task/1", "web", Some(Digest::sha256("x")))], Verdict::Deployed),
        ] {
            let work = Operation::spawn(|events| async move {
                let run = planned(&events, "outer", Intent::deploy(&image()));
                assert_eq!(run.outcome().verdict, Verdict::Unproven);
                run.proven(Proof::of(seen))
            });
            assert_eq!(work.await.verdict, verdict);
        }
    }

    #[tokio::test]
    async fn a_nested_operation_appears_under_the_id_of_the_outer_one() {
        let work = Operation::spawn(|events| async move {
            let mut run = planned(&events, "outer", Intent::deploy(&image()));
            let staged = run.nested(inner()).await;
            run.failing(staged.failure.unwrap());
            run.ended(Ended::FailedInPlace, "the new slot does not come up")
        });
        let (events, outcome) = collect(work).await;
        assert_eq!(kinds(&events), ["planned", "notice", "failing", "rolling-back", "finished"]);
        assert!(events.iter().all(|event| event.target().as_str() == "outer"), "{events:?}");
        assert_eq!(outcome.failure.unwrap().cause, Cause::ImageNotFound);
    }

    #[tokio::test]
    async fn cancelling_reaches_what_is_nested_and_stops_before_a_change() {
        let waiting: Operation<DeployEvent, ()> =
            Operation::spawn(|events| async move { events.cancelled().await });
        let work = Operation::spawn(|events| async move {
            let run = planned(&events, "outer", Intent::deploy(&image()));
            run.nested(waiting).await;
            run.checkpoint()
        });
        work.cancel();
        assert_eq!(work.await, Err(Cancelled));
    }

    #[tokio::test]
    async fn a_restored_revision_is_judged_by_its_own_image() {
        let tagged = Revision::new("1", "registry.example.com/web:1");
        for (to, verdict) in [(revision("1"), Verdict::Deployed), (tagged, Verdict::Unproven)] {
            let work = Operation::spawn(move |events| async move {
                let run = planned(&events, "outer", Intent::restore(&to).changes(false));
                run.proven(Proof::of([Observation::new("task/1", "web", Some(Digest::sha256("x")))]))
            });
            let outcome: Outcome = work.await;
            assert_eq!((outcome.verdict, outcome.changed), (verdict, false));
        }
    }
}
