//! One-off tasks before and after a deployment.

mod common;

use std::time::Duration;

use bp_artifact::{
    Outcome, ResolvedImage, Verdict,
    deploy::{Cause, DeployEvent, OnFailure, preflight::FindingState},
};
use bp_ecs::{Error, Lookups, OneOff, Options};
use bp_sandbox::Behaviour;
use common::{Shop, exits, migrate, options, run, until_applied};

fn clean_up() -> OneOff {
    OneOff::default().command(["./clean-up"])
}

/// A shop whose migration and clean-up end with these codes.
fn shop(before: i32, after: i32) -> (Shop, ResolvedImage) {
    let (shop, image) = Shop::with_migration(exits(5, before));
    shop.sandbox.script_command(image.reference.digest().as_str(), &["./clean-up"], exits(5, after));
    (shop, image)
}

async fn deploy(shop: &Shop, image: &ResolvedImage, on_failure: OnFailure) -> (Vec<DeployEvent>, Outcome) {
    let target = shop.target_with(options().on_failure(on_failure));
    let target = target.before("migrate", migrate()).after("clean-up", clean_up());
    let (events, outcome) = run(target.deploy(image)).await;
    (events, outcome.unwrap())
}

fn steps(outcome: &Outcome) -> Vec<(&str, Option<i32>)> {
    outcome.tasks.iter().map(|task| (task.target.as_str(), task.exit_code)).collect()
}

fn count(events: &[DeployEvent], is_it: impl Fn(&DeployEvent) -> bool) -> usize {
    events.iter().filter(|event| is_it(event)).count()
}

#[tokio::test(start_paused = true)]
async fn runs_tasks_before_and_after_the_deployment() {
    let (shop, image) = shop(0, 0);
    let (events, outcome) = deploy(&shop, &image, OnFailure::RollBack).await;
    assert_eq!((outcome.verdict(), outcome.exit_code), (Verdict::Deployed, None));
    let expected = [("ecs/shop/web/before/migrate", Some(0)), ("ecs/shop/web/after/clean-up", Some(0))];
    assert_eq!(steps(&outcome), expected);
    assert!(outcome.changed && outcome.revision.unwrap().id.ends_with("web:2"));
    assert!(events.iter().all(|event| event.target().as_str() == "ecs/shop/web"));
    assert_eq!(count(&events, |event| matches!(event, DeployEvent::Planned { .. })), 1);
    assert_eq!(count(&events, |event| matches!(event, DeployEvent::Applied { .. })), 1);
    assert_eq!(count(&events, |event| matches!(event, DeployEvent::Finished { .. })), 1);
    assert_eq!((shop.ecs.revisions("web"), shop.calls("ecs:UpdateService")), (2, 1));

    // Already deployed: nothing to migrate; a killed run may not have cleaned up.
    shop.drained().await;
    let (_, outcome) = deploy(&shop, &image, OnFailure::RollBack).await;
    assert_eq!((outcome.verdict(), outcome.changed), (Verdict::Deployed, false));
    assert_eq!(steps(&outcome), [("ecs/shop/web/after/clean-up", Some(0))]);
}

#[tokio::test(start_paused = true)]
async fn a_failed_task_before_the_deployment_leaves_the_service_unchanged() {
    let (shop, image) = shop(3, 0);
    let before = shop.service().definition();
    let (events, outcome) = deploy(&shop, &image, OnFailure::RollBack).await;
    assert_eq!((outcome.verdict(), outcome.changed), (Verdict::RolledBack, false));
    let failure = outcome.failure.as_ref().unwrap();
    assert_eq!((failure.cause, failure.exit_code), (Cause::ContainerExited, Some(3)));
    for part in ["task migrate before the deployment", "exit code 3", "the service was not changed"] {
        assert!(outcome.detail.contains(part), "{part}: {}", outcome.detail);
    }
    assert_eq!(outcome.revision.as_ref().unwrap().id, before);
    assert_eq!(steps(&outcome), [("ecs/shop/web/before/migrate", Some(3))]);
    assert_eq!((shop.service().definition(), shop.calls("ecs:UpdateService")), (before, 0));
    assert_eq!(count(&events, |event| matches!(event, DeployEvent::Failing { .. })), 1);
    assert_eq!(count(&events, |event| matches!(event, DeployEvent::RollingBack { .. })), 0);
}

#[tokio::test(start_paused = true)]
async fn no_task_runs_if_the_rollback_revision_cannot_run() {
    let (shop, image) = shop(0, 0);
    shop.client().deregister_task_definition().task_definition("web:1").send().await.unwrap();
    let target = |options: Options| {
        shop.target_with(options).before("migrate", migrate()).after("clean-up", clean_up())
    };
    let error = target(options()).deploy(&image).await.unwrap_err();
    assert!(matches!(&error, Error::UnprovenRollback { .. }), "{error}");
    for change in ["ecs:RegisterTaskDefinition", "ecs:RunTask", "ecs:UpdateService"] {
        assert_eq!(shop.calls(change), 0, "{change}");
    }

    let (events, outcome) = run(target(options().accept_unproven_rollback(true)).deploy(&image)).await;
    let outcome = outcome.unwrap();
    assert_eq!((outcome.verdict(), outcome.tasks.len()), (Verdict::Deployed, 2));
    assert!(outcome.rollback.unwrap().accepted);
    let is_check = |event: &DeployEvent| event.to_string().contains("rollback revision web:1");
    assert_eq!(count(&events, is_check), 1, "{events:?}");
    let is_task = |event: &DeployEvent| event.to_string().contains("running the task migrate");
    assert!(events.iter().position(is_check) < events.iter().position(is_task), "{events:?}");
}

