//! Lifecycle hooks with Lambda functions, early success criteria, Express Mode and tags in the ECS model.

mod common;

use std::time::Duration;

use aws_sdk_ecs::config::{BehaviorVersion, Credentials, Region};
use bp_sandbox::{
    Behaviour, Clock,
    aws::ecs::{HookStatus, ServiceHandle},
};
use common::{World, checked, crashes, until, world};
use serde_json::{Value, json};

const FUNCTION: &str = "arn:aws:lambda:us-west-2:123456789012:function:signature-hook";

fn status(service: &ServiceHandle) -> String {
    service.deployments()[0]["status"].as_str().unwrap().to_owned()
}

fn hooked(world: &World, stage: &str, minutes: u32) -> ServiceHandle {
    let hook = json!({
        "hookTargetArn": FUNCTION,
        "lifecycleStages": [stage],
        "timeoutConfiguration": { "timeoutInMinutes": minutes, "action": "ROLLBACK" },
    });
    world.service().with("deploymentConfiguration", json!({ "lifecycleHooks": [hook] })).create()
}

#[tokio::test(start_paused = true)]
async fn a_refused_hook_rolls_back_as_recorded() {
    let recorded: Value = serde_json::from_str(include_str!("recorded/ecs/hook-refused.json")).unwrap();
    let [_, in_progress, ended] = recorded["data"]["looks"].as_array().unwrap().as_slice() else { panic!() };
    let world = world(Clock::tokio());
    let service = hooked(&world, "PRE_SCALE_UP", 60);
    world.ecs.hook(FUNCTION, HookStatus::Failed);
    let old = service.view()["deployments"][0]["id"].clone();
    world.update(&service, world.definition("new", Behaviour::default()));
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(status(&service), in_progress[1]);
    let seconds = 1 + until(60, || status(&service).starts_with("ROLLBACK_S")).await;
    assert!(seconds < 5, "under 5 s after it began: {seconds}");
    let deployment = &service.deployments()[0];
    assert_eq!((&deployment["status"], &deployment["statusReason"]), (&ended[1], &ended[2]));
    // The refused deployment is gone, and the previous one is in progress for 17 s more.
    let settled = until(60, || {
        let view = service.view();
        assert_eq!(view["deployments"].as_array().unwrap().len(), 1);
        assert_eq!(
            (&view["deployments"][0]["id"], &view["deployments"][0]["status"]),
            (&old, &json!("PRIMARY"))
        );
        view["deployments"][0]["rolloutState"] == "COMPLETED"
    })
    .await;
    assert!((16..=17).contains(&settled), "{settled}");
    assert!(service.tasks().iter().all(|task| task["startedBy"] == old), "no task was started");
}

#[tokio::test(start_paused = true)]
async fn a_hook_is_called_again_until_it_succeeds() {
    let world = world(Clock::tokio());
    let service = hooked(&world, "PRE_SCALE_UP", 60);
    world.ecs.hook(FUNCTION, HookStatus::InProgress);
    world.update(&service, world.definition("new", Behaviour::default()));
    tokio::time::sleep(Duration::from_secs(300)).await;
    let deployment = &service.deployments()[0];
    assert_eq!(
        (&deployment["status"], &deployment["lifecycleStage"]),
        (&json!("IN_PROGRESS"), &json!("PRE_SCALE_UP"))
    );
    let hook = &deployment["lifecycleHookDetails"][0];
    assert_eq!((&hook["targetType"], &hook["status"]), (&json!("AWS_LAMBDA"), &json!("IN_PROGRESS")));
    assert_eq!(hook["targetArn"], FUNCTION);
    assert_eq!(service.view()["pendingCount"], 0, "no task is started before");
    world.ecs.hook(FUNCTION, HookStatus::Succeeded);
    until(60, || status(&service) == "SUCCESSFUL").await;
}

#[tokio::test(start_paused = true)]
async fn a_hook_without_a_result_times_out() {
    let world = world(Clock::tokio());
    let service = hooked(&world, "PRE_SCALE_UP", 10);
    world.ecs.hook(FUNCTION, HookStatus::InProgress);
    world.update(&service, world.definition("new", Behaviour::default()));
    let seconds = until(700, || status(&service).starts_with("ROLLBACK_S")).await;
    assert!((590..610).contains(&seconds), "{seconds}");
}

