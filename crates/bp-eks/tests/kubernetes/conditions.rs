//! Conditions of real clusters that pass by themselves, or that must not be mistaken for a failure.

use std::time::Duration;

use bp_artifact::{Outcome, Verdict, deploy::DeployEvent};
use bp_eks::{EksTarget, Error};
use tokio::time::{Instant, sleep};

use super::super::real::{READY_LATER, RUNS, RUNS_TOO, Real, deploy, deployment, image, options};

/// Deploys, and calls `then` once the change was applied; returns the outcome and the number of rollbacks.
async fn deploy_and(target: &EksTarget, then: impl AsyncFnOnce()) -> (Outcome, usize) {
    deploy_image_and(target, RUNS_TOO, then).await
}

async fn deploy_image_and(target: &EksTarget, beginning: &str, then: impl AsyncFnOnce()) -> (Outcome, usize) {
    let mut work = target.deploy(&image(beginning));
    let (mut then, mut rollbacks) = (Some(then), 0);
    while let Some(event) = work.next_event().await {
        match event {
            DeployEvent::Applied { .. } => {
                if let Some(then) = then.take() {
                    then().await;
                }
            }
            DeployEvent::RollingBack { .. } => rollbacks += 1,
            _ => {}
        }
    }
    (work.await.unwrap(), rollbacks)
}

