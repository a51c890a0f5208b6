//! Traffic shifted by weights on a real kube-apiserver. The tests play the controllers of load balancers: they write the
//! status of the HTTPRoute, and the events of the Ingress.

use std::{sync::Arc, time::Duration};

use bp_artifact::{
    Outcome, Verdict,
    check::{Check, CheckVerdict},
    config::TrafficObject,
    deploy::Cause,
    time::Wait,
};
use bp_eks::{Cluster, Options, TrafficError, WeightedTraffic};
use futures_util::future::BoxFuture;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use super::super::real::{RUNS, RUNS_TOO, Real, image, options};

const RBAC: &str = include_str!("../../../../docs/iam/switch-traffic-rbac.yaml");
const ACTION: &str = "alb.ingress.kubernetes.io/actions.web";

/// Two Services with a Deployment each.
fn manifest() -> String {
    let slot = |(slot, prefix): (&str, &str)| {
        let image = image(prefix).reference;
        format!(
            "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{ name: web-{slot} }}\nspec:\n  replicas: 2\n  \
             selector: {{ matchLabels: {{ app: web, slot: {slot} }} }}\n  template:\n    \
             metadata: {{ labels: {{ app: web, slot: {slot} }} }}\n    \
             spec: {{ containers: [ {{ name: web, image: \"{image}\" }} ] }}\n---\n\
             apiVersion: v1\nkind: Service\nmetadata: {{ name: web-{slot} }}\nspec: {{ selector: {{ app: web, slot: {slot} }}, \
             ports: [ {{ name: http, port: 80 }} ] }}\n---\n"
        )
    };
    [("blue", RUNS), ("green", RUNS_TOO)].map(slot).concat()
}

async fn real(name: &str, manifest_of_object: &str) -> Real {
    let real = Real::new(name).await;
    real.apply(&RBAC.replace("namespace: shop", &format!("namespace: {}", real.namespace))).await;
    real.apply(&manifest()).await;
    for slot in ["blue", "green"] {
        real.admin(&["rollout", "status", &format!("deployment/web-{slot}"), "--timeout=60s"]).await;
    }
    real.apply(manifest_of_object).await;
    real
}

async fn traffic(real: &Real, object: &TrafficObject, options: Options) -> WeightedTraffic {
    let namespace = Cluster::new(real.client("deployer").await, "e2e").namespace(&real.namespace);
    namespace.weights(object.clone(), ["web-blue", "web-green"], options).unwrap()
}

async fn get(real: &Real, object: &TrafficObject) -> Value {
    serde_json::from_str(&real.admin(&["get", &object.to_string(), "-o", "json"]).await).unwrap()
}

/// Runs the commands of a controller on every change of the object, until the task is aborted.
fn controller<F: Future<Output = ()> + Send>(
    real: &Real,
    object: &TrafficObject,
    react: impl Fn(Arc<Real>, Value) -> F + Send + 'static,
) -> JoinHandle<()> {
    let real = Arc::new(Real { namespace: real.namespace.clone() });
    let object = object.clone();
    tokio::spawn(async move {
        let mut seen = Value::Null;
        let mut ticks = tokio::time::interval(Duration::from_millis(300));
        loop {
            ticks.tick().await;
            let found = get(&real, &object).await;
            let parts = json!([found["metadata"]["generation"], found["metadata"]["annotations"]]);
            if parts != seen {
                seen = parts;
                react(Arc::clone(&real), found).await;
            }
        }
    })
}

/// Passes until the Service web-green has this weight.
struct FailsAt(u64, Arc<Real>, TrafficObject);

impl Check for FailsAt {
    fn name(&self) -> String {
        "smoke".into()
    }

    fn attempt(&self) -> BoxFuture<'_, CheckVerdict> {
        Box::pin(async {
            let weights = weights(&get(&self.1, &self.2).await);
            if weights[1] == self.0 { CheckVerdict::failed("503") } else { CheckVerdict::Passed }
        })
    }
}

