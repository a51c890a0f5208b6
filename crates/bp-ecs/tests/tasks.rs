//! One-off tasks: exit codes, causes, deadline, cancellation, adoption, lost observation, proof.

mod common;

use std::time::Duration;

use bp_artifact::{
    Digest, Outcome, Verdict,
    deploy::{Cause, DeployEvent},
    error::{Classified, ErrorClass},
};
use bp_ecs::{Cluster, Error, OneOff, Overlay};
use bp_sandbox::{Effect, Fault};
use common::{MIGRATE, Shop, exits, migrate, network, options, run, until_applied};
use serde_json::json;
use tokio::time::Instant;

/// Runs the migration of a shop whose migration behaves like this.
async fn migrated(after: u64, code: i32) -> (Shop, Vec<DeployEvent>, Outcome) {
    let (shop, image) = Shop::with_migration(exits(after, code));
    let (events, outcome) = run(shop.target().run_task(&image, &migrate())).await;
    (shop, events, outcome.unwrap())
}

fn notices(events: &[DeployEvent]) -> Vec<&str> {
    let messages = events.iter().filter_map(|event| match event {
        DeployEvent::Notice { message, .. } => Some(message.as_str()),
        _ => None,
    });
    messages.collect()
}

#[tokio::test(start_paused = true)]
async fn runs_a_task_with_the_settings_of_the_service_and_proves_the_digest() {
    let (shop, image) = Shop::with_migration(exits(20, 0));
    let before = shop.service().definition();
    let task = migrate().variable("STEP", "1").memory("1GB");
    let (events, outcome) = run(shop.target().run_task(&image, &task)).await;
    let outcome = outcome.unwrap();
    assert_eq!((outcome.verdict(), outcome.exit_code, outcome.changed), (Verdict::Deployed, Some(0), true));
    assert_eq!(outcome.target.as_str(), "ecs/shop/web/task");
    assert!(outcome.revision.unwrap().id.ends_with("web:2"));
    assert_eq!(outcome.proof.observations[0].digest.as_ref(), Some(image.reference.digest()));

    let tasks = shop.tasks();
    let [started] = &tasks[..] else { panic!("one task") };
    assert_eq!(started["group"], "family:web");
    assert_eq!(started["launchType"], "FARGATE");
    assert_eq!(started["stopCode"], "EssentialContainerExited");
    let key = started["startedBy"].as_str().unwrap();
    assert!(key.starts_with("bp/") && key.len() == 35, "{key}");
    assert_eq!(
        started["overrides"]["containerOverrides"],
        json!([{ "name": "web", "command": MIGRATE, "environment": [{ "name": "STEP", "value": "1" }] }])
    );
    assert_eq!(started["overrides"]["memory"], "1GB");
    assert_eq!(shop.service().definition(), before, "the service is not changed");
    assert_eq!((shop.calls("ecs:RunTask"), shop.calls("ecs:UpdateService")), (1, 0));
    assert!(events.iter().any(|event| matches!(event, DeployEvent::Applied { adopted: false, .. })));
    assert!(matches!(events.last(), Some(DeployEvent::Finished { .. })));

    // A deployment of the same image uses the same revision.
    assert_eq!(shop.target().deploy(&image).await.unwrap().verdict(), Verdict::Deployed);
    assert_eq!(shop.ecs.revisions("web"), 2);
}

