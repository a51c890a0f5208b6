//! The order of things: lease, free, dry run, upgrade and watch, check; and back when it fails.

use std::{sync::OnceLock, time::Duration};

use bp_artifact::{
    Cause, Classified, DeployEvent, Emitter, FailureReport, OnFailure, Outcome, Progress, Proof,
    ResolvedImage, Revision, Verdict,
};
use futures_util::{StreamExt, stream::FuturesUnordered};
use kube::{
    Api,
    api::{ApiResource, DynamicObject, GroupVersionKind},
};
use serde::Deserialize;
use tokio::time::{Instant, sleep_until};

use super::{
    error::HelmError,
    lease::Held,
    manifest::{Placed, placed},
    program::{Program, Running, words},
    proxy::Proxy,
    recover::deployed,
    release::Inner,
};
use crate::rollout::{
    ObjectRef,
    sight::Sight,
    watch::{Query, watch},
};

type Events = Emitter<DeployEvent>;

/// What an upgrade would do.
struct Plan {
    manifest: String,
    /// Where the image goes.
    places: Vec<Placed>,
}

/// How an upgrade went, before it is judged.
enum End {
    /// Helm is content, and so are the workloads; with the reason if one of them could not be observed.
    Up(Vec<Outcome>, Option<String>),
    /// Something failed; with the report if a workload told why.
    Failed(Option<FailureReport>, String),
    /// Nothing can be seen of it any more, for this reason.
    Unobserved(String),
}

/// What was begun, as its outcome if nothing more is seen of it.
pub(super) type Begun = OnceLock<Outcome>;

impl Inner {
    pub(super) async fn upgrade(&self, image: &ResolvedImage, events: &Events) -> Result<Outcome, HelmError> {
        let mut held = self.take(events).await?;
        let (mut validity, begun) = (held.validity(), Begun::new());
        let ended = tokio::select! {
            ended = self.upgrade_held(&mut held, image, events, &begun) => ended,
            why = validity.lost() => self.lost(begun, why),
        };
        held.release().await;
        let outcome = ended?;
        events.emit(DeployEvent::Finished { outcome: Box::new(outcome.clone()) });
        Ok(outcome)
    }

    /// The end of work whose Lease is lost. Where it only could not be renewed, what was begun goes on unobserved.
    pub(super) fn lost(&self, begun: Begun, why: Option<String>) -> Result<Outcome, HelmError> {
        let lost = || HelmError::LeaseLost { release: self.release.clone() };
        let (begun, why) = begun.into_inner().zip(why).ok_or_else(lost)?;
        Ok(self.unobserved(begun, &format!("its lease could not be renewed, so helm was stopped: {why}")))
    }

    pub(super) fn unobserved(&self, begun: Outcome, why: &str) -> Outcome {
        let revision = begun.revision.as_ref().map(|revision| revision.id.clone()).unwrap_or_default();
        let detail = format!(
            "revision {revision} of the release {} was begun, and what it applied continues; it can no longer be observed: \
             {why}; run the same command to resume",
            self.release
        );
        Outcome { verdict: Verdict::Unobserved, detail, ..begun }
    }

    pub(super) async fn take(&self, events: &Events) -> Result<Held, HelmError> {
        let holder = self.holder();
        tokio::select! {
            held = self.terms().take(&holder) => held,
            () = events.cancelled() => Err(self.interrupted()),
        }
    }

    pub(super) fn interrupted(&self) -> HelmError {
        HelmError::Interrupted { release: self.release.clone() }
    }

    /// Helm, with a way to the cluster for as long as the Lease is held.
    pub(super) async fn program(&self, held: Option<&Held>) -> Result<Program, HelmError> {
        let proxy = Proxy::start(self.client.clone(), held.map(Held::validity)).await?;
        Program::new(self.program.clone(), self.namespace.clone(), proxy)
    }

