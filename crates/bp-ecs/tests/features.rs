//! Features of the service that a deployment keeps, shows, follows or refuses: early success, Express Mode, service
//! gateways, VPC Lattice, Managed Instances, other deployment controllers.

mod common;

use std::{num::NonZeroU32, time::Duration};

use bp_artifact::{
    Verdict,
    deploy::{Cause, DeployEvent, preflight::FindingState},
    error::{Classified, ErrorClass},
};
use bp_ecs::{Error, Lookups, Options};
use bp_sandbox::Behaviour;
use common::{
    Shop, options, run,
    scene::{ARN, Scene, image, old, ours, running, secs, service_deployment},
};
use serde_json::{Value, json};
use tokio::time::Instant;

fn texts(events: &[DeployEvent]) -> Vec<String> {
    events.iter().map(ToString::to_string).collect()
}

/// Ten tasks, of which ECS requires six; it reports success after a minute.
fn early(cleanup: &str) -> Scene {
    Scene {
        deployments: |at| match at.as_secs() {
            0..60 => vec![ours("PRIMARY", "IN_PROGRESS", 3, 0), old("ACTIVE", "COMPLETED", 10)],
            _ => vec![ours("PRIMARY", "IN_PROGRESS", 6, 0), old("ACTIVE", "COMPLETED", 4)],
        },
        deployment: |at| {
            let status = if at.as_secs() < 60 { "IN_PROGRESS" } else { "SUCCESSFUL" };
            Some(service_deployment(status, json!({})))
        },
        running: |_| (1..=6).map(running).collect(),
        desired: 10,
        settings: json!({ "deploymentConfiguration": {
            "maximumPercent": 200, "minimumHealthyPercent": 50, "strategy": "ROLLING",
            "deploymentCircuitBreaker": { "enable": true, "rollback": true },
            "earlySuccessCriteria": {
                "enable": true, "healthyPercent": 60, "sourceServiceRevisionCleanup": cleanup,
            },
        } }),
        ..Scene::default()
    }
}

#[tokio::test(start_paused = true)]
async fn an_early_success_is_proven_by_the_required_tasks_and_states_what_continues() {
    for (cleanup, removes) in [("BLOCKING", false), ("DEFERRED", true)] {
        let start = Instant::now();
        let (events, outcome, _) = early(cleanup).deploy(Options::new(secs(600)).unwrap()).await;
        assert_eq!(outcome.verdict(), Verdict::Deployed, "{outcome:#?}");
        assert_eq!(outcome.proof.observations.len(), 6);
        assert!(
            start.elapsed() < secs(60 + 25),
            "does not wait for the remaining tasks: {:?}",
            start.elapsed()
        );
        assert!(outcome.detail.contains("starts the remaining 4 of 10 tasks"), "{}", outcome.detail);
        assert!(
            outcome.detail.contains("without circuit breaker, alarms and rollback"),
            "{}",
            outcome.detail
        );
        assert_eq!(outcome.detail.contains("removes the previous tasks"), removes, "{}", outcome.detail);
        let plan = texts(&events).into_iter().find(|text| text.contains("deployment configuration")).unwrap();
        assert!(plan.contains("early success at 60%") && plan.contains(cleanup), "{plan}");
    }
}

#[tokio::test(start_paused = true)]
async fn failures_after_an_early_success_are_rolled_back_although_ecs_does_not() {
    let mut scene = early("DEFERRED");
    scene.stopped = |at| {
        let exited = |number: u32| {
            json!({
                "taskArn": format!("{ARN}:task/shop/exited{number}"), "startedBy": "ecs-svc/200",
                "lastStatus": "STOPPED", "stopCode": "EssentialContainerExited",
                "stoppedReason": "Essential container in task exited",
                "containers": [{ "name": "web", "exitCode": 3 }],
            })
        };
        if at.as_secs() < 65 { vec![] } else { (1..=6).map(exited).collect() }
    };
    let options = Options::new(secs(600)).unwrap();
    let (target, replay) = scene.target(options);
    let (_, outcome) = run(target.deploy(&image("new"))).await;
    let outcome = outcome.unwrap();
    assert_eq!(outcome.failure.unwrap().cause, Cause::ContainerExited);
    assert_eq!((replay.count("StopServiceDeployment"), replay.count("UpdateService")), (0, 2));
}

#[tokio::test(start_paused = true)]
async fn an_ongoing_drain_is_not_a_failure_after_the_success() {
    let mut scene = early("BLOCKING");
    // The tasks of the previous revision stop in this time.
    scene.stopped = |at| {
        let drained = |number: u64| {
            json!({
                "taskArn": format!("{ARN}:task/shop/old{number}"), "startedBy": "ecs-svc/100",
                "lastStatus": "STOPPED", "stopCode": "ServiceSchedulerInitiated",
                "stoppedReason": "Scaling activity initiated by (deployment ecs-svc/200)",
                "containers": [{ "name": "web", "exitCode": 1 }],
            })
        };
        (0..at.as_secs().saturating_sub(60)).map(drained).collect()
    };
    let (_, outcome, _) = scene.deploy(Options::new(secs(600)).unwrap()).await;
    assert_eq!(outcome.verdict(), Verdict::Deployed, "{outcome:#?}");
}

