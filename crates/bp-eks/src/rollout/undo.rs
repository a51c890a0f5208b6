//! The way back: the image alone where nothing else changed, the whole template where more did.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use bp_artifact::Revision;
use k8s_openapi::api::{apps::v1::Deployment, core::v1::PodTemplateSpec};

use super::{
    api::SharedSet,
    error::Error,
    target::Inner,
    template::{self, Slot},
};

/// The template of a revision, if its ReplicaSet is still kept. A revision that was put back has a new number: then its
/// image finds it.
pub(super) fn template_of(
    deployment: &Deployment,
    sets: &[SharedSet],
    slot: &Slot,
    revision: &Revision,
) -> Option<PodTemplateSpec> {
    let of_image = template::owned(deployment, sets)
        .filter(|set| template::set_image(set, &slot.name) == revision.image);
    let number = |set: &k8s_openapi::api::apps::v1::ReplicaSet| template::revision(set);
    of_image.max_by_key(|set| (number(set).to_string() == revision.id, number(set))).map(template::template)
}

impl Inner {
    /// Puts `revision` back and gives the Deployment as the API answered.
    pub(super) async fn put_back(
        &self,
        sets: &[SharedSet],
        slot: &Slot,
        revision: &Revision,
    ) -> Result<Deployment, Error> {
        let mut pauses = pauses().build();
        loop {
            let deployment = self.cluster.deployment().await?;
            let current = deployment.spec.as_ref().map(|spec| spec.template.clone()).unwrap_or_default();
            let wanted = template_of(&deployment, sets, slot, revision);
            let only_image = template::with_image(current, &slot.name, &revision.image);
            let Some(template) = wanted.filter(|wanted| *wanted != only_image) else {
                return self.apply(slot, &revision.image).await;
            };
            match self.cluster.replace_template(deployment, slot, template).await {
                // Somebody wrote in between, most often the controller its status: read and try again.
                Err(error @ Error::Unavailable { .. }) => match pauses.next() {
                    Some(pause) => tokio::time::sleep(pause).await,
                    None => return Err(error),
                },
                other => return other,
            }
        }
    }
}

fn pauses() -> ExponentialBuilder {
    ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(50))
        .with_max_delay(Duration::from_secs(1))
        .with_max_times(8)
        .with_jitter()
}