#[tokio::test(start_paused = true)]
async fn a_hook_of_a_later_stage_of_blue_green_rolls_back() {
    let world = world(Clock::tokio());
    let hooks = json!([{ "hookTargetArn": FUNCTION, "lifecycleStages": ["POST_TEST_TRAFFIC_SHIFT"] }]);
    let configuration = json!({ "strategy": "BLUE_GREEN", "lifecycleHooks": hooks });
    let service = world.service().with("deploymentConfiguration", configuration).create();
    world.ecs.hook(FUNCTION, HookStatus::Failed);
    world.update(&service, world.definition("new", Behaviour::default()));
    until(120, || status(&service) == "ROLLBACK_SUCCESSFUL").await;
    let reason = service.deployments()[0]["statusReason"].as_str().unwrap().to_owned();
    assert!(reason.contains("because POST_TEST_TRAFFIC_SHIFT lifecycle hook(s) failed."), "{reason}");
    assert!(service.running().iter().all(|c| c.image.ends_with(":good")));
}

fn early(world: &World, cleanup: &str, bake: u32) -> ServiceHandle {
    let configuration = json!({
        "minimumHealthyPercent": 50,
        "maximumPercent": 100,
        "bakeTimeInMinutes": bake,
        "earlySuccessCriteria": { "enable": true, "healthyPercent": 50, "sourceServiceRevisionCleanup": cleanup },
    });
    world.service().desired(4).with("deploymentConfiguration", configuration).create()
}

fn running(service: &ServiceHandle, name: &str) -> usize {
    service.running().iter().filter(|container| container.image.ends_with(name)).count()
}

