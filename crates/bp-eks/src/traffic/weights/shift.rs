//! Shift the traffic step by step: set the weights, wait until they are in effect, watch the pods, run the checks.

use std::{sync::Arc, time::Duration};

use bp_artifact::{
    DigestRef, Outcome, ResolvedImage, Verdict,
    check::{CheckVerdict, check_until},
    config::TrafficSteps,
    deploy::{
        Cause, FailureReport, Reporter, Revision, RunningImage,
        run::{Ended, Intent, Run},
    },
};

use k8s_openapi::api::core::v1::Pod;

use super::{
    WeightedPair,
    follow::{End, Follower, Until},
    judge::Expected,
    patch::Patched,
    plan::Plan,
    ramp::{Ramp, RampState},
    share::{Pair, shown},
    split::{Content, Split},
    survey::Destination,
};
use crate::{
    api::{
        retry::{AsApiError, RetryLimit, with_retries},
        symptom::Symptom,
    },
    error::Error,
    rollout::proof,
    traffic::{
        api::may_be_applied,
        error::TrafficError,
        labels::{Labels, format_labels},
    },
};

/// A shift in progress.
pub(super) struct Shift<'s> {
    pub(super) pair: &'s WeightedPair,
    pub(super) plan: Plan,
    /// The latest state of the object that this run has read or written.
    pub(super) split: Split,
    /// The revisions of the two Services.
    pub(super) from: Revision,
    pub(super) to: Revision,
    selector: Labels,
    /// Whether this run has changed anything.
    has_changed: bool,
}

/// How a step ended.
enum StepEnd {
    /// The next step may follow.
    Done,
    /// The pods, the targets, the controller or a check fail.
    Failed(Box<FailureReport>),
    /// The shift ends here.
    Ended(Ended, String),
}

impl WeightedPair {
    /// Shifts the traffic to the Service `to`, or to the one whose pods run `image`.
    pub(super) async fn shift(
        &self,
        to: Option<&str>,
        image: Option<ResolvedImage>,
        steps: &TrafficSteps,
        bake: Duration,
        reporter: &Reporter,
    ) -> Result<Outcome, TrafficError> {
        let split = self.survey(reporter).await?;
        let destination = self.destination(&split, to, image.as_ref()).await?;
        let Destination { to, ready, selector } = destination;
        let plan = self.plan(&split, to, steps)?;
        let image = image.or_else(|| ready.asked.parse::<DigestRef>().ok().map(ResolvedImage::from));
        let proof = match &image {
            Some(image) => proof::against(ready.pods.iter(), &ready.container, image),
            None => proof::of(ready.pods.iter(), &ready.container),
        };
        let to = Revision::new(self.services[to].as_str(), ready.asked.as_str());
        let from = Revision::new(self.services[1 - plan.to].as_str(), "");
        if image.as_ref().is_some_and(|image| proof.judge(image) == Verdict::DigestMismatch) {
            let (object, why) = (format!("service/{}", to.id), Verdict::DigestMismatch.to_string());
            return Err(TrafficError::NotReady { object, why });
        }
        if !plan.remaining.is_empty() {
            self.check_target_access(plan.to).await?;
        }
        let intent = match &image {
            Some(image) => Intent::deploy(image),
            None => Intent::restore(&to),
        };
        let is_done = plan.remaining.is_empty();
        let current = Some(if is_done { to.clone() } else { from.clone() });
        let previous = Some(from.clone());
        let intent = intent.current(current).previous(previous).changes(!is_done);
        let mut run = Run::planned(reporter, intent);
        run.unchanged();
        let has_changed = plan.adopted;
        let shift = Shift { pair: self, plan, split, from, to, selector, has_changed };
        shift.run(run, &ready.container, bake).await
    }
}

