//! Revisions of a pod template: ReplicaSets of a Deployment, ControllerRevisions of StatefulSets and DaemonSets.

use std::sync::Arc;

use k8s_openapi::api::{
    apps::v1::{ControllerRevision, ReplicaSet},
    core::v1::Pod,
};
use kube::{
    ResourceExt,
    core::{ApiResource, DynamicObject},
};
use serde_json::Value;

use super::{
    kind::{Calls, Kind, Versions, calls},
    live::Live,
    template,
};
use crate::api::{pod, text::Text};

const HASH: &str = "controller-revision-hash";

const REPLICA_SETS: Calls = calls!("replicasets");
const CONTROLLER_REVISIONS: Calls = calls!("controllerrevisions");

impl Versions {
    /// The resource that stores the revisions, and its call names. `None` if none are stored.
    pub(crate) fn resource(&self) -> Option<(ApiResource, &'static Calls)> {
        match self {
            Versions::ReplicaSets { .. } => Some((ApiResource::erase::<ReplicaSet>(&()), &REPLICA_SETS)),
            Versions::ControllerRevisions => {
                Some((ApiResource::erase::<ControllerRevision>(&()), &CONTROLLER_REVISIONS))
            }
            Versions::None => None,
        }
    }

    /// The revision number of a stored revision or of the workload; 0 when the controller has not assigned one yet.
    fn number(&self, object: &DynamicObject) -> u64 {
        match self {
            Versions::ReplicaSets { number, .. } => {
                object.annotations().get(*number).and_then(|text| text.parse().ok()).unwrap_or_default()
            }
            Versions::ControllerRevisions | Versions::None => {
                object.data["revision"].as_u64().unwrap_or_default()
            }
        }
    }
}

/// A stored revision of a pod template.
#[derive(Debug, Clone)]
pub(crate) struct Version {
    pub(crate) object: Arc<DynamicObject>,
    /// The template as in the workload: without the fields that the controller adds.
    pub(crate) template: Value,
    kind: &'static Kind,
}

impl Version {
    pub(crate) fn read(kind: &'static Kind, object: Arc<DynamicObject>) -> Self {
        let spec = match kind.versions {
            Versions::ReplicaSets { .. } => &object.data["spec"],
            Versions::ControllerRevisions | Versions::None => &object.data["data"]["spec"],
        };
        let template = template::plain(&spec["template"], kind);
        Version { object, template, kind }
    }

    pub(crate) fn uid(&self) -> &str {
        self.object.metadata.uid.text()
    }

    /// The revision number; 0 when the controller has not assigned one yet.
    pub(crate) fn number(&self) -> u64 {
        self.kind.versions.number(&self.object)
    }

    /// Whether it had this number before, as a revision that was restored.
    pub(crate) fn had_number(&self, number: &str) -> bool {
        let Versions::ReplicaSets { history, .. } = self.kind.versions else { return false };
        let earlier = self.object.annotations().get(history).map(String::as_str).unwrap_or_default();
        earlier.split(',').any(|earlier| earlier.trim() == number)
    }

    pub(crate) fn image(&self, container: &str) -> &str {
        template::image(&self.template, container).unwrap_or_default()
    }

    /// Whether a pod was created from this revision.
    pub(crate) fn made(&self, pod: &Pod) -> bool {
        match self.kind.versions {
            Versions::ReplicaSets { .. } => is_owned(pod, self.uid()),
            // A StatefulSet labels its pods with the revision's name, a DaemonSet with the revision's hash label.
            Versions::ControllerRevisions | Versions::None => pod.labels().get(HASH).is_some_and(|hash| {
                *hash == self.object.name_any() || self.object.labels().get(HASH) == Some(hash)
            }),
        }
    }

    /// The number of its available pods.
    fn available(&self, pods: &[Arc<Pod>]) -> i64 {
        match self.kind.versions {
            Versions::ReplicaSets { .. } => {
                self.object.data["status"]["availableReplicas"].as_i64().unwrap_or_default()
            }
            Versions::ControllerRevisions | Versions::None => {
                pods.iter().filter(|pod| self.made(pod) && pod::is_ready(pod)).count() as i64
            }
        }
    }

