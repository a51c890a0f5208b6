//! Tests of the Kubernetes model over HTTP, on a paused clock.
#![cfg(feature = "kube")]

use std::{sync::Arc, time::Duration};

use bp_sandbox::{
    Behaviour, Body, ImageBuilder, Sandbox,
    kube::{Cluster, ClusterOptions},
    registry::RegistryOptions,
};
use http::{Method, Request};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tower::ServiceExt;

const REGISTRY: &str = "registry.example.com";
const WEB: &str = "/apis/apps/v1/namespaces/shop/deployments/web";

struct World {
    sandbox: Sandbox,
    cluster: Arc<Cluster>,
}

impl World {
    fn new() -> Self {
        let sandbox = Sandbox::builder()
            .registry(REGISTRY, RegistryOptions::default())
            .cluster("demo", ClusterOptions::default())
            .build();
        let cluster = sandbox.cluster("demo");
        World { sandbox, cluster }
    }

    /// Pushes an image with this behaviour, and returns its reference.
    fn image(&self, tag: &str, behaviour: Behaviour) -> String {
        let image =
            ImageBuilder::new().platform("linux/amd64").layer([("app", tag.as_bytes().to_vec())]).build();
        self.sandbox.registry(REGISTRY).push(&image, "shop/web", tag);
        self.sandbox.script(image.digest(), behaviour);
        format!("{REGISTRY}/shop/web@{}", image.digest())
    }

    async fn call(&self, method: Method, path: &str, kind: &str, body: &Value) -> (u16, Value) {
        let request = Request::builder()
            .method(method)
            .uri(format!("https://{}{path}", self.cluster.host()))
            .header("authorization", format!("Bearer {}", self.cluster.static_token()))
            .header("content-type", kind)
            .header("user-agent", "kubectl/v1.34")
            .body(Body::from(if body.is_null() { String::new() } else { body.to_string() }))
            .unwrap();
        let response = self.sandbox.transport().oneshot(request).await.unwrap();
        let status = response.status().as_u16();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
    }

    async fn get(&self, path: &str) -> Value {
        self.call(Method::GET, path, "", &Value::Null).await.1
    }

    async fn apply(&self, manager: &str, image: &str, options: &str) -> (u16, Value) {
        let config = json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "web", "namespace": "shop" },
            "spec": { "template": { "spec": { "containers": [{ "name": "web", "image": image }] } } },
        });
        let path = format!("{WEB}?fieldManager={manager}{options}");
        self.call(Method::PATCH, &path, "application/apply-patch+yaml", &config).await
    }
}

fn condition<'v>(object: &'v Value, kind: &str) -> &'v Value {
    object["status"]["conditions"].as_array().unwrap().iter().find(|c| c["type"] == kind).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_deployment_rolls_out_and_its_pods_report_their_digest() {
    let world = World::new();
    let image = world.image("1", Behaviour::Healthy(Duration::from_secs(2)));
    world.cluster.deployment("shop", "web", &[("web", &image)]);
    assert!(world.cluster.settled("shop", "web").await);

    let deployment = world.get(WEB).await;
    assert_eq!(deployment["status"]["availableReplicas"], 3);
    assert_eq!(deployment["metadata"]["annotations"]["deployment.kubernetes.io/revision"], "1");
    assert_eq!(condition(&deployment, "Progressing")["reason"], "NewReplicaSetAvailable");
    let digest = image.split_once('@').unwrap().1;
    assert_eq!(world.cluster.running("shop", "web"), [digest, digest, digest]);

    let second = world.image("2", Behaviour::default());
    let (status, applied) = world.apply("ci", &second, "&force=true").await;
    assert_eq!((status, &applied["metadata"]["generation"]), (200, &json!(2)));
    assert_eq!(applied["status"]["observedGeneration"], 1, "the controller has not reacted yet");
    let mut fewest = 3;
    while !world.cluster.running("shop", "web").iter().all(|d| second.ends_with(d)) {
        tokio::time::sleep(Duration::from_millis(200)).await;
        fewest = fewest.min(world.cluster.running("shop", "web").len());
    }
    assert_eq!(fewest, 3, "25% of three rounds down to zero unavailable pods");
    assert!(world.cluster.settled("shop", "web").await);
    let sets = world.cluster.objects("replicasets", "shop");
    let mut sizes: Vec<_> = sets.iter().map(|s| s["spec"]["replicas"].as_i64().unwrap()).collect();
    sizes.sort_unstable();
    assert_eq!(sizes, [0, 3]);
}