/// DEFERRED: successful, then the previous tasks are removed. BLOCKING: the other way round.
#[tokio::test(start_paused = true)]
async fn early_success_criteria_end_a_deployment_before_or_after_its_cleanup() {
    for (cleanup, previous) in [("DEFERRED", 1), ("BLOCKING", 0)] {
        let world = world(Clock::tokio());
        let service = early(&world, cleanup, 0);
        world.update(&service, world.definition("new", Behaviour::default()));
        until(60, || status(&service) == "SUCCESSFUL").await;
        assert_eq!((running(&service, ":new"), running(&service, ":good")), (2, previous), "{cleanup}");
        assert_eq!(service.view()["deployments"][0]["rolloutState"], "IN_PROGRESS");
        until(120, || service.view()["deployments"][0]["rolloutState"] == "COMPLETED").await;
        assert_eq!(
            (running(&service, ":new"), running(&service, ":good")),
            (4, 0),
            "scaled in the background"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn early_success_waits_for_the_bake_time() {
    let world = world(Clock::tokio());
    let service = early(&world, "DEFERRED", 2);
    let start = world.sandbox.clock().now();
    world.update(&service, world.definition("new", Behaviour::default()));
    until(180, || status(&service) == "SUCCESSFUL").await;
    let elapsed = world.sandbox.clock().now().duration_since(start).as_secs();
    assert!((120..140).contains(&elapsed), "{elapsed} s");
}

/// The circuit breaker no longer acts on tasks that fail after the success.
#[tokio::test(start_paused = true)]
async fn failures_after_an_early_success_are_not_rolled_back() {
    let world = world(Clock::tokio());
    let criteria =
        json!({ "enable": true, "healthyPercent": 50, "sourceServiceRevisionCleanup": "DEFERRED" });
    let configuration = json!({
        "minimumHealthyPercent": 50,
        "maximumPercent": 100,
        "deploymentCircuitBreaker": { "enable": true, "rollback": true },
        "earlySuccessCriteria": criteria,
    });
    let service = world.service().desired(4).with("deploymentConfiguration", configuration).create();
    let new = checked(world.definition("new", Behaviour::default()));
    let image = new["containerDefinitions"][0]["image"].as_str().unwrap().to_owned();
    world.update(&service, new);
    until(60, || status(&service) == "SUCCESSFUL").await;
    let digest = service.running().into_iter().find(|c| c.image == image).unwrap().digest;
    world.sandbox.script(&digest, crashes());
    tokio::time::sleep(Duration::from_secs(300)).await;
    assert_eq!(status(&service), "SUCCESSFUL");
    let view = service.view();
    assert!(view["deployments"][0]["taskDefinition"].as_str().unwrap().ends_with("web:2"));
    assert!(view["runningCount"].as_u64().unwrap() < 4, "the last tasks never start: {view}");
}

fn client(world: &World) -> aws_sdk_ecs::Client {
    let config = aws_sdk_ecs::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("eu-central-1"))
        .credentials_provider(Credentials::for_tests())
        .http_client(world.sandbox.http_client())
        .build();
    aws_sdk_ecs::Client::from_conf(config)
}

#[tokio::test(start_paused = true)]
async fn early_success_criteria_have_the_documented_constraints() {
    use aws_sdk_ecs::types::{
        DeploymentConfiguration, DeploymentEarlySuccessCriteria, ServiceRevisionCleanup,
    };
    let world = world(Clock::tokio());
    world.service().create();
    for percent in [Some(40), None, Some(101)] {
        let criteria = DeploymentEarlySuccessCriteria::builder()
            .enable(true)
            .set_healthy_percent(percent)
            .source_service_revision_cleanup(ServiceRevisionCleanup::Deferred)
            .build();
        let configuration = DeploymentConfiguration::builder()
            .minimum_healthy_percent(50)
            .early_success_criteria(criteria)
            .build();
        let call = client(&world).update_service().cluster("shop").service("web");
        let error = call.deployment_configuration(configuration).send().await.unwrap_err();
        assert!(error.into_service_error().is_invalid_parameter_exception(), "{percent:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn lists_the_tags_of_every_resource() {
    let world = world(Clock::tokio());
    let tags = json!([{ "key": "Team", "value": "shop" }]);
    let mut definition = world.definition("good", Behaviour::default());
    definition["tags"] = tags.clone();
    let service =
        world.ecs.new_service("shop", "web").task_definition(definition).with("tags", tags).create();
    let view = service.view();
    let arn = |member: &str| view[member].as_str().unwrap().to_owned();
    let task = service.tasks()[0]["taskArn"].as_str().unwrap().to_owned();
    let client = client(&world);
    let list = |arn: String| client.list_tags_for_resource().resource_arn(arn).send();
    for tagged in [arn("serviceArn"), arn("taskDefinition")] {
        let listed = list(tagged).await.unwrap();
        assert_eq!((listed.tags()[0].key(), listed.tags()[0].value()), (Some("Team"), Some("shop")));
    }
    for untagged in [arn("clusterArn"), task] {
        assert!(list(untagged).await.unwrap().tags().is_empty());
    }
    for (unknown, is_it) in [
        ("arn:aws:ecs:eu-central-1:111111111111:service/shop/nope", "InvalidParameterException"),
        ("arn:aws:ecs:eu-central-1:111111111111:cluster/nope", "ClusterNotFoundException"),
        ("nope", "InvalidParameterException"),
    ] {
        let error = list(unknown.to_owned()).await.unwrap_err().into_service_error();
        assert_eq!(error.meta().code(), Some(is_it), "{unknown}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_service_of_express_mode_is_managed_by_ecs_and_deploys_as_a_canary() {
    let world = world(Clock::tokio());
    assert!(world.service().create().view()["resourceManagementType"].is_null(), "as recorded");
    let new = world.definition("good", Behaviour::default());
    let service = world.ecs.new_service("shop", "api").task_definition(new).express().create();
    assert_eq!(service.view()["resourceManagementType"], "ECS");
    let start = world.sandbox.clock().now();
    world.update(&service, world.definition("new", Behaviour::default()));
    until(600, || status(&service) == "SUCCESSFUL").await;
    let elapsed = world.sandbox.clock().now().duration_since(start).as_secs();
    assert!(elapsed > 360, "3 minutes of canary, 3 of bake time: {elapsed} s");
}