    /// The controller's message when it cannot create pods.
    pub(crate) fn refusal(&self) -> Option<&str> {
        let conditions = self.object.data["status"]["conditions"].as_array()?;
        let failed = conditions.iter().find(|c| c["type"] == "ReplicaFailure" && c["status"] == "True")?;
        failed["message"].as_str()
    }
}

/// Whether the object has an owner with this uid.
pub(crate) fn is_owned(object: &impl kube::Resource, uid: &str) -> bool {
    object.owner_references().iter().any(|owner| owner.uid == uid)
}

/// The revisions of the workload.
pub(crate) fn owned<'v>(live: &Live, versions: &'v [Version]) -> impl Iterator<Item = &'v Version> {
    let uid = live.uid().to_owned();
    versions.iter().filter(move |version| is_owned(&*version.object, &uid))
}

/// The revision of the workload's current template, compared by content as the controller does.
pub(crate) fn new<'v>(live: &Live, versions: &'v [Version]) -> Option<&'v Version> {
    let wanted = live.plain_template();
    owned(live, versions).filter(|version| version.template == wanted).max_by_key(|version| version.number())
}

/// The rollback revision while the workload's template is not fully rolled out: the controller's current revision; or
/// an earlier one with available pods; or the new one if all its pods are available and only old pods are terminating,
/// as at the end of an undo; or the previous one.
pub(crate) fn stable<'v>(live: &Live, versions: &'v [Version], pods: &[Arc<Pod>]) -> Option<&'v Version> {
    let current = live.object.data["status"]["currentRevision"].as_str();
    let said = current.and_then(|name| owned(live, versions).find(|v| v.object.name_any() == name));
    let earlier = earlier(live, versions, pods);
    let desired = i64::from(live.counts().desired.max(1));
    let new = new(live, versions).filter(|version| version.available(pods) >= desired);
    said.or(earlier.filter(|version| version.available(pods) > 0)).or(new).or(earlier)
}

/// The revision before the current one: the newest other revision with available pods, or else the newest other one.
pub(crate) fn earlier<'v>(live: &Live, versions: &'v [Version], pods: &[Arc<Pod>]) -> Option<&'v Version> {
    let new = new(live, versions).map(Version::uid);
    owned(live, versions)
        .filter(|version| Some(version.uid()) != new)
        .max_by_key(|version| (version.available(pods) > 0, version.number()))
}

/// The number of the current revision.
pub(crate) fn in_place(live: &Live, versions: &[Version]) -> u64 {
    let of_template = || new(live, versions).map(Version::number).unwrap_or_default();
    Some(live.kind.versions.number(&live.object)).filter(|number| *number > 0).unwrap_or_else(of_template)
}

/// The stored revision with this image; among several, the one with this number. A restored revision has a new number:
/// then the image identifies it.
pub(crate) fn of_image<'v>(
    live: &Live,
    versions: &'v [Version],
    container: &str,
    image: &str,
    number: &str,
) -> Option<&'v Version> {
    let of_image = owned(live, versions).filter(|version| version.image(container) == image);
    of_image.max_by_key(|version| (version.number().to_string() == number, version.number()))
}

#[cfg(test)]
mod tests {
    use bp_artifact::config::WorkloadKind;
    use serde_json::json;

    use super::{super::of, *};

    const NUMBER: &str = "deployment.kubernetes.io/revision";

    fn object(json: Value) -> Arc<DynamicObject> {
        Arc::new(serde_json::from_value(json).unwrap())
    }

    fn set(revision: u64, image: &str, available: i32) -> Version {
        Version::read(
            of(WorkloadKind::Deployment),
            object(json!({
                "metadata": {
                    "name": format!("web-{revision}"),
                    "uid": format!("set-{revision}"),
                    "annotations": { (NUMBER): revision.to_string() },
                    "ownerReferences": [{ "apiVersion": "apps/v1", "kind": "Deployment", "name": "web", "uid": "dep" }],
                },
                "spec": { "selector": {}, "template": {
                    "metadata": { "labels": { "app": "web", "pod-template-hash": revision.to_string() } },
                    "spec": { "containers": [{ "name": "web", "image": image }] },
                } },
                "status": { "replicas": available, "availableReplicas": available },
            })),
        )
    }

