//! Detect drift: compare a workload's template, status and running digests with the wanted image.

use bp_artifact::{
    ResolvedImage,
    deploy::{Change, Drift},
};

use super::{WorkloadRollout, proof, schedule};
use crate::{
    error::Error,
    workload::{Live, RolloutStatus},
};

impl WorkloadRollout {
    pub(crate) async fn drift(&self, image: &ResolvedImage) -> Result<Drift, Error> {
        let (snapshot, live, slot) = self.read().await?;
        let everything = snapshot
            .pods
            .iter()
            .filter(|pod| live.partition() > 0 || !live.runs_to_completion() && is_owned(pod));
        let proof = if live.kind.is_scheduled {
            schedule::proof(&live, &slot)
        } else {
            proof::of_slot(everything.map(AsRef::as_ref), &slot, Some(image))
        };
        let mut drift = Drift::of_proof(self.id.clone(), image, proof);
        let wanted = image.reference.to_string();
        for slot in slot.all() {
            let there = live.image(&slot.name);
            // A webhook or a mirror may have replaced the registry: the digest identifies the image.
            let same =
                there.parse::<bp_artifact::DigestRef>().is_ok_and(|there| there.digest() == image.digest());
            if !same {
                let template = live.kind.template.join(".");
                let path = format!("spec.{template}.spec.{}[{}].image", slot.list, slot.name);
                drift.definition.push(Change::new(path, Some(wanted.clone()), Some(there.to_owned())));
            }
        }
        drift.service = unsettled(&live);
        Ok(drift)
    }
}

/// Whether a controller owns the pod: a manually created pod with the same labels does not belong to the workload.
fn is_owned(pod: &k8s_openapi::api::core::v1::Pod) -> bool {
    use kube::ResourceExt;
    !pod.owner_references().is_empty()
}

/// How the workload differs from one that is fully rolled out.
fn unsettled(live: &Live) -> Vec<Change> {
    let mut changes = Vec::new();
    let mut note = |path: &str, wanted: &str, found: String| {
        changes.push(Change::new(path, Some(wanted.to_owned()), Some(found)));
    };
    if live.is_paused() {
        note("spec.paused", "false", "true".to_owned());
    }
    match live.status(live.generation()) {
        RolloutStatus::Complete | RolloutStatus::OnDelete => {}
        RolloutStatus::Progressing(stage) => note("status", "rolled out", stage.to_string()),
        RolloutStatus::Stalled(message) | RolloutStatus::Failed(message) => {
            note("status", "rolled out", message)
        }
        RolloutStatus::NotObserved => {
            note("status", "rolled out", "not yet observed by the controller".to_owned())
        }
    }
    changes
}
