//! Follow helm and the workloads of an upgrade concurrently: the first failure, also of a hook, ends the wait.

use std::{sync::Arc, time::Duration};

use bp_artifact::{
    Outcome, ResolvedImage, Verdict,
    config::Workload,
    deploy::{DeployEvent, FailureReport, run::Run},
    error::Classified,
};
use futures_util::{StreamExt, stream::FuturesUnordered};
use kube::{ResourceExt, core::DynamicObject};
use tokio::time::{Instant, sleep_until};

use super::{
    conflicts::{image_in, is_same_image},
    context::Release,
    error::HelmError,
    hooks::{Hook, Hooks},
    manifest::ManifestContainer,
    program::{Program, Running},
};
use crate::{
    api::{
        watch::{Query, watch},
        watch_health::WatchHealth,
    },
    error::Error,
    target::EksTarget,
    workload,
};

/// The result of an upgrade before verification.
pub(super) enum End {
    /// Helm and the workloads succeeded; with the reason if a workload could not be observed.
    Up(Vec<Outcome>, Option<String>),
    /// Helm, a hook or a workload failed; with the failure report of the hook or the workload, if any.
    Failed(Option<FailureReport>, String),
    /// The state can no longer be observed, for this reason.
    Unobserved(String),
}

/// What is followed.
pub(super) struct Followed<'f> {
    pub(super) program: &'f Program,
    /// The running helm; none if only its workloads are followed.
    pub(super) running: Option<Running>,
    /// The containers that get the image.
    pub(super) places: &'f [ManifestContainer],
    /// The hooks that helm runs.
    pub(super) hooks: Option<Arc<Hooks>>,
    pub(super) image: &'f ResolvedImage,
    pub(super) deadline: Instant,
}

impl Release {
    /// Watches helm, its hooks and the workloads concurrently. The first failure ends the wait and stops helm. When a
    /// workload cannot be observed, helm's result decides.
    pub(super) async fn follow(&self, followed: Followed<'_>, run: &Run) -> Result<End, HelmError> {
        let Followed { program, mut running, places, hooks, image, deadline } = followed;
        let mut watching: FuturesUnordered<_> =
            places.iter().map(|place| self.watch(place, image, run, deadline)).collect();
        let hooks = hooks.as_deref();
        let jobs = hooks.into_iter().flat_map(Hooks::jobs);
        let mut hooks: FuturesUnordered<_> =
            jobs.map(|(hook, before)| self.watch_hook(hook, before, run, deadline)).collect();
        let mut outcomes = Vec::new();
        let mut unseen = None;
        let helm_waits = running.is_some();
        loop {
            if running.is_none() && watching.is_empty() {
                return Ok(match unseen {
                    Some(why) if !helm_waits => End::Unobserved(why),
                    unseen => End::Up(outcomes, unseen),
                });
            }
            let helm = async {
                match &mut running {
                    Some(running) => (&mut running.ending).await,
                    None => std::future::pending().await,
                }
            };
            let failed = tokio::select! {
                ended = helm => {
                    let ended = ended?;
                    running = None;
                    (!ended.success).then_some((None, ended.message))
                }
                Some(failed) = hooks.next() => failed,
                Some(watched) = watching.next() => match watched {
                    Ok(Some(outcome)) if matches!(outcome.verdict(), Verdict::Deployed | Verdict::Unproven) => {
                        outcomes.push(outcome);
                        None
                    }
                    Ok(Some(outcome)) if outcome.verdict() == Verdict::Unobserved => {
                        unseen = Some(outcome.detail);
                        None
                    }
                    Ok(Some(outcome)) => Some((outcome.failure, outcome.detail)),
                    Ok(None) => None,
                    Err(HelmError::Rollout(error)) if error.is_refusal() || error.is_retryable() => {
                        unseen = Some(error.without_advice());
                        None
                    }
                    Err(error) => {
                        if let Some(running) = running.take() {
                            running.stop().await;
                        }
                        return Err(error);
                    }
                },
                () = sleep_until(deadline + Duration::from_secs(1)) => Some((None, "the upgrade did not complete before the deadline".into())),
                () = run.cancelled() => {
                    if let Some(running) = running.take() {
                        running.stop().await;
                    }
                    return Err(self.interrupted());
                }
            };
            let Some((report, message)) = failed else { continue };
            if let Some(running) = running.take() {
                running.stop().await;
            }
            // Without a workload's report, the failure may only mean that helm could not observe the cluster.
            let unobserved = unseen.take().or_else(|| program.last_error()).filter(|_| report.is_none());
            return Ok(unobserved.map_or(End::Failed(report, message), End::Unobserved));
        }
    }