    fn live(kind: WorkloadKind, image: &str, status: Value) -> Live {
        let json = json!({
            "metadata": { "name": "web", "uid": "dep" },
            "spec": { "replicas": 3, "selector": {}, "template": {
                "metadata": { "labels": { "app": "web" } },
                "spec": { "containers": [{ "name": "web", "image": image }] },
            } },
            "status": status,
        });
        Live::read(of(kind), object(json)).unwrap()
    }

    #[test]
    fn rollback_revision_is_the_one_that_ran() {
        let deployment = |image: &str| live(WorkloadKind::Deployment, image, json!({}));
        let stable =
            |image: &str, sets: &[Version]| super::stable(&deployment(image), sets, &[]).map(Version::number);
        // 1 ran, 2 failed, 3 is in progress.
        let sets = [set(2, "bad", 0), set(3, "worse", 0), set(1, "good", 3)];
        assert_eq!(new(&deployment("worse"), &sets).map(Version::number), Some(3));
        assert_eq!(stable("worse", &sets), Some(1));
        // Recreate: no pod is available, so it is the previous revision.
        let sets = [set(1, "a", 0), set(2, "b", 0), set(3, "c", 0)];
        assert_eq!(stable("c", &sets), Some(2));
        // The new revision does not exist yet.
        assert!(new(&deployment("d"), &sets).is_none());
        assert_eq!(stable("d", &[set(1, "a", 3)]), Some(1));
        // The first rollout has none.
        assert_eq!(stable("a", &[set(1, "a", 0)]), None);
        // Of an almost complete undo it is the restored revision, not the undone one.
        let sets = [set(2, "bad", 0), set(3, "good", 3)];
        assert_eq!(stable("good", &sets), Some(3));
        assert_eq!(earlier(&deployment("good"), &sets, &[]).map(Version::number), Some(2));
    }

    /// A ControllerRevision as the controllers of StatefulSets and DaemonSets write it.
    fn revision(number: u64, image: &str) -> Version {
        Version::read(
            of(WorkloadKind::StatefulSet),
            object(json!({
                "metadata": {
                    "name": format!("web-{number}"),
                    "uid": format!("revision-{number}"),
                    "labels": { "controller-revision-hash": number.to_string() },
                    "ownerReferences": [{ "apiVersion": "apps/v1", "kind": "x", "name": "web", "uid": "dep" }],
                },
                "data": { "spec": { "template": {
                    "$patch": "replace",
                    "metadata": { "creationTimestamp": null, "labels": { "app": "web" } },
                    "spec": { "containers": [{ "name": "web", "image": image }] },
                } } },
                "revision": number,
            })),
        )
    }

    fn pod(hash: &str, ready: &str) -> Arc<Pod> {
        Arc::new(
            serde_json::from_value(json!({
                "metadata": { "name": hash, "labels": { (HASH): hash } },
                "status": { "conditions": [{ "type": "Ready", "status": ready }] },
            }))
            .unwrap(),
        )
    }

    #[test]
    fn matches_revisions_by_template_and_pods() {
        let versions = [revision(1, "good"), revision(2, "bad"), revision(3, "worse")];
        let set = live(WorkloadKind::StatefulSet, "worse", json!({ "currentRevision": "web-1" }));
        assert_eq!(new(&set, &versions).map(Version::number), Some(3));
        assert_eq!(in_place(&set, &versions), 3);
        assert_eq!(
            stable(&set, &versions, &[]).map(Version::number),
            Some(1),
            "the controller's current revision"
        );

        let daemons = live(WorkloadKind::DaemonSet, "worse", json!({}));
        let pods = [pod("1", "True"), pod("2", "False"), pod("3", "False")];
        assert_eq!(stable(&daemons, &versions, &pods).map(Version::number), Some(1), "has available pods");
        assert!(versions[0].made(&pods[0]) && !versions[0].made(&pods[1]));
        assert!(versions[1].made(&pod("web-2", "True")), "a StatefulSet uses the name as label");
    }
}
