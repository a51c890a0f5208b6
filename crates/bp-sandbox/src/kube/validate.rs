//! Validation of objects: the rules that a deployment tool can violate.

use serde_json::Value;

use super::{
    custom, endpoints, pods,
    resource::Resource,
    selector::selects,
    status::{Answer, Failure},
    world::World,
};

/// Validates a new or changed object.
pub(super) fn validate(world: &World, resource: &Resource, old: &Value, new: &Value) -> Answer<()> {
    let name = new["metadata"]["name"].as_str().unwrap_or_default();
    let mut wrong: Vec<(String, String)> = Vec::new();
    let required = |field: &str| (field.to_owned(), "Required value".to_owned());
    if name.is_empty() {
        wrong.push((
            "metadata.name".to_owned(),
            "Required value: name or generateName is required".to_owned(),
        ));
    }
    if resource.kind == "Pod" && old.is_null() {
        let namespace = new["metadata"]["namespace"].as_str().unwrap_or_default();
        pods::admit(world, namespace, name, &new["spec"])?;
    }
    let template = match resource.kind {
        "Job" => {
            if !old.is_null() && old["spec"]["template"] != new["spec"]["template"] {
                let why = format!("Invalid value: {}: field is immutable", new["spec"]["template"]);
                wrong.push(("spec.template".to_owned(), why));
            }
            Some(("spec.template.spec", &new["spec"]["template"]["spec"]))
        }
        "Deployment" | "ReplicaSet" | "StatefulSet" | "DaemonSet" => {
            let spec = &new["spec"];
            if spec["selector"].is_null() {
                wrong.push(required("spec.selector"));
            } else if !selects(&spec["selector"], &spec["template"]["metadata"]["labels"]) {
                let labels = &spec["template"]["metadata"]["labels"];
                let why = format!("Invalid value: {labels}: `selector` does not match template `labels`");
                wrong.push(("spec.template.metadata.labels".to_owned(), why));
            }
            if !old.is_null() && old["spec"]["selector"] != spec["selector"] {
                let why = format!("Invalid value: {}: field is immutable", spec["selector"]);
                wrong.push(("spec.selector".to_owned(), why));
            }
            Some(("spec.template.spec", &spec["template"]["spec"]))
        }
        "Pod" => Some(("spec", &new["spec"])),
        _ => None,
    };
    if let Some(definition) = resource.custom {
        wrong.extend(custom::violations(definition, new));
    }
    if resource.kind == "CustomResourceDefinition" {
        wrong.extend(custom::validate_definition(new));
    }
    if resource.kind == "Service" {
        wrong.extend(endpoints::validate(new));
    }
    if let Some((path, spec)) = template {
        let containers = spec["containers"].as_array().map_or(&[][..], Vec::as_slice);
        if containers.is_empty() {
            wrong.push(required(&format!("{path}.containers")));
        }
        for (at, container) in containers.iter().enumerate() {
            for field in ["name", "image"] {
                if container[field].as_str().unwrap_or_default().is_empty() {
                    wrong.push(required(&format!("{path}.containers[{at}].{field}")));
                }
            }
        }
    }
    if wrong.is_empty() { Ok(()) } else { Err(Failure::invalid(resource, name, &wrong)) }
}
