//! Defaulting of objects, for the fields that controllers and clients read.

use serde_json::{Value, json};

use super::{custom, endpoints, load_balancers, resource::Resource};

/// Sets `kind`, `apiVersion` and the defaults.
pub(super) fn complete(resource: &Resource, object: &mut Value) {
    object["kind"] = json!(resource.kind);
    if let Some(definition) = resource.custom {
        object["apiVersion"] = json!(definition.stored_version);
        return custom::complete(definition, object);
    }
    object["apiVersion"] = json!(resource.api_version());
    let default = |at: &mut Value, field: &str, value: Value| {
        if at[field].is_null() {
            at[field] = value;
        }
    };
    match resource.kind {
        "Deployment" => {
            let spec = &mut object["spec"];
            default(spec, "replicas", json!(1));
            default(spec, "revisionHistoryLimit", json!(10));
            default(spec, "progressDeadlineSeconds", json!(600));
            default(&mut spec["strategy"], "type", json!("RollingUpdate"));
            if spec["strategy"]["type"] == "RollingUpdate" {
                default(&mut spec["strategy"]["rollingUpdate"], "maxSurge", json!("25%"));
                default(&mut spec["strategy"]["rollingUpdate"], "maxUnavailable", json!("25%"));
            }
            complete_pod(&mut spec["template"]["spec"]);
        }
        "StatefulSet" => {
            let spec = &mut object["spec"];
            default(spec, "replicas", json!(1));
            default(spec, "revisionHistoryLimit", json!(10));
            default(spec, "podManagementPolicy", json!("OrderedReady"));
            default(&mut spec["updateStrategy"], "type", json!("RollingUpdate"));
            if spec["updateStrategy"]["type"] == "RollingUpdate" {
                default(&mut spec["updateStrategy"]["rollingUpdate"], "partition", json!(0));
            }
            complete_pod(&mut spec["template"]["spec"]);
        }
        "DaemonSet" => {
            let spec = &mut object["spec"];
            default(spec, "revisionHistoryLimit", json!(10));
            default(&mut spec["updateStrategy"], "type", json!("RollingUpdate"));
            if spec["updateStrategy"]["type"] == "RollingUpdate" {
                default(&mut spec["updateStrategy"]["rollingUpdate"], "maxSurge", json!(0));
                default(&mut spec["updateStrategy"]["rollingUpdate"], "maxUnavailable", json!(1));
            }
            complete_pod(&mut spec["template"]["spec"]);
        }
        "Job" => complete_job(object),
        "Pod" => {
            complete_pod(&mut object["spec"]);
            default(&mut object["status"], "phase", json!("Pending"));
        }
        "Service" => endpoints::complete(object),
        "HTTPRoute" => load_balancers::complete(object),
        "CustomResourceDefinition" => custom::complete_definition(object),
        "Namespace" => {
            default(&mut object["spec"], "finalizers", json!(["kubernetes"]));
            default(&mut object["status"], "phase", json!("Active"));
        }
        "Secret" => {
            // `stringData` is stored base64-encoded in `data`.
            if let Some(plain) = object["stringData"].take().as_object() {
                use base64::{Engine, engine::general_purpose::STANDARD};
                for (name, value) in plain {
                    object["data"][name] = json!(STANDARD.encode(value.as_str().unwrap_or_default()));
                }
            }
            if let Some(map) = object.as_object_mut() {
                map.remove("stringData");
            }
        }
        _ => {}
    }
}

/// Sets the defaults of a Job; it selects its pods by its uid.
fn complete_job(object: &mut Value) {
    let (uid, name) = (object["metadata"]["uid"].clone(), object["metadata"]["name"].clone());
    let spec = &mut object["spec"];
    for (field, value) in [("completions", 1), ("parallelism", 1), ("backoffLimit", 6)] {
        if spec[field].is_null() {
            spec[field] = json!(value);
        }
    }
    if spec["selector"].is_null() {
        spec["selector"]["matchLabels"]["batch.kubernetes.io/controller-uid"] = uid.clone();
        let labels = &mut spec["template"]["metadata"]["labels"];
        for (label, value) in [("controller-uid", &uid), ("job-name", &name)] {
            labels[label] = value.clone();
            labels[format!("batch.kubernetes.io/{label}")] = value.clone();
        }
    }
    complete_pod(&mut spec["template"]["spec"]);
}

fn complete_pod(spec: &mut Value) {
    if spec["restartPolicy"].is_null() {
        spec["restartPolicy"] = json!("Always");
    }
    for list in ["containers", "initContainers"] {
        for container in spec[list].as_array_mut().into_iter().flatten() {
            for port in container["ports"].as_array_mut().into_iter().flatten() {
                if port["protocol"].is_null() {
                    port["protocol"] = json!("TCP");
                }
            }
            // Reading a missing list through `as_array_mut` leaves a null.
            if container["ports"].is_null()
                && let Some(map) = container.as_object_mut()
            {
                map.remove("ports");
            }
        }
    }
    if spec["initContainers"].is_null()
        && let Some(map) = spec.as_object_mut()
    {
        map.remove("initContainers");
    }
}
