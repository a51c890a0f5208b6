//! The events and stop reasons of the ECS model against recorded ones (`tests/recorded/ecs`, each with its source).

mod common;

use std::{collections::BTreeSet, time::Duration};

use bp_sandbox::{
    Behaviour, Clock,
    aws::ecs::{InjectedContainer, ServiceHandle},
};
use common::{World, checked, crashes, events, shape, until, world};
use serde_json::{Value, json};

const GROUP: &str = "arn:aws:elasticloadbalancing:eu-central-1:111111111111:targetgroup/web/c60a6bb13d7053cd";

fn balancers() -> Value {
    json!([{ "targetGroupArn": GROUP, "containerName": "web", "containerPort": 8080 }])
}

fn behind_load_balancer(world: &World) -> ServiceHandle {
    world.service().desired(1).with("loadBalancers", balancers()).create()
}

fn recorded_events(of: &str) -> Vec<(String, String)> {
    let file: Value = serde_json::from_str(include_str!("recorded/ecs/load-balancer-events.json")).unwrap();
    let events = file["data"][of].as_array().unwrap().iter();
    events.map(|e| (e[0].as_str().unwrap().to_owned(), e[1].as_str().unwrap().to_owned())).collect()
}

fn shapes<'a>(messages: impl IntoIterator<Item = &'a String>) -> Vec<String> {
    messages.into_iter().map(|message| shape(message)).collect()
}

#[tokio::test(start_paused = true)]
async fn a_deployment_behind_a_load_balancer_has_the_recorded_events_in_the_recorded_order() {
    let recorded = recorded_events("deployment");
    let world = world(Clock::tokio());
    let service = behind_load_balancer(&world);
    let start = world.sandbox.clock().now();
    world.update(&service, world.definition("new", Behaviour::default()));
    tokio::time::sleep(Duration::from_secs(120)).await;
    let events = events(&service, start);
    assert_eq!(shapes(events.iter().map(|(_, m)| m)), shapes(recorded.iter().map(|(_, m)| m)));
    let at = |part: &str| events.iter().find(|(_, message)| message.contains(part)).unwrap().0;
    assert!((at("deregistered") - at("has stopped") - 10.0).abs() < 1.0, "recorded: 10 s later");
    let drained = &events[4].1;
    let old =
        service.tasks().iter().find(|task| task["lastStatus"] == "STOPPED").unwrap()["startedBy"].clone();
    assert!(drained.contains(old.as_str().unwrap()), "{drained}: the deployment of the drained tasks");
}

#[tokio::test(start_paused = true)]
async fn an_unhealthy_target_has_the_recorded_events() {
    let recorded = recorded_events("unhealthy task");
    let world = world(Clock::tokio());
    let service = behind_load_balancer(&world);
    world.update(&service, world.definition("ill", Behaviour::Unhealthy("HTTP status 500".into())));
    let start = world.sandbox.clock().now();
    until(60, || service.tasks().iter().any(|t| t["lastStatus"] == "STOPPED")).await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    let (task, group) = {
        let tasks = service.tasks();
        let task = tasks.iter().find(|t| t["lastStatus"] == "STOPPED").unwrap();
        assert_eq!(task["stoppedReason"], format!("Task failed ELB health checks in (target-group {GROUP})"));
        (task["taskArn"].as_str().unwrap().rsplit('/').next().unwrap().to_owned(), GROUP)
    };
    let events = events(&service, start);
    let first = events.iter().position(|(_, message)| message.contains("is unhealthy")).unwrap();
    let ours: Vec<&String> = events[first..].iter().map(|(_, message)| message).collect();
    let of_task = |message: &&&String| !message.contains("started") && !message.contains(" registered");
    let ours: Vec<&String> = ours.iter().filter(of_task).take(recorded.len()).copied().collect();
    assert_eq!(shapes(ours.iter().copied()), shapes(recorded.iter().map(|(_, m)| m)));
    assert_eq!(
        *ours[0],
        format!(
            "(service web) (task {task}) (port 8080) is unhealthy in (target-group {group}) due to (reason Health \
             checks failed with these codes: [500])."
        )
    );
}

