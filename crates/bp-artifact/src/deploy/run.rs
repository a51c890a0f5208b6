//! Record a deployment to one target while it runs: emit its events and build its outcome.

use std::{
    ops::Deref,
    sync::atomic::{AtomicBool, Ordering},
};

use super::{
    DeployEvent, FailureReport, Outcome, Proof, Reporter, Revision, RollbackCheck, Verdict,
    failure::without_credentials,
};
use crate::{image::ResolvedImage, operation::Operation};

/// The plan of a deployment, known once its target was read.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Intent {
    /// The requested image. `None` when a revision is restored whose image has no digest.
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

    /// A restore of `revision`: the proof is verified against its image, if that has a digest.
    pub fn restore(revision: &Revision) -> Self {
        Intent { image: revision.image.resolved(), current: None, previous: None, changes: true }
    }

    /// Adds the platforms of the image if it is one of `images`: those of a restored revision are not known.
    pub fn platforms_of(mut self, images: &[ResolvedImage]) -> Self {
        if let Some(image) = &mut self.image
            && let Some(known) = images.iter().find(|known| known.digest() == image.digest())
        {
            image.platforms.clone_from(&known.platforms);
        }
        self
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

/// Every verdict except [`Verdict::Deployed`], which requires a [`Proof`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Ended {
    /// [`Verdict::Unproven`]: the platform reports success, but the running digests could not be read.
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
    /// Converts a verdict; `None` for [`Verdict::Deployed`].
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

/// The caller cancelled the operation. Changes already applied remain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cancelled;

/// One deployment to one target, from its plan to its outcome.
///
/// It emits [`DeployEvent::Planned`] when it is created and [`DeployEvent::Finished`] when it is consumed, so that each
/// operation has exactly one of both, and every event has the operation's target. The outcome starts as
/// [`Verdict::Unproven`]; [`Verdict::Deployed`] requires a [`Proof`].
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
    /// Whether a failure was reported, by this operation or by a nested one.
    reported: AtomicBool,
}

/// Gives access to the reporter for progress, notices and log lines.
impl Deref for Run {
    type Target = Reporter;

    fn deref(&self) -> &Reporter {
        &self.reporter
    }
}

impl Run {
    /// Starts a run: emits [`DeployEvent::Planned`].
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

    /// The outcome so far: [`Verdict::Unproven`] until the run ends.
    pub fn outcome(&self) -> &Outcome {
        &self.outcome
    }

    /// The image whose digest has to be proven, if known.
    pub fn image(&self) -> Option<&ResolvedImage> {
        self.image.as_ref()
    }

    /// Checks for cancellation. Call it before every change.
    ///
    /// # Errors
    /// When the caller cancelled the operation.
    pub fn checkpoint(&self) -> Result<(), Cancelled> {
        if self.is_cancelled() { Err(Cancelled) } else { Ok(()) }
    }

    /// Records that the change was applied, or that a deployment in progress is followed.
    pub fn applied(&mut self, revision: Revision, deployment: impl Into<String>, adopted: bool) {
        self.outcome.revision = Some(revision.clone());
        let deployment = deployment.into();
        self.reporter.emit(|target| DeployEvent::Applied { target, revision, deployment, adopted });
    }

    /// Records that the target was changed, by this run or by an earlier one.
    pub fn changed(&mut self) {
        self.outcome.changed = true;
    }

    /// Records that nothing was changed so far, whatever was planned.
    pub fn unchanged(&mut self) {
        self.outcome.changed = false;
    }

    /// Records a failure. It is emitted immediately, before any rollback, and only once: a failure that a nested
    /// operation reported counts.
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

    /// Clears the failure: it is the reason for the restore, not its result.
    pub fn recovered(&mut self) {
        self.outcome.failure = None;
    }

    /// Records that the previous revision is being restored.
    pub fn rolling_back(&mut self, to: Option<Revision>) {
        self.reporter.emit(|target| DeployEvent::RollingBack { target, to });
    }

    /// Records the exit code of the container of a one-off task.
    pub fn exited(&mut self, code: i32) {
        self.outcome.exit_code = Some(code);
    }

    /// Records the outcome of a one-off task that is a part of this deployment.
    pub fn ran(&mut self, task: Outcome) {
        self.outcome.tasks.push(task);
    }

