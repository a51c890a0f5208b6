//! Find what was changed outside of helm before an upgrade: other images, and fields of other field managers.

use bp_artifact::{DigestRef, config::Workload};
use kube::api::{Patch, PatchParams};
use serde_json::Value;

use super::{
    context::Release,
    error::HelmError,
    manifest::{self, ManifestContainer, parse_objects},
};
use crate::{error::Error, workload};

/// The image that a container of the release has in the cluster.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum LiveImage {
    /// Its workload has this image.
    Image(String),
    /// Its workload does not exist.
    Missing,
    /// Its workload cannot be read, or is of a kind without a rollout.
    Unknown,
}

/// Whether two references are the same image: a webhook or a mirror may have replaced the registry.
pub(super) fn is_same_image(one: &str, other: &str) -> bool {
    let digest = |text: &str| text.parse::<DigestRef>().ok().map(|image| image.digest().clone());
    one == other || digest(one).is_some_and(|one| digest(other) == Some(one))
}

/// The image of a place's container in its workload.
pub(super) fn image_in(object: &Value, place: &ManifestContainer) -> Option<String> {
    let pod = &object["spec"]["template"]["spec"];
    let lists = ["containers", "initContainers"].map(|list| pod[list].as_array());
    let mut containers = lists.into_iter().flatten().flatten();
    let found = containers.find(|container| container["name"] == place.container.as_str());
    found.and_then(|container| container["image"].as_str()).map(str::to_owned)
}

impl Release {
    async fn live_image(&self, place: &ManifestContainer) -> LiveImage {
        let Some(workload) = &place.workload else { return LiveImage::Unknown };
        let api =
            self.scope_of(place.namespace.as_deref()).dynamic(&(workload::of(workload.kind).resource)());
        match api.get_opt(&workload.name).await {
            Ok(Some(object)) => image_in(&object.data, place).map_or(LiveImage::Missing, LiveImage::Image),
            Ok(None) => LiveImage::Missing,
            Err(_) => LiveImage::Unknown,
        }
    }

    /// What was changed outside of helm since the deployed revision: the workloads whose container does not have the
    /// image of its manifest, as messages.
    pub(super) async fn changed_outside(&self, deployed: &[ManifestContainer]) -> Vec<String> {
        let changes: Vec<_> = deployed.iter().map(|place| self.changed_place(place)).collect();
        futures_util::future::join_all(changes).await.into_iter().flatten().collect()
    }

    async fn changed_place(&self, place: &ManifestContainer) -> Option<String> {
        let shown = self.shown(place.workload.as_ref()?, place);
        match self.live_image(place).await {
            LiveImage::Image(image) if !is_same_image(&image, &place.image) => {
                let container = &place.container;
                Some(format!(
                    "{shown}: the container {container} has the image {image} instead of {}: it was changed outside of helm",
                    place.image
                ))
            }
            LiveImage::Missing => Some(format!("{shown} was deleted outside of helm")),
            LiveImage::Image(_) | LiveImage::Unknown => None,
        }
    }

    /// Checks that helm can apply the workloads of a manifest by server-side apply: a field that another field manager
    /// has changed would fail the upgrade, and its rollback too. By dry runs, whose other errors are helm's to report.
    pub(super) async fn check_conflicts(&self, manifest: &str, manager: &str) -> Result<(), HelmError> {
        for object in parse_objects(manifest, "upgrade --dry-run")? {
            let Some(workload) = manifest::workload(&object) else { continue };
            let kind = workload::of(workload.kind);
            if !kind.runs_to_completion {
                self.check_object(&object, &workload, manager).await?;
            }
        }
        Ok(())
    }

    async fn check_object(
        &self,
        object: &Value,
        workload: &Workload,
        manager: &str,
    ) -> Result<(), HelmError> {
        let kind = workload::of(workload.kind);
        let scope = self.scope_of(manifest::namespace(object).as_deref());
        let params = PatchParams { dry_run: true, ..PatchParams::apply(manager) };
        let api = scope.dynamic(&(kind.resource)());
        let Err(error) = api.patch(&workload.name, &params, &Patch::Apply(object)).await else {
            return Ok(());
        };
        let object = scope.object(workload.kind.name(), &workload.name);
        let error = object.error(kind.calls.patch, error);
        if matches!(error, Error::Conflict { .. }) { Err(error.into()) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use bp_artifact::Digest;

    use super::*;

    #[test]
    fn compares_images_by_digest() {
        let digest = Digest::sha256("web");
        let (one, mirror) =
            (format!("r.example.com/web@{digest}"), format!("mirror.example.com/r/web:1@{digest}"));
        assert!(is_same_image(&one, &one) && is_same_image(&one, &mirror) && is_same_image("web:1", "web:1"));
        let other = format!("r.example.com/web@{}", Digest::sha256("other"));
        for other in [other.as_str(), "web:1", ""] {
            assert!(!is_same_image(&one, other), "{other}");
        }
        assert!(!is_same_image("web:1", "web:2"));
    }
}
