//! Pods as controllers make them, and what admission says to that.

use serde_json::{Value, json};

use super::{
    kubelet::PodRun,
    resource,
    status::Failure,
    store::{Key, Object},
    world::{World, is_ready, owner},
};

/// The pod that a controller is to make.
pub(super) struct NewPod<'a> {
    pub(super) name: String,
    /// What generated the name, if it was generated.
    pub(super) prefix: Option<String>,
    /// Labels that the controller adds.
    pub(super) labels: &'a [(&'a str, String)],
    /// Where it is to run, if the controller knows.
    pub(super) node: Option<&'a str>,
}

pub(super) fn key(pod: &Value) -> Key {
    Key::of(resource::by_plural("pods").expect("pods are served"), pod)
}

/// Makes a pod from the template of its controller, and tells about it as that controller does.
pub(super) fn create(
    world: &mut World,
    controller: &Object,
    source: &str,
    new: NewPod<'_>,
) -> Result<Object, Failure> {
    let namespace = controller["metadata"]["namespace"].as_str().unwrap_or_default();
    let template = &controller["spec"]["template"];
    admit(world, namespace, &new.name, &template["spec"])?;
    let mut pod = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": new.name,
            "namespace": namespace,
            "labels": template["metadata"]["labels"],
            "ownerReferences": owner(controller),
        },
        "spec": template["spec"],
        "status": { "phase": "Pending" },
    });
    for (name, value) in new.labels {
        pod["metadata"]["labels"][*name] = json!(value);
    }
    if let Some(prefix) = new.prefix {
        pod["metadata"]["generateName"] = json!(prefix);
    }
    if let Some(node) = new.node {
        pod["spec"]["nodeName"] = json!(node);
    }
    if !template["metadata"]["annotations"].is_null() {
        pod["metadata"]["annotations"] = template["metadata"]["annotations"].clone();
    }
    let key = Key::new("pods", namespace, &new.name);
    let pod = world.put(key.clone(), pod);
    let now = world.now;
    world.pods.insert(key, PodRun::new(&pod, now));
    world.event(controller, source, "Normal", "SuccessfulCreate", &format!("Created pod: {}", new.name));
    Ok(pod)
}

/// Admission of a pod: its service account has to exist, and the quotas to allow it.
pub(super) fn admit(world: &World, namespace: &str, name: &str, spec: &Value) -> Result<(), Failure> {
    let pods = resource::by_plural("pods").expect("pods are served");
    let account = spec["serviceAccountName"].as_str().unwrap_or("default");
    if account != "default" && world.store.get(&Key::new("serviceaccounts", namespace, account)).is_none() {
        let why = format!(
            "error looking up service account {namespace}/{account}: serviceaccount {account:?} not found"
        );
        return Err(Failure::refused(pods, name, &why));
    }
    for quota in world.store.list("resourcequotas", namespace) {
        let hard = &quota["spec"]["hard"]["pods"];
        let Some(limit) = hard.as_u64().or_else(|| hard.as_str()?.parse().ok()) else { continue };
        let used = world.store.list("pods", namespace).count() as u64;
        if used >= limit {
            let quota = quota["metadata"]["name"].as_str().unwrap_or_default();
            let why = format!(
                "exceeded quota: {quota}, requested: pods=1, used: pods={used}, limited: pods={limit}"
            );
            return Err(Failure::refused(pods, name, &why));
        }
    }
    Ok(())
}

pub(super) fn is_ending(pod: &Value) -> bool {
    !pod["metadata"]["deletionTimestamp"].is_null()
}

/// Whether it has ended for good.
pub(super) fn is_over(pod: &Value) -> bool {
    matches!(pod["status"]["phase"].as_str(), Some("Failed" | "Succeeded"))
}

/// Whether it is ready and stays.
pub(super) fn is_well(pod: &Value) -> bool {
    is_ready(pod) && !is_ending(pod)
}
