//! Pod templates: which container is meant, which image it has, and which ReplicaSet stands for which template.

use bp_artifact::Workload;
use k8s_openapi::api::{
    apps::v1::{Deployment, ReplicaSet},
    core::v1::{PodSpec, PodTemplateSpec},
};
use kube::ResourceExt;

use super::{error::Error, status, text::Text};

const HASH: &str = "pod-template-hash";
const REVISION: &str = "deployment.kubernetes.io/revision";

/// A container of a pod template, found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Slot {
    /// `containers` or `initContainers`.
    pub(crate) list: &'static str,
    pub(crate) name: String,
}

/// The container `name`, or the only one there is.
pub(crate) fn slot(spec: &PodSpec, workload: &Workload, name: Option<&str>) -> Result<Slot, Error> {
    let names = || spec.containers.iter().map(|c| c.name.clone()).collect::<Vec<_>>();
    let inits = || spec.init_containers.iter().flatten().map(|c| c.name.clone());
    let Some(name) = name else {
        return match names().as_slice() {
            [only] => Ok(Slot { list: "containers", name: only.clone() }),
            _ => Err(Error::ContainerNotNamed { workload: workload.clone(), containers: names() }),
        };
    };
    let slot = |list| Ok(Slot { list, name: name.to_owned() });
    match () {
        () if names().iter().any(|n| n == name) => slot("containers"),
        () if inits().any(|n| n == name) => slot("initContainers"),
        () => Err(Error::ContainerNotFound {
            workload: workload.clone(),
            container: name.to_owned(),
            containers: names().into_iter().chain(inits()).collect(),
        }),
    }
}

/// The image of a container, init containers included.
pub(crate) fn image<'s>(spec: &'s PodSpec, container: &str) -> Option<&'s str> {
    let all = spec.containers.iter().chain(spec.init_containers.iter().flatten());
    all.into_iter().find(|c| c.name == container).and_then(|c| c.image.as_deref())
}

/// The image of a container in the template of a Deployment.
pub(super) fn deployed_image<'d>(deployment: &'d Deployment, container: &str) -> &'d str {
    let spec = deployment.spec.as_ref().and_then(|spec| spec.template.spec.as_ref());
    spec.and_then(|spec| image(spec, container)).unwrap_or_default()
}

/// The image of a container in the template of a ReplicaSet.
pub(super) fn set_image<'r>(set: &'r ReplicaSet, container: &str) -> &'r str {
    let template = set.spec.as_ref().and_then(|spec| spec.template.as_ref());
    template.and_then(|t| t.spec.as_ref()).and_then(|spec| image(spec, container)).unwrap_or_default()
}

/// A ReplicaSet's template as its Deployment had it: without the hash that the controller adds.
pub(super) fn template(set: &ReplicaSet) -> PodTemplateSpec {
    let mut template = set.spec.as_ref().and_then(|spec| spec.template.clone()).unwrap_or_default();
    if let Some(labels) = template.metadata.as_mut().and_then(|metadata| metadata.labels.as_mut()) {
        labels.remove(HASH);
    }
    template
}

/// The same template with another image in one container.
pub(crate) fn with_image(mut template: PodTemplateSpec, container: &str, image: &str) -> PodTemplateSpec {
    if let Some(spec) = &mut template.spec {
        let all = spec.containers.iter_mut().chain(spec.init_containers.iter_mut().flatten());
        for found in all.filter(|c| c.name == container) {
            found.image = Some(image.to_owned());
        }
    }
    template
}

/// The ReplicaSet of the Deployment's template: the new one. Compared as the controller does, by content.
pub(super) fn new_set<'r, R: AsRef<ReplicaSet>>(
    deployment: &Deployment,
    sets: &'r [R],
) -> Option<&'r ReplicaSet> {
    let wanted = &deployment.spec.as_ref()?.template;
    owned(deployment, sets).filter(|set| template(set) == *wanted).max_by_key(|set| revision(*set))
}

/// The ReplicaSets that the Deployment controls.
pub(super) fn owned<'r, R: AsRef<ReplicaSet>>(
    deployment: &Deployment,
    sets: &'r [R],
) -> impl Iterator<Item = &'r ReplicaSet> {
    let uid = deployment.metadata.uid.clone();
    sets.iter().map(AsRef::as_ref).filter(move |set| is_owned(*set, uid.text()))
}

/// Whether the object is controlled by the one with this uid.
pub(super) fn is_owned(object: &impl kube::Resource, uid: &str) -> bool {
    object.owner_references().iter().any(|owner| owner.uid == uid)
}

/// The number of a revision, as the controller writes it; 0 when it has none yet.
pub(super) fn revision(object: &impl kube::Resource) -> u64 {
    object.annotations().get(REVISION).and_then(|text| text.parse().ok()).unwrap_or_default()
}

/// The ReplicaSet to go back to while the Deployment's template is not rolled out: another one whose pods are available;
/// or its own if that is whole already and only old pods are ending, as at the end of an undo; or the one before.
pub(super) fn stable_set<'r, R: AsRef<ReplicaSet>>(
    deployment: &Deployment,
    sets: &'r [R],
) -> Option<&'r ReplicaSet> {
    let earlier = earlier_set(deployment, sets);
    let new = new_set(deployment, sets).filter(|set| available(set) >= status::wanted(deployment).max(1));
    earlier.filter(|set| available(set) > 0).or(new).or(earlier)
}

