//! Watching a deployment that another command started: the verdict is that of a deployment, and nothing is changed.

mod common;

use std::time::Duration;

use bp_artifact::{
    ResolvedImage, Verdict,
    deploy::{Cause, DeployEvent},
};
use bp_ecs::EcsTarget;
use bp_sandbox::{Behaviour, aws::ecs::NewService};
use common::{Shop, run};

fn crashing(shop: &Shop) -> ResolvedImage {
    let exits =
        Behaviour::Exits { after: Duration::from_secs(1), code: 3, log: vec!["no such table".into()] };
    shop.image_that("crash", exits)
}

/// Starts a deployment and stops following it once ECS has started it.
async fn start(target: &EcsTarget, image: &ResolvedImage) {
    let mut deployment = target.deploy(image);
    while let Some(event) = deployment.next_event().await {
        if matches!(event, DeployEvent::Applied { .. }) {
            break;
        }
    }
}

/// A service that runs an image, and a deployment in progress of one that crashes.
async fn failing(configure: impl FnOnce(NewService) -> NewService) -> Shop {
    let shop = Shop::new();
    configure(shop.web(&shop.image("1"))).create();
    start(&shop.target(), &crashing(&shop)).await;
    shop
}

fn changes(shop: &Shop) -> [usize; 2] {
    ["ecs:UpdateService", "ecs:StopServiceDeployment"].map(|operation| shop.calls(operation))
}

#[tokio::test(start_paused = true)]
async fn a_rollback_by_the_circuit_breaker_is_awaited() {
    let shop = failing(NewService::circuit_breaker).await;
    let (events, outcome) = run(shop.target().watch()).await;
    let outcome = outcome.unwrap();
    assert_eq!(outcome.verdict(), Verdict::RolledBack, "{}", outcome.detail);
    assert_eq!(outcome.failure.unwrap().cause, Cause::ContainerExited);
    assert!(events.iter().any(|event| matches!(event, DeployEvent::Failing { .. })), "{events:?}");
    assert_eq!(changes(&shop), [1, 0]);
}

#[tokio::test(start_paused = true)]
async fn a_failure_that_ecs_does_not_roll_back_is_left_in_place() {
    let shop = failing(|service| service).await;
    let outcome = shop.target().watch().await.unwrap();
    assert_eq!(outcome.verdict(), Verdict::FailedInPlace, "{}", outcome.detail);
    assert_eq!(outcome.failure.unwrap().cause, Cause::ContainerExited);
    assert_eq!(changes(&shop), [1, 0]);
}

#[tokio::test(start_paused = true)]
async fn resume_rolls_back_as_a_deployment_does() {
    let shop = failing(|service| service).await;
    let outcome = shop.target().resume().await.unwrap();
    assert_eq!(outcome.verdict(), Verdict::RolledBack, "{}", outcome.detail);
    assert_eq!(changes(&shop), [1, 1]);
    shop.drained().await;
    let running = shop.target().prove().await.unwrap();
    assert_eq!(running.judge(&shop.image("1")), Verdict::Deployed);
}

#[tokio::test(start_paused = true)]
async fn a_finished_deployment_is_proven_and_reported_as_the_last_one() {
    let shop = Shop::new();
    shop.web(&shop.image("1")).create();
    shop.target().deploy(&shop.image("2")).await.unwrap();
    shop.drained().await;
    let target = shop.target().known_image(shop.image("2"));
    let (events, outcome) = run(target.watch()).await;
    let outcome = outcome.unwrap();
    assert_eq!((outcome.verdict(), outcome.changed), (Verdict::Deployed, false), "{}", outcome.detail);
    let notices = events.iter().filter(|event| event.to_string().contains("no deployment is in progress"));
    assert_eq!(notices.count(), 1, "{events:?}");
}

#[tokio::test(start_paused = true)]
async fn the_previous_revision_is_that_to_which_a_rollback_goes() {
    let shop = Shop::new();
    shop.web(&shop.image("1")).create();
    assert!(shop.target().previous().await.is_err(), "the first deployment replaced nothing");
    shop.target().deploy(&shop.image("2")).await.unwrap();
    shop.drained().await;
    let previous = shop.target().previous().await.unwrap();
    assert!(previous.id.ends_with("web:1"), "{previous}");
    let outcome = shop.target().rollback().await.unwrap();
    assert_eq!(outcome.revision.unwrap().id, previous.id);
}
