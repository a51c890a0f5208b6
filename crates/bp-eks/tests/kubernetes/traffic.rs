//! Blue/green and Ingress switches on a real kube-apiserver with its endpoint controller.

use bp_artifact::{Outcome, Verdict, deploy::Cause};
use bp_eks::{
    BlueGreen, Cluster, Options, TrafficError,
    traffic::{Slots, Switch},
};
use k8s_openapi::api::core::v1::Service;
use kube::api::{Api, Patch, PatchParams};

use super::super::real::{EXITS, RUNS, RUNS_TOO, Real, image, options};

const RBAC: &str = include_str!("../../../../docs/iam/switch-traffic-rbac.yaml");

/// A Deployment with two pods for each slot, and a Service that selects the first slot.
fn manifest(slots: &[&str]) -> String {
    let image = image(RUNS).reference;
    let deployment = |slot: &&str| {
        format!(
            "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{ name: web-{slot} }}\nspec:\n  replicas: 2\n  \
             selector: {{ matchLabels: {{ app: web, slot: {slot} }} }}\n  template:\n    \
             metadata: {{ labels: {{ app: web, slot: {slot} }} }}\n    \
             spec: {{ containers: [ {{ name: web, image: \"{image}\" }} ] }}\n---\n"
        )
    };
    let service = |name: &str, slot: &str| {
        format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{ name: {name} }}\nspec: {{ selector: {{ app: web, slot: {slot} }}, \
             ports: [ {{ name: http, port: 80 }} ] }}\n---\n"
        )
    };
    let mut text: String = slots.iter().map(deployment).collect();
    text += &service("web", slots[0]);
    slots.iter().for_each(|slot| text += &service(&format!("web-{slot}"), slot));
    text
}

async fn real(name: &str, slots: &[&str]) -> Real {
    let real = Real::new(name).await;
    real.apply(&RBAC.replace("namespace: shop", &format!("namespace: {}", real.namespace))).await;
    real.apply(&manifest(slots)).await;
    for slot in slots {
        real.admin(&["rollout", "status", &format!("deployment/web-{slot}"), "--timeout=60s"]).await;
    }
    real
}

async fn shop(real: &Real, options: Options) -> BlueGreen {
    let client = real.client("deployer").await;
    Cluster::new(client, "e2e").namespace(&real.namespace).blue_green(
        "web",
        Slots::of_service("web"),
        options,
    )
}

async fn run(work: Switch) -> Result<Outcome, TrafficError> {
    work.await
}