#[tokio::test(start_paused = true)]
async fn has_the_tags_and_the_access_of_the_service() {
    let shop_with = |propagate: &str| {
        let shop = Shop::new();
        let service = shop.web(&shop.image("1")).with("networkConfiguration", network());
        let tags = json!([{ "key": "Cost", "value": "42" }]);
        let service = service.with("propagateTags", json!(propagate)).with("tags", tags);
        service.with("enableECSManagedTags", json!(true)).with("enableExecuteCommand", json!(true)).create();
        let image = shop.image("2");
        shop.sandbox.script_command(image.reference.digest().as_str(), &MIGRATE, exits(5, 0));
        (shop, image)
    };
    let managed = json!({ "key": "aws:ecs:clusterName", "value": "shop" });
    for (propagate, own) in [
        ("NONE", None),
        ("TASK_DEFINITION", Some(json!({ "key": "Team", "value": "shop" }))),
        ("SERVICE", Some(json!({ "key": "Cost", "value": "42" }))),
    ] {
        let (shop, image) = shop_with(propagate);
        shop.target().run_task(&image, &migrate()).await.unwrap();
        let expected: Vec<_> = own.into_iter().chain([managed.clone()]).collect();
        let task = &shop.tasks()[0];
        assert_eq!(
            (&task["tags"], &task["enableExecuteCommand"]),
            (&json!(expected), &json!(true)),
            "{propagate}"
        );
    }

    // Without the permission to tag, and with tags disabled.
    let (shop, image) = shop_with("SERVICE");
    shop.sandbox.aws().deny("ecs:TagResource");
    let untagged = || shop.target().overlay(Overlay::default().without_tags());
    let outcome = untagged().run_task(&image, &migrate()).await.unwrap();
    assert_eq!((outcome.verdict(), &shop.tasks()[0]["tags"]), (Verdict::Deployed, &json!([managed])));
}