    /// Records the check of the rollback revision, and emits its summary.
    pub fn rollback_checked(&mut self, check: RollbackCheck) {
        self.notice(check.summary());
        self.outcome.rollback = Some(check);
    }

    /// Sets the revision that is in place now.
    pub fn in_place(&mut self, revision: Option<Revision>) {
        self.outcome.revision = revision;
    }

    /// Sets the platform's more specific state.
    pub fn detail(&mut self, detail: impl Into<String>) {
        self.outcome.detail = without_credentials(detail);
    }

    /// Runs another operation as a part of this one: its events are emitted for this operation's target, without
    /// `Planned`, `Applied` and `Finished`. Cancelling this operation cancels the nested one.
    pub async fn nested<R: Send + 'static>(&self, inner: Operation<DeployEvent, R>) -> R {
        let without_change = |event| match event {
            DeployEvent::Applied { .. } => None,
            event => Some(event),
        };
        self.nested_with(inner, without_change).await
    }

    /// As [`nested`](Self::nested), with events mapped by `adapt`, where `None` drops an event. It can keep
    /// [`DeployEvent::Applied`] if the nested operation makes this operation's change.
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

    /// Ends the run as [`Verdict::Deployed`] although nothing runs: the target is scaled to zero, which the caller
    /// allows.
    pub fn scaled_to_zero(mut self, detail: impl Into<String>) -> Outcome {
        self.detail(detail);
        self.finish(Verdict::Deployed)
    }

    /// Ends the run with the observed digests: the only way to [`Verdict::Deployed`] for a target that runs anything.
    pub fn proven(mut self, proof: Proof) -> Outcome {
        let verdict = self.image.as_ref().map_or(Verdict::Unproven, |image| proof.judge(image));
        self.outcome.proof = proof;
        self.finish(verdict)
    }

    /// Records the observed digests without judging them, as after a rollback.
    pub fn observed(&mut self, proof: Proof) {
        self.outcome.proof = proof;
    }

    /// Ends the run without success.
    pub fn ended(mut self, ended: Ended, detail: impl Into<String>) -> Outcome {
        self.detail(detail);
        self.finish(ended.into())
    }

    fn finish(self, verdict: Verdict) -> Outcome {
        let Run { reporter, mut outcome, .. } = self;
        outcome.verdict = verdict;
        // The spans of deployments declare this field.
        tracing::Span::current().record("verdict", tracing::field::display(verdict));
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
        image::PlatformImage,
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
            run.ended(Ended::FailedInPlace, "not rolled back")
        })
    }

    #[tokio::test]
    async fn success_requires_a_proof() {
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
    async fn emits_events_of_a_nested_operation_for_the_outer_target() {
        let work = Operation::spawn(|events| async move {
            let mut run = planned(&events, "outer", Intent::deploy(&image()));
            let staged = run.nested(inner()).await;
            run.failing(staged.failure.unwrap());
            run.ended(Ended::FailedInPlace, "the new slot does not start")
        });
        let (events, outcome) = collect(work).await;
        assert_eq!(kinds(&events), ["planned", "notice", "failing", "rolling-back", "finished"]);
        assert!(events.iter().all(|event| event.target().as_str() == "outer"), "{events:?}");
        assert_eq!(outcome.failure.unwrap().cause, Cause::ImageNotFound);
    }

    #[tokio::test]
    async fn cancels_nested_operations_and_stops_before_a_change() {
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

    #[test]
    fn adds_the_platforms_of_the_same_image_only() {
        let platform = PlatformImage::new("linux/amd64".parse().unwrap(), Digest::sha256("child"));
        let known = ResolvedImage { platforms: vec![platform], ..image() };
        let other = ResolvedImage {
            reference: known.reference.repository().at(Digest::sha256("y")),
            ..known.clone()
        };
        let platforms = |known: &[ResolvedImage]| {
            let intent = Intent::restore(&revision("1")).platforms_of(known);
            intent.image.map(|image| image.platforms)
        };
        assert_eq!(platforms(std::slice::from_ref(&other)), Some(Vec::new()));
        assert_eq!(platforms(&[other, known.clone()]), Some(known.platforms));
    }

    #[tokio::test]
    async fn verifies_a_restored_revision_against_its_own_image() {
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