#[tokio::test(start_paused = true)]
async fn an_apply_to_fields_of_another_manager_is_a_conflict() {
    let world = World::new();
    let image = world.image("1", Behaviour::default());
    world.cluster.deployment("shop", "web", &[("web", &image)]);
    let (status, conflict) = world.apply("ci", "registry.example.com/shop/web:2", "").await;
    assert_eq!((status, &conflict["reason"]), (409, &json!("Conflict")));
    assert_eq!(
        conflict["details"]["causes"],
        json!([{
            "reason": "FieldManagerConflict",
            "message": "conflict with \"kubectl-client-side-apply\" using apps/v1",
            "field": ".spec.template.spec.containers[name=\"web\"].image",
        }])
    );
    let (status, dry) = world.apply("ci", "registry.example.com/shop/web:2", "&force=true&dryRun=All").await;
    assert_eq!(status, 200);
    assert_eq!(dry["metadata"]["generation"], 2);
    assert_eq!(world.get(WEB).await["metadata"]["generation"], 1, "nothing was stored");
}

/// `kubectl apply`, then `kubectl apply --server-side` of another image: kubectl takes over its own fields, and nobody
/// else's.
#[tokio::test(start_paused = true)]
async fn kubectl_takes_over_the_fields_of_its_client_side_apply() {
    let [first, second, third] = ["1", "2", "3"].map(|tag| format!("registry.example.com/shop/web:{tag}"));
    let world = World::new();
    let annotation = "kubectl.kubernetes.io/last-applied-configuration";
    let mut deployment = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "web", "namespace": "shop" },
        "spec": { "selector": { "matchLabels": { "app": "web" } }, "template": {
            "metadata": { "labels": { "app": "web" } }, "spec": { "containers": [{ "name": "web", "image": first }] },
        } },
    });
    deployment["metadata"]["annotations"] = json!({ annotation: format!("{deployment}\n") });
    world.cluster.create(deployment);

    assert_eq!(world.apply("ci", &second, "").await.0, 409, "only the field manager kubectl");
    let (status, applied) = world.apply("kubectl", &second, "").await;
    assert_eq!(status, 200, "{applied}");
    assert_eq!(applied["spec"]["template"]["spec"]["containers"][0]["image"], second.as_str());
    let said = applied["metadata"]["annotations"][annotation].as_str().unwrap();
    assert!(said.contains(&second) && !said.contains(annotation), "{said}");

    // A field that has another value than kubectl applied belongs to whoever set it.
    let change =
        json!({ "spec": { "template": { "spec": { "containers": [{ "name": "web", "image": third }] } } } });
    world.cluster.patch("kubectl-edit", "deployments", "shop", "web", &change);
    let (status, conflict) = world.apply("kubectl", &first, "").await;
    assert_eq!(
        (status, conflict["details"]["causes"].as_array().map(Vec::len)),
        (409, Some(1)),
        "{conflict}"
    );
    assert_eq!(conflict["details"]["causes"][0]["message"], "conflict with \"kubectl-edit\" using apps/v1");
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_the_kubelet_ends_stays_failed_and_is_replaced() {
    let world = World::new();
    let image = world.image("1", Behaviour::default());
    world.cluster.deployment("shop", "web", &[("web", &image)]);
    assert!(world.cluster.settled("shop", "web").await);
    let name = world.cluster.objects("pods", "shop")[0]["metadata"]["name"].as_str().unwrap().to_owned();
    let low = "The node was low on resource: memory. ";
    assert!(world.cluster.fail_pod("shop", &name, "Evicted", low));
    assert!(!world.cluster.fail_pod("shop", &name, "Evicted", low), "it has ended");
    tokio::time::sleep(Duration::from_secs(60)).await;
    let pods = world.cluster.objects("pods", "shop");
    let failed = pods.iter().find(|pod| pod["metadata"]["name"] == name.as_str()).unwrap();
    assert_eq!(
        (&failed["status"]["phase"], &failed["status"]["reason"]),
        (&json!("Failed"), &json!("Evicted"))
    );
    assert_eq!(pods.len(), 4);
    assert_eq!(world.cluster.running("shop", "web").len(), 3);
    let phases = |change: &bp_sandbox::kube::ObjectChange| {
        change.object.clone().map(|pod| pod["status"]["phase"].clone())
    };
    let history = world.cluster.history("pods", "shop");
    let of_pod: Vec<_> = history.iter().filter(|change| change.name == name).filter_map(phases).collect();
    assert_eq!((of_pod.first(), of_pod.last()), (Some(&json!("Pending")), Some(&json!("Failed"))));
}

