//! Roll a Helm release back to an earlier revision, and verify which digests a release runs.

use std::sync::Arc;

use bp_artifact::{
    Outcome,
    deploy::{
        Current, Proof, Reporter, Revision,
        run::{Ended, Intent, Run},
    },
};
use serde::Deserialize;

use super::{
    command_line::CommandLine,
    context::{HelmRevision, Release},
    error::HelmError,
    hooks::{HookEntry, Hooks, parse_hooks},
    lease::HeldLease,
    manifest::{ManifestContainer, parse_manifest},
    program::Program,
    recover::deployed,
    upgrade::{ReleaseRun, WORKLOADS},
};
use crate::ending::Ending;

impl Release {
    pub(super) async fn rollback(
        &self,
        revision: Option<u32>,
        reporter: &Reporter,
    ) -> Result<Outcome, HelmError> {
        let mut held = self.acquire(reporter).await?;
        let (mut validity, mut release_run) = (held.validity(), ReleaseRun::default());
        let ended = tokio::select! {
            ended = self.rollback_held(&mut held, revision, reporter, &mut release_run) => ended,
            why = validity.lost() => self.lost(&release_run, why),
        };
        self.close(&held, release_run, ended).await
    }

    /// Runs `helm rollback` and waits until the workloads are ready.
    pub(super) async fn roll_back_to(
        &self,
        helm: &Program,
        revision: &str,
        reporter: &Reporter,
    ) -> Result<Result<(), String>, HelmError> {
        let mut running = helm.start(self.waiting(self.roll_back_line(helm, revision).await?, WORKLOADS))?;
        tokio::select! {
            ended = &mut running.ending => {
                let ended = ended?;
                Ok(if ended.success { Ok(()) } else { Err(ended.message) })
            }
            () = reporter.cancelled() => {
                running.stop().await;
                Err(self.interrupted())
            }
        }
    }