    async fn upgrade_held(
        &self,
        held: &mut Held,
        image: &ResolvedImage,
        events: &Events,
        begun: &Begun,
    ) -> Result<Outcome, HelmError> {
        let deadline = bp_artifact::time::deadline(self.options.deadline);
        let helm = self.program(Some(held)).await?;
        helm.check().await?;
        let history = self.free(&helm, held, events).await?;
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
        events.emit(DeployEvent::Planned {
            target: self.id.clone(),
            image: Some(image.reference.clone()),
            current: previous.clone(),
            changes: !in_place,
        });
        let number = if in_place { last } else { last + 1 };
        let ours = Revision::new(number.to_string(), &image.reference);
        let base = Outcome {
            target: self.id.clone(),
            verdict: Verdict::FailedInPlace,
            image: Some(image.reference.clone()),
            changed: !in_place,
            revision: Some(ours.clone()),
            previous,
            failure: None,
            proof: Proof::default(),
            detail: String::new(),
        };
        if events.is_cancelled() {
            return Err(self.interrupted());
        }
        let running = match in_place {
            true => None,
            false => {
                held.note(number).await?;
                Some(helm.start(&self.arguments(&helm, image, false)?)?)
            }
        };
        begun.get_or_init(|| base.clone());
        events.emit(DeployEvent::Applied {
            target: self.id.clone(),
            revision: ours,
            deployment: format!("helm revision {number}"),
            adopted: in_place,
        });
        let end = self.follow(running, &helm, &plan.places, image, events, deadline).await?;
        match end {
            End::Up(outcomes, unseen) => self.proven(base, outcomes, unseen, &helm, image).await,
            End::Unobserved(why) => Ok(self.unobserved(base, &why)),
            End::Failed(report, message) => {
                let history = match (self.history(&helm).await, helm.trouble()) {
                    (Ok(history), _) => history,
                    (Err(_), Some(why)) => return Ok(self.unobserved(base, &why)),
                    (Err(error), None) => return Err(error),
                };
                // Refused before helm wrote anything down: nothing has changed.
                if history.last().is_none_or(|last| last.revision < number) {
                    return Err(HelmError::Failed { verb: "upgrade", message });
                }
                let failed = self.evidence(base, report, message, &plan.places, events).await;
                self.go_back(failed, &helm, held, number, events).await
            }
        }
    }

    /// What would be applied. A chart that would not run the digest anywhere is refused.
    async fn plan(&self, helm: &Program, image: &ResolvedImage) -> Result<Plan, HelmError> {
        #[derive(Deserialize)]
        struct Release {
            manifest: String,
        }
        let verb = "upgrade --dry-run";
        let release: Release = helm.json(verb, &self.arguments(helm, image, true)?).await?;
        let all = placed(&release.manifest, verb)?;
        let (places, others): (Vec<Placed>, Vec<Placed>) =
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
        let mut arguments = words(["upgrade", &self.release, chart, "--install"]);
        for file in &self.values_files {
            arguments.extend(["--values".to_owned(), file.display().to_string()]);
        }
        let values = helm.values(&self.values_for(image))?;
        arguments.extend(["--values".to_owned(), values.display().to_string()]);
        arguments.extend(match dry {
            true => words(["--dry-run=server", "--output", "json"]),
            false => {
                let timeout =
                    format!("--timeout={}s", self.options.deadline.as_secs().clamp(1, u32::MAX.into()));
                words(["--wait=watcher", &timeout, "--hide-notes"])
            }
        });
        Ok(arguments)
    }

    pub(super) async fn manifest(&self, helm: &Program, revision: Option<u32>) -> Result<String, HelmError> {
        let mut arguments = words(["get", "manifest", &self.release]);
        arguments.extend(revision.map(|revision| format!("--revision={revision}")));
        let ended = helm.run(&arguments).await?;
        match ended.success {
            true => Ok(String::from_utf8_lossy(&ended.stdout).into_owned()),
            false => Err(HelmError::Failed { verb: "get manifest", message: ended.message }),
        }
    }

