//! Upgrade a Helm release: acquire the Lease, recover, dry run, upgrade and watch, verify; roll back on failure.

use std::time::Duration;

use bp_artifact::{
    Outcome, ResolvedImage, Verdict,
    deploy::{
        Cause, DeployEvent, FailureReport, OnFailure, Proof, Reporter, Revision,
        run::{Ended, Intent, Run},
    },
    error::Classified,
};
use futures_util::{StreamExt, stream::FuturesUnordered};
use kube::api::DynamicObject;
use serde::Deserialize;
use tokio::time::{Instant, sleep_until};

use super::{
    context::Release,
    error::HelmError,
    lease::HeldLease,
    manifest::{ManifestContainer, parse_manifest},
    program::{Program, Running, args},
    proxy::Proxy,
    recover::deployed,
};
use crate::{
    api::{
        watch::{Query, watch},
        watch_health::WatchHealth,
    },
    ending::Ending,
    workload,
};

/// The result of the dry run.
struct Plan {
    manifest: String,
    /// The containers that get the image.
    places: Vec<ManifestContainer>,
}

/// The result of an upgrade before verification.
enum End {
    /// Helm and the workloads succeeded; with the reason if a workload could not be observed.
    Up(Vec<Outcome>, Option<String>),
    /// Helm or a workload failed; with the workload's failure report, if any.
    Failed(Option<FailureReport>, String),
    /// The state can no longer be observed, for this reason.
    Unobserved(String),
}

/// The state of an operation that outlives the work, which is dropped when the Lease is lost.
#[derive(Default)]
pub(super) struct ReleaseRun {
    pub(super) run: Option<Run>,
    /// Whether helm was started.
    pub(super) started: bool,
}

impl Release {
    pub(super) async fn upgrade(
        &self,
        image: &ResolvedImage,
        reporter: &Reporter,
    ) -> Result<Outcome, HelmError> {
        let mut held = self.acquire(reporter).await?;
        let (mut validity, mut release_run) = (held.validity(), ReleaseRun::default());
        let ended = tokio::select! {
            ended = self.upgrade_held(&mut held, image, reporter, &mut release_run) => ended,
            why = validity.lost() => self.lost(&release_run, why),
        };
        self.close(&held, release_run, ended).await
    }

    /// Releases the Lease and closes the operation.
    pub(super) async fn close(
        &self,
        held: &HeldLease,
        release_run: ReleaseRun,
        ended: Result<Ending, HelmError>,
    ) -> Result<Outcome, HelmError> {
        held.release().await;
        let ending = ended?;
        Ok(ending.close(release_run.run.ok_or_else(|| self.lease_lost())?))
    }

    /// The ending after the Lease is lost. When renewal failed after helm was started, the outcome is unobserved.
    pub(super) fn lost(&self, release_run: &ReleaseRun, why: Option<String>) -> Result<Ending, HelmError> {
        let started = release_run.run.as_ref().filter(|_| release_run.started);
        let (run, why) = started.zip(why).ok_or_else(|| self.lease_lost())?;
        Ok(self.unobserved(run, &format!("helm was stopped because its lease could not be renewed: {why}")))
    }

    fn lease_lost(&self) -> HelmError {
        HelmError::LeaseLost { release: self.release.clone() }
    }

    pub(super) fn unobserved(&self, run: &Run, why: &str) -> Ending {
        let revision =
            run.outcome().revision.as_ref().map(|revision| revision.id.clone()).unwrap_or_default();
        let detail = format!(
            "revision {revision} of the release {} was started and continues, but can no longer be observed: {why}; rerun \
            the same command to resume",
            self.release
        );
        Ending::Ended(Ended::Unobserved, detail)
    }

    pub(super) async fn acquire(&self, reporter: &Reporter) -> Result<HeldLease, HelmError> {
        let holder = self.holder();
        tokio::select! {
            held = self.lease_config().acquire(&holder) => held,
            () = reporter.cancelled() => Err(self.interrupted()),
        }
    }