    /// Whether helm applied the revision, and would apply it again, by server-side apply.
    async fn applies_on_server(&self, helm: &Program, revision: &str) -> Result<bool, HelmError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Metadata {
            #[serde(default)]
            apply_method: String,
        }
        let line = CommandLine::new(["get", "metadata"]).flag("revision", revision).flag("output", "json");
        let found: Metadata = helm.json("get metadata", line.operand(&self.release)).await?;
        Ok(found.apply_method == "ssa")
    }

    /// The command line of a rollback. Helm rejects the force of conflicts without server-side apply.
    pub(super) async fn roll_back_line(
        &self,
        helm: &Program,
        revision: &str,
    ) -> Result<CommandLine, HelmError> {
        let line = CommandLine::new(["rollback"]).operand(&self.release).operand(revision);
        let forces = self.forces_conflicts() && self.applies_on_server(helm, revision).await?;
        Ok(if forces { line.switch("force-conflicts") } else { line })
    }

    /// The hooks of a revision; none if they cannot be read.
    async fn hooks_of(&self, helm: &Program, revision: &str) -> Vec<HookEntry> {
        let line = CommandLine::new(["get", "hooks"]).flag("revision", revision).operand(&self.release);
        match helm.run(line).await {
            Ok(ended) if ended.success => parse_hooks(&String::from_utf8_lossy(&ended.stdout)),
            Ok(_) | Err(_) => Vec::new(),
        }
    }

    async fn rollback_held(
        &self,
        held: &mut HeldLease,
        revision: Option<u32>,
        reporter: &Reporter,
        release_run: &mut ReleaseRun,
    ) -> Result<Ending, HelmError> {
        let helm = self.program(Some(held)).await?;
        helm.check().await?;
        let history = self.recover(&helm, held, reporter).await?;
        let current = deployed(&history);
        let last = history.last().map_or(0, |last| last.revision);
        let wanted = revision.or_else(|| rollback_revision(&history));
        let Some(wanted) = wanted.filter(|wanted| history.iter().any(|r| r.revision == *wanted)) else {
            return Err(HelmError::NoPrevious { release: self.release.clone() });
        };
        let manifest = self.manifest(&helm, Some(wanted)).await?;
        let places = parse_manifest(&manifest, "get manifest")?;
        let image = main_image(&places);
        let to = Revision::new(wanted.to_string(), image.as_str());
        let in_place = self.manifest(&helm, None).await?;
        let is_deployed = current.is_some_and(|current| current.revision == last);
        let changed_outside = if is_deployed {
            self.changed_outside(&parse_manifest(&in_place, "get manifest")?).await
        } else {
            Vec::new()
        };
        let same = is_deployed && in_place == manifest && changed_outside.is_empty();
        if !changed_outside.is_empty()
            && !self.forces_conflicts()
            && self.applies_on_server(&helm, &to.id).await?
        {
            self.check_conflicts(&manifest, &helm.field_manager()).await?;
        }
        let current = current.map(|current| Revision::new(current.revision.to_string(), ""));
        let intent = Intent::restore(&to).current(current.clone()).previous(current).changes(!same);
        let run = release_run.run.insert(Run::planned(reporter, intent));
        for change in changed_outside {
            run.notice(format!("{change}; helm sets it as in the chart"));
        }
        run.in_place(Some(to.clone()));
        if !same {
            held.record_revision(last + 1).await?;
            release_run.started = true;
            let hooks = Hooks::before(self, run, &self.hooks_of(&helm, &to.id).await).await;
            let hooks = Arc::new(hooks);
            helm.watch_hooks(&hooks);
            if let Err(detail) = self.roll_back_to(&helm, &to.id, reporter).await? {
                if let Some(why) = helm.last_error() {
                    return Ok(self.unobserved(run, &why));
                }
                if let Some(report) = hooks.failed().await {
                    run.failing(report);
                }
                return Ok(Ending::Ended(Ended::FailedInPlace, detail));
            }
        }
        match self.proof_of(&places, &image).await {
            Ok(proof) if to.image.pinned().is_some() => Ok(Ending::Proven(proof, String::new())),
            Ok(proof) => Ok(Ending::Proven(proof, "its image has no digest".to_owned())),
            Err(HelmError::Rollout(error)) => {
                let why = error.without_advice();
                let detail = format!("failed to read which image the pods run: {why}");
                Ok(Ending::Ended(Ended::Unproven, detail))
            }
            Err(error) => Err(error),
        }
    }

    pub(super) async fn previous(&self) -> Result<Revision, HelmError> {
        let helm = self.program(None).await?;
        let history = self.history(&helm).await?;
        match rollback_revision(&history) {
            Some(previous) => self.revision(&helm, previous).await,
            None if history.is_empty() => Err(self.not_found()),
            None => Err(HelmError::NoPrevious { release: self.release.clone() }),
        }
    }

    pub(super) async fn current(&self) -> Result<Current, HelmError> {
        let helm = self.program(None).await?;
        let history = self.history(&helm).await?;
        let Some(stable) = deployed(&history) else {
            let none = HelmError::NoPrevious { release: self.release.clone() };
            return Err(if history.is_empty() { self.not_found() } else { none });
        };
        // The last revision is in progress, or it has failed.
        let last = history.last().filter(|last| last.revision > stable.revision);
        let rolling_out = match last {
            Some(last) => Some(self.revision(&helm, last.revision).await?),
            None => None,
        };
        Ok(Current::new(self.revision(&helm, stable.revision).await?, rolling_out))
    }

    /// A revision with the image of its manifest.
    pub(super) async fn revision(&self, helm: &Program, number: u32) -> Result<Revision, HelmError> {
        let manifest = self.manifest(helm, Some(number)).await?;
        let image = main_image(&parse_manifest(&manifest, "get manifest")?);
        Ok(Revision::new(number.to_string(), image))
    }

    pub(super) fn not_found(&self) -> HelmError {
        let (release, namespace) = (self.release.clone(), self.scope.namespace.clone());
        HelmError::NotFound { release, namespace }
    }

    pub(super) async fn prove(&self) -> Result<Proof, HelmError> {
        let helm = self.program(None).await?;
        let places = parse_manifest(&self.manifest(&helm, None).await?, "get manifest")?;
        let image = main_image(&places);
        self.proof_of(&places, &image).await
    }

    /// The digests that the pods of the workloads with this image report.
    async fn proof_of(&self, places: &[ManifestContainer], image: &str) -> Result<Proof, HelmError> {
        let mut proof = Proof::default();
        for place in places.iter().filter(|place| place.image == image) {
            let Some(workload) = &place.workload else { continue };
            let found = self.target(workload, place).prove().await?;
            proof.observations.extend(found.observations);
        }
        Ok(proof)
    }

    pub(super) async fn read_history(&self) -> Result<Vec<HelmRevision>, HelmError> {
        let helm = self.program(None).await?;
        self.history(&helm).await
    }
}

/// The revision to roll back to: during an upgrade and after a failed one the deployed one, otherwise the one that was
/// deployed before.
pub(super) fn rollback_revision(history: &[HelmRevision]) -> Option<u32> {
    let current = deployed(history).map(|current| current.revision);
    let is_open = |status: &str| status == "failed" || status.starts_with("pending-");
    if history.last().is_some_and(|last| is_open(&last.status)) {
        return current;
    }
    // Helm marks an earlier deployed revision as superseded.
    let good = |number: &&HelmRevision| matches!(number.status.as_str(), "deployed" | "superseded");
    let earlier = history.iter().rev().filter(good).find(|number| Some(number.revision) != current);
    earlier.map(|number| number.revision)
}

/// The image that most containers of a manifest have, preferring images pinned by digest.
pub(super) fn main_image(places: &[ManifestContainer]) -> String {
    let pinned = |place: &&ManifestContainer| place.image.contains("@sha256:");
    let count = |image: &str| places.iter().filter(|place| place.image == image).count();
    let best = places.iter().rev().max_by_key(|place| (pinned(place), count(&place.image)));
    best.map(|place| place.image.clone()).unwrap_or_default()
}
