//! Field validation, leases and reviews.

use http::Method;
use serde_json::{Value, json};

use crate::client::{APPLY, Api, DEPLOYMENTS, JSON, MERGE, STRATEGIC, config_map, deployment};

/// A Deployment with an unknown field at the top and in a container.
fn misspelt() -> Value {
    let mut object = deployment("web", 1);
    object["spec"]["tolerance"] = json!(2);
    object["spec"]["template"]["spec"]["containers"][0]["imagee"] = json!("x");
    object
}

#[tokio::test(start_paused = true)]
async fn unknown_fields_are_refused_reported_or_dropped() {
    let api = Api::new();
    let strict = api.post(&format!("{DEPLOYMENTS}?fieldValidation=Strict"), &misspelt()).await;
    let why = "Deployment in version \"v1\" cannot be handled as a Deployment: strict decoding error: \
               unknown field \"spec.template.spec.containers[0].imagee\", unknown field \"spec.tolerance\"";
    assert_eq!(strict.failure(), (400, why.to_owned()));
    assert_eq!(api.names(DEPLOYMENTS).await, [""; 0]);

    // The default.
    let warned = api.post(DEPLOYMENTS, &misspelt()).await;
    assert_eq!(warned.status, 201);
    assert_eq!(
        warned.header("warning"),
        [
            "299 - \"unknown field \\\"spec.template.spec.containers[0].imagee\\\"\"",
            "299 - \"unknown field \\\"spec.tolerance\\\"\"",
        ]
    );
    assert!(warned.json()["spec"]["tolerance"].is_null(), "unknown fields are not stored");

    let ignored = api.post(&format!("{DEPLOYMENTS}?fieldValidation=Ignore"), &deployment("api", 1)).await;
    assert_eq!((ignored.status, ignored.header("warning")), (201, vec![]));
    let wrong = api.post(&format!("{DEPLOYMENTS}?fieldValidation=Sometimes"), &deployment("b", 1)).await;
    assert_eq!(wrong.status, 422);
    let why = "CreateOptions.meta.k8s.io \"\" is invalid: fieldValidation: Unsupported value: \"Sometimes\": supported \
               values: \"\", \"Ignore\", \"Strict\", \"Warn\"";
    assert_eq!(wrong.failure().1, why);
    assert_eq!(wrong.json()["details"]["causes"][0]["reason"], "FieldValueNotSupported");

    let patch = json!({ "spec": { "replicaz": 1, "paused": true } });
    let strict = format!("{DEPLOYMENTS}/web?fieldValidation=Strict");
    let refused = api.patch(&strict, STRATEGIC, &patch).await;
    let why = " \"\" is invalid: patch: Invalid value: \"map[spec:map[paused:true replicaz:1]]\": \
               strict decoding error: unknown field \"spec.replicaz\"";
    assert_eq!(refused.failure(), (422, why.to_owned()));
    assert_eq!(refused.json()["details"]["causes"][0]["field"], "patch");
    // Of the other patches the result is quoted.
    let (status, why) = api.patch(&strict, MERGE, &patch).await.failure();
    assert_eq!(status, 422);
    assert!(
        why.starts_with(" \"\" is invalid: patch: Invalid value: \"{\\\"apiVersion\\\":\\\"apps/v1\\\","),
        "{why}"
    );
    assert!(why.ends_with("}\": strict decoding error: unknown field \"spec.replicaz\""), "{why}");
    let (status, why) = api.patch(&strict, MERGE, &json!({ "spec": { "replicas": "x" } })).await.failure();
    assert_eq!(status, 422);
    let unmarshal =
        "json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32";
    assert!(why.ends_with(unmarshal), "{why}");
    let warned = api.patch(&format!("{DEPLOYMENTS}/web"), STRATEGIC, &patch).await;
    assert_eq!((warned.status, warned.header("warning").len()), (200, 1));
    assert_eq!(warned.json()["spec"]["paused"], true);
}

#[tokio::test(start_paused = true)]
async fn server_side_apply_requires_declared_fields_whatever_the_validation_is() {
    let api = Api::new();
    let apply = |spec: Value| {
        let config = json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "web", "namespace": "shop" }, "spec": spec,
        });
        let path = format!("{DEPLOYMENTS}/web?fieldManager=ci&fieldValidation=Ignore");
        let api = &api;
        async move { api.patch(&path, APPLY, &config).await }
    };
    let containers = json!({ "template": { "spec": { "containers": [{ "name": "web", "imagee": 1 }] } } });
    for (spec, why) in [
        (json!({ "replicaz": 1 }), ".spec.replicaz: field not declared in schema"),
        (containers, ".spec.template.spec.containers[name=\"web\"].imagee: field not declared in schema"),
        (json!({ "replicas": "x" }), ".spec.replicas: expected numeric (int or float), got string"),
        (json!({ "paused": "x" }), ".spec.paused: expected boolean, got &{x}"),
        (json!({ "template": "x" }), ".spec.template: expected map, got &{x}"),
    ] {
        let refused = apply(spec).await;
        let why = format!("failed to create typed patch object (shop/web; apps/v1, Kind=Deployment): {why}");
        assert_eq!(refused.failure(), (500, why));
        assert!(refused.json()["reason"].is_null());
    }
    let config = json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "web" } });
    let refused = api.patch(&format!("{DEPLOYMENTS}/web?fieldManager=ci"), APPLY, &config).await;
    assert_eq!(refused.failure(), (400, "invalid object type: /v1, Kind=Pod".to_owned()));
    let refused = api.patch(&format!("{DEPLOYMENTS}/web"), APPLY, &deployment("web", 1)).await;
    let why =
        "PatchOptions.meta.k8s.io \"\" is invalid: fieldManager: Required value: is required for apply patch";
    assert_eq!(refused.failure(), (422, why.to_owned()));
}