    pub(super) fn interrupted(&self) -> HelmError {
        HelmError::Interrupted { release: self.release.clone() }
    }

    /// Helm, with access to the cluster while the Lease is held.
    pub(super) async fn program(&self, held: Option<&HeldLease>) -> Result<Program, HelmError> {
        let proxy = Proxy::start(self.scope.client.clone(), held.map(HeldLease::validity)).await?;
        Program::new(self.program.clone(), self.scope.namespace.clone(), proxy)
    }

    async fn upgrade_held(
        &self,
        held: &mut HeldLease,
        image: &ResolvedImage,
        reporter: &Reporter,
        release_run: &mut ReleaseRun,
    ) -> Result<Ending, HelmError> {
        let deadline = bp_artifact::time::deadline(self.options.deadline);
        let helm = self.program(Some(held)).await?;
        helm.check().await?;
        let history = self.recover(&helm, held, reporter).await?;
        let before = match deployed(&history) {
            Some(revision) => Some((revision.revision, self.manifest(&helm, Some(revision.revision)).await?)),
            None => None,
        };
        let plan = self.plan(&helm, image).await?;
        let previous =
            before.as_ref().map(|(number, manifest)| revision(*number, manifest, &plan)).transpose()?;
        let last = history.last().map_or(0, |last| last.revision);
        let in_place = before
            .as_ref()
            .is_some_and(|(number, manifest)| *number == last && manifest.trim() == plan.manifest.trim());
        let intent = Intent::deploy(image).current(previous.clone()).previous(previous).changes(!in_place);
        let run = release_run.run.insert(Run::planned(reporter, intent));
        let number = if in_place { last } else { last + 1 };
        let ours = Revision::new(number.to_string(), &image.reference);
        run.in_place(Some(ours.clone()));
        run.checkpoint().map_err(|_| self.interrupted())?;
        let running = if in_place {
            None
        } else {
            held.record_revision(number).await?;
            Some(helm.start(&self.arguments(&helm, image, false)?)?)
        };
        release_run.started = true;
        run.applied(ours, format!("helm revision {number}"), in_place);
        match self.follow(running, &helm, &plan.places, image, run, deadline).await? {
            End::Up(outcomes, unseen) => self.proven(run, outcomes, unseen, &helm, image).await,
            End::Unobserved(why) => Ok(self.unobserved(run, &why)),
            End::Failed(report, message) => {
                let history = match (self.history(&helm).await, helm.last_error()) {
                    (Ok(history), _) => history,
                    (Err(_), Some(why)) => return Ok(self.unobserved(run, &why)),
                    (Err(error), None) => return Err(error),
                };
                // Helm failed before it created a revision: nothing has changed.
                if history.last().is_none_or(|last| last.revision < number) {
                    return Err(HelmError::Failed { verb: "upgrade", message });
                }
                let report = match report {
                    // The workload's watch has reported it.
                    Some(report) => report,
                    None => self.evidence(&message, &plan.places, run).await,
                };
                run.failing(report);
                self.roll_back(run, message, &helm, held, number).await
            }
        }
    }

    /// Runs the dry run. Fails when no container of the chart would run the digest.
    async fn plan(&self, helm: &Program, image: &ResolvedImage) -> Result<Plan, HelmError> {
        #[derive(Deserialize)]
        struct Release {
            manifest: String,
        }
        let verb = "upgrade --dry-run";
        let release: Release = helm.json(verb, &self.arguments(helm, image, true)?).await?;
        let all = parse_manifest(&release.manifest, verb)?;
        let (places, others): (Vec<ManifestContainer>, Vec<ManifestContainer>) =
            all.into_iter().partition(|place| place.is(image.digest()));
        if places.is_empty() {
            return Err(HelmError::DigestIgnored {
                release: self.release.clone(),
                key: self.keys.digest.clone(),
                digest: image.digest().to_string(),
                images: others.into_iter().map(|place| place.image).collect(),
            });
        }
        Ok(Plan { manifest: release.manifest, places })
    }

