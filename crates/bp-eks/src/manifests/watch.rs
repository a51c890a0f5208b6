//! Follow the rollouts in progress of manifests without applying anything.

use bp_artifact::{
    DigestRef, Outcome, ResolvedImage,
    deploy::{
        OnFailure, Reporter,
        run::{Intent, Run},
    },
    reference::Repository,
};

use super::{context::Context, error::ManifestsError, images, revision};
use crate::{error::Error, rollout::api::WorkloadApi, workload::template};

impl Context {
    /// The image of this repository that the first workload with one has in its template.
    pub(super) async fn deployed_image(
        &self,
        repository: &Repository,
    ) -> Result<Option<DigestRef>, ManifestsError> {
        for item in &self.items(None).await? {
            let Some((workload, _)) = item.workload() else { continue };
            let live = match (WorkloadApi { scope: self.scope_of(item), workload }).workload().await {
                Ok(live) => live,
                Err(Error::NotFound { .. } | Error::NamespaceNotFound { .. }) => continue,
                Err(error) => return Err(error.into()),
            };
            let mut ours = template::images(live.template()).filter(|image| images::is_of(image, repository));
            if let Some(image) = ours.find_map(|image| image.parse().ok()) {
                return Ok(Some(image));
            }
        }
        Ok(None)
    }

    /// Follows the rollouts of the workloads to one verdict. If one fails, those whose rollout was in progress are rolled
    /// back, unless the options leave failures in place.
    pub(super) async fn watch(
        &self,
        image: &ResolvedImage,
        reporter: &Reporter,
    ) -> Result<Outcome, ManifestsError> {
        let deadline = bp_artifact::time::deadline(self.options.deadline);
        let items = self.prepare(image).await?;
        let mut before = self.before(&items, |_| false).await?;
        for one in &mut before {
            // As if this run had started it.
            one.is_changed = one.current.as_ref().is_some_and(|current| current.rolling_out.is_some());
        }
        let current = revision::current(&before).ok_or(ManifestsError::NotCreated)?;
        let is_rolling_out = current.rolling_out.is_some();
        let previous = Some(current.stable.clone()).filter(|_| is_rolling_out);
        let latest = current.rolling_out.unwrap_or(current.stable);
        let intent = Intent::deploy(image).current(Some(latest.clone())).previous(previous).changes(false);
        let mut run = Run::planned(reporter, intent);
        if is_rolling_out {
            run.applied(latest, "the rollouts in progress", true);
        } else {
            run.notice("no rollout is in progress");
        }
        let rolls_back = self.options.on_failure == OnFailure::RollBack;
        let ended = self.follow(&run, &items, image, deadline, rolls_back).await?;
        let ending = self.conclude(&mut run, &ended, &before).await;
        if ending.is_success(image) {
            run.in_place(self.in_place(&items).await);
        }
        Ok(ending.close(run))
    }
}