#[tokio::test(start_paused = true)]
async fn another_exit_code_is_a_failure_with_its_cause() {
    let (_, events, outcome) = migrated(5, 3).await;
    assert_eq!((outcome.verdict(), outcome.exit_code), (Verdict::FailedInPlace, Some(3)));
    let failure = outcome.failure.unwrap();
    assert_eq!((failure.cause, failure.exit_code), (Cause::ContainerExited, Some(3)));
    assert_eq!(failure.container.as_deref(), Some("web"));
    assert_eq!(events.iter().filter(|event| matches!(event, DeployEvent::Failing { .. })).count(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_image_that_cannot_be_pulled_is_a_failure_without_exit_code() {
    let (shop, _) = Shop::with_migration(exits(5, 0));
    let outcome = shop.target().run_task(&shop.missing_image(), &migrate()).await.unwrap();
    assert_eq!((outcome.verdict(), outcome.exit_code), (Verdict::FailedInPlace, None));
    assert_eq!(outcome.failure.unwrap().cause, Cause::ImageNotFound);
}

#[tokio::test(start_paused = true)]
async fn missing_capacity_is_retried_until_the_deadline() {
    let (shop, image) = Shop::with_migration(exits(5, 0));
    shop.ecs.refuse_task("RESOURCE:MEMORY");
    shop.ecs.refuse_task("RESOURCE:MEMORY");
    let (events, outcome) = run(shop.target().run_task(&image, &migrate())).await;
    assert_eq!(outcome.unwrap().verdict(), Verdict::Deployed);
    let notices: Vec<_> =
        notices(&events).into_iter().filter(|text| text.contains("RESOURCE:MEMORY")).collect();
    assert_eq!((notices.len(), shop.calls("ecs:RunTask")), (1, 3), "{notices:?}");

    (0..1000).for_each(|_| shop.ecs.refuse_task("AGENT"));
    let start = Instant::now();
    let task = migrate().timeout(Duration::from_secs(60));
    let outcome = shop.target().run_task(&image, &task).await.unwrap();
    assert_eq!((outcome.verdict(), outcome.exit_code), (Verdict::FailedInPlace, None));
    let failure = outcome.failure.unwrap();
    assert_eq!(failure.cause, Cause::NodeFailed);
    assert!(failure.object.is_some() && !outcome.changed);
    assert!((60..75).contains(&start.elapsed().as_secs()), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_failure_that_cannot_resolve_ends_at_once() {
    let (shop, image) = Shop::with_migration(exits(5, 0));
    shop.ecs.refuse_task("Your account is currently blocked. Contact AWS Support.");
    let outcome = shop.target().run_task(&image, &migrate()).await.unwrap();
    assert_eq!(outcome.failure.unwrap().cause, Cause::AccountBlocked);
    assert_eq!(shop.calls("ecs:RunTask"), 1);

    // Some capacity errors are exceptions.
    let message = "No Container Instances were found in your cluster.";
    shop.inject(shop.refuse("ecs:RunTask", "InvalidParameterException", message, 1));
    let (events, outcome) = run(shop.target().run_task(&image, &migrate())).await;
    assert_eq!(outcome.unwrap().verdict(), Verdict::Deployed);
    assert!(notices(&events).iter().any(|text| text.contains(message)), "{events:?}");

    let message = "TaskDefinition is inactive";
    shop.inject(shop.refuse("ecs:RunTask", "ClientException", message, 1));
    let error = shop.target().run_task(&image, &migrate()).await.unwrap_err();
    assert!(matches!(error, Error::Refused { .. }), "{error}");
}

#[tokio::test(start_paused = true)]
async fn stops_the_task_at_the_deadline() {
    let (shop, image) = Shop::with_migration(exits(3600, 0));
    let start = Instant::now();
    let task = migrate().timeout(Duration::from_secs(90));
    let outcome = shop.target().run_task(&image, &task).await.unwrap();
    assert_eq!((outcome.verdict(), outcome.exit_code), (Verdict::DeadlineExceeded, Some(143)));
    assert_eq!(outcome.failure.as_ref().unwrap().cause, Cause::NoProgress);
    assert!(outcome.detail.contains("stopped because it had not ended after"), "{}", outcome.detail);
    assert!((90..105).contains(&start.elapsed().as_secs()), "{:?}", start.elapsed());
    let tasks = shop.tasks();
    let [stopped] = &tasks[..] else { panic!("one task") };
    assert_eq!((&stopped["lastStatus"], &stopped["stopCode"]), (&json!("STOPPED"), &json!("UserInitiated")));
    assert_eq!(shop.calls("ecs:StopTask"), 1);
}

#[tokio::test(start_paused = true)]
async fn reports_that_a_task_could_not_be_stopped_at_the_deadline() {
    let (shop, image) = Shop::with_migration(exits(3600, 0));
    shop.inject(shop.deny("ecs:StopTask"));
    let task = migrate().timeout(Duration::from_secs(90));
    let outcome = shop.target().run_task(&image, &task).await.unwrap();
    assert_eq!(outcome.verdict(), Verdict::DeadlineExceeded);
    for part in ["continues", "ecs:StopTask"] {
        assert!(outcome.detail.contains(part), "{part}: {}", outcome.detail);
    }
    assert_eq!(shop.tasks()[0]["lastStatus"], "RUNNING");
}

#[tokio::test(start_paused = true)]
async fn cancelling_stops_the_task() {
    let (shop, image) = Shop::with_migration(exits(3600, 0));
    let mut work = shop.target().run_task(&image, &migrate());
    until_applied(&mut work).await;
    tokio::time::sleep(Duration::from_secs(20)).await;
    work.cancel();
    let error = work.await.unwrap_err();
    let Error::TaskInterrupted { task: Some(task), state } = &error else { panic!("{error}") };
    assert!(state.contains("is being stopped") && state.contains(task), "{state}");
    assert_eq!(error.class(), ErrorClass::Interrupted);
    let tasks = shop.tasks();
    let [stopped] = &tasks[..] else { panic!("one task") };
    assert_eq!(stopped["stoppedReason"], "interrupted by the caller");

    // The next run waits for the end of that task, and starts another one.
    let (events, _) = {
        let mut work = shop.target().run_task(&image, &migrate());
        let events = until_applied(&mut work).await;
        work.cancel();
        (events, work.await)
    };
    assert!(notices(&events).iter().any(|text| text.contains("waiting for the earlier task")), "{events:?}");
    assert_eq!(shop.tasks().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn cancelling_reports_a_task_that_cannot_be_stopped_and_one_that_was_not_started() {
    let (shop, image) = Shop::with_migration(exits(60, 0));
    shop.inject(shop.deny("ecs:StopTask"));
    let mut work = shop.target().run_task(&image, &migrate());
    until_applied(&mut work).await;
    work.cancel();
    let error = work.await.unwrap_err().to_string();
    assert!(error.contains("could not be stopped and continues"), "{error}");

    let work = shop.target().run_task(&image, &migrate().variable("OTHER", "1"));
    work.cancel();
    let error = work.await.unwrap_err();
    assert_eq!(error.to_string(), "interrupted; no task was started");
    assert_eq!((error.class(), shop.tasks().len()), (ErrorClass::Interrupted, 1));
}

#[tokio::test(start_paused = true)]
async fn lost_observation_is_unobserved_and_the_same_call_adopts_the_task() {
    for (why, fault) in [
        ("the permission ecs:DescribeTasks", None),
        ("no valid AWS credentials", Some("ExpiredTokenException")),
        ("Rate exceeded", Some("ThrottlingException")),
    ] {
        let (shop, image) = Shop::with_migration(exits(1800, 0));
        let task = migrate().timeout(Duration::from_secs(3000));
        let mut work = shop.target().run_task(&image, &migrate().timeout(Duration::from_secs(120)));
        until_applied(&mut work).await;
        shop.inject(match fault {
            None => shop.deny("ecs:DescribeTasks"),
            Some(code) => shop.refuse_all(code, "Rate exceeded"),
        });
        let (events, outcome) = run(work).await;
        let outcome = outcome.unwrap();
        assert_eq!(outcome.verdict(), Verdict::Unobserved, "{why}: {outcome:?}");
        assert!(outcome.failure.is_none() && outcome.changed && outcome.exit_code.is_none());
        for part in [why, "continues in ECS", "same command"] {
            assert!(outcome.detail.contains(part), "{part}: {}", outcome.detail);
        }
        assert!(!events.iter().any(|event| matches!(event, DeployEvent::Failing { .. })), "{why}");

        shop.sandbox.faults().clear();
        let (events, outcome) = run(shop.target().run_task(&image, &task)).await;
        let outcome = outcome.unwrap();
        assert_eq!((outcome.verdict(), outcome.exit_code), (Verdict::Deployed, Some(0)), "{why}");
        assert!(
            events.iter().any(|event| matches!(event, DeployEvent::Applied { adopted: true, .. })),
            "{why}"
        );
        assert_eq!(shop.tasks().len(), 1, "{why}: one task");
    }
}

#[tokio::test(start_paused = true)]
async fn a_lost_response_does_not_start_a_second_task() {
    for effect in [
        Effect::LoseAnswer,
        Effect::Reset,
        Effect::Answer { status: 503, headers: vec![], body: String::new() },
    ] {
        let (shop, image) = Shop::with_migration(exits(5, 0));
        shop.inject(Fault::new(effect.clone()).on("ecs:RunTask"));
        let outcome = shop.target().run_task(&image, &migrate()).await.unwrap();
        assert_eq!(outcome.verdict(), Verdict::Deployed, "{effect:?}");
        assert_eq!((shop.tasks().len(), shop.calls("ecs:RunTask")), (1, 2), "{effect:?}");
    }
    // Without another response, it is unknown whether the task was started.
    let (shop, image) = Shop::with_migration(exits(5, 0));
    shop.inject(Fault::new(Effect::LoseAnswer).on("ecs:RunTask"));
    shop.inject(shop.deny("ecs:RunTask"));
    let outcome = shop.target().run_task(&image, &migrate()).await.unwrap();
    assert_eq!(outcome.verdict(), Verdict::Unobserved);
    assert!(outcome.detail.contains("whether it started a task"), "{}", outcome.detail);
    // A call that was not handled is an error.
    let (shop, image) = Shop::with_migration(exits(5, 0));
    shop.inject(shop.deny("ecs:RunTask"));
    let error = shop.target().run_task(&image, &migrate()).await.unwrap_err();
    assert!(matches!(&error, Error::AccessDenied { action, .. } if action == "ecs:RunTask"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_task_that_has_ended_and_tasks_of_others_are_not_adopted() {
    let (shop, image) = Shop::with_migration(exits(5, 0));
    shop.ecs.run_task(json!({
        "cluster": "shop", "taskDefinition": "web:1", "startedBy": "someone", "networkConfiguration": network(),
    }));
    let mut keys = Vec::new();
    for task in [migrate(), migrate(), migrate().variable("A", "1"), migrate().cpu("512"), OneOff::default()]
    {
        let mut work = shop.target().run_task(&image, &task);
        let events = until_applied(&mut work).await;
        assert!(matches!(events.last(), Some(DeployEvent::Applied { adopted: false, .. })), "{events:?}");
        keys.push(shop.tasks().last().unwrap()["startedBy"].as_str().unwrap().to_owned());
        tokio::time::sleep(Duration::from_secs(60)).await;
        drop(work);
    }
    assert_eq!(shop.tasks().len(), 6);
    assert_eq!(keys[0], keys[1], "the same task");
    keys.dedup();
    keys.sort();
    keys.dedup();
    assert_eq!(keys.len(), 4, "{keys:?}");
}

#[tokio::test(start_paused = true)]
async fn a_task_with_another_digest_is_a_mismatch() {
    let (shop, image) = Shop::with_migration(exits(5, 0));
    let body = json!({ "failures": [], "tasks": [{
        "taskArn": "arn:aws:ecs:eu-central-1:111111111111:task/shop/1",
        "lastStatus": "STOPPED", "desiredStatus": "STOPPED", "stopCode": "EssentialContainerExited",
        "containers": [{ "name": "web", "exitCode": 0, "imageDigest": Digest::sha256("other").as_str() }],
    }] });
    let headers = vec![("content-type".to_owned(), "application/x-amz-json-1.1".to_owned())];
    let answer = Effect::Answer { status: 200, headers, body: body.to_string() };
    shop.inject(Fault::new(answer).on("ecs:DescribeTasks").after(1));
    let outcome = shop.target().run_task(&image, &migrate()).await.unwrap();
    assert_eq!((outcome.verdict(), outcome.exit_code), (Verdict::DigestMismatch, Some(0)));
}

#[tokio::test(start_paused = true)]
async fn a_stop_by_another_party_and_an_interruption_are_distinguished() {
    for (code, verdict, cause) in [
        ("UserInitiated", Verdict::Stopped, None),
        ("SpotInterruption", Verdict::FailedInPlace, Some(Cause::NodeFailed)),
    ] {
        let (shop, image) = Shop::with_migration(exits(3600, 0));
        let mut work = shop.target().run_task(&image, &migrate());
        until_applied(&mut work).await;
        tokio::time::sleep(Duration::from_secs(20)).await;
        shop.ecs.stop_standalone_tasks("shop", code, "the reason");
        let outcome = work.await.unwrap();
        assert_eq!(outcome.verdict(), verdict);
        assert!(outcome.detail.contains("the reason"), "{}", outcome.detail);
        assert_eq!(outcome.failure.map(|failure| failure.cause), cause);
    }
}

#[tokio::test(start_paused = true)]
async fn uses_the_capacity_provider_strategy_of_the_service() {
    let shop = Shop::new();
    let strategy = json!([{ "capacityProvider": "FARGATE_SPOT", "weight": 1, "base": 0 }]);
    let service = shop.web(&shop.image("1")).with("networkConfiguration", network());
    service.with("capacityProviderStrategy", strategy).create();
    let image = shop.image("2");
    shop.sandbox.script_command(image.reference.digest().as_str(), &MIGRATE, exits(5, 0));
    assert_eq!(shop.target().run_task(&image, &migrate()).await.unwrap().verdict(), Verdict::Deployed);
    let tasks = shop.tasks();
    let [task] = &tasks[..] else { panic!("one task") };
    assert_eq!(task["capacityProviderName"], "FARGATE_SPOT");
}

#[tokio::test(start_paused = true)]
async fn rejects_a_container_that_does_not_run_the_image_and_a_missing_service() {
    let (shop, image) = Shop::with_migration(exits(5, 0));
    let error = shop.target().run_task(&image, &migrate().container("proxy")).await.unwrap_err();
    assert_eq!(error.to_string(), "the container \"proxy\" does not run the image; specify one of: web");
    let missing = Cluster::new(shop.client(), "shop").service("none", options()).container("web");
    let error = missing.run_task(&image, &migrate()).await.unwrap_err();
    assert!(matches!(error, Error::ServiceNotFound { .. }), "{error}");
    assert_eq!(shop.calls("ecs:RunTask"), 0);
}
