//! Tests of the ECS model: the published scheduling rules, and the AWS CLI as a client.

mod common;

use std::{collections::BTreeMap, process::Stdio, time::Duration};

use bp_sandbox::{Behaviour, Clock};
use common::{checked, crashes, world};
use serde_json::{Value, json};

fn states(view: &Value) -> Vec<(String, String)> {
    let deployments = view["deployments"].as_array().unwrap().iter();
    deployments
        .map(|d| (d["status"].as_str().unwrap().to_owned(), d["rolloutState"].as_str().unwrap().to_owned()))
        .collect()
}

#[tokio::test(start_paused = true)]
async fn a_rolling_update_respects_minimum_and_maximum_percent() {
    let world = world(Clock::tokio());
    let service = world.service().desired(4).create();
    world.update(&service, world.definition("new", Behaviour::default()));
    for _ in 0..80 {
        let view = service.view();
        let count = |field: &str| view[field].as_u64().unwrap();
        assert!(count("runningCount") >= 4, "100 percent are healthy: {view}");
        assert!(count("runningCount") + count("pendingCount") <= 8, "200 percent at most: {view}");
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert_eq!(states(&service.view()), [("PRIMARY".to_owned(), "COMPLETED".to_owned())]);
    assert!(service.running().iter().all(|c| c.image.ends_with(":new")));
}

#[tokio::test(start_paused = true)]
async fn the_circuit_breaker_rolls_back_at_its_published_threshold() {
    let world = world(Clock::tokio());
    let service = world.service().circuit_breaker().create();
    let old = service.view()["deployments"][0]["id"].clone();
    world.update(&service, checked(world.definition("bad", crashes())));
    let mut most = 0;
    while service.deployments()[0]["status"] != "ROLLBACK_SUCCESSFUL" {
        let newest = &service.deployments()[0];
        most = most.max(newest["deploymentCircuitBreaker"]["failureCount"].as_u64().unwrap());
        assert_eq!(newest["deploymentCircuitBreaker"]["threshold"], 3);
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert!((3..=4).contains(&most), "{most}");
    let view = service.view();
    assert_eq!(view["deployments"][0]["id"], old, "the old deployment keeps its id");
    assert!(service.running().iter().all(|c| c.image.ends_with(":good")));
}

#[tokio::test(start_paused = true)]
async fn without_a_circuit_breaker_a_failing_deployment_never_ends() {
    let world = world(Clock::tokio());
    let service = world.service().create();
    world.update(&service, checked(world.definition("bad", crashes())));
    tokio::time::sleep(Duration::from_secs(1800)).await;
    assert_eq!(service.deployments()[0]["status"], "IN_PROGRESS");
    let view = service.view();
    assert!(view["deployments"][0]["failedTasks"].as_u64().unwrap() > 20, "{view}");
    let events = view["events"].as_array().unwrap();
    assert!(events.len() <= 100);
}

#[tokio::test(start_paused = true)]
async fn tasks_without_health_checks_are_considered_healthy() {
    let world = world(Clock::tokio());
    let service = world.service().create();
    world.update(&service, world.definition("ill", Behaviour::Unhealthy("500".into())));
    tokio::time::sleep(Duration::from_secs(120)).await;
    assert_eq!(service.deployments()[0]["status"], "SUCCESSFUL", "no health check, no load balancer");
}

#[tokio::test(start_paused = true)]
async fn the_same_definition_keeps_the_deployment_unless_forced() {
    let world = world(Clock::tokio());
    let service = world.service().create();
    let before = service.view()["deployments"][0]["id"].clone();
    service.update(json!({ "taskDefinition": service.definition(), "desiredCount": 3 }));
    assert_eq!(service.view()["deployments"][0]["id"], before);
    service.update(json!({ "forceNewDeployment": true }));
    assert_ne!(service.view()["deployments"][0]["id"], before);
}

#[tokio::test(start_paused = true)]
async fn the_result_does_not_depend_on_the_polling_interval() {
    let run = |polls: u64| async move {
        let world = world(Clock::tokio());
        let service = world.service().circuit_breaker().create();
        world.update(&service, checked(world.definition("bad", crashes())));
        for _ in 0..polls {
            tokio::time::sleep(Duration::from_secs(600 / polls)).await;
            service.view();
        }
        let statuses: Vec<Value> = service.deployments().iter().map(|d| d["status"].clone()).collect();
        let messages: BTreeMap<usize, usize> =
            BTreeMap::from([(service.view()["events"].as_array().unwrap().len(), service.running().len())]);
        (statuses, messages)
    };
    assert_eq!(run(1).await, run(600).await);
}

/// Runs the AWS CLI against the sandbox.
async fn aws(address: std::net::SocketAddr, arguments: &[&str]) -> Result<Value, String> {
    let output = tokio::task::spawn_blocking({
        let arguments: Vec<String> = arguments.iter().map(|a| (*a).to_owned()).collect();
        move || {
            std::process::Command::new("aws")
                .args(["--endpoint-url", &format!("http://{address}"), "--region", "eu-central-1", "ecs"])
                .args(arguments)
                .env("AWS_ACCESS_KEY_ID", "AKIATEST")
                .env("AWS_SECRET_ACCESS_KEY", "test")
                .env("AWS_PAGER", "")
                .stdin(Stdio::null())
                .output()
                .expect("the AWS CLI starts")
        }
    })
    .await
    .unwrap();
    if !output.status.success() {
        Err(String::from_utf8_lossy(&output.stderr).trim().to_owned())
    } else if output.stdout.is_empty() {
        Ok(Value::Null)
    } else {
        Ok(serde_json::from_slice(&output.stdout).unwrap())
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs aws-cli"]
async fn the_aws_cli_deploys_waits_and_reports_errors() {
    let world = world(Clock::accelerated(20));
    let served = world.sandbox.serve().await.unwrap();
    let address = served.address("aws").unwrap();
    let service = world.service().create();
    let new = world.definition("new", Behaviour::default()).to_string();
    let registered = aws(address, &["register-task-definition", "--cli-input-json", &new]).await.unwrap();
    assert_eq!(registered["taskDefinition"]["revision"], 2);
    assert!(!registered["taskDefinition"]["registeredAt"].is_null());
    let update = ["update-service", "--cluster", "shop", "--service", "web", "--task-definition", "web:2"];
    aws(address, &update).await.unwrap();
    aws(address, &["wait", "services-stable", "--cluster", "shop", "--services", "web"]).await.unwrap();
    assert!(service.running().iter().all(|c| c.image.ends_with(":new")));

    let list = aws(address, &["list-tasks", "--cluster", "shop", "--service-name", "web"]).await.unwrap();
    let task = list["taskArns"][0].as_str().unwrap().to_owned();
    let tasks = aws(address, &["describe-tasks", "--cluster", "shop", "--tasks", &task]).await.unwrap();
    assert!(tasks["tasks"][0]["containers"][0]["imageDigest"].as_str().unwrap().starts_with("sha256:"));
    let listed =
        aws(address, &["list-service-deployments", "--cluster", "shop", "--service", "web"]).await.unwrap();
    let arn = listed["serviceDeployments"][0]["serviceDeploymentArn"].as_str().unwrap().to_owned();
    let described =
        aws(address, &["describe-service-deployments", "--service-deployment-arns", &arn]).await.unwrap();
    assert_eq!(described["serviceDeployments"][0]["status"], "SUCCESSFUL");

    for (arguments, code) in [
        (&["update-service", "--cluster", "nope", "--service", "web"][..], "ClusterNotFoundException"),
        (&["update-service", "--cluster", "shop", "--service", "nope"][..], "ServiceNotFoundException"),
        (&["describe-task-definition", "--task-definition", "nope"][..], "ClientException"),
    ] {
        let error = aws(address, arguments).await.unwrap_err();
        assert!(error.contains(code), "{error}");
    }
    let missing =
        aws(address, &["describe-services", "--cluster", "shop", "--services", "nope"]).await.unwrap();
    assert_eq!(missing["failures"][0]["reason"], "MISSING");
}
