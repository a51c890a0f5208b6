//! Successful deployments, and errors before the first change.

mod common;

use std::time::Duration;

use aws_sdk_ecs::config::{BehaviorVersion, Region, retry::RetryConfig};
use bp_artifact::{
    Digest, ResolvedImage, Verdict,
    deploy::{DeployEvent, Target},
    error::{Classified, ErrorClass},
};
use bp_ecs::{Cluster, EcsTarget, Error, Options};
use bp_sandbox::{Effect, Fault};
use common::{HOST, Shop, definition, options, run};
use serde_json::json;

#[tokio::test(start_paused = true)]
async fn deploys_and_proves_a_new_image() {
    let shop = Shop::new();
    let (old, new) = (shop.image("1"), shop.image("2"));
    let service = shop.web(&old).create();
    let before = service.definition();
    shop.sandbox.ledger().clear();

    let (events, outcome) = run(shop.target().deploy(&new)).await;
    let outcome = outcome.unwrap();

    assert_eq!(outcome.verdict(), Verdict::Deployed);
    assert!(outcome.changed);
    assert_eq!(outcome.previous.as_ref().unwrap().id, before);
    assert_eq!(outcome.revision.as_ref().unwrap().id, service.definition());
    assert_eq!(outcome.proof.observations.len(), 3, "the service revision and two tasks");
    assert_eq!(service.running().len(), 8, "the old tasks are still running and are not part of the proof");
    shop.drained().await;
    let web: Vec<_> = service.running().into_iter().filter(|c| c.container == "web").collect();
    assert!(web.len() == 2 && web.iter().all(|c| c.digest == new.digest().as_str()), "{web:?}");
    assert!(service.running().iter().any(|c| c.container == "proxy" && c.digest == old.digest().as_str()));

    let kinds: Vec<&str> =
        events.iter().map(kind).filter(|kind| !matches!(*kind, "progress" | "notice")).collect();
    assert_eq!(kinds, ["planned", "applied", "finished"]);
    assert_eq!(shop.calls("ecs:RegisterTaskDefinition"), 1);
    assert_eq!(shop.calls("ecs:UpdateService"), 1);
}

fn kind(event: &DeployEvent) -> &'static str {
    match event {
        DeployEvent::Planned { .. } => "planned",
        DeployEvent::Applied { .. } => "applied",
        DeployEvent::Progress { .. } => "progress",
        DeployEvent::Notice { .. } => "notice",
        DeployEvent::Failing { .. } => "failing",
        DeployEvent::RollingBack { .. } => "rolling back",
        DeployEvent::Finished { .. } => "finished",
        _ => "?",
    }
}

#[tokio::test(start_paused = true)]
async fn the_new_revision_differs_only_in_one_image() {
    let shop = Shop::new();
    let (old, new) = (shop.image("1"), shop.image("2"));
    shop.web(&old).create();
    shop.target().deploy(&new).await.unwrap();
    let mut expected = shop.ecs.definition("web:1").unwrap();
    let actual = shop.ecs.definition("web:2").unwrap();
    expected["taskDefinition"]["containerDefinitions"][0]["image"] = json!(new.reference.to_string());
    for field in ["taskDefinitionArn", "revision", "registeredAt", "registeredBy"] {
        expected["taskDefinition"][field] = actual["taskDefinition"][field].clone();
    }
    assert_eq!(actual, expected, "including tags and empty values");
}

#[tokio::test(start_paused = true)]
async fn proves_the_digest_if_nothing_has_to_change() {
    let shop = Shop::new();
    let image = shop.image("1");
    shop.web(&image).create();
    let outcome = shop.target().deploy(&image).await.unwrap();
    assert_eq!((outcome.verdict(), outcome.changed), (Verdict::Deployed, false));
    assert!(!outcome.proof.is_empty());
    assert_eq!(shop.calls("ecs:RegisterTaskDefinition") + shop.calls("ecs:UpdateService"), 0);
}

#[tokio::test(start_paused = true)]
async fn a_forced_deployment_replaces_the_tasks_of_the_same_revision() {
    let shop = Shop::new();
    let image = shop.image("1");
    let service = shop.web(&image).create();
    let before = service.running();
    let outcome = shop.target_with(options().force(true)).deploy(&image).await.unwrap();
    assert_eq!((outcome.verdict(), outcome.changed), (Verdict::Deployed, true));
    assert_eq!(shop.ecs.revisions("web"), 1);
    shop.drained().await;
    assert!(service.running().iter().all(|now| before.iter().all(|then| then.task != now.task)));
}