/// A webhook for the pods of the namespace that nobody serves.
fn webhook(namespace: &str) -> String {
    format!(
        r#"
apiVersion: admissionregistration.k8s.io/v1
kind: MutatingWebhookConfiguration
metadata: {{ name: {namespace} }}
webhooks:
- name: pods.{namespace}.example.com
  clientConfig: {{ url: "https://127.0.0.1:1/mutate" }}
  rules: [{{ apiGroups: [""], apiVersions: [v1], operations: [CREATE], resources: [pods] }}]
  namespaceSelector: {{ matchLabels: {{ "kubernetes.io/metadata.name": {namespace} }} }}
  admissionReviewVersions: [v1]
  sideEffects: None
  failurePolicy: Fail
  timeoutSeconds: 1
"#
    )
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster: cargo xtask e2e"]
async fn a_webhook_that_is_down_for_five_seconds_does_not_roll_back() {
    let real = Real::with("webhook", &deployment(RUNS)).await;
    real.apply(&webhook(&real.namespace)).await;
    // The API server calls a new webhook with a delay.
    let probe = ["run", "probe", "--image=registry.example.com/x:1", "--dry-run=server"];
    while real.kubectl("admin", &probe).output().await.unwrap().status.success() {}
    let target = real.target("deployment/web", options(120)).await;
    let remove = ["delete", "mutatingwebhookconfiguration", &real.namespace];
    let (outcome, rollbacks) = deploy_and(&target, async || {
        sleep(Duration::from_secs(5)).await;
        real.admin(&remove).await;
    })
    .await;
    assert_eq!((outcome.verdict(), rollbacks), (Verdict::Deployed, 0), "{outcome:?}");
    assert_eq!(real.running().await, vec![image(RUNS_TOO).reference.to_string(); 3]);
    assert!(real.rollout_status("deployment/web", 5).wait().await.unwrap().success());
    real.leave().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster: cargo xtask e2e"]
async fn a_service_account_that_is_created_later_does_not_fail_the_rollout() {
    let real = Real::with("account", &deployment(RUNS)).await;
    real.patch("deployment", r#"{"spec":{"template":{"spec":{"serviceAccountName":"web"}}}}"#).await;
    let target = real.target("deployment/web", options(120)).await;
    let (outcome, rollbacks) = deploy_and(&target, async || {
        sleep(Duration::from_secs(3)).await;
        real.admin(&["create", "serviceaccount", "web"]).await;
    })
    .await;
    assert_eq!((outcome.verdict(), rollbacks), (Verdict::Deployed, 0), "{outcome:?}");
    real.leave().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster: cargo xtask e2e"]
async fn a_workload_of_a_terminating_namespace_is_gone() {
    let real = Real::with("terminating", &deployment(RUNS)).await;
    let hold = r#"{"metadata":{"finalizers":["example.com/hold"]}}"#;
    real.admin(&["patch", "deployment", "web", "--type=merge", "-p", hold]).await;
    let target = real.target("deployment/web", options(60)).await;
    real.admin(&["delete", "namespace", &real.namespace, "--wait=false"]).await;
    let deleted = ["get", "deployment", "web", "-o", "jsonpath={.metadata.deletionTimestamp}"];
    while real.admin(&deleted).await.is_empty() {}
    let begun = Instant::now();
    match deploy(&target, &image(RUNS_TOO)).await.1 {
        Ok(outcome) => assert_eq!(outcome.verdict(), Verdict::Gone, "{outcome:?}"),
        Err(error) => assert!(matches!(error, Error::Forbidden { .. } | Error::NotFound { .. }), "{error}"),
    }
    assert!(begun.elapsed() < Duration::from_secs(20));
    let release = r#"{"metadata":{"finalizers":null}}"#;
    real.admin(&["patch", "deployment", "web", "--type=merge", "-p", release]).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster: cargo xtask e2e"]
async fn autoscaler_disruption_budget_and_minimum_ready_time_are_respected() {
    let real = Real::with("autoscaled", &deployment(RUNS)).await;
    real.patch("deployment", r#"{"spec":{"minReadySeconds":5}}"#).await;
    real.apply(
        "apiVersion: policy/v1\nkind: PodDisruptionBudget\nmetadata: { name: web }\nspec: { maxUnavailable: 0, selector: { \
         matchLabels: { app: web } } }\n",
    )
    .await;
    let target = real.target("deployment/web", options(180)).await;
    let autoscaler = "apiVersion: autoscaling/v2\nkind: HorizontalPodAutoscaler\nmetadata: { name: web }\nspec: { minReplicas: 5, \
                      maxReplicas: 6, scaleTargetRef: { apiVersion: apps/v1, kind: Deployment, name: web }, metrics: [{ type: \
                      Resource, resource: { name: cpu, target: { type: Utilization, averageUtilization: 50 } } }] }\n";
    let begun = Instant::now();
    let (outcome, rollbacks) = deploy_and(&target, async || real.apply(autoscaler).await).await;
    assert_eq!((outcome.verdict(), rollbacks), (Verdict::Deployed, 0), "{outcome:?}");
    assert!(begun.elapsed() >= Duration::from_secs(5), "no earlier than minReadySeconds");
    assert!(real.rollout_status("deployment/web", 60).wait().await.unwrap().success());
    let replicas = ["get", "deployment", "web", "-o", "jsonpath={.spec.replicas}"];
    let deadline = Instant::now() + Duration::from_secs(60);
    while real.admin(&replicas).await != "5" {
        assert!(Instant::now() < deadline, "the autoscaler scales");
    }
    // The replicas of the autoscaler stay.
    assert_eq!(deploy(&target, &image(RUNS)).await.1.unwrap().verdict(), Verdict::Deployed);
    assert_eq!(real.admin(&replicas).await, "5");
    real.leave().await;
}

/// The changes of a Deployment that were requested, without dry runs.
fn applied(real: &Real) -> usize {
    let requests = real.requests();
    let changes = requests.iter().filter(|request| {
        let uri = request["requestURI"].as_str().unwrap_or_default();
        let is_answered = request["responseStatus"]["code"].as_u64().is_some_and(|code| code < 300);
        request["verb"] == "patch" && is_answered && !uri.contains("dryRun")
    });
    changes.count()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster: cargo xtask e2e"]
async fn an_api_server_that_restarts_in_mid_rollout_changes_neither_verdict_nor_what_is_applied() {
    let real = Real::with("restarted", &deployment(RUNS)).await;
    let target = real.target("deployment/web", options(300)).await;
    let (outcome, rollbacks) =
        deploy_image_and(&target, READY_LATER, async || real.restart_api_server().await).await;
    assert_eq!((outcome.verdict(), rollbacks), (Verdict::Deployed, 0), "{outcome:?}");
    assert_eq!(applied(&real), 1, "applied once");
    assert_eq!(real.running().await, vec![image(READY_LATER).reference.to_string(); 3]);
    assert!(real.rollout_status("deployment/web", 5).wait().await.unwrap().success());
    real.leave().await;
}

/// The API server keeps the changes since its start: a watch from before it gets 410.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster: cargo xtask e2e"]
async fn a_watch_that_has_expired_is_listed_again() {
    let real = Real::with("expired", &deployment(RUNS)).await;
    let target = real.target("deployment/web", options(300)).await;
    // kubectl's own lists have no version.
    let pods = format!("/api/v1/namespaces/{}/pods?limit=1", real.namespace);
    let mut old = String::new();
    let (outcome, rollbacks) = deploy_image_and(&target, READY_LATER, async || {
        let list: serde_json::Value =
            serde_json::from_str(&real.admin(&["get", "--raw", &pods]).await).unwrap();
        old = list["metadata"]["resourceVersion"].as_str().unwrap().to_owned();
        // Changes of other objects: the server starts at a later version.
        real.admin(&["create", "configmap", "later"]).await;
        real.restart_api_server().await;
    })
    .await;
    assert_eq!((outcome.verdict(), rollbacks), (Verdict::Deployed, 0), "{outcome:?}");
    let uri = format!(
        "/api/v1/namespaces/{}/pods?watch=true&timeoutSeconds=1&resourceVersion={old}",
        real.namespace
    );
    let watched = real.kubectl("admin", &["get", "--raw", &uri]).output().await.unwrap();
    let watched = String::from_utf8_lossy(&watched.stdout).into_owned();
    assert!(watched.contains("\"code\":410"), "the version has expired: {watched}");
    let requests = real.requests();
    let lists = requests.iter().filter(|r| r["verb"] == "list" && r["objectRef"]["resource"] == "pods");
    // At the start, after the watch expired, and for the proof.
    assert!(lists.count() >= 3, "the pods are listed again");
    real.leave().await;
}

/// Without a surge the controller never asks for a pod that the quota cannot give, so that its pauses stay short.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster: cargo xtask e2e"]
async fn a_quota_equal_to_the_replicas_is_waited_for() {
    let real = Real::with("quota-equal", &deployment(RUNS)).await;
    let quota =
        "apiVersion: v1\nkind: ResourceQuota\nmetadata: { name: pods }\nspec: { hard: { pods: \"3\" } }\n";
    real.apply(quota).await;
    let used = ["get", "resourcequota", "pods", "-o", "jsonpath={.status.used.pods}"];
    let deadline = Instant::now() + Duration::from_secs(60);
    while real.admin(&used).await != "3" {
        assert!(Instant::now() < deadline, "the quota counts the pods");
    }
    let strategy = r#"{"spec":{"strategy":{"rollingUpdate":{"maxSurge":0,"maxUnavailable":1}}}}"#;
    real.patch("deployment", strategy).await;
    let target = real.target("deployment/web", options(180)).await;
    let (outcome, rollbacks) = deploy_and(&target, async || {}).await;
    assert_eq!((outcome.verdict(), rollbacks), (Verdict::Deployed, 0), "{outcome:?}");
    assert_eq!(real.running().await, vec![image(RUNS_TOO).reference.to_string(); 3]);
    assert!(real.rollout_status("deployment/web", 5).wait().await.unwrap().success());
    real.leave().await;
}
