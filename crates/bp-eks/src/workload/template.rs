//! Pod templates as JSON: find a container, read and set its image and variables; unknown fields are preserved.

use bp_artifact::config::Workload;
use k8s_openapi::api::core::v1::PodSpec;
use serde_json::{Value, json};

use super::kind::{Kind, Versions};
use crate::error::Error;

/// A container of a pod template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Slot {
    /// `containers` or `initContainers`.
    pub(crate) list: &'static str,
    pub(crate) name: String,
    /// Other containers that get the same image, such as an init container that migrates.
    pub(crate) also: Vec<Slot>,
}

impl Slot {
    fn of(list: &'static str, name: &str) -> Self {
        Slot { list, name: name.to_owned(), also: Vec::new() }
    }

    /// It and the other containers.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Slot> {
        std::iter::once(self).chain(&self.also)
    }
}

const LISTS: [&str; 2] = ["containers", "initContainers"];

fn containers<'t>(template: &'t Value, list: &str) -> impl Iterator<Item = &'t Value> {
    template["spec"][list].as_array().into_iter().flatten()
}

fn names(template: &Value, list: &str) -> Vec<String> {
    containers(template, list).filter_map(|c| c["name"].as_str().map(str::to_owned)).collect()
}

/// Finds the container `name`; defaults to the only container. Includes init containers, and thereby sidecars.
pub(crate) fn slot(template: &Value, workload: &Workload, name: Option<&str>) -> Result<Slot, Error> {
    let [main, inits] = LISTS.map(|list| names(template, list));
    let Some(name) = name else {
        return match main.as_slice() {
            [only] => Ok(Slot::of("containers", only)),
            _ => Err(Error::ContainerNotNamed { workload: workload.clone(), containers: main }),
        };
    };
    let found = LISTS.into_iter().find(|list| names(template, list).iter().any(|found| found == name));
    found.map(|list| Slot::of(list, name)).ok_or_else(|| Error::ContainerNotFound {
        workload: workload.clone(),
        container: name.to_owned(),
        containers: main.into_iter().chain(inits).collect(),
    })
}

fn container<'t>(template: &'t Value, name: &str) -> Option<&'t Value> {
    LISTS.into_iter().flat_map(|list| containers(template, list)).find(|c| c["name"] == name)
}

/// The image of a container, init containers included.
pub(crate) fn image<'t>(template: &'t Value, name: &str) -> Option<&'t str> {
    container(template, name)?["image"].as_str()
}

/// The name of the first container.
pub(crate) fn first_container(template: &Value) -> Option<String> {
    names(template, "containers").into_iter().next()
}

/// The images of all containers, init containers last.
pub(crate) fn images(template: &Value) -> impl Iterator<Item = &str> {
    let all = LISTS.into_iter().flat_map(|list| containers(template, list));
    all.filter_map(|container| container["image"].as_str())
}

/// The containers with this image, init containers included.
pub(crate) fn with_image(template: &Value, image: &str) -> Vec<String> {
    let all = LISTS.into_iter().flat_map(|list| containers(template, list));
    let with = all.filter(|container| container["image"] == image);
    with.filter_map(|container| container["name"].as_str().map(str::to_owned)).collect()
}

/// The image of a container of a pod, init containers included.
pub(crate) fn pod_image<'s>(spec: &'s PodSpec, name: &str) -> Option<&'s str> {
    let all = spec.containers.iter().chain(spec.init_containers.iter().flatten());
    all.into_iter().find(|c| c.name == name).and_then(|c| c.image.as_deref())
}

/// Whether the container has these variables with these values.
pub(crate) fn has_environment(template: &Value, slot: &Slot, environment: &[(String, String)]) -> bool {
    slot.all().all(|slot| {
        let Some(container) = container(template, &slot.name) else { return false };
        let set: Vec<&Value> = container["env"].as_array().into_iter().flatten().collect();
        environment.iter().all(|(name, value)| set.iter().any(|e| e["name"] == *name && e["value"] == *value))
    })
}

/// The apply configuration of a pod's specification: the names, images and variables of the containers.
pub(crate) fn patch(slot: &Slot, image: &str, environment: &[(String, String)]) -> Value {
    let mut spec = json!({});
    for slot in slot.all() {
        let mut container = json!({ "name": slot.name, "image": image });
        if !environment.is_empty() {
            let pair = |(name, value): &(String, String)| json!({ "name": name, "value": value });
            container["env"] = environment.iter().map(pair).collect();
        }
        match spec[slot.list].as_array_mut() {
            Some(list) => list.push(container),
            None => spec[slot.list] = json!([container]),
        }
    }
    spec
}