    fn arguments(&self, helm: &Program, image: &ResolvedImage, dry: bool) -> Result<Vec<String>, HelmError> {
        let Some(chart) = &self.chart else {
            return Err(HelmError::NoChart { release: self.release.clone() });
        };
        let mut arguments = args(["upgrade", &self.release, chart, "--install"]);
        for file in &self.values_files {
            arguments.extend(["--values".to_owned(), file.display().to_string()]);
        }
        let values = helm.values(&self.values_for(image))?;
        arguments.extend(["--values".to_owned(), values.display().to_string()]);
        arguments.extend(if dry {
            args(["--dry-run=server", "--output", "json"])
        } else {
            let timeout = format!("--timeout={}s", self.options.deadline.as_secs().clamp(1, u32::MAX.into()));
            args(["--wait=watcher", &timeout, "--hide-notes"])
        });
        Ok(arguments)
    }

    pub(super) async fn manifest(&self, helm: &Program, revision: Option<u32>) -> Result<String, HelmError> {
        let mut arguments = args(["get", "manifest", &self.release]);
        arguments.extend(revision.map(|revision| format!("--revision={revision}")));
        let ended = helm.run(&arguments).await?;
        if ended.success {
            Ok(String::from_utf8_lossy(&ended.stdout).into_owned())
        } else {
            Err(HelmError::Failed { verb: "get manifest", message: ended.message })
        }
    }

    /// Watches helm and the workloads concurrently. The first failure ends the wait and stops helm. When a workload
    /// cannot be observed, helm's result decides.
    async fn follow(
        &self,
        mut running: Option<Running>,
        program: &Program,
        places: &[ManifestContainer],
        image: &ResolvedImage,
        run: &Run,
        deadline: Instant,
    ) -> Result<End, HelmError> {
        let mut watching: FuturesUnordered<_> =
            places.iter().map(|place| self.watch(place, image, run, deadline)).collect();
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
        let resource = (workload::of(workload.kind).resource)();
        let api = self.scope.dynamic(&resource);
        let itself = Query::fields(&format!("metadata.name={}", workload.name));
        let (seen, mut news) = watch(api, itself, "watch workloads", false);
        let object = self.scope.object(workload.kind.name(), &workload.name);
        let mut health = WatchHealth::default();
        while !seen.state().iter().any(|object| has_image(object, place)) {
            let late = (!health.is_healthy()).then_some(deadline);
            let gives_up_at = health.gives_up_at(self.options.grace).or(late);
            tokio::select! {
                update = news.next() => match update {
                    None => return Ok(None),
                    // Helm itself reports a cluster that cannot be reached.
                    update => drop(health.read(update, &object)),
                },
                () = sleep_until(gives_up_at.unwrap_or_else(Instant::now)), if gives_up_at.is_some() => {
                    if let Some(error) = health.take() {
                        return Err(error.into());
                    }
                }
            }
        }
        let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        let rollout = self.target_for(workload, &place.container, left).deploy(image);
        // A release may have several workloads.
        let of = |text: &str| format!("{workload}: {text}");
        let outcome = run.nested_with(rollout, |mut event| {
            if let DeployEvent::Applied { .. } = event {
                return None;
            }
            if let DeployEvent::Progress { progress, .. } = &mut event {
                progress.stage = of(&progress.stage);
            }
            if let DeployEvent::Notice { message, .. } = &mut event {
                *message = of(message);
            }
            Some(event)
        });
        let mut outcome = outcome.await?;
        // The detail of an unobserved outcome contains the workload already.
        if outcome.verdict() != Verdict::Unobserved {
            outcome.detail = format!("{workload}: {}", outcome.verdict());
        }
        Ok(Some(outcome))
    }

