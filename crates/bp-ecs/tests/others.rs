//! Concurrent changes by other clients, and unexpected responses of AWS.

mod common;

use std::time::Duration;

use bp_artifact::{
    Verdict,
    deploy::{Cause, DeployEvent},
};
use bp_ecs::{Error, InFlight, Options, Overlay};
use bp_sandbox::{Behaviour, Effect, Fault};
use common::{Shop, definition, run};
use serde_json::json;
use tokio::time::Instant;

fn slow() -> Behaviour {
    Behaviour::Healthy(Duration::from_secs(7200))
}

#[tokio::test(start_paused = true)]
async fn waits_for_another_deployment_until_the_deadline() {
    let shop = Shop::new();
    let service = shop.web(&shop.image("1")).create();
    let hangs = shop.ecs.register(definition(&shop.image_that("2", slow())));
    service.update(json!({ "taskDefinition": hangs }));
    let (start, calls) = (Instant::now(), shop.calls("ecs:DescribeServices"));
    let options = Options::new(Duration::from_secs(120)).unwrap().in_flight(InFlight::Wait);
    let (events, ended) = run(shop.target_with(options).deploy(&shop.image("3"))).await;
    assert!(matches!(ended, Err(Error::InFlight { .. })), "{ended:?}");
    let elapsed = start.elapsed().as_secs();
    assert!((120..130).contains(&elapsed), "{elapsed}");
    assert!(shop.calls("ecs:DescribeServices") - calls < 120, "{}", shop.calls("ecs:DescribeServices"));
    assert!(
        !events.iter().any(|event| matches!(event, DeployEvent::Failing { .. })),
        "no failure of our deployment: {events:?}"
    );
    assert_eq!(shop.calls("ecs:UpdateService"), 0);
}

#[tokio::test(start_paused = true)]
async fn waits_for_another_failing_deployment_without_reporting_a_failure() {
    let shop = Shop::new();
    let service = shop.web(&shop.image("1")).circuit_breaker().create();
    let crashes = Behaviour::Exits { after: Duration::from_secs(1), code: 3, log: vec![] };
    let theirs = shop.ecs.register(definition(&shop.image_that("2", crashes)));
    service.update(json!({ "taskDefinition": theirs }));
    let options = Options::new(Duration::from_secs(600)).unwrap().in_flight(InFlight::Wait);
    let (events, ended) = run(shop.target_with(options).deploy(&shop.image("3"))).await;
    assert_eq!(ended.unwrap().verdict(), Verdict::Deployed);
    assert!(!events.iter().any(|event| matches!(event, DeployEvent::Failing { .. })), "{events:?}");
}

#[tokio::test(start_paused = true)]
async fn follows_a_forced_deployment_of_the_same_revision() {
    let shop = Shop::new();
    let service = shop.web(&shop.image("1")).create();
    let image = shop.image_that("2", Behaviour::Healthy(Duration::from_secs(30)));
    let deployment = shop.target().deploy(&image);
    tokio::time::sleep(Duration::from_secs(12)).await;
    let same = service.definition();
    service.update(json!({ "taskDefinition": same, "forceNewDeployment": true }));
    let outcome = deployment.await.unwrap();
    assert_eq!(outcome.verdict(), Verdict::Deployed, "{outcome:#?}");
    assert_eq!(outcome.revision.unwrap().id, same);
}

#[tokio::test(start_paused = true)]
async fn deploys_the_rollback_revision_if_ecs_rejects_the_stop() {
    for code in ["ClientException", "InvalidParameterException", "AccessDeniedException"] {
        let shop = Shop::new();
        let service = shop.web(&shop.image("1")).create();
        let old = service.definition();
        shop.inject(shop.refuse("ecs:StopServiceDeployment", code, "cannot be stopped", u32::MAX));
        let crashes = Behaviour::Exits { after: Duration::from_secs(1), code: 3, log: vec![] };
        let outcome = shop.target().deploy(&shop.image_that("2", crashes)).await.unwrap();
        assert_eq!(outcome.verdict(), Verdict::RolledBack, "{code}: {outcome:#?}");
        assert_eq!(outcome.failure.unwrap().cause, Cause::ContainerExited);
        assert_eq!(service.definition(), old, "{code}");
    }
}

#[tokio::test(start_paused = true)]
async fn finds_the_stable_revision_after_many_failed_deployments() {
    let shop = Shop::new();
    let service = shop.web(&shop.image("1")).create();
    let old = service.definition();
    for n in 0..25 {
        let failed = shop.ecs.register(definition(&shop.image_that(&format!("bad{n}"), slow())));
        service.update(json!({ "taskDefinition": failed }));
        tokio::time::sleep(Duration::from_secs(5)).await;
    }
    assert_eq!(shop.target().current().await.unwrap().stable.id, old);
}

