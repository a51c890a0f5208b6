//! Upgrade a Helm release: acquire the Lease, recover, dry run, upgrade and watch, verify; roll back on failure.

use std::sync::Arc;

use bp_artifact::{
    Outcome, ResolvedImage,
    deploy::{
        Cause, FailureReport, OnFailure, Proof, Reporter, Revision,
        run::{Ended, Intent, Run},
    },
};
use k8s_openapi::api::core::v1::Namespace;
use kube::{Api, api::PostParams};
use serde::Deserialize;

use super::{
    chart::Variables,
    command_line::CommandLine,
    context::Release,
    error::HelmError,
    follow::{End, Followed},
    hooks::{HookEntry, Hooks},
    lease::HeldLease,
    manifest::{ManifestContainer, parse_manifest, values_of_maps},
    program::Program,
    proxy::Proxy,
    recover::deployed,
};
use crate::{ending::Ending, error::Error};

/// What helm waits for: its hooks, or also the workloads.
const HOOKS: &str = "hookOnly";
pub(super) const WORKLOADS: &str = "watcher";

/// The result of the dry run.
struct Plan {
    manifest: String,
    /// The containers that get the image.
    places: Vec<ManifestContainer>,
    hooks: Vec<HookEntry>,
    /// Whether helm uses server-side apply.
    server_side: bool,
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
        self.check_name()?;
        let holder = self.holder();
        tokio::select! {
            held = self.acquire_as(&holder) => held,
            () = reporter.cancelled() => Err(self.interrupted()),
        }
    }

    async fn acquire_as(&self, holder: &str) -> Result<HeldLease, HelmError> {
        match self.lease_config().acquire(holder).await {
            // The Lease is in the namespace, so helm would create it too late.
            Err(HelmError::Rollout(Error::NamespaceNotFound { .. })) if self.chart.create_namespace => {
                self.create_namespace().await?;
                self.lease_config().acquire(holder).await
            }
            acquired => acquired,
        }
    }

    async fn create_namespace(&self) -> Result<(), HelmError> {
        let name = &self.scope.namespace;
        let mut namespace = Namespace::default();
        namespace.metadata.name = Some(name.clone());
        let namespaces = Api::<Namespace>::all(self.scope.client.clone());
        match namespaces.create(&PostParams::default(), &namespace).await {
            Err(kube::Error::Api(status)) if status.is_already_exists() => Ok(()),
            created => {
                let failed = |e| self.scope.object("namespace", name).error("create namespaces", e);
                Ok(created.map(drop).map_err(failed)?)
            }
        }
    }

    pub(super) fn interrupted(&self) -> HelmError {
        HelmError::Interrupted { release: self.release.clone() }
    }

    /// Helm, with access to the cluster while the Lease is held.
    pub(super) async fn program(&self, held: Option<&HeldLease>) -> Result<Program, HelmError> {
        self.check_name()?;
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
        let mut helm = self.program(Some(held)).await?;
        helm.check().await?;
        let chart = self.chart.name.as_deref();
        let chart = chart.ok_or_else(|| HelmError::NoChart { release: self.release.clone() })?;
        if self.chart.files.iter().any(|file| file.as_os_str() == "-") {
            let reason =
                "helm runs twice, the first time as a dry run: write the values to a file".to_owned();
            return Err(HelmError::Flag { flag: "--values=-".to_owned(), reason });
        }
        if let Some(login) = &self.chart.login {
            helm.log_in(login, chart).await?;
        }
        let history = self.recover(&helm, held, reporter).await?;
        let before = match deployed(&history) {
            Some(revision) => Some((revision.revision, self.manifest(&helm, Some(revision.revision)).await?)),
            None => None,
        };
        let plan = self.plan(&helm, chart, image).await?;
        let previous =
            before.as_ref().map(|(number, manifest)| revision(*number, manifest, &plan)).transpose()?;
        let last = history.last().map_or(0, |last| last.revision);
        let same = before
            .as_ref()
            .is_some_and(|(number, manifest)| *number == last && manifest.trim() == plan.manifest.trim());
        let changed_outside = match &before {
            Some((number, manifest)) if *number == last => self.changed_outside(&plan.of(manifest)?).await,
            // A later revision has failed, which may have changed the workloads.
            Some(_) | None => Vec::new(),
        };
        let in_place = same && changed_outside.is_empty();
        let forces = self.forces_conflicts();
        if plan.server_side && !in_place && !forces {
            self.check_conflicts(&plan.manifest, &helm.field_manager()).await?;
        }
        let intent = Intent::deploy(image).current(previous.clone()).previous(previous).changes(!in_place);
        let run = release_run.run.insert(Run::planned(reporter, intent));
        for change in changed_outside {
            run.notice(format!("{change}; helm sets it as in the chart"));
        }
        let number = if in_place { last } else { last + 1 };
        let ours = Revision::new(number.to_string(), &image.reference);
        run.in_place(Some(ours.clone()));
        run.checkpoint().map_err(|_| self.interrupted())?;
        let (mut running, mut hooks) = (None, None);
        if !in_place {
            let watched = Arc::new(Hooks::before(self, run, &plan.hooks).await);
            helm.watch_hooks(&watched);
            hooks = Some(watched);
            held.record_revision(number).await?;
            let line = self.chart.upgrade(image, forces && plan.server_side);
            let line = self.waiting(line, if self.chart.applies_only { HOOKS } else { WORKLOADS });
            let line = line.switch("hide-notes");
            running = Some(helm.start(self.with_values(&helm, line, chart)?)?);
        }
        release_run.started = true;
        let (program, places) = (&helm, plan.places.as_slice());
        let followed = |running, places, hooks| Followed { program, running, places, hooks, image, deadline };
        let applied = if self.chart.applies_only {
            self.follow(followed(running.take(), &[], hooks.clone()), run).await?
        } else {
            End::Up(Vec::new(), None)
        };
        let end = match applied {
            End::Up(..) => {
                run.applied(ours, format!("helm revision {number}"), in_place);
                let hooks = hooks.clone().filter(|_| running.is_some());
                self.follow(followed(running, places, hooks), run).await?
            }
            failed @ (End::Failed(..) | End::Unobserved(_)) => failed,
        };
        match end {
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
                    // The watch of the workload or the hook has reported it.
                    Some(report) => report,
                    None => self.evidence(&message, &plan.places, hooks.as_deref(), run).await,
                };
                run.failing(report);
                self.roll_back(run, message, &helm, held, number).await
            }
        }
    }

    /// Runs the dry run. Fails when no container of the chart would run the digest with its variables.
    async fn plan(&self, helm: &Program, chart: &str, image: &ResolvedImage) -> Result<Plan, HelmError> {
        #[derive(Deserialize)]
        struct Rendered {
            manifest: String,
            #[serde(default)]
            hooks: Option<Vec<HookEntry>>,
            #[serde(default)]
            apply_method: String,
        }
        let verb = "upgrade --dry-run";
        let line = self.chart.upgrade(image, false).flag("dry-run", "server").flag("output", "json");
        let rendered: Rendered = helm.json(verb, self.with_values(helm, line, chart)?).await?;
        let all = parse_manifest(&rendered.manifest, verb)?;
        let (places, others): (Vec<ManifestContainer>, Vec<ManifestContainer>) =
            all.into_iter().partition(|place| place.is(image.digest()));
        if places.is_empty() {
            return Err(HelmError::DigestIgnored {
                release: self.release.clone(),
                key: self.chart.keys.digest.clone(),
                digest: image.digest().to_string(),
                images: others.into_iter().map(|place| place.image).collect(),
            });
        }
        if let Some(variables) = &self.chart.variables {
            self.check_variables(variables, &places, &rendered.manifest)?;
        }
        Ok(Plan {
            manifest: rendered.manifest,
            places,
            hooks: rendered.hooks.unwrap_or_default(),
            server_side: rendered.apply_method == "ssa",
        })
    }

    /// Checks that a container with the image gets the variables: itself, or by the data of a ConfigMap or Secret.
    fn check_variables(
        &self,
        variables: &Variables,
        places: &[ManifestContainer],
        manifest: &str,
    ) -> Result<(), HelmError> {
        let maps = values_of_maps(manifest, "upgrade --dry-run")?;
        let lacking = |place: &ManifestContainer| -> Vec<String> {
            let has = |pair: &(String, String)| place.environment.contains(pair) || maps.contains(pair);
            let missing = variables.variables.iter().filter(|pair| !has(pair));
            missing.map(|(name, _)| name.clone()).collect()
        };
        let missing = places.iter().map(|place| (place, lacking(place)));
        match missing.min_by_key(|(_, missing)| missing.len()) {
            Some((place, missing)) if !missing.is_empty() => {
                let workload = place.workload.as_ref().map(|workload| format!(" of {workload}"));
                Err(HelmError::VariablesIgnored {
                    release: self.release.clone(),
                    key: variables.key.clone(),
                    container: format!("the container {}{}", place.container, workload.unwrap_or_default()),
                    variables: missing,
                })
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Whether helm takes fields over from other field managers.
    pub(super) fn forces_conflicts(&self) -> bool {
        let forced = ["force-conflicts", "force-replace"];
        self.options.take_over
            || forced.iter().any(|flag| self.chart.flags.value(flag).is_some_and(|value| value != "false"))
    }

    /// Adds what helm waits for, and how long: until the deadline.
    pub(super) fn waiting(&self, line: CommandLine, wait: &str) -> CommandLine {
        let seconds = self.options.deadline.as_secs().clamp(1, u32::MAX.into());
        line.flag("wait", wait).flag("timeout", format!("{seconds}s"))
    }

    /// Adds the values that may be secrets, in a file, and the release with its chart.
    fn with_values(&self, helm: &Program, line: CommandLine, chart: &str) -> Result<CommandLine, HelmError> {
        let file = helm.values(&self.chart.file_values())?;
        let line = line.flag("values", file.display().to_string());
        Ok(line.operand(&self.release).operand(chart))
    }

    pub(super) async fn manifest(&self, helm: &Program, revision: Option<u32>) -> Result<String, HelmError> {
        let line = CommandLine::new(["get", "manifest"]).operand(&self.release);
        let line = match revision {
            Some(revision) => line.flag("revision", revision.to_string()),
            None => line,
        };
        let ended = helm.run(line).await?;
        if ended.success {
            Ok(String::from_utf8_lossy(&ended.stdout).into_owned())
        } else {
            Err(HelmError::Failed { verb: "get manifest", message: ended.message })
        }
    }

    /// Verifies that the release's manifest has the digest and the pods run it.
    pub(super) async fn proven(
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
        let manifest = manifest?;
        let places = parse_manifest(&manifest, "get manifest")?;
        if !places.iter().any(|place| place.is(image.digest())) {
            let detail = format!(
                "the chart ignores {}: the release's manifest has a different image",
                self.chart.keys.digest
            );
            return Ok(Ending::Ended(Ended::DigestMismatch, detail));
        }
        for change in self.kept_by_helm(&manifest, image).await {
            run.notice(format!("drift that helm keeps: {change}"));
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

    /// The failure report when no watch of a workload or a hook has reported one.
    pub(super) async fn evidence(
        &self,
        message: &str,
        places: &[ManifestContainer],
        hooks: Option<&Hooks>,
        reporter: &Reporter,
    ) -> FailureReport {
        if let Some(hooks) = hooks
            && let Some(report) = hooks.failed().await
        {
            return report;
        }
        for place in places {
            let Some(workload) = &place.workload else { continue };
            let target = self.target(workload, place);
            if let Ok(Some(report)) = target.0.diagnose(reporter).await {
                return report;
            }
        }
        let report = FailureReport::new(Cause::Unknown, format!("helm: {message}"));
        report.inspect_with(["helm", "-n", &self.scope.namespace, "status", &self.release])
    }

    /// Rolls back to the revision that was deployed before; `number` is the failed revision.
    pub(super) async fn roll_back(
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

impl Plan {
    /// The containers of another revision's manifest that get the image in this plan.
    fn of(&self, manifest: &str) -> Result<Vec<ManifestContainer>, HelmError> {
        let mut all = parse_manifest(manifest, "get manifest")?;
        all.retain(|place| self.places.iter().any(|planned| planned.is_of(place)));
        Ok(all)
    }
}

/// A revision of the release, with its image in the container that gets the new image.
fn revision(number: u32, manifest: &str, plan: &Plan) -> Result<Revision, HelmError> {
    let image = plan.of(manifest)?.into_iter().next().map(|place| place.image).unwrap_or_default();
    Ok(Revision::new(number.to_string(), image))
}
