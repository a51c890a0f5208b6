//! The status of a service: what runs, deployments in progress, failures and events, in a bounded number of calls.

mod common;

use std::time::Duration;

use bp_artifact::deploy::{Cause, DeployEvent, status::Status};
use bp_ecs::Options;
use bp_sandbox::Behaviour;
use common::{Shop, options};
use serde_json::json;

/// Deploys an image and stops following it once ECS has started it.
async fn start(shop: &Shop, image: &bp_artifact::ResolvedImage) {
    let mut deployment = shop.target().deploy(image);
    while let Some(event) = deployment.next_event().await {
        if matches!(event, DeployEvent::Applied { .. }) {
            break;
        }
    }
}

async fn status(shop: &Shop) -> Status {
    shop.sandbox.ledger().clear();
    let status = shop.target().status().await.unwrap();
    let calls = shop.sandbox.ledger().operations("aws");
    assert!(calls.len() <= 8, "{calls:?}");
    status
}

#[tokio::test(start_paused = true)]
async fn a_stable_service_has_a_digest_per_container_and_no_deployment_in_progress() {
    let shop = Shop::new();
    let image = shop.image("1");
    shop.web(&image).desired(2).create();
    let status = status(&shop).await;
    assert_eq!((status.state.as_str(), status.is_in_progress()), ("ACTIVE", false));
    assert_eq!((status.progress.desired, status.progress.running), (2, 2));
    let revision = status.revision.unwrap();
    assert!(revision.id.ends_with("web:1") && revision.image.is(&image.reference), "{revision:?}");
    let names: Vec<&str> = status.containers.iter().map(|container| container.name.as_str()).collect();
    assert_eq!(names, ["web", "proxy"]);
    for container in &status.containers {
        assert_eq!(container.image.as_deref(), Some(image.reference.to_string().as_str()));
        let [running] = &container.running[..] else { panic!("{container:?}") };
        assert_eq!((running.count, running.revision.as_str()), (2, "web:1"));
        assert!(image.covers(running.digest.as_ref().unwrap()), "{running:?}");
    }
    // The service is 30 days old.
    assert!(status.failures.is_empty(), "{:?}", status.failures);
    let [note] = &status.notes[..] else { panic!("{:?}", status.notes) };
    assert!(note.ends_with(" more events are not shown"), "{note}");
}

#[tokio::test(start_paused = true)]
async fn a_failing_deployment_is_shown_with_the_causes_of_stopped_tasks() {
    let shop = Shop::new();
    shop.web(&shop.image("1")).create();
    let exits =
        Behaviour::Exits { after: Duration::from_secs(1), code: 3, log: vec!["no such table".into()] };
    start(&shop, &shop.image_that("crash", exits)).await;
    tokio::time::sleep(Duration::from_secs(40)).await;
    let status = status(&shop).await;
    let text = status.to_string();
    assert!(status.is_in_progress(), "{text}");
    let deployment = status.deployments.iter().find(|deployment| deployment.in_progress).unwrap();
    assert_eq!(deployment.revision.as_deref(), Some("web:2"), "{text}");
    assert!(deployment.progress.as_ref().unwrap().failed > 0, "{text}");
    let failed = status.failures.first().unwrap();
    assert_eq!((failed.failure.cause, failed.failure.exit_code), (Cause::ContainerExited, Some(3)));
    assert!(failed.at.is_some() && status.failures.len() <= 5, "{text}");
    assert!(text.contains("exit code 3") && text.contains("what to do: "), "{text}");
    assert!(status.events.iter().all(|event| event.at.is_some()), "{text}");
}

#[tokio::test(start_paused = true)]
async fn a_hook_that_awaits_approval_is_shown_with_its_timeout() {
    let shop = Shop::new();
    let hook = json!({
        "targetType": "PAUSE",
        "lifecycleStages": ["POST_SCALE_UP"],
        "timeoutConfiguration": { "timeoutInMinutes": 30, "action": "ROLLBACK" },
    });
    let configuration = json!({ "strategy": "BLUE_GREEN", "lifecycleHooks": [hook] });
    shop.web(&shop.image("1")).with("deploymentConfiguration", configuration).create();
    let hour = Options::new(Duration::from_secs(3600)).unwrap();
    shop.target_with(hour).deploy(&shop.image("2")).await.unwrap();
    let status = status(&shop).await;
    assert!(status.awaits_approval(), "{status}");
    let deployment = status.deployments.iter().find(|deployment| deployment.in_progress).unwrap();
    assert_eq!(deployment.strategy.as_deref(), Some("BLUE_GREEN"));
    assert!(deployment.state.contains("POST_SCALE_UP"), "{}", deployment.state);
    let hook = &deployment.hooks[0];
    assert_eq!((hook.state.as_str(), hook.timeout_action.as_deref()), ("AWAITING_ACTION", Some("ROLLBACK")));
    assert!(hook.expires_at.is_some());
}

#[tokio::test(start_paused = true)]
async fn parts_that_cannot_be_read_are_notes_and_an_unknown_service_is_an_error() {
    let shop = Shop::new();
    shop.web(&shop.image("1")).create();
    for action in ["ecs:ListServiceDeployments", "ecs:ListTasks", "ecs:DescribeTaskDefinition"] {
        shop.inject(shop.deny(action));
    }
    let status = status(&shop).await;
    assert_eq!(status.progress.running, 2);
    for part in ["service deployments", "running tasks", "stopped tasks", "task definition"] {
        assert!(status.notes.iter().any(|note| note.contains(part)), "{part}: {:?}", status.notes);
    }
    let absent = bp_ecs::Cluster::new(shop.client(), "shop").service("absent", options());
    assert!(absent.status().await.is_err());
}