/// The weights of web-blue and web-green.
fn weights(object: &Value) -> [u64; 2] {
    let groups = match object["kind"].as_str().unwrap() {
        "Ingress" => {
            let action: Value =
                serde_json::from_str(object["metadata"]["annotations"][ACTION].as_str().unwrap()).unwrap();
            action["forwardConfig"]["targetGroups"].clone()
        }
        _ => object["spec"]["rules"][0]["backendRefs"].clone(),
    };
    [0, 1].map(|at| groups[at]["weight"].as_u64().unwrap())
}

/// The scenario of both objects: an owner, a failing check, a complete shift, a foreign change, a return.
async fn scenario(real: &Real, object: TrafficObject, by_hand: &[&str]) {
    let ended = async |traffic: WeightedTraffic| -> Result<Outcome, TrafficError> {
        traffic.shift(Some("web-green"), Some(&image(RUNS_TOO))).await
    };
    let steps = || "25, 100".parse().unwrap();
    let careful = traffic(real, &object, options(60).take_over(false)).await.steps(steps());
    let error = ended(careful.clone()).await.unwrap_err();
    let TrafficError::Rollout(bp_eks::Error::Conflict { conflicts, .. }) = &error else { panic!("{error}") };
    assert_eq!(conflicts[0].manager, "kubectl-client-side-apply", "{error}");
    assert_eq!(weights(&get(real, &object).await), [100, 0]);

    let bold = traffic(real, &object, options(60)).await.steps(steps());
    let here = Arc::new(Real { namespace: real.namespace.clone() });
    let wait = Wait::new(Duration::from_secs(3), Duration::from_secs(1)).unwrap();
    let failing = bold.clone().check(Arc::new(FailsAt(25, here, object.clone())), wait);
    let outcome = ended(failing).await.unwrap();
    assert_eq!(
        (outcome.verdict(), outcome.failure.as_ref().map(|failure| failure.cause)),
        (Verdict::RolledBack, Some(Cause::CheckFailed)),
        "{outcome:?}"
    );
    assert_eq!(weights(&get(real, &object).await), [100, 0]);

    // The weights are ours by now.
    let outcome = ended(careful.clone()).await.unwrap();
    assert_eq!((outcome.verdict(), outcome.changed), (Verdict::Deployed, true), "{outcome:?}");
    assert_eq!((outcome.proof.observations.len(), weights(&get(real, &object).await)), (2, [0, 100]));
    let again = ended(careful.clone()).await.unwrap();
    assert_eq!((again.verdict(), again.changed), (Verdict::Deployed, false), "{again:?}");
    let back = careful.return_traffic().await.unwrap();
    assert_eq!(
        (back.verdict(), weights(&get(real, &object).await)),
        (Verdict::Deployed, [100, 0]),
        "{back:?}"
    );

    // Killed at the first step, whose weights somebody else then changes.
    let work = careful.clone().bake(Duration::from_secs(60)).shift(Some("web-green"), None);
    while weights(&get(real, &object).await) != [75, 25] {}
    drop(work);
    real.admin(by_hand).await;
    let error = ended(careful.clone()).await.unwrap_err();
    let TrafficError::WeightsChanged { recorded, found, .. } = &error else { panic!("{error}") };
    assert_eq!((recorded.as_str(), found.as_str()), ("75/25", "60/40"));
    let outcome = ended(bold).await.unwrap();
    assert_eq!((outcome.verdict(), weights(&get(real, &object).await)), (Verdict::Deployed, [0, 100]));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster: cargo xtask e2e"]
async fn weights_by_annotation() {
    let action = |weights: [u32; 2]| {
        json!({ "type": "forward", "forwardConfig": { "targetGroups": [
            { "serviceName": "web-blue", "servicePort": 80, "weight": weights[0] },
            { "serviceName": "web-green", "servicePort": 80, "weight": weights[1] },
        ] } })
        .to_string()
    };
    let class = format!("weights-{}", std::process::id());
    let real = real(
        "annotation",
        &format!(
            "apiVersion: networking.k8s.io/v1\nkind: IngressClass\nmetadata: {{ name: {class} }}\n\
             spec: {{ controller: ingress.k8s.aws/alb }}\n---\napiVersion: networking.k8s.io/v1\nkind: Ingress\n\
             metadata:\n  name: shop\n  annotations:\n    {ACTION}: '{}'\nspec:\n  ingressClassName: {class}\n  \
             defaultBackend: {{ service: {{ name: web, port: {{ name: use-annotation }} }} }}\n",
            action([100, 0])
        ),
    )
    .await;
    let object = TrafficObject::Ingress("shop".into());
    let address = r#"{"status":{"loadBalancer":{"ingress":[{"hostname":"shop.example.com"}]}}}"#;
    real.admin(&["patch", "ingress/shop", "--subresource=status", "--type=merge", "-p", address]).await;
    // The controller counts equal events, as client-go's recorder does.
    let controller = controller(&real, &object, |real, ingress| async move {
        let count = &ingress["metadata"]["resourceVersion"];
        let event = json!({
            "apiVersion": "v1", "kind": "Event", "metadata": { "name": "shop.reconciled" },
            "involvedObject": { "apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "name": "shop",
                "namespace": ingress["metadata"]["namespace"], "uid": ingress["metadata"]["uid"] },
            "type": "Normal", "reason": "SuccessfullyReconciled", "message": "Successfully reconciled",
            "source": { "component": "ingress" }, "count": count.as_str().unwrap().parse::<i32>().unwrap() % 1_000_000,
        });
        let file = std::env::temp_dir().join(format!("bp-eks-event-{}.json", real.namespace));
        std::fs::write(&file, event.to_string()).unwrap();
        real.admin(&["apply", "--server-side", "--force-conflicts", "-f", &file.to_string_lossy()]).await;
    });
    let by_hand = format!("{ACTION}={}", action([60, 40]));
    scenario(&real, object, &["annotate", "--overwrite", "ingress/shop", &by_hand]).await;
    controller.abort();
    real.admin(&["delete", "ingressclass", &class]).await;
    real.leave().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster: cargo xtask e2e"]
async fn weights_by_http_route() {
    let real = real(
        "route",
        "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: { name: shop }\nspec:\n  \
         parentRefs: [ { name: public } ]\n  rules:\n  - backendRefs:\n    - { name: web-blue, port: 80, weight: 100 }\n    \
         - { name: web-green, port: 80, weight: 0 }\n",
    )
    .await;
    let object = TrafficObject::HttpRoute("shop".into());
    // No Gateway serves the route yet: nothing is changed.
    let unserved = traffic(&real, &object, options(3)).await;
    let error = unserved.shift(Some("web-green"), None).await.unwrap_err();
    assert!(error.to_string().contains("gateway/public has not reported a status"), "{error}");
    let controller = controller(&real, &object, |real, route| async move {
        let condition = |kind: &str| {
            json!({
                "type": kind, "status": "True", "reason": kind, "message": "",
                "observedGeneration": route["metadata"]["generation"], "lastTransitionTime": "2026-11-29T12:00:00Z",
            })
        };
        let status = json!({ "status": { "parents": [{
            "parentRef": { "name": "public" }, "controllerName": "example.com/gateway",
            "conditions": [condition("Accepted"), condition("ResolvedRefs")],
        }] } });
        let patch =
            ["patch", "httproute/shop", "--subresource=status", "--type=merge", "-p", &status.to_string()];
        real.admin(&patch).await;
    });
    let by_hand = json!([
        { "op": "replace", "path": "/spec/rules/0/backendRefs/0/weight", "value": 60 },
        { "op": "replace", "path": "/spec/rules/0/backendRefs/1/weight", "value": 40 },
    ]);
    scenario(&real, object, &["patch", "httproute/shop", "--type=json", "-p", &by_hand.to_string()]).await;
    controller.abort();
    real.leave().await;
}