#[tokio::test(start_paused = true)]
async fn a_missing_image_backs_off_with_containerds_message() {
    let world = World::new();
    world.cluster.deployment("shop", "web", &[("web", "registry.example.com/shop/web:none")]);
    tokio::time::sleep(Duration::from_secs(2)).await;
    let pods = world.get("/api/v1/namespaces/shop/pods?labelSelector=app%3Dweb").await;
    let waiting =
        |pods: &Value| pods["items"][0]["status"]["containerStatuses"][0]["state"]["waiting"].clone();
    assert_eq!(waiting(&pods)["reason"], "ErrImagePull");
    assert!(waiting(&pods)["message"].as_str().unwrap().ends_with("shop/web:none: not found"));
    tokio::time::sleep(Duration::from_secs(3)).await;
    let pods = world.get("/api/v1/namespaces/shop/pods").await;
    assert_eq!(waiting(&pods)["reason"], "ImagePullBackOff");
    tokio::time::sleep(Duration::from_secs(700)).await;
    let deployment = world.get(WEB).await;
    assert_eq!(condition(&deployment, "Progressing")["reason"], "ProgressDeadlineExceeded");
    let events =
        world.get("/api/v1/namespaces/shop/events?fieldSelector=type%3DWarning,reason%3DFailed").await;
    assert!(events["items"].as_array().unwrap().iter().any(|e| e["count"].as_u64() > Some(2)));
}

#[tokio::test(start_paused = true)]
async fn a_crashing_container_restarts_backs_off_and_keeps_its_log() {
    let world = World::new();
    let exits = Behaviour::Exits {
        after: Duration::from_secs(1),
        code: 3,
        log: vec!["starting".into(), "no DATABASE_URL".into()],
    };
    let image = world.image("1", exits);
    world.cluster.deployment("shop", "web", &[("web", &image)]);
    tokio::time::sleep(Duration::from_secs(8)).await;
    let pod = world.cluster.objects("pods", "shop").remove(0);
    let status = &pod["status"]["containerStatuses"][0];
    assert_eq!(status["state"]["waiting"]["reason"], "CrashLoopBackOff");
    assert_eq!(status["lastState"]["terminated"]["exitCode"], 3);
    // Started twice: the restart for which it waits is not counted yet.
    assert_eq!(status["restartCount"], 1);
    let name = pod["metadata"]["name"].as_str().unwrap();
    let log = world.get(&format!("/api/v1/namespaces/shop/pods/{name}/log?previous=true&tailLines=1")).await;
    assert_eq!(log, "no DATABASE_URL\n");
}

