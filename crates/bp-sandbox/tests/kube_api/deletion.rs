//! Deletion: propagation, finalizers, namespaces, collections, evictions.

use std::time::Duration;

use serde_json::json;

use crate::client::{Api, DEPLOYMENTS, MERGE, PODS, config_map, deployment};

const SETS: &str = "/apis/apps/v1/namespaces/shop/replicasets";
const MAPS: &str = "/api/v1/namespaces/shop/configmaps";

async fn rolled_out(replicas: u32) -> Api {
    let api = Api::new();
    api.post(DEPLOYMENTS, &deployment("web", replicas)).await;
    assert!(api.cluster.settled("shop", "web").await);
    tokio::time::sleep(Duration::from_secs(5)).await;
    api
}

#[tokio::test(start_paused = true)]
async fn dependents_are_deleted_after_before_or_not_at_all() {
    let web = format!("{DEPLOYMENTS}/web");
    let background = rolled_out(2).await;
    let deleted = background.delete(&web, &json!({ "propagationPolicy": "Background" })).await.json();
    assert_eq!(deleted["details"]["kind"], "deployments");
    assert_eq!(background.names(DEPLOYMENTS).await, [""; 0]);
    assert_eq!(background.names(SETS).await.len(), 1, "the garbage collector has not run yet");
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(background.names(SETS).await, [""; 0]);
    assert_eq!(background.names(PODS).await, [""; 0]);

    let foreground = rolled_out(2).await;
    let left = foreground.delete(&web, &json!({ "propagationPolicy": "Foreground" })).await.json();
    assert_eq!(left["metadata"]["finalizers"], json!(["foregroundDeletion"]));
    assert!(left["metadata"]["deletionTimestamp"].is_string());
    assert_eq!(foreground.names(DEPLOYMENTS).await, ["web"], "it waits for its dependents");
    tokio::time::sleep(Duration::from_secs(5)).await;
    for path in [DEPLOYMENTS, SETS, PODS] {
        assert_eq!(foreground.names(path).await, [""; 0], "{path}");
    }

    let orphan = rolled_out(2).await;
    orphan.delete(&web, &json!({ "propagationPolicy": "Orphan" })).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(orphan.names(DEPLOYMENTS).await, [""; 0]);
    assert_eq!(orphan.names(PODS).await.len(), 2);
    let sets = orphan.get(SETS).await.json();
    assert_eq!(sets["items"][0]["metadata"]["ownerReferences"], json!([]));

    let wrong = orphan.delete(&format!("{MAPS}/first"), &json!({ "propagationPolicy": "Later" })).await;
    assert_eq!(wrong.status, 422);
}

/// Objects of any kind, not only those of the controllers, are collected when all of their owners are gone.
#[tokio::test(start_paused = true)]
async fn objects_without_their_owners_are_collected() {
    let api = Api::new();
    let owner = |object: &serde_json::Value| json!({ "apiVersion": "v1", "kind": "ConfigMap", "name": object["metadata"]["name"], "uid": object["metadata"]["uid"] });
    let (a, b) =
        (api.post(MAPS, &config_map("a")).await.json(), api.post(MAPS, &config_map("b")).await.json());
    let unserved = json!({ "apiVersion": "example.com/v1", "kind": "Widget", "name": "x", "uid": "1" });
    for (name, owners) in
        [("one", json!([owner(&a)])), ("both", json!([owner(&a), owner(&b)])), ("other", json!([unserved]))]
    {
        let mut object = config_map(name);
        object["metadata"]["ownerReferences"] = owners;
        assert_eq!(api.post(MAPS, &object).await.status, 201);
    }
    api.delete(&format!("{MAPS}/a"), &json!({})).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(api.names(MAPS).await, ["b", "both", "first", "other"]);
    api.delete(&format!("{MAPS}/b"), &json!({})).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(api.names(MAPS).await, ["first", "other"], "the owner of a kind that is not served may exist");
}

#[tokio::test(start_paused = true)]
async fn an_object_with_finalizers_is_removed_with_the_last_of_them() {
    let api = Api::new();
    let mut object = config_map("held");
    object["metadata"]["finalizers"] = json!(["example.com/a", "example.com/b"]);
    api.post(MAPS, &object).await;
    let held = format!("{MAPS}/held");
    let deleted = api.delete(&held, &json!({})).await.json();
    assert_eq!(
        (&deleted["kind"], deleted["metadata"]["deletionTimestamp"].is_string()),
        (&json!("ConfigMap"), true)
    );
    tokio::time::sleep(Duration::from_secs(60)).await;
    api.patch(&held, MERGE, &json!({ "metadata": { "finalizers": ["example.com/b"] } })).await;
    assert_eq!(api.get(&held).await.status, 200);
    let last = api.patch(&held, MERGE, &json!({ "metadata": { "finalizers": null } })).await.json();
    assert!(last["metadata"]["finalizers"].is_null(), "{last}");
    assert_eq!(api.get(&held).await.status, 404);
}

