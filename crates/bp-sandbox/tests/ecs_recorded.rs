//! The ECS model against recorded responses of ECS (`tests/recorded/ecs`, each with its source): the states of a
//! deployment, its failures and its end.

mod common;

use std::time::Duration;

use bp_sandbox::{
    Behaviour, Clock,
    aws::ecs::{Pace, ServiceHandle},
};
use common::{checked, crashes, until, world};
use serde_json::{Value, json};

fn recorded(text: &str) -> Value {
    serde_json::from_str::<Value>(text).unwrap()["data"].clone()
}

/// `hh:mm:ss` in seconds.
fn time_of_day(text: &Value) -> u64 {
    text.as_str().unwrap().split(':').fold(0, |sum, part| sum * 60 + part.parse::<u64>().unwrap())
}

fn status(service: &ServiceHandle) -> String {
    service.deployments()[0]["status"].as_str().unwrap().to_owned()
}

fn rollout_state(service: &ServiceHandle) -> String {
    service.view()["deployments"][0]["rolloutState"].as_str().unwrap().to_owned()
}

/// The members of one of `deployments[]`.
fn members<'a>(deployment: &'a Value, names: &[&str]) -> Vec<&'a Value> {
    names.iter().map(|name| &deployment[*name]).collect()
}

#[tokio::test(start_paused = true)]
async fn a_deployment_succeeds_before_the_old_tasks_have_stopped() {
    let recorded = recorded(include_str!("recorded/ecs/successful-before-drained.json"));
    let expected = time_of_day(&recorded["rolloutState COMPLETED"]) - time_of_day(&recorded["SUCCESSFUL"]);
    let world = world(Clock::tokio());
    let service = world.service().create();
    world.update(&service, world.definition("new", Behaviour::default()));
    until(60, || status(&service) == "SUCCESSFUL").await;
    let seconds = until(60, || {
        let of = |name: &str| service.running().iter().filter(|c| c.image.ends_with(name)).count();
        let completed = rollout_state(&service) == "COMPLETED";
        assert!(completed || (of(":good"), of(":new")) == (2, 2), "both revisions are listed");
        completed
    })
    .await;
    assert!((expected - 1..=expected).contains(&seconds), "{seconds} s, recorded {expected} s");
    assert!(service.running().iter().all(|c| c.image.ends_with(":new")));
}

#[tokio::test(start_paused = true)]
async fn an_update_is_answered_before_the_scheduler_acts() {
    let recorded = recorded(include_str!("recorded/ecs/update-service-answer.json"));
    let expected = recorded["service"]["deployments"].as_array().unwrap();
    let world = world(Clock::tokio());
    let service = world.service().create();
    world.update(&service, world.definition("new", Behaviour::default()));
    let view = service.view();
    let deployments = view["deployments"].as_array().unwrap();
    let names = ["status", "desiredCount", "pendingCount", "failedTasks", "rolloutState"];
    for (ours, theirs) in deployments.iter().zip(expected) {
        assert_eq!(members(ours, &names), members(theirs, &names));
    }
    assert_eq!(deployments.len(), expected.len());
    assert!(view["deploymentConfiguration"]["strategy"].is_null(), "as recorded, unless it is set");
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(service.view()["deployments"][0]["desiredCount"], 2);
}

#[tokio::test(start_paused = true)]
async fn capacity_providers_replace_the_launch_type_in_every_view() {
    let recorded = recorded(include_str!("recorded/ecs/update-service-answer.json"));
    let strategy = &recorded["service"]["capacityProviderStrategy"];
    let world = world(Clock::tokio());
    let service = world.service().with("capacityProviderStrategy", strategy.clone()).create();
    for view in [&service.view(), &service.view()["deployments"][0]] {
        assert_eq!(&view["capacityProviderStrategy"], strategy);
        assert!(view["launchType"].is_null());
        assert_eq!(view["platformFamily"], "Linux");
    }
}

/// Recorded: the reason stays that of the circuit breaker, the failed deployment is `ACTIVE` during the rollback, then
/// `DRAINING`, and leaves the list when the rollback is completed.
#[tokio::test(start_paused = true)]
async fn a_failed_deployment_keeps_its_reason_and_drains_until_the_rollback_is_completed() {
    let by_hand = recorded(include_str!("recorded/ecs/breaker-describe-services.json"));
    let polled = recorded(include_str!("recorded/ecs/breaker-image-missing-desired-1.json"));
    let world = world(Clock::tokio());
    let service = world.service().circuit_breaker().create();
    let old = service.view()["deployments"][0]["id"].clone();
    world.update(&service, checked(world.definition("bad", crashes())));
    until(120, || status(&service).starts_with("ROLLBACK")).await;
    let names = ["status", "rolloutState", "rolloutStateReason"];
    let mut seen = Vec::new();
    until(120, || {
        let view = service.view();
        let deployments = view["deployments"].as_array().unwrap();
        assert_eq!(deployments[0]["id"], old, "the old deployment keeps its id");
        let failed = deployments.get(1).map(|failed| members(failed, &names).into_iter().cloned().collect());
        if let Some(failed) = failed.filter(|failed: &Vec<Value>| !seen.contains(failed)) {
            seen.push(failed);
        }
        deployments.len() == 1
    })
    .await;
    let expected =
        [&by_hand["failed"]["deployments"][0], &polled["polls_second_run"][5][1]["failed deployment"]];
    let expected: Vec<Vec<Value>> =
        expected.iter().map(|failed| members(failed, &names).into_iter().cloned().collect()).collect();
    assert_eq!(seen, expected);
    let (view, after) = (service.view(), &by_hand["after"]["deployments"][0]);
    assert_eq!(view["deployments"][0]["status"], after["status"]);
    assert_eq!(view["deployments"][0]["rolloutState"], after["rolloutState"]);
}