#[tokio::test(start_paused = true)]
async fn duplicate_fields_and_wrong_types_are_reported_as_the_server_words_them() {
    let api = Api::new();
    let body = r#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"x"},"data":{"a":"1","a":"2"}}"#;
    let path = "/api/v1/namespaces/shop/configmaps";
    let headers = [("content-type", JSON)];
    let strict = api.send(Method::POST, &format!("{path}?fieldValidation=Strict"), &headers, body).await;
    assert_eq!(strict.status, 400);
    assert!(
        strict.failure().1.ends_with("strict decoding error: duplicate field \"data.a\""),
        "{:?}",
        strict.failure()
    );
    let warned = api.send(Method::POST, path, &headers, body).await;
    assert_eq!((warned.status, &warned.json()["data"]["a"]), (201, &json!("2")));

    let mut object = deployment("web", 1);
    object["spec"]["template"]["spec"]["containers"][0]["env"] = json!([{ "name": "PORT", "value": 80 }]);
    let wrong = api.post(&format!("{DEPLOYMENTS}?fieldValidation=Ignore"), &object).await;
    let why = "Deployment in version \"v1\" cannot be handled as a Deployment: json: cannot unmarshal number into Go \
               struct field EnvVar.spec.template.spec.containers.env.value of type string";
    assert_eq!(wrong.failure(), (400, why.to_owned()));

    let mut elsewhere = config_map("y");
    elsewhere["metadata"]["namespace"] = json!("other");
    let refused = api.post(path, &elsewhere).await;
    let why = "the namespace of the provided object does not match the namespace sent on the request";
    assert_eq!(refused.failure(), (400, why.to_owned()));
    let refused = api.put(&format!("{path}/first"), &config_map("second")).await;
    let why = "the name of the object (second) does not match the name on the URL (first)";
    assert_eq!(refused.failure(), (400, why.to_owned()));
    let old =
        json!({ "apiVersion": "extensions/v1beta1", "kind": "Deployment", "metadata": { "name": "old" } });
    let why =
        "the API version in the data (extensions/v1beta1) does not match the expected API version (apps/v1)";
    assert_eq!(api.post(DEPLOYMENTS, &old).await.failure(), (400, why.to_owned()));
    let pod = json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "x" } });
    let why = "Pod in version \"v1\" cannot be handled as a Deployment: converting (v1.Pod) to (apps.Deployment): unknown \
               conversion";
    assert_eq!(api.post(DEPLOYMENTS, &pod).await.failure(), (400, why.to_owned()));
}

#[tokio::test(start_paused = true)]
async fn one_of_two_candidates_gets_a_lease() {
    let api = Api::new();
    let path = "/apis/coordination.k8s.io/v1/namespaces/shop/leases";
    let lease = json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": { "name": "deploy" },
        "spec": { "holderIdentity": "a", "leaseDurationSeconds": 15, "renewTime": "2026-11-29T11:31:00.000000Z" },
    });
    let created = api.post(path, &lease).await;
    assert_eq!(created.status, 201);
    assert_eq!(api.post(path, &lease).await.json()["reason"], "AlreadyExists");
    let mut first = created.json();
    let mut second = first.clone();
    first["spec"]["holderIdentity"] = json!("b");
    second["spec"]["holderIdentity"] = json!("c");
    assert_eq!(api.put(&format!("{path}/deploy"), &first).await.status, 200);
    let (status, why) = api.put(&format!("{path}/deploy"), &second).await.failure();
    assert_eq!(status, 409);
    assert!(why.contains("the object has been modified"), "{why}");
    assert_eq!(api.get(&format!("{path}/deploy")).await.json()["spec"]["holderIdentity"], "b");
}

#[tokio::test(start_paused = true)]
async fn reviews_answer_what_a_user_may_do() {
    let api = Api::new();
    api.cluster.deny("create", "deployments");
    let review = |verb: &str| {
        json!({
            "apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
            "spec": { "resourceAttributes": { "verb": verb, "group": "apps", "resource": "deployments" } },
        })
    };
    let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    for (verb, allowed) in [("get", true), ("create", false)] {
        assert_eq!(api.post(path, &review(verb)).await.json()["status"]["allowed"], allowed, "{verb}");
    }
    let who = json!({ "apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview" });
    let who = api.post("/apis/authentication.k8s.io/v1/selfsubjectreviews", &who).await.json();
    assert_eq!(who["status"]["userInfo"]["username"], "kubernetes-admin");
    assert_eq!(api.get(path).await.status, 405, "reviews are not stored");
}
