//! Check that the rollback revision can still run, before the first change: kept by its controller, with its image,
//! Secrets and ConfigMaps.

use std::time::Duration;

use bp_artifact::{
    ImageRef, ResolvedImage,
    deploy::{
        Revision, RollbackCheck,
        preflight::{Finding, FindingState, about_image},
    },
    error::chain,
};

use crate::{
    error::Error,
    rollout::{WorkloadRollout, survey::Kept},
    workload::{Live, template::Slot},
};

/// How long the registry may take.
const LOOKUP: Duration = Duration::from_secs(30);

impl WorkloadRollout {
    /// Checks `previous`, the revision that a failed deployment of `image` returns to. `None` when nothing would be
    /// changed, and for a Job, which is not rolled back.
    pub(crate) async fn check_rollback(
        &self,
        image: &ResolvedImage,
        previous: &Revision,
    ) -> Result<Option<RollbackCheck>, Error> {
        let Kept { live, slot, has_previous, template } = self.kept(previous).await?;
        let wanted = image.reference.to_string();
        if live.runs_to_completion() || live.has(&slot, &wanted, &self.options.environment) {
            return Ok(None);
        }
        if !has_previous {
            let message = "there is no revision to return to: the first rollout is not complete";
            let none = Finding::new("rollback revision", FindingState::Warning, message);
            return Ok(Some(RollbackCheck::no_revision(none)));
        }
        let mut findings = vec![self.is_kept(&live, &slot, previous, template.is_some())];
        findings.push(self.image_of(previous).await);
        findings.extend(self.api.references(template.as_ref().unwrap_or_else(|| live.template())).await);
        let check = RollbackCheck::new(previous.clone(), findings);
        Ok(Some(check.accepted(self.options.accept_unproven_rollback)))
    }

    /// Whether the controller has kept the pod template. Without it, a rollback restores only the image.
    fn is_kept(&self, live: &Live, slot: &Slot, previous: &Revision, is_kept: bool) -> Finding {
        let subject = format!("revision {} of {}", previous.id, self.api.workload);
        let is_in_place = live.image(&slot.name) == previous.image.as_str();
        if is_kept || is_in_place {
            return Finding::new(subject, FindingState::Present, "");
        }
        let message =
            "was not kept by its controller (revisionHistoryLimit): a rollback restores only the image";
        Finding::new(subject, FindingState::Warning, message)
    }

    async fn image_of(&self, previous: &Revision) -> Finding {
        let subject = format!("image {}", previous.image);
        let unknown =
            |why: String| Finding::new(&subject, FindingState::Unknown, format!("not checked: {why}"));
        let image: ImageRef = match previous.image.as_str().parse() {
            Ok(image) => image,
            Err(error) => return unknown(chain(&error)),
        };
        let Some(registry) = &self.options.registry else {
            return unknown("no registry client is configured".to_owned());
        };
        match tokio::time::timeout(LOOKUP, registry.availability(&image)).await {
            Ok(found) => about_image(&subject, found),
            Err(_) => unknown(format!("no response within {} s", LOOKUP.as_secs())),
        }
    }
}