/// Twenty seconds of tolerance: the recorded deployment was polled every 20 s.
#[tokio::test(start_paused = true)]
async fn failures_are_counted_and_rolled_back_at_the_recorded_pace() {
    let recorded = recorded(include_str!("recorded/ecs/breaker-image-missing-desired-1.json"));
    let world = world(Clock::tokio());
    let service = world.service().desired(1).circuit_breaker().pace(Pace::Recorded).create();
    let start = world.sandbox.clock().now();
    let mut missing = world.definition("bad", Behaviour::default());
    missing["containerDefinitions"][0]["image"] = json!(format!("{}/web:never-pushed", common::HOST));
    world.update(&service, missing);
    let near = |ours: f64, theirs: f64| (ours - theirs).abs() <= 20.0;
    // Failed tasks, seconds after the start.
    let mut counted = Vec::new();
    until(1000, || {
        let view = service.view();
        let failed = view["deployments"][0]["failedTasks"].as_u64().unwrap();
        let seconds = (world.sandbox.clock().now().duration_since(start)).as_secs_f64();
        if failed > counted.len() as u64 {
            counted.push(seconds);
        }
        if status(&service).starts_with("ROLLBACK") {
            counted.push(seconds);
        }
        status(&service).starts_with("ROLLBACK")
    })
    .await;
    let expected: Vec<f64> = (1..5)
        .map(|at| {
            let text = recorded["polls_second_run"][at][0].as_str().unwrap();
            let (minutes, seconds) = text.trim_end_matches('s').split_once('m').unwrap();
            minutes.parse::<f64>().unwrap() * 60.0 + seconds.parse::<f64>().unwrap()
        })
        .collect();
    assert!(counted.iter().zip(&expected).all(|(a, b)| near(*a, *b)), "{counted:?}, recorded {expected:?}");
    assert_eq!(counted.len(), expected.len());
    let first = recorded["events_first_run"].as_array().unwrap();
    let events = common::events(&service, start);
    for (event, (at, message)) in first.iter().zip(&events) {
        let expected = time_of_day(&event[0]) - time_of_day(&first[0][0]);
        assert!(near(*at, expected as f64), "{message} after {at} s, recorded {expected} s");
    }
    let failures = events.iter().filter(|(_, message)| message.contains("unable to place a task"));
    let third = failures.map(|(at, _)| *at).nth(2).unwrap();
    assert!(third < counted[2], "the counter lags behind");
}

#[tokio::test(start_paused = true)]
async fn a_service_deployment_has_the_recorded_members() {
    let recorded = recorded(include_str!("recorded/ecs/awscli-describe-service-deployments.json"));
    let expected = &recorded["serviceDeployments"][0];
    let world = world(Clock::tokio());
    let service = world.service().desired(1).circuit_breaker().create();
    let ours = &service.deployments()[0];
    let missing: Vec<&String> =
        expected.as_object().unwrap().keys().filter(|member| ours[member.as_str()].is_null()).collect();
    assert!(missing.is_empty(), "{missing:?}");
    for member in ["status", "deploymentCircuitBreaker", "alarms", "sourceServiceRevisions"] {
        assert_eq!(ours[member], expected[member], "{member}");
    }
    assert_eq!(ours["deploymentConfiguration"], expected["deploymentConfiguration"]);
    let delay = ours["startedAt"].as_f64().unwrap() - ours["createdAt"].as_f64().unwrap();
    assert!((0.07..1.6).contains(&delay), "recorded: 0.07 to 1.6 s, here {delay} s");
    world.update(&service, world.definition("new", Behaviour::default()));
    assert!(service.deployments()[0]["startedAt"].is_null(), "it is pending");
    tokio::time::sleep(Duration::from_secs(1)).await;
    let started = &service.deployments()[0];
    let delay = started["startedAt"].as_f64().unwrap() - started["createdAt"].as_f64().unwrap();
    assert!((0.07..1.6).contains(&delay), "{delay}");
}

#[tokio::test(start_paused = true)]
async fn a_first_deployment_that_fails_has_no_rollback_candidate() {
    let recorded: Vec<Value> = serde_json::from_str(include_str!("recorded/ecs/events.json")).unwrap();
    let reason =
        recorded.iter().map(|row| &row["message"]).find(|m| m.as_str().unwrap().contains("candidate"));
    let world = world(Clock::tokio());
    let bad = checked(world.definition("bad", crashes()));
    let service = world.ecs.new_service("shop", "web").task_definition(bad).circuit_breaker().create();
    until(120, || status(&service) == "ROLLBACK_FAILED").await;
    assert_eq!(Some(&service.deployments()[0]["statusReason"]), reason);
    let view = service.view();
    assert_eq!(members(&view["deployments"][0], &["status", "rolloutState"]), ["PRIMARY", "FAILED"]);
}

/// containers-roadmap#1206, copilot-cli#1879: deployed, with no failed task.
#[tokio::test(start_paused = true)]
async fn a_program_that_exits_soon_without_a_health_check_is_deployed() {
    let world = world(Clock::tokio());
    let service = world.service().circuit_breaker().create();
    world.update(&service, world.definition("bad", crashes()));
    until(60, || status(&service) == "SUCCESSFUL").await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    let view = service.view();
    assert_eq!(view["deployments"][0]["failedTasks"], 0);
    assert_eq!(rollout_state(&service), "COMPLETED");
    let stopped =
        service.tasks().iter().filter(|task| task["stopCode"] == "EssentialContainerExited").count();
    assert!(stopped > 4, "its tasks are replaced again and again: {stopped}");
}