#[tokio::test(start_paused = true)]
async fn reuses_an_identical_latest_revision() {
    let shop = Shop::new();
    let (old, new) = (shop.image("1"), shop.image("2"));
    shop.web(&old).create();
    // Registered without explicit defaults, by a run that was killed before its update.
    let mut wanted = definition(&old);
    wanted["containerDefinitions"][0]["image"] = json!(new.reference.to_string());
    let arn = shop.ecs.register(wanted);
    let outcome = shop.target().deploy(&new).await.unwrap();
    assert_eq!(outcome.revision.unwrap().id, arn);
    assert_eq!(shop.calls("ecs:RegisterTaskDefinition"), 0);
}

#[tokio::test(start_paused = true)]
async fn desired_count_zero_is_unproven() {
    let shop = Shop::new();
    let (old, new) = (shop.image("1"), shop.image("2"));
    shop.web(&old).desired(0).create();
    let outcome = shop.target().deploy(&new).await.unwrap();
    assert_eq!(outcome.verdict(), Verdict::Unproven);
    assert!(outcome.proof.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_platform_digest_proves_the_index_and_a_foreign_digest_is_a_mismatch() {
    let shop = Shop::new();
    let image = shop.image("1");
    shop.web(&image).create();
    let proof = shop.target().prove().await.unwrap();
    assert_eq!(proof.judge(&image), Verdict::Deployed);
    assert_eq!(proof.judge(&shop.image("2")), Verdict::DigestMismatch);
    let bare = ResolvedImage::from(common::reference(Digest::sha256("x").as_str()));
    assert_eq!(proof.judge(&bare), Verdict::Unproven, "its platforms are unknown");
}

#[tokio::test(start_paused = true)]
async fn a_poll_without_changes_takes_two_calls() {
    let shop = Shop::new();
    let (old, new) = (shop.image("1"), shop.image("2"));
    shop.web(&old).create();
    shop.sandbox.ledger().clear();
    shop.target().deploy(&new).await.unwrap();
    let operations = shop.sandbox.ledger().operations("aws");
    let count = |name: &str| operations.iter().filter(|o| *o == name).count();
    let ticks = count("ecs:DescribeServices") - 1;
    let lists = count("ecs:ListServiceDeployments") - 1;
    assert!(ticks >= 3, "{operations:?}");
    // The deployment is polled with ListServiceDeployments until it is listed, then with DescribeServiceDeployments.
    assert!(lists <= 3, "{operations:?}");
    assert!(count("ecs:DescribeServiceDeployments") <= ticks);
    // Stopped tasks are read only after a change; the proof reads the running tasks.
    assert!(count("ecs:ListTasks") <= 6, "{operations:?}");
    assert!(operations.len() <= 2 * ticks + lists + 15, "{operations:?}");
}

#[tokio::test(start_paused = true)]
async fn proves_tasks_on_all_pages() {
    let shop = Shop::new();
    let (old, new) = (shop.image("1"), shop.image("2"));
    shop.web(&old).desired(130).create();
    let outcome = shop.target().deploy(&new).await.unwrap();
    assert_eq!(outcome.verdict(), Verdict::Deployed);
    assert_eq!(outcome.proof.observations.len(), 131);
}

async fn refused(shop: &Shop, target: &EcsTarget, image: &ResolvedImage) -> (String, ErrorClass) {
    let error = target.deploy(image).await.unwrap_err();
    assert_eq!(shop.calls("ecs:RegisterTaskDefinition") + shop.calls("ecs:UpdateService"), 0, "{error}");
    (error.to_string(), error.class())
}

#[tokio::test(start_paused = true)]
async fn an_unknown_container_is_an_error_that_lists_the_containers() {
    let shop = Shop::new();
    shop.web(&shop.image("1")).create();
    let target = Cluster::new(shop.client(), "shop").service("web", options()).container("wbe");
    let (message, class) = refused(&shop, &target, &shop.image("2")).await;
    assert!(message.ends_with("has no container \"wbe\"; it has web, proxy"), "{message}");
    assert_eq!(class, ErrorClass::BadInput);
}

#[tokio::test(start_paused = true)]
async fn distinguishes_an_unknown_cluster_from_an_unknown_service() {
    let shop = Shop::new();
    let image = shop.image("1");
    shop.web(&image).create();
    for (cluster, service, part) in
        [("nope", "web", "no ECS cluster \"nope\""), ("shop", "nope", "\"shop\" has no service \"nope\"")]
    {
        let target = Cluster::new(shop.client(), cluster).service(service, options()).container("web");
        let (message, class) = refused(&shop, &target, &image).await;
        assert!(message.contains(part), "{message}");
        assert_eq!(class, ErrorClass::BadInput);
    }
}

#[tokio::test(start_paused = true)]
async fn rejects_other_deployment_controllers() {
    for controller in ["CODE_DEPLOY", "EXTERNAL"] {
        let shop = Shop::new();
        shop.web(&shop.image("1")).with("deploymentController", json!({ "type": controller })).create();
        let (message, class) = refused(&shop, &shop.target(), &shop.image("2")).await;
        assert!(message.contains(controller) && message.contains("UpdateService"), "{message}");
        assert_eq!(class, ErrorClass::Refused);
    }
}

#[tokio::test(start_paused = true)]
async fn rejects_a_service_that_is_being_deleted() {
    let shop = Shop::new();
    shop.web(&shop.image("1")).create().delete();
    let (message, _) = refused(&shop, &shop.target(), &shop.image("2")).await;
    assert!(message.contains("DRAINING"), "{message}");
}

#[tokio::test(start_paused = true)]
async fn states_the_missing_permission() {
    for (action, advice) in [
        ("ecs:DescribeServices", "ecs:DescribeServices"),
        ("ecs:ListServiceDeployments", "ecs:ListServiceDeployments"),
        ("ecs:RegisterTaskDefinition", "ecs:RegisterTaskDefinition"),
        ("ecs:UpdateService", "ecs:UpdateService"),
    ] {
        let shop = Shop::new();
        shop.web(&shop.image("1")).create();
        shop.inject(shop.deny(action));
        let error = shop.target().deploy(&shop.image("2")).await.unwrap_err();
        assert!(error.to_string().ends_with(advice), "{error}");
        assert_eq!(error.class(), ErrorClass::Unavailable);
        assert!(!error.is_retryable(), "a retry does not help");
    }
}

#[tokio::test(start_paused = true)]
async fn finds_pass_role_in_a_client_exception() {
    let shop = Shop::new();
    shop.web(&shop.image("1")).create();
    let message =
        "User: arn:aws:iam::1:user/ci is not authorized to perform: iam:PassRole on resource: role/web";
    shop.inject(shop.refuse("ecs:RegisterTaskDefinition", "ClientException", message, 1));
    let error = shop.target().deploy(&shop.image("2")).await.unwrap_err();
    assert!(error.to_string().ends_with("the permission iam:PassRole"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn reports_missing_credentials_and_network_in_one_line_each() {
    let shop = Shop::new();
    let image = shop.image("1");
    shop.web(&image).create();
    let config = aws_sdk_ecs::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new(common::REGION))
        .retry_config(RetryConfig::disabled())
        .http_client(shop.sandbox.http_client())
        .build();
    let unauthenticated = Cluster::new(aws_sdk_ecs::Client::from_conf(config), "shop")
        .service("web", options())
        .container("web");
    let error = unauthenticated.deploy(&image).await.unwrap_err();
    assert!(matches!(error, Error::NoCredentials { .. }), "{error:?}");

    shop.inject(shop.refuse("ecs:DescribeServices", "ExpiredTokenException", "The token is expired", 1));
    let error = shop.target().deploy(&image).await.unwrap_err();
    assert!(matches!(error, Error::NoCredentials { .. }), "{error:?}");

    shop.inject(Fault::new(Effect::Reset).on("ecs:DescribeServices"));
    let error = shop.target().deploy(&image).await.unwrap_err();
    assert!(matches!(error, Error::Unreachable { operation: "ecs:DescribeServices", .. }), "{error:?}");
}

#[tokio::test(start_paused = true)]
async fn rejects_a_definition_with_unknown_members() {
    let shop = Shop::new();
    let image = shop.image("1");
    shop.web(&image).create();
    let mut described = shop.ecs.definition("web:1").unwrap();
    described["taskDefinition"]["quantumMode"] = json!("on");
    let headers = vec![("content-type".to_owned(), "application/x-amz-json-1.1".to_owned())];
    let response = Effect::Answer { status: 200, headers, body: described.to_string() };
    shop.inject(Fault::new(response).on("ecs:DescribeTaskDefinition").times(u32::MAX));
    let (message, class) = refused(&shop, &shop.target(), &shop.image("2")).await;
    assert!(message.contains("quantumMode"), "{message}");
    assert_eq!(class, ErrorClass::Refused);
}

#[tokio::test(start_paused = true)]
async fn retries_while_throttled() {
    let shop = Shop::new();
    shop.web(&shop.image("1")).create();
    let slow = shop.refuse("ecs:DescribeServices", "ThrottlingException", "Rate exceeded", 4);
    shop.inject(slow.after(2));
    let outcome = shop.target().deploy(&shop.image("2")).await.unwrap();
    assert_eq!(outcome.verdict(), Verdict::Deployed);
}

#[tokio::test(start_paused = true)]
async fn keeps_settings_of_terraform_and_autoscaling() {
    let shop = Shop::new();
    let network = json!({ "awsvpcConfiguration": { "subnets": ["subnet-1"] } });
    let service = shop
        .web(&shop.image("1"))
        .with("networkConfiguration", network.clone())
        .with("healthCheckGracePeriodSeconds", json!(42))
        .desired(3)
        .create();
    let before = service.view();
    // Autoscaling changes the count between our read and our update.
    shop.inject(Fault::new(Effect::Delay(Duration::from_secs(5))).on("ecs:RegisterTaskDefinition"));
    let deployment = shop.target().deploy(&shop.image("2"));
    tokio::time::sleep(Duration::from_secs(2)).await;
    service.update(json!({ "desiredCount": 5 }));
    assert_eq!(deployment.await.unwrap().verdict(), Verdict::Deployed);
    let after = service.view();
    assert_eq!(after["desiredCount"], 5);
    for field in ["networkConfiguration", "healthCheckGracePeriodSeconds", "deploymentConfiguration", "tags"]
    {
        assert_eq!(after[field], before[field], "{field}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_target_trait_has_the_same_results() {
    let shop = Shop::new();
    shop.web(&shop.image("1")).create();
    let target: Box<dyn Target> = Box::new(shop.target());
    assert_eq!(target.id().as_str(), "ecs/shop/web");
    let current = target.current().await.unwrap();
    assert!(current.stable.image.as_str().starts_with(HOST) && current.rolling_out.is_none());
    let outcome = target.deploy(&shop.image("2")).await.unwrap();
    assert_eq!(outcome.verdict(), Verdict::Deployed);
    let restored = target.restore(&current.stable).await.unwrap();
    assert_eq!(restored.verdict(), Verdict::Deployed);
    assert_eq!(restored.revision, Some(current.stable));
}

#[test]
fn a_deadline_is_mandatory() {
    assert!(Options::new(Duration::ZERO).is_err());
}

#[tokio::test(start_paused = true)]
async fn shows_planned_changes_before_any_change() {
    let shop = Shop::new();
    let (old, new) = (shop.image("1"), shop.image("2"));
    shop.web(&old).create();
    let current = shop.target().definition().await.unwrap();
    let wanted = current.with_image("web", &new.reference).unwrap();
    let changes: Vec<String> = current.changes(&wanted).iter().map(ToString::to_string).collect();
    let (old, new) = (old.reference, new.reference);
    assert_eq!(changes, [format!("~ containerDefinitions[web].image: {old} -> {new}")]);
}

#[tokio::test(start_paused = true)]
async fn a_deadline_may_be_as_long_as_a_duration_can_be() {
    let shop = Shop::new();
    let (old, new) = (shop.image("1"), shop.image("2"));
    shop.web(&old).create();
    let target = shop.target_with(Options::new(Duration::MAX).unwrap());
    let outcome = target.deploy(&new).await.unwrap();
    assert_eq!(outcome.verdict(), Verdict::Deployed);
    let outcome = target.restore(outcome.previous.as_ref().unwrap()).await.unwrap();
    assert_eq!(outcome.verdict(), Verdict::Deployed);
}