#[tokio::test(start_paused = true)]
async fn refuses_an_express_mode_service_before_any_change_and_verifies_it() {
    let scene = Scene { settings: json!({ "resourceManagementType": "ECS" }), ..Scene::default() };
    let (target, replay) = scene.target(options());
    let error = target.deploy(&image("new")).await.unwrap_err();
    assert!(matches!(error, Error::ExpressService { .. }), "{error}");
    assert_eq!(error.class(), ErrorClass::Refused);
    let text = error.to_string();
    assert!(text.contains("Express Mode") && text.contains("ecs:UpdateExpressGatewayService"), "{text}");
    let refused = target.preflight(&image("new"), &Lookups::default()).await.unwrap_err();
    assert!(matches!(refused, Error::ExpressService { .. }), "{refused}");
    target.drift(&image("old")).await.unwrap();
    assert_eq!(replay.count("UpdateService") + replay.count("RegisterTaskDefinition"), 0);

    let scene = Scene { settings: json!({ "resourceManagementType": "CUSTOMER" }), ..Scene::default() };
    scene.target(options()).0.preflight(&image("new"), &Lookups::default()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_plan_shows_gateways_lattice_hooks_and_capacity_that_are_kept() {
    let url = "https://web.example.com";
    let hook = "arn:aws:lambda:eu-central-1:111111111111:function:smoke";
    let mut primary = old("PRIMARY", "COMPLETED", 1);
    primary["vpcLatticeConfigurations"] = json!([{
        "roleArn": "arn:aws:iam::111111111111:role/lattice", "portName": "http",
        "targetGroupArn": "arn:aws:vpc-lattice:eu-central-1:111111111111:targetgroup/tg-1",
        "quantumRouting": true,
    }]);
    let scene = Scene {
        settings: json!({
            "deployments": [primary],
            "launchType": "MANAGED_INSTANCES",
            "currentServiceRevisions": [{ "arn": format!("{ARN}:service-revision/shop/web/100") }],
            "deploymentConfiguration": {
                "strategy": "CANARY", "bakeTimeInMinutes": 5,
                "canaryConfiguration": { "canaryPercent": 10.0, "canaryBakeTimeInMinutes": 3 },
                "lifecycleHooks": [{
                    "targetType": "AWS_LAMBDA", "hookTargetArn": hook, "lifecycleStages": ["POST_SCALE_UP"],
                }],
            },
        }),
        revision: json!({
            "serviceRevisionArn": format!("{ARN}:service-revision/shop/web/100"),
            "gatewayConnectors": [{ "portName": "http" }],
            "ecsManagedResources": { "gatewayConnections": [{
                "gatewayArn": format!("{ARN}:gateway/edge"), "portName": "http", "serviceUrl": url,
            }] },
        }),
        ..Scene::default()
    };
    let report = scene.target(options()).0.preflight(&image("new"), &Lookups::default()).await.unwrap();
    let shown = report.to_string();
    for part in [
        "CANARY (10% first)",
        "bake time 5 min",
        hook,
        "POST_SCALE_UP",
        "targetgroup/tg-1",
        "edge",
        url,
        "MANAGED_INSTANCES",
    ] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    let denied = |subject: &str| {
        report.findings.iter().any(|f| f.subject.contains(subject) && f.state != FindingState::Present)
    };
    assert!(!denied("gateway") && !denied("Lattice"), "{shown}");
}

#[tokio::test(start_paused = true)]
async fn updates_send_only_the_definition_so_that_ecs_keeps_every_other_setting() {
    let shop = Shop::new();
    shop.web(&shop.image("1")).with("launchType", json!("MANAGED_INSTANCES")).create();
    let outcome = shop.target().deploy(&shop.image("2")).await.unwrap();
    assert_eq!(outcome.verdict(), Verdict::Deployed);
    let sent = std::sync::Arc::new(std::sync::Mutex::new(Vec::<Value>::new()));
    let log = std::sync::Arc::clone(&sent);
    let scene = Scene::default();
    let (target, _) = scene.target_with(options(), move |operation, input| {
        if operation == "UpdateService" {
            log.lock().unwrap().push(input.clone());
        }
    });
    let mut deployment = target.deploy(&image("new"));
    while let Some(event) = deployment.next_event().await {
        if matches!(event, DeployEvent::Applied { .. }) {
            break;
        }
    }
    let members: Vec<String> = sent.lock().unwrap()[0].as_object().unwrap().keys().cloned().collect();
    assert_eq!(members, ["cluster", "service", "taskDefinition"]);
}

#[tokio::test(start_paused = true)]
async fn verifies_a_service_of_another_controller() {
    for controller in ["CODE_DEPLOY", "EXTERNAL"] {
        let scene = Scene {
            settings: json!({
                "deploymentController": { "type": controller },
                "deployments": [],
                "taskDefinition": if controller == "EXTERNAL" { Value::Null } else { json!(format!("{ARN}:task-definition/web:2")) },
                "taskSets": [
                    { "id": "ecs-svc/200", "status": "PRIMARY", "taskDefinition": format!("{ARN}:task-definition/web:2"),
                      "computedDesiredCount": 1, "runningCount": 1, "pendingCount": 0, "stabilityStatus": "STEADY_STATE" },
                ],
            }),
            running: |_| vec![running(1)],
            ..Scene::default()
        };
        let (target, replay) = scene.target(options());
        let drift = target.drift(&image("new")).await.unwrap();
        assert_eq!(drift.verdict, Verdict::Deployed, "{controller}: {drift}");
        assert_eq!(target.prove().await.unwrap().observations.len(), 1);
        let refused = target.deploy(&image("new")).await.unwrap_err();
        assert!(matches!(refused, Error::UnsupportedController { .. }), "{controller}: {refused}");
        assert_eq!(replay.count("UpdateService"), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn healthy_progress_outweighs_earlier_failures() {
    // Of 20 tasks two fail at each step, and ECS replaces them: it would finish.
    let scene = Scene {
        deployments: |at| {
            let step = u32::try_from(at.as_secs() / 20).unwrap_or(0).min(10);
            vec![
                ours("PRIMARY", "IN_PROGRESS", 2 * step, 2 * step),
                old("ACTIVE", "COMPLETED", 20 - 2 * step),
            ]
        },
        deployment: |at| {
            let status = if at.as_secs() < 230 { "IN_PROGRESS" } else { "SUCCESSFUL" };
            let breaker = json!({ "status": "MONITORING", "failureCount": 2, "threshold": 10 });
            Some(service_deployment(status, json!({ "deploymentCircuitBreaker": breaker })))
        },
        stopped: |at| {
            let step = u32::try_from(at.as_secs() / 20).unwrap_or(0).min(10);
            let unhealthy = |number: u32| {
                json!({
                    "taskArn": format!("{ARN}:task/shop/unhealthy{number}"), "startedBy": "ecs-svc/200",
                    "lastStatus": "STOPPED", "stopCode": "ServiceSchedulerInitiated",
                    "stoppedReason": "Task failed ELB health checks in (target-group arn:aws:tg)",
                    "containers": [{ "name": "web", "exitCode": 143 }],
                })
            };
            (0..2 * step).map(unhealthy).collect()
        },
        running: |_| (1..=20).map(running).collect(),
        desired: 20,
        ..Scene::default()
    };
    let (_, outcome, replay) = scene.deploy(Options::new(secs(600)).unwrap()).await;
    assert_eq!(outcome.verdict(), Verdict::Deployed, "{outcome:#?}");
    assert_eq!(replay.count("StopServiceDeployment"), 0);
}

#[tokio::test(start_paused = true)]
async fn verdicts_state_who_replaced_and_what_was_restored() {
    let shop = Shop::new();
    let service = shop.web(&shop.image("1")).create();
    let deployment = shop.target().deploy(&shop.image("2"));
    tokio::time::sleep(Duration::from_secs(4)).await;
    let theirs = shop.ecs.register(common::definition(&shop.image("3")));
    service.update(json!({ "taskDefinition": theirs }));
    let outcome = deployment.await.unwrap();
    assert_eq!(outcome.verdict(), Verdict::Superseded);
    assert!(outcome.detail.contains("which deploys web:3"), "{}", outcome.detail);

    let shop = Shop::new();
    shop.web(&shop.image("1")).create();
    shop.inject(shop.refuse("ecs:StopServiceDeployment", "ClientException", "cannot be stopped", u32::MAX));
    let crashes = Behaviour::Exits { after: Duration::from_secs(1), code: 3, log: vec![] };
    let patient = options().fail_after(NonZeroU32::MIN.saturating_add(1));
    let (events, outcome) = run(shop.target_with(patient).deploy(&shop.image_that("2", crashes))).await;
    let outcome = outcome.unwrap();
    assert_eq!(outcome.verdict(), Verdict::RolledBack);
    for part in
        ["tasks stopped for the same reason", "restored web:1 with ecs:UpdateService", "cannot be stopped"]
    {
        assert!(outcome.detail.contains(part), "{part}: {}", outcome.detail);
    }
    assert!(texts(&events).iter().any(|text| text.contains("deploying web:1 instead")), "{events:#?}");
}
