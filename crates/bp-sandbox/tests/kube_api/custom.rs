//! Custom resources.

use std::time::Duration;

use serde_json::{Value, json};

use crate::client::{Api, MERGE, STRATEGIC};

const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const WIDGETS: &str = "/apis/example.com/v1/namespaces/shop/widgets";

fn definition() -> Value {
    let schema = json!({
        "type": "object",
        "properties": {
            "spec": {
                "type": "object",
                "required": ["size"],
                "properties": {
                    "size": { "type": "integer", "minimum": 1 },
                    "mode": { "type": "string", "enum": ["fast", "safe"], "default": "safe" },
                },
            },
            "status": { "type": "object", "x-kubernetes-preserve-unknown-fields": true },
        },
    });
    let version = |name: &str, storage: bool| {
        json!({
            "name": name, "served": true, "storage": storage,
            "subresources": {
                "status": {}, "scale": { "specReplicasPath": ".spec.size", "statusReplicasPath": ".status.size" },
            },
            "additionalPrinterColumns": [
                { "name": "Size", "type": "integer", "jsonPath": ".spec.size" },
                { "name": "Ready", "type": "string", "jsonPath": ".status.conditions[?(@.type==\"Ready\")].status" },
            ],
            "schema": { "openAPIV3Schema": schema },
        })
    };
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": { "name": "widgets.example.com" },
        "spec": {
            "group": "example.com", "scope": "Namespaced",
            "names": { "plural": "widgets", "kind": "Widget", "shortNames": ["wd"] },
            "versions": [version("v1", true), version("v1beta1", false)],
        },
    })
}

fn widget(name: &str, size: i64) -> Value {
    json!({ "apiVersion": "example.com/v1", "kind": "Widget", "metadata": { "name": name }, "spec": { "size": size } })
}

async fn established() -> Api {
    let api = Api::new();
    assert_eq!(api.get(WIDGETS).await.status, 404);
    let created = api.post(DEFINITIONS, &definition()).await;
    assert_eq!(created.status, 201, "{:?}", created.json());
    tokio::time::sleep(Duration::from_secs(1)).await;
    let definition = api.get(&format!("{DEFINITIONS}/widgets.example.com")).await.json();
    let conditions = definition["status"]["conditions"].as_array().unwrap();
    assert!(conditions.iter().any(|c| c["type"] == "Established" && c["status"] == "True"));
    assert_eq!(definition["status"]["storedVersions"], json!(["v1"]));
    api
}

#[tokio::test(start_paused = true)]
async fn a_definition_is_established_served_and_removed_with_its_objects() {
    let api = established().await;
    let resources = api.get("/apis/example.com/v1").await.json();
    assert_eq!(resources["resources"][0]["shortNames"], json!(["wd"]));
    let created = api.post(WIDGETS, &widget("one", 2)).await;
    assert_eq!((created.status, &created.json()["spec"]["mode"]), (201, &json!("safe")), "the default");
    let list = api.get(WIDGETS).await.json();
    assert_eq!((&list["kind"], list["items"].as_array().unwrap().len()), (&json!("WidgetList"), 1));
    // The other version shows the same object.
    let beta = api.get("/apis/example.com/v1beta1/namespaces/shop/widgets/one").await.json();
    assert_eq!((&beta["apiVersion"], &beta["spec"]["size"]), (&json!("example.com/v1beta1"), &json!(2)));
    let table = api.get_as("application/json;as=Table;v=v1;g=meta.k8s.io", WIDGETS).await.json();
    assert_eq!(table["rows"][0]["cells"], json!(["one", 2, "<none>"]));
    let protobuf = api.get_as("application/vnd.kubernetes.protobuf", WIDGETS).await;
    // The error is in the format that the client accepts.
    let why = "only the following media types are accepted: application/json, application/yaml";
    assert_eq!((protobuf.status, &protobuf.bytes[..4]), (406, &b"k8s\0"[..]));
    assert!(String::from_utf8_lossy(&protobuf.bytes).contains(why));
    let openapi = api.get("/openapi/v3/apis/example.com/v1").await.json();
    assert!(openapi.to_string().contains("\"fast\""));

    assert_eq!(api.delete(&format!("{DEFINITIONS}/widgets.example.com"), &json!({})).await.status, 200);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(api.get(WIDGETS).await.status, 404);
    api.post(DEFINITIONS, &definition()).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(api.names(WIDGETS).await, [""; 0], "objects are removed with their definition");
}