impl Shift<'_> {
    async fn run(mut self, mut run: Run, container: &str, bake: Duration) -> Result<Outcome, TrafficError> {
        let before = Expected { weights: self.split.weights(), since: None, is_return: false };
        let mut pods = Vec::new();
        if !self.plan.adopted {
            // The first step is taken only when the Service can serve it.
            let reporter = Reporter::clone(&run);
            let mut follower = self.follow(before, &reporter);
            let end = follower.hold(Until::Settled).await?;
            pods = follower.serving();
            if let Some(error) = self.not_ready(end) {
                return Err(error);
            }
        }
        for step in self.plan.remaining.clone() {
            let reporter = Reporter::clone(&run);
            match self.step(&mut run, step, bake, &reporter).await? {
                (StepEnd::Done, ready) => pods = ready,
                (StepEnd::Failed(report), _) => return self.give_back(run, *report).await,
                (StepEnd::Ended(ended, detail), _) => return Ok(run.ended(ended, detail)),
            }
        }
        if !self.plan.remaining.is_empty() {
            self.close(&run).await;
        }
        run.in_place(Some(self.to.clone()));
        run.detail(format!("service/{} has the traffic of {}", self.to.id, self.pair.object));
        let pods = pods.iter().map(AsRef::as_ref);
        let proof = match run.image() {
            Some(image) => proof::against(pods, container, image),
            None => proof::of(pods, container),
        };
        Ok(run.proven(proof))
    }

    fn follow<'f>(&'f self, expected: Expected, reporter: &'f Reporter) -> Follower<'f> {
        Follower::start(self.pair, self.plan.to, &self.selector, expected, reporter)
    }

    /// The error of a Service that cannot serve the first step; `None` if it can. Nothing was changed.
    fn not_ready(&self, end: End) -> Option<TrafficError> {
        let not_ready =
            |why: String| TrafficError::NotReady { object: format!("service/{}", self.to.id), why };
        match end {
            End::Good => None,
            End::Failed(symptom) => Some(not_ready(symptom.to_string())),
            End::OutOfTime(what) => Some(not_ready(what)),
            End::Superseded(_) => Some(TrafficError::Contended { object: self.pair.object() }),
            End::Gone => Some(Error::NotFound { object: Box::new(self.pair.reference()) }.into()),
            End::Unobserved(error) => Some(error.into()),
        }
    }

    /// Takes one step.
    async fn step(
        &mut self,
        run: &mut Run,
        step: u8,
        bake: Duration,
        reporter: &Reporter,
    ) -> Result<(StepEnd, Vec<Arc<Pod>>), TrafficError> {
        let weights = self.plan.weights(step);
        let since = match self.pair.baseline(run).await {
            Ok(since) => since,
            // Nothing was sent.
            Err(error) if !self.has_changed => return Err(error),
            Err(error) => return Ok((self.not_changed(step, error)?, Vec::new())),
        };
        let ramp = self.ramp(step, run);
        let adopted = self.split.weights() == weights;
        if self.split.ramp.as_ref() != Some(&ramp) {
            self.pair.checkpoint(run)?;
            let limit = RetryLimit::until(bp_artifact::time::deadline(
                self.pair.options.grace.min(self.pair.options.deadline),
            ));
            let set = || self.pair.set(&self.split, &weights, &ramp);
            match with_retries(limit, run, set).await {
                Ok(Patched::Done(object)) => {
                    self.split = self.pair.split(*object)?;
                    run.changed();
                    self.has_changed = true;
                }
                Ok(Patched::Superseded(found)) => {
                    let detail = format!("another client changed the weights to {found}");
                    return Ok((StepEnd::Ended(Ended::Superseded, detail), Vec::new()));
                }
                Err(error) => {
                    self.pair.checkpoint(run)?;
                    return Ok((self.not_changed(step, error)?, Vec::new()));
                }
            }
        }
        let said = format!("{step} % to service/{}: weights {}", self.to.id, shown(&weights));
        if run.outcome().revision.as_ref() == Some(&self.to) {
            run.notice(said);
        } else {
            run.applied(self.to.clone(), said, adopted);
        }
        let mut follower = self.follow(Expected { weights, since, is_return: false }, reporter);
        for until in [Until::Settled, Until::Baked(bake)] {
            let end = follower.hold(until).await?;
            if !matches!(end, End::Good) {
                return Ok((self.early(step, end), Vec::new()));
            }
        }
        let end = self.check(&mut follower, step, run).await?;
        let pods = follower.serving();
        Ok((end, pods))
    }

    /// The record of a step. A resumed step of an Ingress gets a new number: its controller reports the change.
    fn ramp(&self, step: u8, run: &Run) -> Ramp {
        let image =
            run.image().map_or_else(|| self.to.image.clone(), |image| RunningImage::from(&image.reference));
        let ramp = self.plan.ramp(self.pair, step, &image);
        let recorded = self.split.shifting().filter(|recorded| recorded.step == step && self.plan.adopted);
        match (recorded, &self.split.content) {
            (Some(recorded), Content::Actions(_)) => {
                Ramp { resumed: recorded.resumed.wrapping_add(1), ..ramp }
            }
            (Some(recorded), Content::Rules(_)) => Ramp { resumed: recorded.resumed, ..ramp },
            (None, _) => ramp,
        }
    }

    /// A step that could not be taken.
    ///
    /// # Errors
    /// When nothing was changed.
    fn not_changed(&self, step: u8, error: TrafficError) -> Result<StepEnd, TrafficError> {
        let object = self.pair.object();
        if !self.has_changed {
            return may_be_applied(&object, error).map(|detail| StepEnd::Ended(Ended::Unobserved, detail));
        }
        let why = error.as_api_error().map_or_else(|| error.to_string(), Error::without_advice);
        let detail = format!(
            "failed to set the weights of the step {step} %: {why}; {object} keeps the weights {}, rerun the same command \
             to resume",
            shown(&self.split.weights())
        );
        let ended = match error.as_api_error() {
            Some(Error::Conflict { .. }) => Ended::Superseded,
            Some(Error::NotFound { .. }) => Ended::Gone,
            Some(error) if error.is_refusal() => Ended::Unobserved,
            Some(Error::AdmissionRefused { .. }) => Ended::FailedInPlace,
            Some(_) => Ended::Unobserved,
            None => Ended::Superseded,
        };
        Ok(StepEnd::Ended(ended, detail))
    }

    /// The end of a step that was watched.
    fn early(&self, step: u8, end: End) -> StepEnd {
        let kept = format!("{} keeps {step} % at service/{}", self.pair.object, self.to.id);
        match end {
            End::Good => StepEnd::Done,
            End::Failed(symptom) => StepEnd::Failed(Box::new(self.report(symptom))),
            End::Superseded(found) => {
                let detail = format!("another client changed the weights to {found}");
                StepEnd::Ended(Ended::Superseded, detail)
            }
            End::Gone => StepEnd::Ended(Ended::Gone, format!("{} was deleted", self.pair.object)),
            End::OutOfTime(awaited) => StepEnd::Ended(
                Ended::DeadlineExceeded,
                format!("{awaited}; {kept}, rerun the same command to resume"),
            ),
            End::Unobserved(error) => StepEnd::Ended(Ended::Unobserved, error.unobserved(&kept)),
        }
    }

    /// Runs the checks after a step, while the pods are watched.
    async fn check(&self, follower: &mut Follower<'_>, step: u8, run: &Run) -> Result<StepEnd, TrafficError> {
        for check in &self.pair.checks {
            let report = tokio::select! {
                report = check_until(&*check.check, check.wait) => report,
                end = follower.hold(Until::Failure) => return Ok(self.early(step, end?)),
            };
            run.notice(format!("check {report}"));
            if report.verdict == CheckVerdict::Passed {
                continue;
            }
            if let CheckVerdict::Failed { .. } = report.verdict {
                let report = FailureReport::new(Cause::CheckFailed, report.to_string());
                return Ok(StepEnd::Failed(Box::new(report)));
            }
            let detail = format!(
                "check {report}; {} keeps {step} % at service/{}, rerun the same command to resume",
                self.pair.object, self.to.id
            );
            return Ok(StepEnd::Ended(Ended::Unobserved, detail));
        }
        Ok(StepEnd::Done)
    }

    /// The failure report of a step.
    fn report(&self, symptom: Symptom) -> FailureReport {
        let namespace = self.pair.namespace.namespace.as_str();
        let selector = format_labels(&self.selector);
        let report = FailureReport::new(symptom.cause, symptom.message)
            .in_container(symptom.container, symptom.exit_code);
        if symptom.cause == Cause::DeploymentConfiguration {
            let object = &self.pair.object;
            return report.about(Some(object.to_string())).inspect_with([
                "kubectl",
                "-n",
                namespace,
                "describe",
                object.kind(),
                object.name(),
            ]);
        }
        report.inspect_with(["kubectl", "-n", namespace, "describe", "pods", "-l", &selector])
    }

    /// Records that the shift is complete. Without that record, a rerun would only watch the last step again.
    async fn close(&mut self, run: &Run) {
        let Some(ramp) = self.split.ramp.clone() else { return };
        let weights: Vec<Pair> = self.split.weights();
        let done = Ramp { state: RampState::Shifted, ..ramp };
        let limit = RetryLimit::after_change(
            bp_artifact::time::deadline(self.pair.options.deadline),
            self.pair.options.grace,
        );
        let why = match with_retries(limit, run, || self.pair.set(&self.split, &weights, &done)).await {
            Ok(Patched::Done(_)) => return,
            Ok(Patched::Superseded(found)) => format!("another client changed the weights to {found}"),
            Err(error) => error.to_string(),
        };
        run.notice(format!("the end of the shift is not recorded: {why}"));
    }
}
