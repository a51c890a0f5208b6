//! Verify which digests run: read them from the pods' `imageID`; repositories are not compared.

use bp_artifact::{
    Digest, DigestRef, ResolvedImage,
    deploy::{Observation, Proof},
};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;

use crate::{
    api::{pod, text::Text},
    workload::template::{self, Slot},
};

/// The digests of `container` in the ready and in the succeeded pods of `pods`.
pub(crate) fn of<'p>(pods: impl Iterator<Item = &'p Pod>, container: &str) -> Proof {
    let ready = pods.filter(|pod| counts(pod) && pod.metadata.deletion_timestamp.is_none());
    let mut observations: Vec<Observation> = ready
        .map(|pod| {
            let digest = image_id(pod, container).and_then(digest);
            Observation::new(format!("pod/{}", pod.name_any()), container, digest)
        })
        .collect();
    observations.sort_by(|a, b| a.unit.cmp(&b.unit));
    Proof::of(observations)
}

/// The digests of all containers of `slot`; judged against `image` if there is one.
pub(crate) fn of_slot<'p>(
    pods: impl Iterator<Item = &'p Pod> + Clone,
    slot: &Slot,
    image: Option<&ResolvedImage>,
) -> Proof {
    Proof::of(slot.all().flat_map(|slot| {
        let proof = match image {
            Some(image) => against(pods.clone(), &slot.name, image),
            None => of(pods.clone(), &slot.name),
        };
        proof.observations
    }))
}

fn counts(pod: &Pod) -> bool {
    pod::is_ready(pod) || pod.status.as_ref().is_some_and(|status| status.phase.text() == "Succeeded")
}

/// As [`of`], to be judged against `image`: a pod pinned to `image` that reports an unknown digest counts as unproven,
/// not as a mismatch, because the runtime may have stored the same content under another manifest.
pub(crate) fn against<'p>(
    pods: impl Iterator<Item = &'p Pod> + Clone,
    container: &str,
    image: &ResolvedImage,
) -> Proof {
    let mut proof = of(pods.clone(), container);
    for observation in &mut proof.observations {
        let pinned = || {
            let mut pods = pods.clone();
            let pod = pods.find(|pod| observation.unit.strip_prefix("pod/") == Some(&pod.name_any()));
            let spec = pod.and_then(|pod| pod.spec.as_ref());
            let asked = spec.and_then(|spec| template::pod_image(spec, container)).unwrap_or_default();
            asked.parse::<DigestRef>().is_ok_and(|asked| asked.digest() == image.digest())
        };
        if observation.digest.as_ref().is_some_and(|digest| !image.covers(digest)) && pinned() {
            observation.digest = None;
        }
    }
    proof
}

fn image_id<'p>(pod: &'p Pod, container: &str) -> Option<&'p str> {
    let status = pod.status.as_ref()?;
    let inits = status.init_container_statuses.iter().flatten();
    let all = status.container_statuses.iter().flatten().chain(inits);
    all.into_iter().find(|status| status.name == container).map(|status| status.image_id.as_str())
}

/// The manifest digest in an `imageID`: `repository@sha256:…`, optionally with `docker-pullable://`. A bare
/// `sha256:…` is the digest of the image configuration, not of a manifest.
pub(super) fn digest(image_id: &str) -> Option<Digest> {
    let (_, digest) = image_id.rsplit_once('@')?;
    digest.parse().ok()
}

#[cfg(test)]
mod tests {
    use bp_artifact::{Verdict, resolve::PlatformImage};
    use serde_json::json;

    use super::*;

    fn pod(name: &str, ready: &str, asked: &str, image_id: &str) -> Pod {
        serde_json::from_value(json!({
            "metadata": { "name": name },
            "spec": { "containers": [{ "name": "web", "image": asked }] },
            "status": {
                "conditions": [{ "type": "Ready", "status": ready }],
                "containerStatuses": [{
                    "name": "web", "image": asked, "imageID": image_id, "ready": true, "restartCount": 0,
                }],
            },
        }))
        .unwrap()
    }

    #[test]
    fn compares_digests_and_ignores_repositories() {
        let (index, child, other) =
            (Digest::sha256("index"), Digest::sha256("child"), Digest::sha256("other"));
        let reference: DigestRef = format!("r.example.com/web@{index}").parse().unwrap();
        let image = ResolvedImage {
            platforms: vec![PlatformImage::new("linux/amd64".parse().unwrap(), child.clone())],
            ..ResolvedImage::from(reference.clone())
        };
        let pinned = reference.to_string();
        for (asked, image_id, verdict) in [
            (pinned.as_str(), format!("r.example.com/web@{index}"), Verdict::Deployed),
            (&pinned, format!("docker-pullable://mirror.example.com/copy@{index}"), Verdict::Deployed),
            (&pinned, format!("r.example.com/web@{child}"), Verdict::Deployed),
            (&pinned, format!("r.example.com/web@{other}"), Verdict::Unproven),
            ("r.example.com/web:1", format!("r.example.com/web@{other}"), Verdict::DigestMismatch),
            (&pinned, other.to_string(), Verdict::Unproven),
            (&pinned, String::new(), Verdict::Unproven),
        ] {
            let pods = [pod("web-1", "True", asked, &image_id), pod("web-2", "False", asked, "")];
            let proof = against(pods.iter(), "web", &image);
            assert_eq!(proof.observations.len(), 1, "observes only ready pods");
            assert_eq!(proof.judge(&image), verdict, "{asked} {image_id}");
        }
    }
}