/// The pods behind the Service's endpoints.
async fn endpoints(real: &Real, service: &str) -> Vec<String> {
    let label = format!("kubernetes.io/service-name={service}");
    let names =
        "jsonpath={range .items[*].endpoints[?(@.conditions.ready==true)]}{.targetRef.name}{\"\\n\"}{end}";
    let listed = real.admin(&["get", "endpointslices", "-l", &label, "-o", names]).await;
    listed.lines().map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster: cargo xtask e2e"]
async fn blue_green_stages_switches_back_and_cleans_up() {
    let real = real("green", &["blue"]).await;
    let careful = shop(&real, options(60).take_over(false)).await;
    let staged = run(careful.stage(&image(RUNS_TOO))).await.unwrap();
    assert_eq!(staged.verdict(), Verdict::Deployed, "{staged:?}");
    assert!(endpoints(&real, "web").await.iter().all(|pod| pod.starts_with("web-blue")));
    let test = endpoints(&real, "web-test").await;
    assert!(test.len() == 2 && test.iter().all(|pod| pod.starts_with("web-green")), "{test:?}");

    let error = run(careful.switch(&image(RUNS_TOO))).await.unwrap_err();
    let TrafficError::Rollout(bp_eks::Error::Conflict { conflicts, .. }) = &error else { panic!("{error}") };
    assert_eq!(conflicts[0].manager, "kubectl-client-side-apply");
    assert_eq!(conflicts[0].field, ".spec.selector", "the selector is one field");

    let shop = shop(&real, options(60)).await;
    let switched = run(shop.switch(&image(RUNS_TOO))).await.unwrap();
    let now = endpoints(&real, "web").await;
    assert_eq!(
        (switched.verdict(), switched.proof.observations.len()),
        (Verdict::Deployed, 2),
        "{switched:?}"
    );
    assert!(
        now.len() == 2 && now.iter().all(|pod| pod.starts_with("web-green")),
        "at the end of the switch: {now:?}"
    );
    let again = run(shop.switch(&image(RUNS_TOO))).await.unwrap();
    assert_eq!((again.verdict(), again.changed), (Verdict::Deployed, false));

    // An owned field does not require force, and the API server rejects an outdated resource version.
    let back = run(careful.switch_back()).await.unwrap();
    assert_eq!((back.verdict(), back.changed), (Verdict::Deployed, true), "{back:?}");
    assert!(!run(careful.switch_back()).await.unwrap().changed, "the second run changes nothing");
    let services: Api<Service> = Api::namespaced(real.client("deployer").await, &real.namespace);
    let stale = serde_json::json!({
        "apiVersion": "v1", "kind": "Service", "metadata": { "name": "web", "resourceVersion": "1" },
        "spec": { "selector": { "app": "other" } },
    });
    let refused = services.patch("web", &PatchParams::apply("bp-eks:traffic"), &Patch::Apply(stale)).await;
    let Err(kube::Error::Api(status)) = refused else { panic!("{refused:?}") };
    assert_eq!((status.code, status.details.is_none_or(|d| d.causes.is_empty())), (409, true));

    assert_eq!(run(careful.switch(&image(RUNS_TOO))).await.unwrap().verdict(), Verdict::Deployed);
    let left = careful.clean_up().await.unwrap();
    assert_eq!((left.live.slot.name.as_str(), left.idle.replicas), ("green", 0));
    let services = real.admin(&["get", "services", "-o", "name"]).await;
    assert!(!services.contains("web-test"), "{services}");
    assert!(matches!(run(careful.switch_back()).await, Err(TrafficError::NothingToSwitchBack { .. })));
    let third = run(shop.deploy(&image("a13"))).await.unwrap();
    assert_eq!(third.verdict(), Verdict::Deployed, "{third:?}");
    assert!(endpoints(&real, "web").await.iter().all(|pod| pod.starts_with("web-blue")));
    real.leave().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster: cargo xtask e2e"]
async fn blue_green_gives_failing_slot_no_traffic_and_rejects_a_load_balancer() {
    let real = real("greenless", &["blue"]).await;
    let shop = shop(&real, options(60)).await;
    let outcome = run(shop.deploy(&image(EXITS))).await.unwrap();
    assert_eq!(outcome.verdict(), Verdict::RolledBack, "{outcome:?}");
    assert_eq!(outcome.failure.unwrap().cause, Cause::ContainerExited);
    assert!(endpoints(&real, "web").await.iter().all(|pod| pod.starts_with("web-blue")));

    let class = format!("alb-{}", real.namespace);
    real.apply(&format!(
        "apiVersion: networking.k8s.io/v1\nkind: IngressClass\nmetadata: {{ name: {class} }}\n\
         spec: {{ controller: ingress.k8s.aws/alb }}\n---\napiVersion: networking.k8s.io/v1\nkind: Ingress\n\
         metadata: {{ name: shop }}\nspec:\n  ingressClassName: {class}\n  \
         defaultBackend: {{ service: {{ name: web, port: {{ number: 80 }} }} }}\n"
    ))
    .await;
    let error = run(shop.deploy(&image(RUNS_TOO))).await.unwrap_err();
    assert!(matches!(error, TrafficError::BehindLoadBalancer { .. }), "{error}");
    assert!(error.to_string().contains("ingress/shop"), "{error}");
    real.admin(&["delete", "ingressclass", &class]).await;
    real.leave().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster: cargo xtask e2e"]
async fn switches_an_ingress_backend() {
    let real = real("ingress", &["blue", "green"]).await;
    real.apply(
        "apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: { name: shop }\nspec:\n  rules:\n  - http:\n      paths:\n      \
         - { path: /, pathType: Prefix, backend: { service: { name: web-blue, port: { name: http } } } }\n",
    )
    .await;
    let client = real.client("deployer").await;
    let shop = |take_over| {
        let pair = ["web-blue", "web-green"];
        let options = options(60).take_over(take_over);
        Cluster::new(client.clone(), "e2e").namespace(&real.namespace).ingress("shop", pair, options)
    };
    let error = run(shop(false).switch("web-green", None)).await.unwrap_err();
    assert!(matches!(error, TrafficError::Rollout(bp_eks::Error::Conflict { .. })), "{error}");
    let outcome = run(shop(true).switch("web-green", Some(&image(RUNS)))).await.unwrap();
    assert_eq!((outcome.verdict(), outcome.changed), (Verdict::Deployed, true), "{outcome:?}");
    assert_eq!(shop(false).live().await.unwrap().as_deref(), Some("web-green"));
    let back = run(shop(false).switch("web-blue", None)).await.unwrap();
    assert_eq!(
        (back.verdict(), back.changed),
        (Verdict::Deployed, true),
        "the rules are ours by now: {back:?}"
    );

    // The response to a failing test in a JSON patch: nothing is changed.
    let ingresses: Api<k8s_openapi::api::networking::v1::Ingress> =
        Api::namespaced(client.clone(), &real.namespace);
    let path = "/spec/rules/0/http/paths/0/backend/service/name";
    let steps = serde_json::json!([{ "op": "test", "path": path, "value": "web-green" }]);
    let patch = Patch::Json::<()>(serde_json::from_value(steps).unwrap());
    let Err(kube::Error::Api(status)) = ingresses.patch("shop", &PatchParams::default(), &patch).await else {
        panic!("the test holds")
    };
    assert_eq!(
        (status.code, status.details.is_none_or(|d| d.name.is_empty() && d.causes.is_empty())),
        (422, true)
    );
    real.leave().await;
}