#[tokio::test(start_paused = true)]
async fn an_unknown_member_prevents_only_a_new_revision() {
    let shop = Shop::new();
    let image = shop.image("1");
    shop.web(&image).create();
    let target = shop.target();
    let mut described = shop.ecs.definition("web:1").unwrap();
    described["taskDefinition"]["quantumMode"] = json!("on");
    let headers = vec![("content-type".to_owned(), "application/x-amz-json-1.1".to_owned())];
    let response = Effect::Answer { status: 200, headers, body: described.to_string() };
    shop.inject(Fault::new(response).on("ecs:DescribeTaskDefinition").times(6));
    let current = target.current().await.unwrap().stable;
    assert!(target.drift(&image).await.unwrap().is_none());
    let restored = target.restore(&current).await.unwrap();
    assert_eq!((restored.verdict(), restored.changed), (Verdict::Deployed, false));
    assert!(matches!(target.deploy(&shop.image("2")).await, Err(Error::UnknownFields { .. })));
    let overlaid = target.overlay(Overlay::default().without_member("quantumMode"));
    let outcome = overlaid.deploy(&shop.image("2")).await.unwrap();
    assert_eq!((outcome.verdict(), outcome.changed), (Verdict::Deployed, true));
}

/// Another client's deployment of a third image.
fn deploy_another(shop: &Shop) -> String {
    let theirs = shop.ecs.register(definition(&shop.image("3")));
    shop.service().update(json!({ "taskDefinition": theirs }));
    theirs
}

#[tokio::test(start_paused = true)]
async fn a_retry_does_not_replace_the_deployment_of_another_client() {
    for operation in ["ecs:UpdateService", "ecs:RegisterTaskDefinition"] {
        for policy in [InFlight::AdoptIfSameTarget, InFlight::Wait, InFlight::Fail, InFlight::Supersede] {
            let shop = Shop::new();
            let service = shop.web(&shop.image("1")).create();
            shop.inject(shop.refuse(operation, "ThrottlingException", "Rate exceeded", 8));
            let options = Options::new(Duration::from_secs(600)).unwrap().in_flight(policy);
            let deployment = shop.target_with(options).deploy(&shop.image("2"));
            tokio::time::sleep(Duration::from_secs(5)).await;
            let theirs = deploy_another(&shop);
            let ended = deployment.await;
            if policy == InFlight::Supersede {
                assert_eq!(ended.unwrap().verdict(), Verdict::Deployed, "{operation}");
                assert_ne!(service.definition(), theirs, "{operation}");
            } else {
                assert!(matches!(ended, Err(Error::InFlight { .. })), "{operation}, {policy:?}: {ended:?}");
                assert_eq!(service.definition(), theirs, "{operation}, {policy:?}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_lost_response_and_the_deployment_of_another_client_are_superseded() {
    let shop = Shop::new();
    let service = shop.web(&shop.image("1")).create();
    shop.inject(Fault::new(Effect::LoseAnswer).on("ecs:UpdateService"));
    let deployment = shop.target().deploy(&shop.image("2"));
    tokio::time::sleep(Duration::from_millis(500)).await;
    let theirs = deploy_another(&shop);
    let outcome = deployment.await.unwrap();
    assert_eq!((outcome.verdict(), outcome.changed), (Verdict::Superseded, true), "{}", outcome.detail);
    assert!(outcome.detail.contains("without a response"), "{}", outcome.detail);
    assert_eq!((service.definition(), shop.calls("ecs:UpdateService")), (theirs, 1));
}

#[tokio::test(start_paused = true)]
async fn a_service_deleted_before_update_service_is_answered_is_gone() {
    let effects = [Effect::LoseAnswer, Effect::Answer { status: 503, headers: vec![], body: String::new() }];
    for effect in effects {
        // Deleted at once, and while the new deployment would still become visible.
        for after in [500, 4_000] {
            let shop = Shop::new();
            let service = shop.web(&shop.image("1")).create();
            shop.inject(Fault::new(effect.clone()).on("ecs:UpdateService").times(u32::MAX));
            let deployment = shop.target().deploy(&shop.image("2"));
            tokio::time::sleep(Duration::from_millis(after)).await;
            service.delete();
            let outcome = deployment.await.unwrap();
            let (verdict, detail) = (outcome.verdict(), &outcome.detail);
            assert_eq!((verdict, outcome.changed), (Verdict::Gone, true), "{effect:?}, {after} ms: {detail}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_restore_that_another_client_rolls_back_is_judged_by_the_revision_that_runs() {
    let crashes = Behaviour::Exits { after: Duration::from_secs(1), code: 3, log: vec![] };
    let crashes_later = Behaviour::HealthyThenExits {
        healthy: Duration::from_secs(2),
        exits: Duration::from_secs(6),
        code: 3,
        log: vec![],
    };
    // ECS returns to the last completed revision: the previous one, or the one that failed after its success.
    for (behaviour, verdict) in [(crashes, Verdict::RolledBack), (crashes_later, Verdict::RollbackFailed)] {
        let shop = Shop::new();
        let service = shop.web(&shop.image("1")).create();
        let old = service.definition();
        shop.inject(shop.deny("ecs:StopServiceDeployment"));
        let deployment = shop.target().deploy(&shop.image_that("2", behaviour));
        while service.deployments().len() < 3 {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        service.stop_deployment("ROLLBACK");
        let outcome = deployment.await.unwrap();
        assert_eq!(outcome.verdict(), verdict, "{}", outcome.detail);
        assert_eq!(outcome.failure.unwrap().cause, Cause::ContainerExited);
        assert_eq!(service.definition() == old, verdict == Verdict::RolledBack);
        let part =
            if verdict == Verdict::RolledBack { "ECS restored web:1" } else { "ECS returned to web:2" };
        assert!(outcome.detail.contains(part), "{}", outcome.detail);
        assert_eq!(shop.calls("ecs:UpdateService"), 2);
    }
}
