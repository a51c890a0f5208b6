//! The time after the success of a deployment, in which its tasks are watched for new failures.

mod common;

use std::time::Duration;

use bp_artifact::{
    Outcome, Verdict,
    deploy::{Cause, DeployEvent, OnFailure},
};
use bp_ecs::{Error, Options};
use bp_sandbox::{Behaviour, Effect, Fault, aws::ecs::Pace};
use common::{Shop, definition, options, run};

/// A service of two tasks, and an image whose program becomes healthy and exits this long after its start.
fn shop(exits: Duration) -> (Shop, bp_artifact::ResolvedImage) {
    let shop = Shop::new();
    shop.web(&shop.image("old")).desired(2).create();
    let image = shop.image_that(
        "new",
        Behaviour::HealthyThenExits {
            healthy: Duration::from_secs(2),
            exits,
            code: 3,
            log: vec!["no database".into()],
        },
    );
    (shop, image)
}

async fn deploy(options: Options) -> (Shop, Vec<DeployEvent>, Result<Outcome, Error>) {
    let (shop, image) = shop(Duration::from_secs(6));
    let (events, outcome) = run(shop.target_with(options).deploy(&image)).await;
    (shop, events, outcome)
}

#[tokio::test(start_paused = true)]
async fn tasks_that_exit_after_the_success_are_rolled_back() {
    let (shop, events, outcome) = deploy(options()).await;
    let outcome = outcome.unwrap();
    assert_eq!(outcome.verdict(), Verdict::RolledBack, "{}", outcome.detail);
    let failure = outcome.failure.unwrap();
    assert_eq!((failure.cause, failure.exit_code), (Cause::ContainerExited, Some(3)));
    let notices = events.iter().filter(|event| event.to_string().contains("watching for failing tasks"));
    assert_eq!(notices.count(), 1);
    shop.drained().await;
    let running = shop.target().prove().await.unwrap();
    assert!(running.judge(&shop.image("old")) == Verdict::Deployed, "{running:?}");
}

/// As recorded, a program without a health check that exits at once is deployed. Its tasks may have exited before the
/// first poll that shows the success, and at the recorded pace their replacements run after the watch has ended.
#[tokio::test(start_paused = true)]
async fn tasks_that_exit_before_the_success_is_polled_are_rolled_back() {
    for (pace, milliseconds) in [(Pace::Quick, 100), (Pace::Recorded, 100), (Pace::Recorded, 1500)] {
        let shop = Shop::new();
        let mut unchecked = definition(&shop.image("old"));
        unchecked["containerDefinitions"][0].as_object_mut().unwrap().remove("healthCheck");
        let service = shop.ecs.new_service("shop", "web").task_definition(unchecked).pace(pace).create();
        let old = service.definition();
        let exits = Behaviour::Exits { after: Duration::from_millis(milliseconds), code: 3, log: vec![] };
        let outcome = shop.target().deploy(&shop.image_that("new", exits)).await.unwrap();
        assert_eq!(outcome.verdict(), Verdict::RolledBack, "{pace:?}: {}", outcome.detail);
        assert_eq!(outcome.failure.unwrap().cause, Cause::ContainerExited);
        assert_eq!(service.definition(), old);
    }
}

#[tokio::test(start_paused = true)]
async fn the_failure_is_left_in_place_on_request() {
    let (_, _, outcome) = deploy(options().on_failure(OnFailure::Leave)).await;
    let outcome = outcome.unwrap();
    assert_eq!(outcome.verdict(), Verdict::FailedInPlace, "{}", outcome.detail);
    assert!(outcome.detail.contains("failed after the deployment had succeeded"), "{}", outcome.detail);
    assert_eq!(outcome.failure.unwrap().cause, Cause::ContainerExited);
}

#[tokio::test(start_paused = true)]
async fn zero_trusts_the_report_of_ecs() {
    let (_, events, outcome) = deploy(options().stable_for(Duration::ZERO)).await;
    assert_eq!(outcome.unwrap().verdict(), Verdict::Deployed);
    assert!(!events.iter().any(|event| event.to_string().contains("watching")), "{events:?}");
}