#[tokio::test(start_paused = true)]
async fn a_failed_container_health_check_is_an_event_with_the_tasks_id() {
    let world = world(Clock::tokio());
    let service = world.service().desired(1).create();
    world.update(&service, checked(world.definition("ill", Behaviour::Unhealthy("exit 1".into()))));
    until(60, || service.tasks().iter().any(|t| t["lastStatus"] == "STOPPED")).await;
    let tasks = service.tasks();
    let task = tasks.iter().find(|t| t["lastStatus"] == "STOPPED").unwrap();
    let id = task["taskArn"].as_str().unwrap().rsplit('/').next().unwrap();
    let view = service.view();
    let events: Vec<&str> =
        view["events"].as_array().unwrap().iter().map(|e| e["message"].as_str().unwrap()).collect();
    assert!(events.contains(&format!("(service web) (task {id}) failed container health checks.").as_str()));
    assert!(events.contains(&format!("(service web) has stopped 1 running tasks: (task {id}).").as_str()));
}

#[tokio::test(start_paused = true)]
async fn each_task_that_does_not_start_is_an_event_with_its_reason() {
    let world = world(Clock::tokio());
    let service = world.service().desired(1).create();
    let start = world.sandbox.clock().now();
    let mut missing = world.definition("bad", Behaviour::default());
    missing["containerDefinitions"][0]["image"] = json!(format!("{}/web:never-pushed", common::HOST));
    world.update(&service, missing);
    tokio::time::sleep(Duration::from_secs(25)).await;
    let stopped: Vec<Value> = service.tasks().into_iter().filter(|t| !t["stopCode"].is_null()).collect();
    let expected = format!(
        "(service web) was unable to place a task. Reason: {}.",
        stopped[0]["stoppedReason"].as_str().unwrap()
    );
    assert!(expected.contains("Reason: CannotPullContainerError: "), "{expected}");
    assert!(expected.ends_with("/web:never-pushed: not found."), "{expected}");
    let placed = events(&service, start).into_iter().filter(|(_, message)| *message == expected).count();
    assert_eq!(placed, stopped.len());
    assert!(placed > 1);
}

/// Every event of the model has the form of a recorded one.
#[tokio::test(start_paused = true)]
async fn no_event_has_a_form_that_was_not_recorded() {
    let rows: Vec<Value> = serde_json::from_str(include_str!("recorded/ecs/events.json")).unwrap();
    let answer: Value =
        serde_json::from_str(include_str!("recorded/ecs/update-service-answer.json")).unwrap();
    let answered = answer["data"]["service"]["events"].as_array().unwrap().iter();
    let mut known: BTreeSet<String> =
        rows.iter().chain(answered).map(|row| shape(row["message"].as_str().unwrap())).collect();
    for of in ["deployment", "unhealthy task"] {
        known.extend(shapes(recorded_events(of).iter().map(|(_, message)| message)));
    }
    // The review of the recordings quotes it; no file has it.
    known.insert("(service web) (task <n>) failed container health checks.".to_owned());
    let world = world(Clock::tokio());
    let service = world.service().desired(1).circuit_breaker().with("loadBalancers", balancers()).create();
    for definition in [
        world.definition("new", Behaviour::default()),
        world.definition("ill", Behaviour::Unhealthy("HTTP status 503".into())),
        checked(world.definition("bad", crashes())),
        checked(world.definition("sick", Behaviour::Unhealthy("exit 1".into()))),
    ] {
        world.update(&service, definition);
        tokio::time::sleep(Duration::from_secs(300)).await;
    }
    let view = service.view();
    let messages = view["events"].as_array().unwrap().iter().map(|event| event["message"].as_str().unwrap());
    let unknown: BTreeSet<String> = messages.map(shape).filter(|shape| !known.contains(shape)).collect();
    assert!(unknown.is_empty(), "{unknown:#?}");
}

#[tokio::test(start_paused = true)]
async fn a_service_has_old_events_of_failed_deployments() {
    let world = world(Clock::tokio());
    let service = world.service().past_event(Duration::from_secs(11), "was unable to place a task.").create();
    let now = world.sandbox.clock().now().as_millisecond() as f64 / 1000.0;
    let view = service.view();
    let events = view["events"].as_array().unwrap();
    let ages: Vec<f64> = events.iter().map(|event| now - event["createdAt"].as_f64().unwrap()).collect();
    assert!(ages.is_sorted(), "newest first: {ages:?}");
    assert!((ages[0] - 11.0).abs() < 0.01);
    assert!(ages[1..].iter().all(|age| *age > 3600.0), "all others concern earlier deployments");
    let weeks = |part: &str| {
        let event = events.iter().position(|event| event["message"].as_str().unwrap().contains(part));
        ages[event.unwrap()] / (7.0 * 24.0 * 3600.0)
    };
    assert!(weeks("ResourceInitializationError") > 2.9);
    assert!(weeks("deployment failed: tasks failed to start.") > 2.9);
    assert!((1.0..2.0).contains(&weeks("failed container health checks")));
    let created = now - view["createdAt"].as_f64().unwrap();
    assert!(ages.iter().all(|age| *age <= created + 0.01), "the service is older than its events");
}