#[tokio::test(start_paused = true)]
async fn a_failed_task_after_the_deployment_follows_the_policy_for_failures() {
    for (policy, verdict, definition) in [
        (OnFailure::RollBack, Verdict::RolledBack, "web:1"),
        (OnFailure::Leave, Verdict::FailedInPlace, "web:2"),
    ] {
        let (shop, image) = shop(0, 4);
        let (_, outcome) = deploy(&shop, &image, policy).await;
        assert_eq!(outcome.verdict(), verdict, "{outcome:?}");
        assert!(outcome.detail.contains("task clean-up after the deployment"), "{}", outcome.detail);
        assert_eq!(outcome.failure.unwrap().exit_code, Some(4));
        assert!(outcome.revision.unwrap().id.ends_with(definition));
        assert!(shop.service().definition().ends_with(definition));
    }
}

#[tokio::test(start_paused = true)]
async fn a_failed_deployment_runs_no_task_after_it() {
    let (shop, image) = shop(0, 0);
    shop.sandbox.script(image.reference.digest().as_str(), exits(1, 1));
    let (_, outcome) = deploy(&shop, &image, OnFailure::RollBack).await;
    assert_eq!(outcome.verdict(), Verdict::RolledBack);
    assert_eq!(steps(&outcome), [("ecs/shop/web/before/migrate", Some(0))]);
}

#[tokio::test(start_paused = true)]
async fn lost_observation_of_a_task_is_neither_success_nor_failure() {
    let (shop, image) = Shop::with_migration(exits(300, 0));
    let target = shop.target().before("migrate", migrate());
    let mut work = target.deploy(&image);
    while shop.tasks().is_empty() {
        tokio::select! {
            _ = work.next_event() => {}
            () = tokio::time::sleep(Duration::from_secs(1)) => {}
        }
    }
    shop.inject(shop.deny("ecs:DescribeTasks"));
    let (_, outcome) = run(work).await;
    let outcome = outcome.unwrap();
    assert_eq!(outcome.verdict(), Verdict::Unobserved);
    assert!(outcome.failure.is_none() && outcome.detail.contains("continues in ECS"), "{}", outcome.detail);

    // The rerun adopts the task, and deploys when it has completed.
    shop.sandbox.faults().clear();
    let outcome = target.deploy(&image).await.unwrap();
    assert_eq!((outcome.verdict(), shop.tasks().len()), (Verdict::Deployed, 1));
}

#[tokio::test(start_paused = true)]
async fn cancelling_stops_the_task_and_does_not_change_the_service() {
    let (shop, image) = Shop::with_migration(exits(3600, 0));
    let work = shop.target().before("migrate", migrate()).deploy(&image);
    while shop.tasks().is_empty() {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    tokio::time::sleep(Duration::from_secs(20)).await;
    work.cancel();
    let error = work.await.unwrap_err();
    assert!(
        matches!(&error, Error::TaskInterrupted { state, .. } if state.contains("is being stopped")),
        "{error}"
    );
    assert_eq!(shop.tasks()[0]["stopCode"], "UserInitiated");
    assert_eq!(shop.calls("ecs:UpdateService"), 0);
}

#[tokio::test(start_paused = true)]
async fn a_deployment_in_progress_is_adopted_without_the_task_before_it() {
    let (shop, image) = shop(0, 0);
    shop.sandbox.script(image.reference.digest().as_str(), Behaviour::Healthy(Duration::from_secs(120)));
    let target = shop.target().before("migrate", migrate());
    let mut work = target.deploy(&image);
    until_applied(&mut work).await;
    drop(work);
    let (events, outcome) = run(target.deploy(&image)).await;
    assert_eq!(outcome.unwrap().verdict(), Verdict::Deployed);
    assert!(events.iter().any(|event| matches!(event, DeployEvent::Applied { adopted: true, .. })));
    assert_eq!(shop.tasks().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn preflight_shows_the_tasks() {
    let (shop, image) = shop(0, 0);
    let target = shop.target().before("migrate", migrate()).after("other", clean_up().container("proxy"));
    let report = target.preflight(&image, &Lookups::default()).await.unwrap();
    let finding = |name: &str| report.findings.iter().find(|found| found.subject.contains(name)).unwrap();
    let migrate = finding("task migrate before the deployment");
    assert_eq!(migrate.state, FindingState::Present);
    assert_eq!(migrate.message, "./manage migrate (container web, at most 600 s)");
    assert_eq!(finding("task other after the deployment").state, FindingState::Invalid);
    assert!(!report.is_ready());
}
