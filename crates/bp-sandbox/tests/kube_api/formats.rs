//! Formats: protobuf, content negotiation, tables, metadata, discovery, OpenAPI.

use std::time::Duration;

use http::Method;
use serde_json::{Value, json};

use crate::client::{Api, DEPLOYMENTS, JSON, PODS, deployment};

const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";
const TYPED_CLIENT: &str = "application/vnd.kubernetes.protobuf,application/json";
const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";

/// A field of bytes, or of a message, with a length below 128.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    assert!(bytes.len() < 128 && number < 16);
    [&[number << 3 | 2, bytes.len() as u8][..], bytes].concat()
}

/// A document of a kind of the core group, as a Go client encodes it.
fn document(kind: &str, object: &[u8]) -> Vec<u8> {
    let kind = [field(1, b"v1"), field(2, kind.as_bytes())].concat();
    [b"k8s\0".to_vec(), field(1, &kind), field(2, object), field(3, b""), field(4, b"")].concat()
}

/// Helm's release as a Go client sends it.
fn secret() -> Vec<u8> {
    let label = [field(1, b"owner"), field(2, b"helm")].concat();
    let metadata = [field(1, b"release-1"), field(2, b""), field(3, b""), field(11, &label)].concat();
    let data = [field(1, b"release"), field(2, b"H4sI")].concat();
    document("Secret", &[field(1, &metadata), field(2, &data), field(3, b"helm.sh/release.v1")].concat())
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

#[tokio::test(start_paused = true)]
async fn a_typed_client_creates_reads_and_watches_in_protobuf() {
    let api = Api::new();
    let secrets = "/api/v1/namespaces/shop/secrets";
    let headers = [("content-type", PROTOBUF), ("accept", TYPED_CLIENT)];
    let created = api.send(Method::POST, secrets, &headers, secret()).await;
    assert_eq!((created.status, created.header("content-type")), (201, vec![PROTOBUF]));
    assert!(created.bytes.starts_with(b"k8s\0") && contains(&created.bytes, b"helm.sh/release.v1"));

    let stored = api.get(&format!("{secrets}/release-1")).await.json();
    assert_eq!(stored["data"], json!({ "release": "SDRzSQ==" }));
    assert_eq!(stored["metadata"]["labels"], json!({ "owner": "helm" }));
    assert!(stored["metadata"]["generateName"].is_null(), "empty strings of Go are absent in JSON");

    let list = api.get_as(TYPED_CLIENT, &format!("{secrets}?labelSelector=owner%3Dhelm")).await;
    assert!(contains(&list.bytes, b"SecretList") && contains(&list.bytes, b"H4sI"));
    let missing = api.get_as(TYPED_CLIENT, &format!("{secrets}/release-2")).await;
    assert_eq!((missing.status, missing.header("content-type")), (404, vec![PROTOBUF]));
    assert!(contains(&missing.bytes, b"secrets \"release-2\" not found"));

    let watch = format!("{secrets}?watch=1&timeoutSeconds=5&allowWatchBookmarks=true");
    let watch = api.get_as(PROTOBUF, &watch).await;
    assert_eq!(watch.header("content-type"), [format!("{PROTOBUF};stream=watch")]);
    let (mut frames, mut rest) = (Vec::new(), watch.bytes.as_slice());
    while let Some((length, after)) = rest.split_first_chunk::<4>() {
        let (frame, after) = after.split_at(u32::from_be_bytes(*length) as usize);
        frames.push(frame);
        rest = after;
    }
    assert_eq!(frames.len(), 2);
    assert!(frames[0].starts_with(&field(1, b"ADDED")) && contains(frames[0], b"k8s\0"));
    assert!(frames[1].starts_with(&field(1, b"BOOKMARK")));

    // DeleteOptions, with the preconditions of another object.
    let options = document("DeleteOptions", &field(2, &field(1, b"another")));
    let refused = api.send(Method::DELETE, &format!("{secrets}/release-1"), &headers, options).await;
    assert_eq!(refused.status, 409);
    assert!(contains(
        &refused.bytes,
        b"the UID in the precondition (another) does not match the UID in record"
    ));
}

#[tokio::test(start_paused = true)]
async fn formats_that_are_not_supported_are_refused_with_those_that_are() {
    let api = Api::new();
    let config_maps = "/api/v1/namespaces/shop/configmaps";
    let types = "application/json, application/yaml, application/vnd.kubernetes.protobuf";
    let refused = api.get_as("application/cbor", config_maps).await;
    let available = format!(
        "406: Not Acceptable\n\nAvailable representations: {types}, application/json;stream=watch, \
         application/vnd.kubernetes.protobuf;stream=watch"
    );
    assert_eq!((refused.failure(), &refused.json()["reason"]), ((406, available), &json!("NotAcceptable")));
    let table = "application/vnd.kubernetes.protobuf;as=Table;g=meta.k8s.io;v=v1";
    let refused = api.get_as(table, &format!("{config_maps}/first")).await;
    assert_eq!(refused.failure(), (406, format!("only the following media types are accepted: {types}")));
    let headers = [("content-type", "application/cbor")];
    let refused = api.send(Method::POST, config_maps, &headers, "x").await;
    let unknown =
        format!("the body of the request was in an unknown format - accepted media types include: {types}");
    assert_eq!(refused.failure(), (415, unknown));
    let refused = api.patch(&format!("{config_maps}/first"), JSON, &json!({})).await;
    assert_eq!(refused.failure(), (415, "415: Unsupported Media Type".to_owned()));
    // A custom resource of a controller of AWS has no protobuf encoding.
    let bindings = "/apis/elbv2.k8s.aws/v1beta1/namespaces/shop/targetgroupbindings";
    assert_eq!(api.get_as(TYPED_CLIENT, bindings).await.header("content-type"), [JSON]);

    let garbage = api.send(Method::POST, config_maps, &[("content-type", PROTOBUF)], "{}").await;
    let why = "the object provided is unrecognized (must be of type ConfigMap): provided data does not appear to be a \
               protobuf message, expected prefix [107 56 115 0] ({})";
    assert_eq!(garbage.failure(), (400, why.to_owned()));
    let empty = api.send(Method::POST, config_maps, &[("content-type", JSON)], "").await;
    let (status, why) = empty.failure();
    assert_eq!(status, 400);
    assert!(
        why.contains("couldn't get version/kind; json parse error:") && why.ends_with("(<empty>)"),
        "{why}"
    );
    let large = vec![b' '; 3 * 1024 * 1024 + 1];
    let large = api.send(Method::POST, config_maps, &[("content-type", JSON)], large).await;
    assert_eq!(large.failure(), (413, "Request entity too large: limit is 3145728".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn tables_have_the_columns_of_wide_output_also_in_watches() {
    let api = Api::new();
    api.post(DEPLOYMENTS, &deployment("web", 1)).await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    let table = api.get_as(TABLE, DEPLOYMENTS).await.json();
    let columns = table["columnDefinitions"].as_array().unwrap();
    let wide: Vec<&Value> =
        columns.iter().filter(|column| column["priority"] == 1).map(|column| &column["name"]).collect();
    assert_eq!(wide, ["Containers", "Images", "Selector"]);
    let cells = table["rows"][0]["cells"].as_array().unwrap();
    assert_eq!(cells[5..], [json!("web"), json!("registry.example.com/shop/web:1"), json!("app=web")]);

    let one = api.get_as(TABLE, &format!("{DEPLOYMENTS}/web?includeObject=Object")).await.json();
    assert_eq!(one["rows"][0]["object"]["kind"], "Deployment");
    let events = api.get_as(TABLE, &format!("{PODS}?watch=true&timeoutSeconds=20")).await.lines();
    assert_eq!(events[0]["object"]["kind"], "Table");
    assert_eq!(events[0]["object"]["rows"][0]["cells"][2], "Running");
    assert!(events[0]["object"]["columnDefinitions"].is_array());
    assert!(events.iter().skip(1).all(|event| event["object"]["columnDefinitions"].is_null()));

    let metadata = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";
    let list = api.get_as(metadata, PODS).await.json();
    assert_eq!(list["kind"], "PartialObjectMetadataList");
    assert!(list["items"][0]["metadata"]["name"].is_string() && list["items"][0]["spec"].is_null());
}

#[tokio::test(start_paused = true)]
async fn discovery_is_aggregated_for_clients_that_accept_it() {
    let api = Api::new();
    let aggregated = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json";
    let seen = api.get_as(aggregated, "/apis").await;
    let media_type = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
    assert_eq!(seen.header("content-type"), [media_type]);
    let document = seen.json();
    let apps = document["items"]
        .as_array()
        .unwrap()
        .iter()
        .find(|group| group["metadata"]["name"] == "apps")
        .unwrap();
    let resources = apps["versions"][0]["resources"].as_array().unwrap();
    let deployments = resources.iter().find(|resource| resource["resource"] == "deployments").unwrap();
    assert_eq!(deployments["shortNames"], json!(["deploy"]));
    assert_eq!(deployments["categories"], json!(["all"]));
    assert_eq!(
        deployments["subresources"][0]["responseKind"],
        json!({ "group": "autoscaling", "version": "v1", "kind": "Scale" })
    );
    let core = api.get_as(aggregated, "/api").await.json();
    let pods = core["items"][0]["versions"][0]["resources"].as_array().unwrap().iter();
    let pods = pods.clone().find(|resource| resource["resource"] == "pods").unwrap();
    let eviction =
        pods["subresources"].as_array().unwrap().iter().find(|sub| sub["subresource"] == "eviction").unwrap();
    assert_eq!(eviction["responseKind"]["kind"], "Eviction");
    // Clients that prefer the list of groups get it.
    assert_eq!(api.get_as("application/json", "/apis").await.json()["kind"], "APIGroupList");
}

#[tokio::test(start_paused = true)]
async fn openapi_documents_contain_the_fields_that_explain_shows() {
    let api = Api::new();
    let index = api.get("/openapi/v3").await.json();
    let url = index["paths"]["apis/apps/v1"]["serverRelativeURL"].as_str().unwrap();
    let document = api.get(url).await.json();
    let schemas = &document["components"]["schemas"];
    let kind = schemas.as_object().unwrap().values().find(|schema| {
        schema["x-kubernetes-group-version-kind"][0]
            == json!({ "group": "apps", "version": "v1", "kind": "Deployment" })
    });
    // Follows the references from a kind to a field.
    let mut at = kind.unwrap();
    for name in ["spec", "template", "spec", "containers"] {
        let property = &at["properties"][name];
        let item = if property["items"].is_object() { &property["items"] } else { property };
        let reference = item["allOf"][0]["$ref"].as_str().unwrap_or_else(|| panic!("{name}: {property}"));
        at = &schemas[reference.rsplit('/').next().unwrap()];
    }
    assert_eq!(at["properties"]["image"]["type"], "string");
    assert_eq!(at["properties"]["ports"]["x-kubernetes-list-map-keys"], json!(["containerPort", "protocol"]));
    assert_eq!(api.get("/openapi/v3/apis/none/v1").await.status, 404);
}