/// The template with another image and variables in the containers.
pub(crate) fn with(mut template: Value, slot: &Slot, image: &str, environment: &[(String, String)]) -> Value {
    for slot in slot.all() {
        set(&mut template, slot, image, environment);
    }
    template
}

fn set(template: &mut Value, slot: &Slot, image: &str, environment: &[(String, String)]) {
    let list = template["spec"][slot.list].as_array_mut();
    if let Some(container) = list.into_iter().flatten().find(|c| c["name"] == slot.name) {
        container["image"] = json!(image);
        for (name, value) in environment {
            if !container["env"].is_array() {
                container["env"] = json!([]);
            }
            let entry = json!({ "name": name, "value": value });
            if let Some(list) = container["env"].as_array_mut() {
                match list.iter_mut().find(|e| e["name"] == *name) {
                    Some(found) => *found = entry,
                    None => list.push(entry),
                }
            }
        }
    }
}

/// A template without the fields that the controller adds to its copies: the hash label, `$patch`, and nulls.
pub(crate) fn plain(template: &Value, kind: &Kind) -> Value {
    let mut plain = without_nulls(template);
    if let Some(map) = plain.as_object_mut() {
        map.remove("$patch");
    }
    if let (Some(labels), Versions::ReplicaSets { hash, .. }) =
        (plain["metadata"]["labels"].as_object_mut(), &kind.versions)
    {
        labels.remove(*hash);
    }
    without_nulls(&plain)
}

fn without_nulls(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let kept = map.iter().filter(|(_, value)| !value.is_null());
            Value::Object(kept.map(|(name, value)| (name.clone(), without_nulls(value))).collect())
        }
        Value::Array(items) => items.iter().map(without_nulls).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workload() -> Workload {
        "deployment/web".parse().unwrap()
    }

    fn template(containers: &[&str], inits: &[&str]) -> Value {
        let list = |names: &[&str]| names.iter().map(|name| json!({ "name": name })).collect::<Value>();
        json!({ "spec": { "containers": list(containers), "initContainers": list(inits) } })
    }

    #[test]
    fn finds_a_container_by_name_or_the_only_one() {
        let two = template(&["web", "proxy"], &["migrate"]);
        assert_eq!(slot(&two, &workload(), Some("proxy")).unwrap().list, "containers");
        assert_eq!(slot(&two, &workload(), Some("migrate")).unwrap().list, "initContainers");
        assert_eq!(slot(&template(&["web"], &["migrate"]), &workload(), None).unwrap().name, "web");
        assert_eq!(
            slot(&two, &workload(), Some("api")).unwrap_err().to_string(),
            "deployment/web has no container \"api\"; it has web, proxy, migrate"
        );
        assert_eq!(
            slot(&two, &workload(), None).unwrap_err().to_string(),
            "deployment/web has several containers; specify the one to deploy: web, proxy"
        );
    }

    #[test]
    fn sets_image_and_variables_and_preserves_other_fields() {
        let slot = Slot::of("containers", "web");
        let before = json!({ "spec": { "containers": [
            { "name": "web", "image": "a", "env": [{ "name": "A", "value": "1" }], "fieldOfNextYear": 7 },
        ] } });
        let environment = [("A".to_owned(), "2".to_owned()), ("B".to_owned(), "3".to_owned())];
        assert!(!has_environment(&before, &slot, &environment));
        let after = with(before, &slot, "b", &environment);
        assert!(has_environment(&after, &slot, &environment));
        assert_eq!(image(&after, "web"), Some("b"));
        assert_eq!(after["spec"]["containers"][0]["fieldOfNextYear"], 7);
        assert_eq!(patch(&slot, "b", &[]), json!({ "containers": [{ "name": "web", "image": "b" }] }));
        let both = Slot { also: vec![Slot::of("initContainers", "migrate")], ..slot };
        assert_eq!(
            patch(&both, "b", &[]),
            json!({
                "containers": [{ "name": "web", "image": "b" }],
                "initContainers": [{ "name": "migrate", "image": "b" }],
            })
        );
    }

    #[test]
    fn plain_removes_the_fields_that_the_controller_adds() {
        let copy = json!({ "$patch": "replace", "metadata": { "creationTimestamp": null, "labels": {
            "app": "web", "pod-template-hash": "1",
        } }, "spec": {} });
        assert_eq!(
            plain(&copy, super::super::of(workload().kind)),
            json!({ "metadata": { "labels": { "app": "web" } }, "spec": {} })
        );
    }
}