#[tokio::test(start_paused = true)]
async fn a_watch_reports_every_change_in_order_and_ends() {
    let world = World::new();
    let image = world.image("1", Behaviour::default());
    let list = world.get("/api/v1/namespaces/shop/pods").await;
    let version = list["metadata"]["resourceVersion"].as_str().unwrap().to_owned();
    world.cluster.deployment("shop", "web", &[("web", &image)]);
    let path = format!(
        "/api/v1/namespaces/shop/pods?watch=true&resourceVersion={version}&timeoutSeconds=30&allowWatchBookmarks=true"
    );
    let lines = world.get(&path).await;
    let events: Vec<Value> =
        lines.as_str().unwrap().lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    let count = |kind: &str| events.iter().filter(|e| e["type"] == kind).count();
    assert_eq!(count("ADDED"), 3);
    assert!(count("MODIFIED") > 6);
    assert_eq!(events.last().unwrap()["type"], "BOOKMARK");
    let versions: Vec<u64> = events
        .iter()
        .map(|e| e["object"]["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap())
        .collect();
    assert!(versions.is_sorted());

    world.cluster.compact();
    let lines = world.get(&path).await;
    let error: Value = serde_json::from_str(lines.as_str().unwrap_or(&lines.to_string())).unwrap();
    assert_eq!((&error["type"], &error["object"]["code"]), (&json!("ERROR"), &json!(410)));
}

#[tokio::test(start_paused = true)]
async fn reports_denied_missing_and_invalid_requests() {
    let world = World::new();
    let (status, body) = world.call(Method::GET, WEB, "", &Value::Null).await;
    assert_eq!((status, &body["message"]), (404, &json!("deployments.apps \"web\" not found")));
    world.cluster.deny("get", "deployments");
    let (status, body) = world.call(Method::GET, WEB, "", &Value::Null).await;
    assert_eq!(status, 403);
    assert_eq!(
        body["message"],
        "deployments.apps \"web\" is forbidden: User \"kubernetes-admin\" cannot get resource \"deployments\" in API \
         group \"apps\" in the namespace \"shop\""
    );
    let (status, body) = world.apply("ci", "x", "").await;
    assert_eq!((status, &body["message"]), (404, &json!("namespaces \"shop\" not found")));
    assert_eq!(body["details"], json!({ "kind": "namespaces", "name": "shop" }));
    let namespace = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": "shop" } });
    world.call(Method::POST, "/api/v1/namespaces", "application/json", &namespace).await;
    let (status, body) = world.apply("ci", "x", "").await;
    assert_eq!(
        (status, &body["reason"]),
        (422, &json!("Invalid")),
        "an image alone is not a valid Deployment"
    );
    assert!(body["message"].as_str().unwrap().contains("spec.selector: Required value"));
    assert_eq!(world.get("/version").await["minor"], "34");
    assert_eq!(world.get("/apis/apps/v1").await["kind"], "APIResourceList");
}

/// Three pods with a quota of two: the controllers back off, and the simulation does not loop.
#[tokio::test(start_paused = true)]
async fn rejected_pods_are_retried_with_back_off_until_they_are_admitted() {
    let world = World::new();
    world.cluster.create(json!({
        "apiVersion": "v1", "kind": "ResourceQuota",
        "metadata": { "name": "pods", "namespace": "shop" }, "spec": { "hard": { "pods": 2 } },
    }));
    let image = world.image("1", Behaviour::default());
    world.cluster.deployment("shop", "web", &[("web", &image)]);
    tokio::time::sleep(Duration::from_secs(600)).await;
    let events = world.cluster.objects("events", "shop");
    let refused: Vec<&Value> = events.iter().filter(|e| e["reason"] == "FailedCreate").collect();
    assert!((10..25).contains(&refused.len()), "{} attempts in ten minutes", refused.len());
    let message = refused[0]["message"].as_str().unwrap();
    assert!(
        message.contains("is forbidden: exceeded quota: pods, requested: pods=1, used: pods=2"),
        "{message}"
    );

    world.cluster.delete("resourcequotas", "shop", "pods");
    world
        .cluster
        .refuse_pods(500, "Internal error occurred: failed calling webhook \"policy\": no endpoints");
    tokio::time::sleep(Duration::from_secs(600)).await;
    let set = world.cluster.objects("replicasets", "shop").remove(0);
    assert!(
        condition(&set, "ReplicaFailure")["message"].as_str().unwrap().contains("failed calling webhook")
    );
    world.cluster.admit_pods();
    assert!(world.cluster.settled("shop", "web").await);
}