/// The ReplicaSet before the one of the Deployment's template: the newest other one whose pods are available, or else
/// the newest other one.
pub(super) fn earlier_set<'r, R: AsRef<ReplicaSet>>(
    deployment: &Deployment,
    sets: &'r [R],
) -> Option<&'r ReplicaSet> {
    let new = new_set(deployment, sets).and_then(|set| set.metadata.uid.clone());
    owned(deployment, sets)
        .filter(|set| set.metadata.uid != new)
        .max_by_key(|set| (available(set) > 0, revision(*set)))
}

fn available(set: &ReplicaSet) -> i32 {
    set.status.as_ref().and_then(|status| status.available_replicas).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;

    fn workload() -> Workload {
        "deployment/web".parse().unwrap()
    }

    fn spec(containers: &[&str], inits: &[&str]) -> PodSpec {
        let list =
            |names: &[&str]| names.iter().map(|n| json!({ "name": n, "image": "i" })).collect::<Vec<_>>();
        serde_json::from_value(json!({ "containers": list(containers), "initContainers": list(inits) }))
            .unwrap()
    }

    #[test]
    fn the_container_is_found_or_the_names_are_told() {
        let two = spec(&["web", "proxy"], &["migrate"]);
        assert_eq!(slot(&two, &workload(), Some("proxy")).unwrap().list, "containers");
        assert_eq!(slot(&two, &workload(), Some("migrate")).unwrap().list, "initContainers");
        assert_eq!(slot(&spec(&["web"], &["migrate"]), &workload(), None).unwrap().name, "web");
        assert_eq!(
            slot(&two, &workload(), Some("api")).unwrap_err().to_string(),
            "deployment/web has no container \"api\"; it has web, proxy, migrate"
        );
        assert_eq!(
            slot(&two, &workload(), None).unwrap_err().to_string(),
            "deployment/web has several containers, so name the one to deploy: web, proxy"
        );
    }

    fn set(revision: u64, image: &str, available: i32) -> Arc<ReplicaSet> {
        let set = json!({
            "metadata": {
                "name": format!("web-{revision}"),
                "uid": format!("set-{revision}"),
                "annotations": { (REVISION): revision.to_string() },
                "ownerReferences": [{ "apiVersion": "apps/v1", "kind": "Deployment", "name": "web", "uid": "dep" }],
            },
            "spec": { "selector": {}, "template": {
                "metadata": { "labels": { "app": "web", (HASH): revision.to_string() } },
                "spec": { "containers": [{ "name": "web", "image": image }] },
            } },
            "status": { "replicas": available, "availableReplicas": available },
        });
        Arc::new(serde_json::from_value(set).unwrap())
    }

    fn deployment(image: &str) -> Deployment {
        serde_json::from_value(json!({
            "metadata": { "name": "web", "uid": "dep" },
            "spec": { "replicas": 3, "selector": {}, "template": {
                "metadata": { "labels": { "app": "web" } },
                "spec": { "containers": [{ "name": "web", "image": image }] },
            } },
        }))
        .unwrap()
    }

    #[test]
    fn the_way_back_is_what_ran_and_not_what_was_tried_last() {
        // 1 ran, 2 failed, 3 is being tried.
        let sets = [set(2, "bad", 0), set(3, "worse", 0), set(1, "good", 3)];
        assert_eq!(new_set(&deployment("worse"), &sets).map(revision), Some(3));
        assert_eq!(stable_set(&deployment("worse"), &sets).map(revision), Some(1));
        // Recreate: nothing is available any more, so the one before is taken.
        let sets = [set(1, "a", 0), set(2, "b", 0), set(3, "c", 0)];
        assert_eq!(stable_set(&deployment("c"), &sets).map(revision), Some(2));
        // The first roll-out has none.
        assert_eq!(stable_set(&deployment("a"), &[set(1, "a", 0)]), None);
        // An undo that is all but done is where to go back to, not what it undoes.
        let sets = [set(2, "bad", 0), set(3, "good", 3)];
        assert_eq!(stable_set(&deployment("good"), &sets).map(revision), Some(3));
        assert_eq!(earlier_set(&deployment("good"), &sets).map(revision), Some(2));
        let sets = [set(1, "a", 0), set(2, "b", 0), set(3, "c", 0)];
        // The new set is not there yet.
        assert_eq!(new_set(&deployment("d"), &sets), None);
        assert_eq!(stable_set(&deployment("d"), &[set(1, "a", 3)]).map(revision), Some(1));
    }

    #[test]
    fn templates_are_compared_without_the_hash_and_with_the_image_put_in() {
        let wanted = deployment("b").spec.unwrap().template;
        assert_eq!(with_image(template(&set(1, "a", 1)), "web", "b"), wanted);
        assert_ne!(template(&set(1, "a", 1)), wanted);
    }
}