#[tokio::test(start_paused = true)]
async fn an_injected_container_has_a_reason_of_its_own() {
    let world = world(Clock::tokio());
    let reason = "CannotPullContainerError: pull image manifest has been retried 5 time(s): i/o timeout";
    let service = world
        .service()
        .desired(1)
        .injected(InjectedContainer::guard_duty().reason(reason))
        .injected(InjectedContainer::service_connect())
        .create();
    world.update(&service, checked(world.definition("bad", crashes())));
    until(60, || service.tasks().iter().any(|t| t["lastStatus"] == "STOPPED")).await;
    let tasks = service.tasks();
    let stopped = tasks.iter().find(|t| t["lastStatus"] == "STOPPED").unwrap();
    let [web, agent, proxy] = stopped["containers"].as_array().unwrap().as_slice() else {
        panic!("{stopped}")
    };
    assert_eq!((&web["exitCode"], &web["reason"]), (&json!(1), &Value::Null));
    assert!(agent["name"].as_str().unwrap().starts_with("aws-guardduty-agent-"));
    assert_eq!((&agent["exitCode"], &agent["reason"]), (&Value::Null, &json!(reason)));
    assert!(proxy["name"].as_str().unwrap().starts_with("ecs-service-connect-") && proxy["reason"].is_null());
    assert_eq!(stopped["stoppedReason"], "Essential container in task exited");
    let running = tasks.iter().find(|t| t["lastStatus"] == "RUNNING").unwrap();
    assert_eq!(running["containers"][1]["lastStatus"], "STOPPED", "the task runs without it");
}

#[tokio::test(start_paused = true)]
async fn instances_report_secrets_and_images_in_the_words_of_the_agent() {
    let rows: Vec<Value> = serde_json::from_str(include_str!("recorded/ecs/instances.json")).unwrap();
    let row = |id: &str| rows.iter().find(|row| row["id"] == id).unwrap();
    let secret = "arn:aws:secretsmanager:eu-central-1:111111111111:secret:x";
    for (launch_type, reference, reason) in [
        ("EC2", secret, row("secret-missing-ec2-asm")["stoppedReason"].as_str().unwrap()),
        (
            "EXTERNAL",
            "/x",
            "Fetching secret data from SSM Parameter Store in eu-west-1: invalid parameters: /x",
        ),
    ] {
        let world = world(Clock::tokio());
        let service = world.service().desired(1).with("launchType", json!(launch_type)).create();
        let mut broken = world.definition("new", Behaviour::default());
        broken["containerDefinitions"][0]["secrets"] = json!([{ "name": "X", "valueFrom": reference }]);
        world.update(&service, broken);
        until(60, || service.tasks().iter().any(|t| t["lastStatus"] == "STOPPED")).await;
        let tasks = service.tasks();
        let stopped = tasks.iter().find(|t| t["lastStatus"] == "STOPPED").unwrap();
        let expected = reason.replace("eu-west-1", "eu-central-1").replace("123456789012", "111111111111");
        assert_eq!(stopped["stoppedReason"], expected);
        assert_eq!(stopped["launchType"], launch_type);
        assert!(stopped["platformVersion"].is_null() && !stopped["containerInstanceArn"].is_null());
    }
    let expected = row("pull-manifest-unknown-ec2");
    let world = world(Clock::tokio());
    let service = world.service().desired(1).with("launchType", json!("EC2")).create();
    let mut missing = world.definition("new", Behaviour::default());
    missing["containerDefinitions"][0]["image"] = json!(format!("{}/web:never-pushed", common::HOST));
    world.update(&service, missing);
    until(60, || service.tasks().iter().any(|t| t["lastStatus"] == "STOPPED")).await;
    let tasks = service.tasks();
    let stopped = tasks.iter().find(|t| t["lastStatus"] == "STOPPED").unwrap();
    assert_eq!(stopped["stoppedReason"], expected["stoppedReason"]);
    assert_eq!(stopped["containers"][0]["reason"], expected["containers"][0]["reason"]);
}
