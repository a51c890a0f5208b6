//! Target health in Elastic Load Balancing while traffic is shifted, with the real SDK against the sandbox.

mod common;

use std::time::Duration;

use aws_credential_types::Credentials;
use aws_sdk_elasticloadbalancingv2::config::{BehaviorVersion, Region};
use bp_artifact::{Outcome, Verdict, config::TrafficObject, deploy::Cause};
use bp_eks::{Options, TrafficError, WeightedTraffic};
use bp_sandbox::{Effect, Fault};
use serde_json::json;

use common::World;

/// The target group of the Service web-green, as the controller of the sandbox creates it.
const GROUP: &str =
    "arn:aws:elasticloadbalancing:eu-central-1:111111111111:targetgroup/k8s-prod-web-green/0123456789abcdef";
const HEALTHY: [(&str, &str); 2] = [("10.0.0.1", "healthy"), ("10.0.0.2", "healthy")];

/// An Ingress with all traffic at the Service web-blue. Both Services select the pods of one Deployment.
async fn shop() -> (World, WeightedTraffic) {
    let world = World::new().await;
    let service = |name: &str| {
        json!({
            "apiVersion": "v1", "kind": "Service", "metadata": { "name": name, "namespace": "prod" },
            "spec": { "selector": { "app": "web" }, "ports": [{ "port": 80 }] },
        })
    };
    let groups = json!([
        { "serviceName": "web-blue", "servicePort": 80, "weight": 100 },
        { "serviceName": "web-green", "servicePort": 80, "weight": 0 },
    ]);
    let action = json!({ "type": "forward", "forwardConfig": { "targetGroups": groups } });
    for object in [
        service("web-blue"),
        service("web-green"),
        json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "IngressClass",
            "metadata": { "name": "alb" }, "spec": { "controller": "ingress.k8s.aws/alb" },
        }),
        json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "Ingress",
            "metadata": { "name": "shop", "namespace": "prod", "annotations": {
                "alb.ingress.kubernetes.io/actions.web": action.to_string(),
            } },
            "spec": { "ingressClassName": "alb", "defaultBackend": {
                "service": { "name": "web", "port": { "name": "use-annotation" } },
            } },
        }),
    ] {
        world.cluster.create(object);
    }
    tokio::time::sleep(Duration::from_secs(10)).await;
    let config = aws_sdk_elasticloadbalancingv2::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("eu-central-1"))
        .credentials_provider(Credentials::for_tests())
        .retry_config(aws_sdk_elasticloadbalancingv2::config::retry::RetryConfig::disabled())
        .http_client(world.sandbox.http_client())
        .build();
    let options = Options::new(Duration::from_secs(120)).unwrap().take_over(true);
    let pair = ["web-blue", "web-green"];
    let traffic = world.namespace().weights(TrafficObject::Ingress("shop".into()), pair, options).unwrap();
    let client = aws_sdk_elasticloadbalancingv2::Client::from_conf(config);
    (world, traffic.container("web").target_health(client).bake(Duration::from_secs(60)))
}

async fn shift(traffic: &WeightedTraffic) -> Result<Outcome, TrafficError> {
    traffic.shift(Some("web-green"), None).await
}

fn steps(world: &World) -> usize {
    world.cluster.weights_in_effect("ingresses", "prod", "shop").len()
}

#[tokio::test(start_paused = true)]
async fn a_step_is_taken_only_when_the_targets_are_healthy() {
    let (world, traffic) = shop().await;
    // The target group is not known: nothing is changed.
    let error = shift(&traffic).await.unwrap_err();
    assert!(error.to_string().contains("TargetGroupNotFound"), "{error}");
    for state in ["initial", "unused", "unavailable", "unhealthy"] {
        world.sandbox.aws().targets(GROUP, &[("10.0.0.1", "healthy"), ("10.0.0.2", state)]);
        let error = shift(&traffic).await.unwrap_err();
        assert!(error.to_string().contains("1 of 2 targets of service/web-green are healthy"), "{error}");
    }
    assert_eq!(steps(&world), 1);

    // Healthy later.
    let work = traffic.shift(Some("web-green"), None);
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_eq!(steps(&world), 1);
    world.sandbox.aws().targets(GROUP, &HEALTHY);
    let outcome = work.await.unwrap();
    assert_eq!((outcome.verdict(), steps(&world)), (Verdict::Deployed, 5), "{outcome:?}");
}

#[tokio::test(start_paused = true)]
async fn unhealthy_targets_lose_the_traffic_and_unknown_ones_keep_it() {
    let (world, traffic) = shop().await;
    world.sandbox.aws().targets(GROUP, &HEALTHY);
    let work = traffic.shift(Some("web-green"), None);
    tokio::time::sleep(Duration::from_secs(80)).await;
    world.sandbox.aws().targets(GROUP, &[("10.0.0.1", "unhealthy"), ("10.0.0.2", "unhealthy")]);
    let outcome = work.await.unwrap();
    let failure = outcome.failure.as_ref().unwrap_or_else(|| panic!("{outcome:?}"));
    assert_eq!((outcome.verdict(), failure.cause), (Verdict::RolledBack, Cause::LoadBalancerUnhealthy));
    assert!(failure.message.contains("Target.FailedHealthChecks"), "{failure}");
    assert_eq!(traffic.shares().await.unwrap().services[1].percent, 0);

    world.sandbox.aws().targets(GROUP, &HEALTHY);
    let work = traffic.shift(Some("web-green"), None);
    tokio::time::sleep(Duration::from_secs(80)).await;
    world
        .sandbox
        .faults()
        .inject(Fault::new(Effect::Reset).on("elasticloadbalancing:DescribeTargetHealth").times(u32::MAX));
    let outcome = work.await.unwrap();
    assert_eq!(outcome.verdict(), Verdict::DeadlineExceeded, "{outcome:?}");
    assert!(
        outcome.detail.contains("cannot be read") && outcome.detail.contains("rerun"),
        "{}",
        outcome.detail
    );
    assert_eq!(traffic.shares().await.unwrap().step, Some(25));
}

#[tokio::test(start_paused = true)]
async fn missing_permission_is_reported_before_any_change() {
    let (world, traffic) = shop().await;
    let body = "<ErrorResponse><Error><Type>Sender</Type><Code>AccessDenied</Code><Message>User: arn is not authorized to \
                perform: elasticloadbalancing:DescribeTargetHealth</Message></Error><RequestId>1</RequestId></ErrorResponse>";
    let denied = Effect::Answer { status: 403, headers: Vec::new(), body: body.to_owned() };
    world
        .sandbox
        .faults()
        .inject(Fault::new(denied).on("elasticloadbalancing:DescribeTargetHealth").times(u32::MAX));
    let start = tokio::time::Instant::now();
    let error = shift(&traffic).await.unwrap_err();
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    for part in ["elasticloadbalancing:DescribeTargetHealth", "eks.traffic.target-health"] {
        assert!(error.to_string().contains(part), "{error}");
    }
    assert_eq!(steps(&world), 1);
}