#[tokio::test(start_paused = true)]
async fn custom_resources_are_validated_and_pruned_by_their_schema() {
    let api = established().await;
    let mut wrong = widget("one", 0);
    wrong["spec"]["mode"] = json!("wild");
    let (status, why) = api.post(WIDGETS, &wrong).await.failure();
    assert_eq!(status, 422);
    assert!(
        why.contains("spec.size: Invalid value: 0: spec.size in body should be greater than or equal to 1"),
        "{why}"
    );
    assert!(
        why.contains("spec.mode: Unsupported value: \"wild\": supported values: \"fast\", \"safe\""),
        "{why}"
    );
    let mut unknown = widget("one", 1);
    unknown["spec"]["sise"] = json!(1);
    let (status, why) = api.post(&format!("{WIDGETS}?fieldValidation=Strict"), &unknown).await.failure();
    assert_eq!(status, 400);
    assert!(why.ends_with("strict decoding error: unknown field \"spec.sise\""), "{why}");
    let pruned = api.post(WIDGETS, &unknown).await;
    assert_eq!(pruned.json()["spec"], json!({ "size": 1, "mode": "safe" }));
    assert_eq!(pruned.header("warning"), ["299 - \"unknown field \\\"spec.sise\\\"\""]);
    let refused = api.patch(&format!("{WIDGETS}/one"), STRATEGIC, &json!({})).await;
    assert_eq!(refused.status, 415);
}

#[tokio::test(start_paused = true)]
async fn status_and_scale_of_custom_resources_are_subresources() {
    let api = established().await;
    let mut object = widget("one", 2);
    object["status"] = json!({ "size": 9 });
    assert!(api.post(WIDGETS, &object).await.json()["status"].is_null());
    let one = format!("{WIDGETS}/one");
    let patch = json!({ "spec": { "size": 5 }, "status": { "size": 4 } });
    let changed = api.patch(&one, MERGE, &patch).await.json();
    assert_eq!((&changed["spec"]["size"], &changed["status"]), (&json!(5), &Value::Null));
    assert_eq!(changed["metadata"]["generation"], 2);
    let status = api
        .patch(&format!("{one}/status"), MERGE, &json!({ "spec": { "size": 1 }, "status": { "size": 4 } }))
        .await;
    assert_eq!((&status.json()["spec"]["size"], &status.json()["status"]["size"]), (&json!(5), &json!(4)));
    assert_eq!(status.json()["metadata"]["generation"], 2, "the generation counts changes of spec");
    let scaled =
        api.patch(&format!("{one}/scale"), MERGE, &json!({ "spec": { "replicas": 7 } })).await.json();
    assert_eq!((&scaled["kind"], &scaled["status"]["replicas"]), (&json!("Scale"), &json!(4)));
    assert_eq!(api.get(&one).await.json()["spec"]["size"], 7);
}

#[tokio::test(start_paused = true)]
async fn an_invalid_definition_is_refused() {
    let api = Api::new();
    let mut wrong = definition();
    wrong["metadata"]["name"] = json!("gadgets.example.com");
    wrong["spec"]["scope"] = json!("Everywhere");
    wrong["spec"]["versions"][1]["storage"] = json!(true);
    let (status, why) = api.post(DEFINITIONS, &wrong).await.failure();
    assert_eq!(status, 422);
    for part in [
        "metadata.name: Invalid value: \"gadgets.example.com\": must be spec.names.plural+\".\"+spec.group",
        "spec.scope: Unsupported value: \"Everywhere\"",
        "must have exactly one version marked as storage version",
    ] {
        assert!(why.contains(part), "{part} in {why}");
    }
}