    /// Verifies that the release's manifest has the digest and the pods run it.
    async fn proven(
        &self,
        run: &mut Run,
        outcomes: Vec<Outcome>,
        unseen: Option<String>,
        helm: &Program,
        image: &ResolvedImage,
    ) -> Result<Ending, HelmError> {
        let manifest = self.manifest(helm, None).await;
        let last_error = helm.last_error().filter(|_| manifest.is_err());
        if let Some(why) = unseen.or(last_error) {
            let detail = format!("helm reports success, but the images of the pods could not be read: {why}");
            return Ok(Ending::Ended(Ended::Unproven, detail));
        }
        let places = parse_manifest(&manifest?, "get manifest")?;
        if !places.iter().any(|place| place.is(image.digest())) {
            let detail = format!(
                "the chart ignores {}: the release's manifest has a different image",
                self.keys.digest
            );
            return Ok(Ending::Ended(Ended::DigestMismatch, detail));
        }
        // The first workload that is not verified decides.
        let worse = outcomes.iter().find_map(|outcome| Ended::of(outcome.proof.judge(image)));
        let proof = Proof::of(outcomes.into_iter().flat_map(|outcome| outcome.proof.observations));
        Ok(match worse {
            Some(worse) => {
                run.observed(proof);
                Ending::Ended(worse, String::new())
            }
            None => Ending::Proven(proof, String::new()),
        })
    }

    /// The failure report when no workload's watch has reported one.
    async fn evidence(
        &self,
        message: &str,
        places: &[ManifestContainer],
        reporter: &Reporter,
    ) -> FailureReport {
        for place in places {
            let Some(workload) = &place.workload else { continue };
            let target = self.target(workload, &place.container);
            if let Ok(Some(report)) = target.0.diagnose(reporter).await {
                return report;
            }
        }
        let report = FailureReport::new(Cause::Unknown, format!("helm: {message}"));
        report.inspect_with(["helm", "-n", &self.scope.namespace, "status", &self.release])
    }

    /// Rolls back to the revision that was deployed before; `number` is the failed revision.
    async fn roll_back(
        &self,
        run: &mut Run,
        message: String,
        helm: &Program,
        held: &mut HeldLease,
        number: u32,
    ) -> Result<Ending, HelmError> {
        if self.options.on_failure == OnFailure::Leave {
            return Ok(Ending::Ended(Ended::FailedInPlace, message));
        }
        let Some(previous) = run.outcome().previous.clone() else {
            let detail = "there is no revision to roll back to: this is the first one".to_owned();
            return Ok(Ending::Ended(Ended::FailedInPlace, detail));
        };
        run.checkpoint().map_err(|_| self.interrupted())?;
        run.rolling_back(Some(previous.clone()));
        held.record_revision(number + 1).await?;
        let ended = self.roll_back_to(helm, &previous.id, run).await?;
        let back = Revision::new((number + 1).to_string(), previous.image);
        Ok(match (ended, helm.last_error()) {
            (Ok(()), _) => {
                run.in_place(Some(back));
                Ending::Ended(Ended::RolledBack, format!("revision {} runs again", previous.id))
            }
            (Err(_), Some(why)) => {
                run.in_place(Some(back));
                self.unobserved(run, &why)
            }
            (Err(detail), None) => Ending::Ended(Ended::RollbackFailed, detail),
        })
    }
}

/// Whether the workload has the new image.
fn has_image(object: &DynamicObject, place: &ManifestContainer) -> bool {
    let pod = &object.data["spec"]["template"]["spec"];
    let lists =
        ["containers", "initContainers"].map(|list| pod[list].as_array().cloned().unwrap_or_default());
    lists
        .iter()
        .flatten()
        .any(|c| c["name"] == place.container.as_str() && c["image"] == place.image.as_str())
}

/// A revision of the release, with its image in the container that gets the new image.
fn revision(number: u32, manifest: &str, plan: &Plan) -> Result<Revision, HelmError> {
    let all = parse_manifest(manifest, "get manifest")?;
    let ours = |place: &&ManifestContainer| {
        plan.places.iter().any(|p| p.workload == place.workload && p.container == place.container)
    };
    let image = all.iter().find(ours).map(|place| place.image.clone()).unwrap_or_default();
    Ok(Revision::new(number.to_string(), image))
}