    /// Watches one workload from the moment that it has the new image; `None` for kinds without a rollout.
    async fn watch(
        &self,
        place: &ManifestContainer,
        image: &ResolvedImage,
        run: &Run,
        deadline: Instant,
    ) -> Result<Option<Outcome>, HelmError> {
        let Some(workload) = &place.workload else { return Ok(None) };
        let has_image = |object: &DynamicObject| {
            image_in(&object.data, place).filter(|found| is_same_image(found, &place.image))
        };
        let Some(found) = self.appears(workload, place, deadline, has_image).await? else { return Ok(None) };
        // A webhook or a mirror may have replaced the registry.
        let image = match found.parse() {
            Ok(reference) => ResolvedImage { reference, ..image.clone() },
            Err(_) => image.clone(),
        };
        let target = self.target_for(workload, place, left(deadline));
        let shown = self.shown(workload, place);
        let rollout = target.deploy(&image);
        let mut outcome = run.nested_with(rollout, |event| of_part(event, &shown)).await?;
        // The detail of an unobserved outcome contains the workload already.
        if outcome.verdict() != Verdict::Unobserved {
            outcome.detail = format!("{shown}: {}", outcome.verdict());
        }
        Ok(Some(outcome))
    }

    /// Watches the Job of a hook from the moment that helm creates it; `before` is the uid of an earlier one. Returns
    /// its failure.
    async fn watch_hook(
        &self,
        hook: &Hook,
        before: Option<&str>,
        run: &Run,
        deadline: Instant,
    ) -> Option<(Option<FailureReport>, String)> {
        let workload = hook.job()?;
        let is_new = |job: &DynamicObject| (job.uid().as_deref() != before).then_some(());
        // Helm reports what cannot be watched here.
        self.appears(workload, &hook.place, deadline, is_new).await.ok()??;
        let shown = hook.shown();
        let target: EksTarget = self.target_for(workload, &hook.place, left(deadline));
        let outcome = run.nested_with(target.watch(), |event| match of_part(event, &shown) {
            Some(DeployEvent::Failing { target, failure }) => {
                Some(DeployEvent::Failing { target, failure: hook.label(failure) })
            }
            event => event,
        });
        let failure = outcome.await.ok()?.failure?;
        Some((Some(hook.label(failure)), format!("{shown} failed")))
    }

    /// Waits until an object of the manifest is as wanted; `None` when it cannot be watched any more.
    async fn appears<T>(
        &self,
        workload: &Workload,
        place: &ManifestContainer,
        deadline: Instant,
        wanted: impl Fn(&DynamicObject) -> Option<T>,
    ) -> Result<Option<T>, HelmError> {
        let scope = self.scope_of(place.namespace.as_deref());
        let resource = (workload::of(workload.kind).resource)();
        let itself = Query::fields(&format!("metadata.name={}", workload.name));
        let (seen, mut news) = watch(scope.dynamic(&resource), itself, "watch workloads", false);
        let object = scope.object(workload.kind.name(), &workload.name);
        let mut health = WatchHealth::default();
        loop {
            if let Some(found) = seen.state().iter().find_map(|object| wanted(object)) {
                return Ok(Some(found));
            }
            let late = (!health.is_healthy()).then_some(deadline);
            let gives_up_at = health.gives_up_at(self.options.grace).or(late);
            tokio::select! {
                update = news.next() => match update {
                    None => return Ok(None),
                    // Helm itself reports a cluster that cannot be reached.
                    update => drop(health.read(update, &object)),
                },
                () = sleep_until(gives_up_at.unwrap_or_else(Instant::now)), if gives_up_at.is_some() => {
                    let error: Option<Error> = health.take();
                    if let Some(error) = error {
                        return Err(error.into());
                    }
                }
            }
        }
    }
}

/// The time until the deadline, which a target requires to be positive.
fn left(deadline: Instant) -> Duration {
    deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1))
}

/// An event of a part of the release, which has several.
pub(super) fn of_part(mut event: DeployEvent, part: &str) -> Option<DeployEvent> {
    if let DeployEvent::Applied { .. } = event {
        return None;
    }
    let of = |text: &str| format!("{part}: {text}");
    if let DeployEvent::Progress { progress, .. } = &mut event {
        progress.stage = of(&progress.stage);
    }
    if let DeployEvent::Notice { message, .. } = &mut event {
        *message = of(message);
    }
    Some(event)
}
