//! Recorded timelines of ECS over a mocked transport: what is concluded from them, and with how many calls.

mod common;

use std::{num::NonZeroU32, time::Duration};

use aws_smithy_runtime_api::shared::IntoShared;
use bp_artifact::{
    Digest, Verdict,
    deploy::{Cause, DeployEvent},
};
use bp_ecs::{Cluster, OnFailure, Options};
use common::{
    Shop,
    replay::Replay,
    run,
    scene::{NOW, Scene, cannot_pull, event, image, old, ours, secs, service_deployment},
};
use serde_json::{Value, json};

/// A deadline that no recorded timeline reaches; failures are left to ECS.
fn patient() -> Options {
    Options::new(secs(3600)).unwrap().fail_after(NonZeroU32::MAX)
}

fn recording(name: &str) -> Value {
    let file = format!("{}/tests/recorded/{name}.json", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_refused_hook_is_a_rollback_with_the_function_as_its_object() {
    const REASON: &str = "Service deployment rolled back because PRE_SCALE_UP lifecycle hook(s) failed. Lifecycle hook target \
        arn:aws:lambda:us-west-2:123456789012:function:signature-hook returned FAILED status.";
    assert_eq!(recording("hook-refused")["data"]["looks"][2][2], REASON, "the recorded reason");
    let scene = Scene {
        // The refused deployment leaves the list at once; the previous one is complete 17 s later.
        deployments: |at| match at.as_secs() {
            0..5 => vec![ours("PRIMARY", "IN_PROGRESS", 0, 0), old("ACTIVE", "COMPLETED", 1)],
            5..22 => vec![old("PRIMARY", "IN_PROGRESS", 1)],
            _ => vec![old("PRIMARY", "COMPLETED", 1)],
        },
        deployment: |at| match at.as_secs() {
            0..2 => None,
            2..5 => Some(service_deployment("IN_PROGRESS", json!({ "lifecycleStage": "PRE_SCALE_UP" }))),
            _ => Some(service_deployment("ROLLBACK_SUCCESSFUL", json!({ "statusReason": REASON }))),
        },
        ..Scene::default()
    };
    let (_, outcome, replay) = scene.deploy(patient()).await;
    assert_eq!(outcome.verdict(), Verdict::RolledBack);
    assert!(
        outcome.detail.contains(REASON) && outcome.detail.contains("ECS restored web:1"),
        "{}",
        outcome.detail
    );
    let failure = outcome.failure.unwrap();
    let function = "arn:aws:lambda:us-west-2:123456789012:function:signature-hook";
    assert_eq!((failure.cause, failure.object.as_deref()), (Cause::LifecycleHookFailed, Some(function)));
    assert!(failure.advice().contains(function), "{}", failure.advice());
    assert_eq!(replay.count("StopServiceDeployment"), 0);
}

/// The recorded times of the failures and of the rollback by the circuit breaker.
fn breaker_with_one_task() -> Scene {
    fn failures(at: Duration) -> u32 {
        [92, 180, 296, 640].iter().filter(|failed| **failed <= at.as_secs()).count().try_into().unwrap()
    }
    /// The counter is later than the failures.
    fn counted(at: Duration) -> u32 {
        [154, 286, 660].iter().filter(|counted| **counted <= at.as_secs()).count().try_into().unwrap()
    }
    Scene {
        deployments: |at| match at.as_secs() {
            0..704 => {
                vec![ours("PRIMARY", "IN_PROGRESS", 0, counted(at)), old("ACTIVE", "COMPLETED", 1)]
            }
            704..810 => vec![old("PRIMARY", "IN_PROGRESS", 1), ours("ACTIVE", "FAILED", 0, 3)],
            810..830 => vec![old("PRIMARY", "COMPLETED", 1), ours("DRAINING", "FAILED", 0, 3)],
            _ => vec![old("PRIMARY", "COMPLETED", 1)],
        },
        deployment: |at| {
            let breaker = |status: &str, failures: u32| json!({ "status": status, "failureCount": failures, "threshold": 3 });
            let reason = "Service deployment rolled back because the circuit breaker threshold was exceeded.";
            Some(match at.as_secs() {
                0..704 => service_deployment(
                    "IN_PROGRESS",
                    json!({ "deploymentCircuitBreaker": breaker("MONITORING", counted(at)) }),
                ),
                704..810 => service_deployment(
                    "ROLLBACK_IN_PROGRESS",
                    json!({ "deploymentCircuitBreaker": breaker("TRIGGERED", 3), "statusReason": reason }),
                ),
                _ => service_deployment(
                    "ROLLBACK_SUCCESSFUL",
                    json!({ "deploymentCircuitBreaker": breaker("TRIGGERED", 3), "statusReason": reason }),
                ),
            })
        },
        events: |at| {
            let place = |number: u32| {
                let message = format!(
                    "(service web) was unable to place a task. Reason: CannotPullContainerError: \
                     {}/shop/web:imagen-rota-test: not found.",
                    common::HOST
                );
                event(NOW + u64::from(number), &message)
            };
            (1..=failures(at)).rev().map(place).collect()
        },
        stopped: |at| (1..=failures(at)).map(cannot_pull).collect(),
        ..Scene::default()
    }
}

#[tokio::test(start_paused = true)]
async fn a_circuit_breaker_with_one_task_is_a_rollback_with_the_image_as_its_object() {
    let (events, outcome, _) = breaker_with_one_task().deploy(patient()).await;
    assert_eq!(outcome.verdict(), Verdict::RolledBack);
    let failure = outcome.failure.unwrap();
    assert_eq!(failure.cause, Cause::ImageNotFound);
    assert!(failure.object.as_ref().unwrap().ends_with("/shop/web:imagen-rota-test"), "{failure:?}");
    assert!(outcome.detail.contains("circuit breaker"), "{}", outcome.detail);
    let first = events.iter().find_map(|event| match event {
        DeployEvent::Progress { progress, .. } => Some(progress.clone()),
        _ => None,
    });
    assert_eq!(first.unwrap().to_string(), "0/1 running, 1 old still running (IN_PROGRESS)");
}

#[tokio::test(start_paused = true)]
async fn the_second_failed_task_fails_the_deployment_before_the_circuit_breaker() {
    let mut scene = breaker_with_one_task();
    scene.deployment = |at| {
        let status = if at.as_secs() < 200 { "IN_PROGRESS" } else { "ROLLBACK_SUCCESSFUL" };
        Some(service_deployment(status, json!({})))
    };
    let options = Options::new(secs(3600)).unwrap();
    let (events, outcome, replay) = scene.deploy(options).await;
    assert_eq!((outcome.verdict(), replay.count("StopServiceDeployment")), (Verdict::RolledBack, 1));
    assert!(outcome.detail.starts_with("2 tasks stopped for the same reason; "), "{}", outcome.detail);
    assert_eq!(outcome.failure.unwrap().cause, Cause::ImageNotFound);
    assert!(events.iter().any(|event| matches!(event, DeployEvent::Failing { .. })));
}

#[tokio::test(start_paused = true)]
async fn a_poll_takes_three_calls_at_most() {
    let (_, _, replay) = breaker_with_one_task().deploy(patient()).await;
    let polls = replay.polls();
    let of_follower: Vec<_> = polls.iter().filter(|poll| poll[0] == "DescribeServices").collect();
    assert!(of_follower.len() > 100, "{}", of_follower.len());
    let failed = |poll: &&&Vec<String>| poll.contains(&"DescribeTaskDefinition".to_owned());
    let most = of_follower.iter().filter(|poll| !failed(poll)).map(|poll| poll.len()).max();
    assert_eq!(most, Some(3));
    let three = of_follower.iter().filter(|poll| poll.len() == 3).count();
    assert!(
        three < of_follower.len() / 4,
        "a poll without changes takes two: {three} of {}",
        of_follower.len()
    );
}

#[tokio::test(start_paused = true)]
async fn a_failure_that_is_counted_before_it_is_listed_is_found() {
    let scene = Scene {
        deployments: |at| {
            let failed = if at.as_secs() < 30 { 0 } else { 2 };
            vec![ours("PRIMARY", "IN_PROGRESS", 0, failed), old("ACTIVE", "COMPLETED", 1)]
        },
        // The list is a minute late, and no event or counter changes then.
        stopped: |at| if at.as_secs() < 90 { vec![] } else { vec![cannot_pull(1), cannot_pull(2)] },
        ..Scene::default()
    };
    let options = Options::new(secs(600)).unwrap().on_failure(OnFailure::Leave);
    let start = tokio::time::Instant::now();
    let (_, outcome, _) = scene.deploy(options).await;
    assert_eq!(outcome.verdict(), Verdict::FailedInPlace);
    assert_eq!(outcome.failure.unwrap().cause, Cause::ImageNotFound);
    assert!(start.elapsed() < secs(110), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_rollback_without_a_candidate_fails_with_the_reason_of_ecs() {
    const REASON: &str = "No rollback candidate was found to run the rollback.";
    let scene = Scene {
        deployments: |at| {
            let state = if at.as_secs() < 60 { "IN_PROGRESS" } else { "FAILED" };
            vec![ours("PRIMARY", state, 0, 3)]
        },
        deployment: |at| {
            Some(match at.as_secs() {
                0..60 => service_deployment("IN_PROGRESS", json!({})),
                _ => service_deployment("ROLLBACK_FAILED", json!({ "statusReason": REASON })),
            })
        },
        ..Scene::default()
    };
    let (_, outcome, _) = scene.deploy(patient()).await;
    assert_eq!(outcome.verdict(), Verdict::RollbackFailed);
    assert!(outcome.detail.contains(REASON), "{}", outcome.detail);
}

#[tokio::test(start_paused = true)]
async fn pending_tasks_are_explained_at_the_deadline() {
    let scene = Scene {
        running: |_| {
            vec![json!({
                "taskArn": "arn:aws:ecs:eu-central-1:111111111111:task/shop/waits", "startedBy": "ecs-svc/200",
                "lastStatus": "PROVISIONING", "desiredStatus": "RUNNING", "createdAt": NOW + 5,
                "attachments": [{ "type": "ElasticNetworkInterface", "status": "PRECREATED" }],
                "containers": [{ "name": "web", "lastStatus": "PENDING" }],
            })]
        },
        ..Scene::default()
    };
    let (events, outcome, replay) = scene.deploy(Options::new(secs(300)).unwrap()).await;
    let failure = outcome.failure.as_ref().unwrap();
    assert_eq!(failure.cause, Cause::NoProgress);
    let waits = failure.evidence.iter().find(|e| e.source == "task waits").unwrap();
    assert_eq!(waits.message, "PROVISIONING, ElasticNetworkInterface PRECREATED, container web PENDING");
    let shown = events.iter().map(ToString::to_string).find(|text| text.contains("FAILING")).unwrap();
    assert!(shown.contains("task waits at 2026-"), "with its time: {shown}");
    assert_eq!(replay.count("StopServiceDeployment"), 1, "on_failure applies");
}

#[tokio::test(start_paused = true)]
async fn a_container_exit_states_where_its_log_is() {
    let scene = Scene {
        stopped: |at| {
            let exited = |number: u32| {
                json!({
                    "taskArn": format!("arn:aws:ecs:eu-central-1:111111111111:task/shop/exited{number}"),
                    "startedBy": "ecs-svc/200", "lastStatus": "STOPPED", "stopCode": "EssentialContainerExited",
                    "stoppedReason": "Essential container in task exited",
                    "containers": [{ "name": "web", "exitCode": 1 }],
                })
            };
            if at.as_secs() < 20 { vec![] } else { (1..=2).map(exited).collect() }
        },
        deployments: |at| {
            let failed = if at.as_secs() < 20 { 0 } else { 2 };
            vec![ours("PRIMARY", "IN_PROGRESS", 0, failed), old("ACTIVE", "COMPLETED", 1)]
        },
        ..Scene::default()
    };
    let leave = Options::new(secs(300)).unwrap().on_failure(OnFailure::Leave);
    let (_, outcome, _) = scene.deploy(leave).await;
    let failure = outcome.failure.unwrap();
    assert_eq!((failure.cause, failure.exit_code), (Cause::ContainerExited, Some(1)));
    let log = &failure.evidence[0];
    assert!(log.source.starts_with("log /shop/web app/web/exited"), "{log:?}");
}

/// Converts the times of aws-cli to those of the API.
fn with_api_times(value: &mut Value) {
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                match member.as_str().filter(|_| name.ends_with("At")) {
                    Some(text) => {
                        let at: jiff::Timestamp = text.parse().unwrap();
                        *member = json!(at.as_millisecond() as f64 / 1000.0);
                    }
                    None => with_api_times(member),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(with_api_times),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[tokio::test(start_paused = true)]
async fn follows_the_recorded_response_of_update_service() {
    let mut answer = recording("update-service-answer")["data"]["service"].clone();
    with_api_times(&mut answer);
    let (before, after) = (answer.clone(), answer.clone());
    let region = "arn:aws:ecs:eu-west-2:123456789012";
    let deployment = move |status: &str| {
        json!({
            "serviceDeploymentArn": format!("{region}:service-deployment/prod/web/x"),
            "createdAt": answer["deployments"][0]["createdAt"], "status": status,
            "targetServiceRevisionArn": format!("{region}:service-revision/prod/web/2868022798482981641"),
        })
    };
    let replay = Replay::new(move |elapsed, operation, input| {
        let done = elapsed.is_some_and(|elapsed| elapsed >= secs(90));
        let status = if done { "SUCCESSFUL" } else { "IN_PROGRESS" };
        let service = match elapsed {
            None => {
                let mut before = before.clone();
                before["deployments"] = json!([before["deployments"][1]]);
                before["deployments"][0]["status"] = json!("PRIMARY");
                before
            }
            Some(_) => {
                let mut after = after.clone();
                if done {
                    after["deployments"][0]["desiredCount"] = json!(2);
                    after["deployments"][0]["runningCount"] = json!(2);
                }
                after
            }
        };
        match operation {
            "DescribeServices" => json!({ "services": [service] }),
            "UpdateService" => json!({ "service": after }),
            "DescribeTaskDefinition" => json!({ "taskDefinition": {
                "taskDefinitionArn": format!("{region}:task-definition/web:14"), "family": "web", "revision": 14,
                "containerDefinitions": [{ "name": "web", "image": image("new").reference.to_string() }],
            } }),
            "ListServiceDeployments" => {
                let is_wanted = elapsed.is_some() && (input["status"].is_null() || !done);
                json!({ "serviceDeployments": if is_wanted { vec![deployment(status)] } else { vec![] } })
            }
            "DescribeServiceDeployments" => json!({ "serviceDeployments": [deployment(status)] }),
            "ListTasks" if input["desiredStatus"] == "STOPPED" => json!({ "taskArns": [] }),
            "ListTasks" => json!({ "taskArns": ["t1", "t2"] }),
            "DescribeTasks" => {
                let task = |arn: &str| {
                    json!({
                        "taskArn": arn, "startedBy": "ecs-svc/2868022798482981641", "lastStatus": "RUNNING",
                        "containers": [{ "name": "web", "imageDigest": Digest::sha256("new") }],
                    })
                };
                json!({ "tasks": [task("t1"), task("t2")] })
            }
            other => panic!("unexpected operation {other}"),
        }
    });
    let client = Shop::new().client_over(replay.clone().into_shared());
    let options = Options::new(secs(600)).unwrap().force(true);
    let target = Cluster::new(client, "prod").service("web", options).container("web");
    let (events, outcome) = run(target.deploy(&image("new"))).await;
    let outcome = outcome.unwrap();
    assert_eq!(outcome.verdict(), Verdict::Deployed, "{outcome:#?}");
    let applied = events.iter().find_map(|event| match event {
        DeployEvent::Applied { deployment, .. } => Some(deployment.as_str()),
        _ => None,
    });
    assert_eq!(applied, Some("ecs-svc/2868022798482981641"));
    let texts: Vec<String> = events.iter().map(ToString::to_string).collect();
    assert!(texts.iter().any(|text| text.contains("0/2 running")), "{texts:#?}");
    assert!(
        !texts.iter().any(|text| text.contains("connection issue")),
        "an event of 11 s before: {texts:#?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_recorded_pause_hook_awaits_approval_with_its_expiry() {
    let scene = Scene {
        deployment: |_| {
            let mut details =
                recording("pause-hook")["data"]["serviceDeployments"][0]["lifecycleHookDetails"].clone();
            for hook in details.as_array_mut().unwrap() {
                with_api_times(hook);
            }
            let more = json!({ "lifecycleHookDetails": details, "lifecycleStage": "POST_SCALE_UP" });
            Some(service_deployment("IN_PROGRESS", more))
        },
        ..Scene::default()
    };
    let (_, outcome, _) = scene.deploy(patient()).await;
    assert_eq!(outcome.verdict(), Verdict::AwaitingApproval);
    for part in [
        "POST_SCALE_UP",
        "ecs-pause-e7tK9G_WRJqNF_EOMjztDXfKenlJuEUVjsNStf4WLKw",
        "ROLLBACK",
        "2024-01-15T12:00:00Z",
    ] {
        assert!(outcome.detail.contains(part), "{part}: {}", outcome.detail);
    }
}