#[tokio::test(start_paused = true)]
async fn a_later_failure_is_beyond_the_time() {
    let (shop, image) = shop(Duration::from_secs(60));
    let (_, outcome) = run(shop.target().deploy(&image)).await;
    assert_eq!(outcome.unwrap().verdict(), Verdict::Deployed);
}

#[tokio::test(start_paused = true)]
async fn losing_access_after_the_success_is_not_a_failure() {
    let shop = Shop::new();
    shop.web(&shop.image("old")).desired(2).create();
    let mut deployment = shop.target().deploy(&shop.image("new"));
    while let Some(event) = deployment.next_event().await {
        if event.to_string().contains("watching for failing tasks") {
            shop.inject(shop.deny("ecs:DescribeServices"));
        }
    }
    let outcome = deployment.await.unwrap();
    assert_eq!(outcome.verdict(), Verdict::Deployed, "{}", outcome.detail);
    assert!(outcome.detail.contains("could not be watched"), "{}", outcome.detail);
}

#[tokio::test(start_paused = true)]
async fn a_service_deployment_that_is_never_listed_is_judged_by_its_rollout_state() {
    let shop = Shop::new();
    shop.web(&shop.image("old")).desired(2).create();
    let headers = vec![("content-type".to_owned(), "application/x-amz-json-1.1".to_owned())];
    let empty = Effect::Answer { status: 200, headers, body: "{\"serviceDeployments\":[]}".to_owned() };
    shop.inject(Fault::new(empty).at("aws").on("ecs:ListServiceDeployments").times(u32::MAX));
    let (events, outcome) = run(shop.target().deploy(&shop.image("new"))).await;
    let outcome = outcome.unwrap();
    assert_eq!(outcome.verdict(), Verdict::Deployed, "{}: {events:#?}", outcome.detail);

    // Failures after its success count, too.
    let exits = Behaviour::Exits { after: Duration::from_secs(4), code: 3, log: vec![] };
    shop.drained().await;
    let outcome = shop.target().deploy(&shop.image_that("exits", exits)).await.unwrap();
    assert_eq!(outcome.verdict(), Verdict::RolledBack, "{}", outcome.detail);
}

/// Deploys to a service at the recorded pace; after the success one task fails, and `replacement` is what later tasks do.
async fn one_fails(desired: u32, replacement: Behaviour) -> Outcome {
    let shop = Shop::new();
    let service = shop.web(&shop.image("old")).desired(desired).pace(Pace::Recorded).create();
    let image = shop.image("new");
    let mut deployment = shop.target().deploy(&image);
    while let Some(event) = deployment.next_event().await {
        if event.to_string().contains("watching for failing tasks") {
            shop.sandbox.script(image.digest().as_str(), replacement.clone());
            // The tasks of the previous revision are still stopping; they come first.
            let code = "EssentialContainerExited";
            service.stop_tasks(desired as usize + 1, code, "Essential container in task exited");
        }
    }
    deployment.await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_failed_task_that_is_replaced_is_a_note() {
    let outcome = one_fails(4, Behaviour::Healthy(Duration::from_secs(2))).await;
    assert_eq!(outcome.verdict(), Verdict::Deployed, "{}", outcome.detail);
    assert!(outcome.detail.contains("failed and was replaced"), "{}", outcome.detail);
    assert_eq!(outcome.proof.observations.iter().filter(|o| o.unit.starts_with("task/")).count(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_failed_task_that_is_not_replaced_is_unproven() {
    let exits = Behaviour::Exits { after: Duration::ZERO, code: 3, log: vec![] };
    let outcome = one_fails(7, exits).await;
    assert_eq!(outcome.verdict(), Verdict::Unproven, "{}", outcome.detail);
    assert!(outcome.detail.contains("6 of 7 tasks run"), "{}", outcome.detail);
    assert!(!outcome.proof.is_empty() && outcome.changed, "{outcome:#?}");
}