    /// Watches helm and the workloads side by side. Whichever fails first ends it; helm is stopped then. A workload that
    /// cannot be observed decides nothing: helm is waited for.
    async fn follow(
        &self,
        mut running: Option<Running>,
        program: &Program,
        places: &[Placed],
        image: &ResolvedImage,
        events: &Events,
        deadline: Instant,
    ) -> Result<End, HelmError> {
        let mut watching: FuturesUnordered<_> =
            places.iter().map(|place| self.watch(place, image, events, deadline)).collect();
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
                    Ok(Some(outcome)) if matches!(outcome.verdict, Verdict::Deployed | Verdict::Unproven) => {
                        outcomes.push(outcome);
                        None
                    }
                    Ok(Some(outcome)) if outcome.verdict == Verdict::Unobserved => {
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
                () = sleep_until(deadline + Duration::from_secs(1)) => Some((None, "it is not done by the deadline".into())),
                () = events.cancelled() => {
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
            // Without a report from a workload, all that is known is that helm could not see it either.
            let blind = unseen.take().or_else(|| program.trouble()).filter(|_| report.is_none());
            return Ok(blind.map_or(End::Failed(report, message), End::Unobserved));
        }
    }

    /// Watches one workload from the moment that helm has given it the image; `None` for what rolls nothing out.
    async fn watch(
        &self,
        place: &Placed,
        image: &ResolvedImage,
        events: &Events,
        deadline: Instant,
    ) -> Result<Option<Outcome>, HelmError> {
        let Some(workload) = &place.workload else { return Ok(None) };
        let kind = match workload.kind {
            bp_artifact::WorkloadKind::Deployment => "Deployment",
            bp_artifact::WorkloadKind::StatefulSet => "StatefulSet",
            bp_artifact::WorkloadKind::DaemonSet => "DaemonSet",
            _ => return Ok(None),
        };
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("apps", "v1", kind));
        let api: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), &self.namespace, &resource);
        let itself = Query::fields(&format!("metadata.name={}", workload.name));
        let (seen, mut news) = watch(api, itself, "watch workloads", false);
        let (object, mut sight) =
            (ObjectRef::of_workload(&self.cluster, &self.namespace, workload), Sight::default());
        while !seen.state().iter().any(|object| carries(object, place)) {
            let late = (!sight.is_clear()).then_some(deadline);
            let blind = sight.ends(self.options.grace).or(late);
            tokio::select! {
                told = news.next() => match told {
                    None => return Ok(None),
                    // Helm has its own say on a cluster that cannot be reached.
                    told => drop(sight.read(told, &object)),
                },
                () = sleep_until(blind.unwrap_or_else(Instant::now)), if blind.is_some() => {
                    if let Some(error) = sight.take() {
                        return Err(error.into());
                    }
                }
            }
        }
        let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        let mut rollout = self.target_for(workload, &place.container, left).deploy(image);
        while let Some(event) = rollout.next_event().await {
            events.emit(match event {
                DeployEvent::Planned { .. } | DeployEvent::Applied { .. } | DeployEvent::Finished { .. } => {
                    continue;
                }
                // The release may have several.
                DeployEvent::Progress { target, progress } => {
                    let stage = format!("{workload}: {}", progress.stage);
                    DeployEvent::Progress { target, progress: Progress { stage, ..progress } }
                }
                DeployEvent::Notice { target, message } => {
                    DeployEvent::Notice { target, message: format!("{workload}: {message}") }
                }
                event => event,
            });
        }
        let outcome = rollout.await?;
        let detail = match outcome.verdict {
            // That says already which workload it is about.
            Verdict::Unobserved => outcome.detail,
            verdict => format!("{workload}: {verdict}"),
        };
        Ok(Some(Outcome { detail, ..outcome }))
    }

    /// The release's manifest carries the digest, and the pods are seen to run it.
    async fn proven(
        &self,
        base: Outcome,
        outcomes: Vec<Outcome>,
        unseen: Option<String>,
        helm: &Program,
        image: &ResolvedImage,
    ) -> Result<Outcome, HelmError> {
        let manifest = self.manifest(helm, None).await;
        let trouble = helm.trouble().filter(|_| manifest.is_err());
        if let Some(why) = unseen.or(trouble) {
            let detail = format!("helm reports success, and what the pods run could not be read: {why}");
            return Ok(Outcome { verdict: Verdict::Unproven, detail, ..base });
        }
        let places = placed(&manifest?, "get manifest")?;
        if !places.iter().any(|place| place.is(image.digest())) {
            let detail =
                format!("the chart ignores {}: the release's manifest has another image", self.keys.digest);
            return Ok(Outcome { verdict: Verdict::DigestMismatch, detail, ..base });
        }
        let mut verdict = if outcomes.is_empty() { Verdict::Unproven } else { Verdict::Deployed };
        for outcome in &outcomes {
            match outcome.proof.judge(image) {
                Verdict::Deployed => {}
                worse if verdict == Verdict::Deployed => verdict = worse,
                _ => {}
            }
        }
        let proof = Proof { observations: outcomes.into_iter().flat_map(|o| o.proof.observations).collect() };
        Ok(Outcome { verdict, proof, ..base })
    }

    /// A failure with what is known of it, told before anything is torn down.
    async fn evidence(
        &self,
        base: Outcome,
        report: Option<FailureReport>,
        message: String,
        places: &[Placed],
        events: &Events,
    ) -> Outcome {
        if let Some(report) = report {
            // The workload's own watch has told it.
            return Outcome { failure: Some(report), detail: message, ..base };
        }
        let mut found = None;
        for place in places {
            let Some(workload) = &place.workload else { continue };
            let target = self.target(workload, &place.container);
            if let Ok(Some(report)) = target.0.diagnose(events).await {
                found = Some(report);
                break;
            }
        }
        let report = found.unwrap_or_else(|| FailureReport::new(Cause::Unknown, format!("helm: {message}")));
        events.emit(DeployEvent::Failing { target: self.id.clone(), failure: report.clone() });
        Outcome { failure: Some(report), detail: message, ..base }
    }

    /// Back to the revision that was deployed before; `number` is ours.
    async fn go_back(
        &self,
        failed: Outcome,
        helm: &Program,
        held: &mut Held,
        number: u32,
        events: &Events,
    ) -> Result<Outcome, HelmError> {
        if self.options.on_failure == OnFailure::Leave {
            return Ok(failed);
        }
        let Some(previous) = failed.previous.clone() else {
            let detail = "it is the first revision: there is nothing to go back to".to_owned();
            return Ok(Outcome { detail, ..failed });
        };
        if events.is_cancelled() {
            return Err(self.interrupted());
        }
        events.emit(DeployEvent::RollingBack { target: self.id.clone(), to: Some(previous.clone()) });
        held.note(number + 1).await?;
        let ended = self.roll_back_to(helm, &previous.id, events).await?;
        Ok(match ended {
            Ok(()) => Outcome {
                verdict: Verdict::RolledBack,
                revision: Some(Revision::new((number + 1).to_string(), previous.image)),
                detail: format!("revision {} runs again", previous.id),
                ..failed
            },
            Err(detail) => match helm.trouble() {
                Some(why) => {
                    let revision = Some(Revision::new((number + 1).to_string(), previous.image));
                    self.unobserved(Outcome { revision, ..failed }, &why)
                }
                None => Outcome { verdict: Verdict::RollbackFailed, detail, ..failed },
            },
        })
    }
}

/// Whether helm has given the workload its image.
fn carries(object: &DynamicObject, place: &Placed) -> bool {
    let pod = &object.data["spec"]["template"]["spec"];
    let lists =
        ["containers", "initContainers"].map(|list| pod[list].as_array().cloned().unwrap_or_default());
    lists
        .iter()
        .flatten()
        .any(|c| c["name"] == place.container.as_str() && c["image"] == place.image.as_str())
}

/// A revision of the release, with the image that it has where ours goes.
fn revision(number: u32, manifest: &str, plan: &Plan) -> Result<Revision, HelmError> {
    let all = placed(manifest, "get manifest")?;
    let ours = |place: &&Placed| {
        plan.places.iter().any(|p| p.workload == place.workload && p.container == place.container)
    };
    let image = all.iter().find(ours).map(|place| place.image.clone()).unwrap_or_default();
    Ok(Revision::new(number.to_string(), image))
}