#[tokio::test(start_paused = true)]
async fn a_namespace_is_deleted_with_its_content_and_accepts_nothing_new() {
    let api = rolled_out(2).await;
    let deleted = api.delete("/api/v1/namespaces/shop", &json!({})).await.json();
    assert_eq!(deleted["status"]["phase"], "Terminating");
    let refused = api.post(MAPS, &config_map("late")).await;
    let why = "configmaps \"late\" is forbidden: unable to create new content in namespace shop because it is being \
               terminated";
    assert_eq!(refused.failure(), (403, why.to_owned()));
    assert_eq!(refused.json()["details"]["causes"][0]["reason"], "NamespaceTerminating");
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(api.get("/api/v1/namespaces/shop").await.status, 404);
    for path in [DEPLOYMENTS, SETS, PODS, MAPS, "/api/v1/namespaces/shop/events"] {
        assert_eq!(api.names(path).await, [""; 0], "{path}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_collection_is_deleted_by_selector() {
    let api = Api::new();
    for name in ["a", "b", "c"] {
        let mut object = config_map(name);
        object["metadata"]["labels"] = json!({ "keep": (name == "c").to_string() });
        api.post(MAPS, &object).await;
    }
    let selected = format!("{MAPS}?labelSelector=keep%3Dfalse");
    let dry = api.delete(&selected, &json!({ "dryRun": ["All"] })).await.json();
    assert_eq!(dry["items"].as_array().unwrap().len(), 2);
    assert_eq!(api.names(MAPS).await.len(), 4);
    assert_eq!(api.delete(&selected, &json!({})).await.json()["kind"], "ConfigMapList");
    assert_eq!(api.names(MAPS).await, ["c", "first"]);
    assert_eq!(api.sandbox.ledger().count_of("deletecollection configmaps"), 2);
}

#[tokio::test(start_paused = true)]
async fn evictions_respect_disruption_budgets() {
    let api = rolled_out(2).await;
    let budget = json!({
        "apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": { "name": "web" },
        "spec": { "minAvailable": 1, "selector": { "matchLabels": { "app": "web" } } },
    });
    api.post("/apis/policy/v1/namespaces/shop/poddisruptionbudgets", &budget).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let status =
        || async { api.cluster.object("poddisruptionbudgets", "shop", "web").unwrap()["status"].clone() };
    assert_eq!(status().await["disruptionsAllowed"], 1);
    let pods = api.names(PODS).await;
    let evict = |pod: String| {
        let eviction = json!({ "apiVersion": "policy/v1", "kind": "Eviction", "metadata": { "name": pod, "namespace": "shop" } });
        let path = format!("{PODS}/{pod}/eviction");
        let api = &api;
        async move { api.post(&path, &eviction).await }
    };
    assert_eq!(evict(pods[0].clone()).await.status, 201);
    let refused = evict(pods[1].clone()).await;
    assert_eq!(
        refused.failure(),
        (429, "Cannot evict pod as it would violate the pod's disruption budget.".to_owned())
    );
    assert_eq!(
        refused.json()["details"]["causes"][0]["message"],
        "The disruption budget web needs 1 healthy pods and has 1 currently"
    );
    // The replacement becomes ready.
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_eq!(evict(pods[1].clone()).await.status, 201);
    assert_eq!(evict("none".to_owned()).await.status, 404);
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_eq!(status().await["currentHealthy"], 2);
}

#[tokio::test(start_paused = true)]
async fn a_cordoned_node_gets_no_new_pods() {
    let api = Api::new();
    for node in api.names("/api/v1/nodes").await {
        api.patch(&format!("/api/v1/nodes/{node}"), MERGE, &json!({ "spec": { "unschedulable": true } }))
            .await;
    }
    api.post(DEPLOYMENTS, &deployment("web", 1)).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    let pod = api.get(PODS).await.json()["items"][0].clone();
    let condition = &pod["status"]["conditions"][0];
    assert_eq!(condition["reason"], "Unschedulable");
    assert!(condition["message"].as_str().unwrap().contains("node(s) were unschedulable"), "{condition}");
}
