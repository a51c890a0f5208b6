//! Failed deployments: failure causes, early reports and rollback.

mod common;

use std::{num::NonZeroU32, time::Duration};

use bp_artifact::{
    Outcome, ResolvedImage, Verdict,
    deploy::{Cause, DeployEvent, FailureReport, Target},
};
use bp_ecs::{EcsTarget, Error, InFlight, OnFailure, Options};
use bp_sandbox::{Behaviour, aws::ecs::NewService};
use common::{Shop, definition, options, run};
use serde_json::json;
use tokio::time::Instant;

fn crashes() -> Behaviour {
    Behaviour::Exits { after: Duration::from_secs(1), code: 3, log: vec!["no such table".into()] }
}

/// Deploys a failing image; returns the outcome and the failure report, which must be emitted before the end.
async fn fails(shop: &Shop, target: &EcsTarget, image: &ResolvedImage) -> (Outcome, FailureReport) {
    let old = shop.service().definition();
    let (events, outcome) = run(target.deploy(image)).await;
    let outcome = outcome.unwrap();
    let position = |wanted: fn(&DeployEvent) -> bool| events.iter().position(wanted);
    let failing = position(|e| matches!(e, DeployEvent::Failing { .. })).expect("the failure is reported");
    let finished = position(|e| matches!(e, DeployEvent::Finished { .. })).unwrap();
    assert!(failing < finished);
    if let Some(back) = position(|e| matches!(e, DeployEvent::RollingBack { .. })) {
        assert!(failing < back, "the cause is reported before the rollback");
    }
    assert_eq!(outcome.previous.as_ref().unwrap().id, old);
    let report = outcome.failure.clone().unwrap();
    assert!(!report.evidence.is_empty());
    (outcome, report)
}

async fn rolls_back(service: NewService, shop: &Shop, image: &ResolvedImage) -> FailureReport {
    let service = service.create();
    let (old, running) = (service.definition(), service.running());
    let (outcome, report) = fails(shop, &shop.target(), image).await;
    assert_eq!(outcome.verdict(), Verdict::RolledBack, "{outcome:#?}");
    assert_eq!(outcome.revision.unwrap().id, old);
    assert_eq!(service.definition(), old);
    assert_eq!(service.running(), running, "the old tasks are untouched");
    report
}

#[tokio::test(start_paused = true)]
async fn diagnoses_a_missing_image() {
    let shop = Shop::new();
    let report = rolls_back(shop.web(&shop.image("1")), &shop, &shop.missing_image()).await;
    assert_eq!(report.cause, Cause::ImageNotFound);
    assert_eq!(report.container.as_deref(), Some("web"));
    assert!(report.message.starts_with("CannotPullContainerError"), "{report}");
}

#[tokio::test(start_paused = true)]
async fn diagnoses_an_index_without_the_architecture() {
    let shop = Shop::new();
    let image = shop.image_for("arm", &["linux/arm64", "linux/s390x"]);
    let report = rolls_back(shop.web(&shop.image("1")), &shop, &image).await;
    assert_eq!(report.cause, Cause::WrongArchitecture);
}

#[tokio::test(start_paused = true)]
async fn diagnoses_a_missing_secret_within_two_minutes() {
    for (reference, part) in [
        ("arn:aws:secretsmanager:eu-central-1:111111111111:secret:shop/db-AbCdEf", "shop/db"),
        ("/shop/token", "/shop/token"),
    ] {
        let shop = Shop::new();
        let service = shop.web(&shop.image("1")).create();
        let mut broken = definition(&shop.image("2"));
        broken["containerDefinitions"][0]["secrets"] = json!([{ "name": "DB", "valueFrom": reference }]);
        let start = Instant::now();
        let arn = shop.ecs.register(broken);
        service.update(json!({ "taskDefinition": arn }));
        let (_, outcome) = run(shop.target().deploy(&shop.image("2"))).await;
        let outcome = outcome.unwrap();
        let verdict = outcome.verdict();
        let report = outcome.failure.unwrap();
        assert_eq!((verdict, report.cause), (Verdict::RolledBack, Cause::SecretMissing));
        assert!(report.message.contains(part), "{report}");
        assert!(start.elapsed() < Duration::from_secs(120));
    }
}

#[tokio::test(start_paused = true)]
async fn diagnoses_a_container_exit() {
    let shop = Shop::new();
    let image = shop.image_that("crash", crashes());
    let report = rolls_back(shop.web(&shop.image("1")), &shop, &image).await;
    assert_eq!((report.cause, report.exit_code), (Cause::ContainerExited, Some(3)));
    assert_eq!(report.container.as_deref(), Some("web"));
    assert_eq!(report.to_string().lines().count(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_exit_code_of_zero_is_a_failure() {
    let shop = Shop::new();
    let ends = Behaviour::Exits { after: Duration::from_secs(1), code: 0, log: vec![] };
    let image = shop.image_that("ends", ends);
    let report = rolls_back(shop.web(&shop.image("1")), &shop, &image).await;
    assert_eq!((report.cause, report.exit_code), (Cause::ContainerExited, Some(0)));
}

#[tokio::test(start_paused = true)]
async fn diagnoses_out_of_memory() {
    let shop = Shop::new();
    let image = shop.image_that("oom", Behaviour::OutOfMemory(Duration::from_secs(4)));
    let report = rolls_back(shop.web(&shop.image("1")), &shop, &image).await;
    assert_eq!((report.cause, report.exit_code), (Cause::OutOfMemory, Some(137)));
}

#[tokio::test(start_paused = true)]
async fn diagnoses_a_failed_container_health_check() {
    let shop = Shop::new();
    let image = shop.image_that("ill", Behaviour::Unhealthy("503".into()));
    let report = rolls_back(shop.web(&shop.image("1")), &shop, &image).await;
    assert_eq!(report.cause, Cause::HealthCheckFailed);
}

#[tokio::test(start_paused = true)]
async fn diagnoses_a_failed_load_balancer_health_check() {
    let shop = Shop::new();
    let mut unchecked = definition(&shop.image("1"));
    unchecked["containerDefinitions"][0].as_object_mut().unwrap().remove("healthCheck");
    let group = json!([{ "targetGroupArn": "arn:aws:tg", "containerName": "web", "containerPort": 8080 }]);
    let service = shop.ecs.new_service("shop", "web").task_definition(unchecked).with("loadBalancers", group);
    let image = shop.image_that("ill", Behaviour::Unhealthy("503".into()));
    let report = rolls_back(service, &shop, &image).await;
    assert_eq!(report.cause, Cause::LoadBalancerUnhealthy);
    assert!(report.message.contains("arn:aws:tg"), "{report}");
}

#[tokio::test(start_paused = true)]
async fn reports_the_failed_sidecar() {
    let shop = Shop::new();
    let (old, new) = (shop.image("1"), shop.image("2"));
    let mut both = definition(&old);
    both["containerDefinitions"][1]["essential"] = json!(true);
    both["containerDefinitions"][1]["image"] =
        json!(shop.image_that("proxy", crashes()).reference.to_string());
    shop.web(&old).create();
    let arn = shop.ecs.register({
        both["containerDefinitions"][0]["image"] = json!(new.reference.to_string());
        both
    });
    shop.service().update(json!({ "taskDefinition": arn }));
    let outcome = shop.target().deploy(&new).await.unwrap();
    assert_eq!(outcome.verdict(), Verdict::RolledBack);
    assert_eq!(outcome.failure.unwrap().container.as_deref(), Some("proxy"));
}

#[tokio::test(start_paused = true)]
async fn rolls_back_before_the_circuit_breaker() {
    let shop = Shop::new();
    let service = shop.web(&shop.image("1")).circuit_breaker().desired(10).create();
    let image = shop.image_that("crash", crashes());
    let (outcome, _) = fails(&shop, &shop.target(), &image).await;
    assert_eq!(outcome.verdict(), Verdict::RolledBack);
    let newest = &service.deployments()[0];
    assert_eq!(newest["status"], "ROLLBACK_SUCCESSFUL");
}

#[tokio::test(start_paused = true)]
async fn a_rollback_by_the_circuit_breaker_is_never_a_success() {
    let shop = Shop::new();
    let service = shop.web(&shop.image("1")).circuit_breaker().create();
    let old = service.definition();
    let image = shop.image_that("crash", crashes());
    let patient = options().fail_after(NonZeroU32::MAX);
    let (outcome, report) = fails(&shop, &shop.target_with(patient), &image).await;
    assert_eq!(outcome.verdict(), Verdict::RolledBack);
    assert_eq!(report.cause, Cause::ContainerExited);
    assert_eq!(service.definition(), old);
    assert_eq!(shop.calls("ecs:StopServiceDeployment"), 0, "ECS rolled back by itself");
    assert!(outcome.detail.contains("circuit breaker"), "{}", outcome.detail);
}

/// Between two polls the deployment has failed and ECS has rolled it back.
#[tokio::test(start_paused = true)]
async fn reports_the_failure_before_the_service_events_of_its_rollback() {
    let shop = Shop::new();
    shop.web(&shop.image("1")).circuit_breaker().create();
    let image = shop.image_that("crash", crashes());
    let seldom = options().fail_after(NonZeroU32::MAX).poll_interval(Duration::from_secs(600)).unwrap();
    let (events, outcome) = run(shop.target_with(seldom).deploy(&image)).await;
    assert_eq!(outcome.unwrap().verdict(), Verdict::RolledBack);
    let position = |wanted: &dyn Fn(&DeployEvent) -> bool| events.iter().position(wanted);
    let failing = position(&|event| matches!(event, DeployEvent::Failing { .. })).unwrap();
    let is_of_rollback = |event: &DeployEvent| matches!(event, DeployEvent::Notice { message, .. } if message.contains("rolling back"));
    let notice = position(&is_of_rollback).expect("ECS reports its rollback");
    assert!(failing < notice, "{events:#?}");
}

#[tokio::test(start_paused = true)]
async fn rolls_back_after_a_circuit_breaker_without_rollback() {
    let shop = Shop::new();
    let breaker = json!({ "deploymentCircuitBreaker": { "enable": true, "rollback": false } });
    let service = shop.web(&shop.image("1")).with("deploymentConfiguration", breaker).create();
    let old = service.definition();
    let image = shop.image_that("crash", crashes());
    let patient = options().fail_after(NonZeroU32::MAX);
    let (outcome, _) = fails(&shop, &shop.target_with(patient), &image).await;
    assert_eq!((outcome.verdict(), service.definition()), (Verdict::RolledBack, old));
    assert_eq!(shop.calls("ecs:UpdateService"), 2);
}

#[tokio::test(start_paused = true)]
async fn leaves_a_failure_in_place_if_configured() {
    let shop = Shop::new();
    let service = shop.web(&shop.image("1")).create();
    let old = service.definition();
    let image = shop.image_that("crash", crashes());
    let target = shop.target_with(options().on_failure(OnFailure::Leave));
    let (outcome, _) = fails(&shop, &target, &image).await;
    assert_eq!(outcome.verdict(), Verdict::FailedInPlace);
    assert_ne!(service.definition(), old);
    assert_eq!(outcome.revision.unwrap().id, service.definition());
}

#[tokio::test(start_paused = true)]
async fn deploys_the_rollback_revision_if_the_stop_is_denied() {
    let shop = Shop::new();
    let service = shop.web(&shop.image("1")).create();
    let old = service.definition();
    shop.inject(shop.deny("ecs:StopServiceDeployment"));
    let image = shop.image_that("crash", crashes());
    let (outcome, _) = fails(&shop, &shop.target(), &image).await;
    assert_eq!((outcome.verdict(), service.definition()), (Verdict::RolledBack, old));
}

#[tokio::test(start_paused = true)]
async fn reports_a_failed_rollback_with_the_first_cause() {
    let shop = Shop::new();
    let service = shop.web(&shop.image("1")).create();
    shop.inject(shop.deny("ecs:StopServiceDeployment"));
    shop.inject(shop.deny("ecs:UpdateService").after(1));
    let image = shop.image_that("crash", crashes());
    let (outcome, report) = fails(&shop, &shop.target(), &image).await;
    assert_eq!(outcome.verdict(), Verdict::RollbackFailed);
    assert_eq!(report.cause, Cause::ContainerExited, "the first failure is kept");
    assert!(outcome.detail.contains("ecs:UpdateService"), "{}", outcome.detail);
    assert_eq!(outcome.revision.unwrap().id, service.definition());
}

#[tokio::test(start_paused = true)]
async fn reports_a_failed_rollback_if_the_previous_revision_no_longer_starts() {
    let shop = Shop::new();
    let old = shop.image("1");
    // The old task is stopped first, so the rollback must start the old image again, which no longer works.
    let narrow = json!({
        "maximumPercent": 100, "minimumHealthyPercent": 0,
        "deploymentCircuitBreaker": { "enable": true, "rollback": true },
    });
    shop.web(&old).with("deploymentConfiguration", narrow).create();
    shop.sandbox.script(old.digest().as_str(), crashes());
    let (outcome, _) = fails(&shop, &shop.target(), &shop.image_that("crash", crashes())).await;
    assert_eq!(outcome.verdict(), Verdict::RollbackFailed);
}

#[tokio::test(start_paused = true)]
async fn detects_a_failure_if_reading_stopped_tasks_is_denied() {
    let shop = Shop::new();
    shop.web(&shop.image("1")).circuit_breaker().create();
    shop.inject(shop.deny("ecs:DescribeTasks"));
    let image = shop.image_that("crash", crashes());
    let (outcome, report) = fails(&shop, &shop.target(), &image).await;
    assert_eq!(outcome.verdict(), Verdict::RolledBack);
    assert!(report.evidence.iter().any(|e| e.message.contains("ecs:DescribeTasks")), "{report:#?}");
}

#[tokio::test(start_paused = true)]
async fn reports_the_failure_long_before_the_deployment_ends() {
    let shop = Shop::new();
    shop.web(&shop.image("1")).create();
    let image = shop.image_that("crash", crashes());
    let start = Instant::now();
    let mut deployment = shop.target().deploy(&image);
    let mut reported_after = None;
    while let Some(event) = deployment.next_event().await {
        if matches!(event, DeployEvent::Failing { .. }) {
            reported_after = Some(start.elapsed());
        }
    }
    assert_eq!(deployment.await.unwrap().verdict(), Verdict::RolledBack);
    // In the sandbox provisioning and pull take 7 s, the crash 1 s.
    assert!(reported_after.unwrap() < Duration::from_secs(13), "{reported_after:?}");
}

#[tokio::test(start_paused = true)]
async fn rolls_back_at_the_deadline_if_the_cause_is_known() {
    let shop = Shop::new();
    let service = shop.web(&shop.image("1")).create();
    let old = service.definition();
    let patient = Options::new(Duration::from_secs(60)).unwrap().fail_after(NonZeroU32::MAX);
    let image = shop.image_that("crash", crashes());
    let (outcome, report) = fails(&shop, &shop.target_with(patient), &image).await;
    assert_eq!(
        (outcome.verdict(), report.cause),
        (Verdict::RolledBack, Cause::ContainerExited),
        "{outcome:#?}"
    );
    assert_eq!(service.definition(), old);
}

#[tokio::test(start_paused = true)]
async fn the_deadline_rolls_back_a_deployment_without_progress() {
    let shop = Shop::new();
    let service = shop.web(&shop.image("1")).create();
    let old = service.definition();
    let image = shop.image_that("slow", Behaviour::Healthy(Duration::from_secs(7200)));
    let (outcome, report) = fails(&shop, &shop.target(), &image).await;
    assert_eq!((outcome.verdict(), report.cause), (Verdict::RolledBack, Cause::NoProgress));
    assert!(outcome.detail.contains("not complete after 600 s"), "{}", outcome.detail);
    assert_eq!(service.definition(), old);
    let waiting = report.evidence.iter().find(|e| e.message.contains("health UNKNOWN"));
    assert!(waiting.is_some(), "the tasks that are not healthy are shown: {report:#?}");
}

#[tokio::test(start_paused = true)]
async fn the_deadline_leaves_a_deployment_without_progress_if_configured() {
    let shop = Shop::new();
    shop.web(&shop.image("1")).create();
    let image = shop.image_that("slow", Behaviour::Healthy(Duration::from_secs(7200)));
    let start = Instant::now();
    let leave = shop.target_with(options().on_failure(OnFailure::Leave));
    let (outcome, report) = fails(&shop, &leave, &image).await;
    assert_eq!((outcome.verdict(), report.cause), (Verdict::DeadlineExceeded, Cause::NoProgress));
    assert!(outcome.detail.ends_with("the deployment continues in ECS"), "{}", outcome.detail);
    let late = start.elapsed() - Duration::from_secs(600);
    assert!(late < Duration::from_secs(6), "{late:?}");
}

#[tokio::test(start_paused = true)]
async fn an_unknown_status_is_never_a_success() {
    let shop = Shop::new();
    let service = shop.web(&shop.image("1")).create();
    let deployment = shop.target().deploy(&shop.image("2"));
    tokio::time::sleep(Duration::from_secs(4)).await;
    service.show_status("CONTEMPLATING");
    let outcome = deployment.await.unwrap();
    assert_eq!(outcome.verdict(), Verdict::DeadlineExceeded);
}

#[tokio::test(start_paused = true)]
async fn spot_interruptions_are_not_failures() {
    let shop = Shop::new();
    let service = shop.web(&shop.image("1")).create();
    let deployment = shop.target().deploy(&shop.image_that("2", Behaviour::Healthy(Duration::from_secs(30))));
    tokio::time::sleep(Duration::from_secs(12)).await;
    service.stop_tasks(4, "SpotInterruption", "Your Spot Task was interrupted.");
    let outcome = deployment.await.unwrap();
    assert_eq!(outcome.verdict(), Verdict::Deployed, "{outcome:#?}");
}

#[tokio::test(start_paused = true)]
async fn diagnoses_a_triggered_alarm() {
    let shop = Shop::new();
    let alarms = json!({ "alarms": { "enable": true, "rollback": true, "alarmNames": ["5xx"] } });
    let service = shop.web(&shop.image("1")).with("deploymentConfiguration", alarms).create();
    let deployment = shop.target().deploy(&shop.image_that("2", Behaviour::Healthy(Duration::from_secs(60))));
    tokio::time::sleep(Duration::from_secs(12)).await;
    service.alarm("5xx");
    let outcome = deployment.await.unwrap();
    assert_eq!(outcome.verdict(), Verdict::RolledBack);
    let report = outcome.failure.unwrap();
    assert_eq!((report.cause, report.message.as_str()), (Cause::AlarmTriggered, "5xx"));
}

#[tokio::test(start_paused = true)]
async fn reports_a_deployment_that_supersedes_ours() {
    let shop = Shop::new();
    let service = shop.web(&shop.image("1")).create();
    let deployment = shop.target().deploy(&shop.image("2"));
    tokio::time::sleep(Duration::from_secs(4)).await;
    let theirs = shop.ecs.register(definition(&shop.image("3")));
    service.update(json!({ "taskDefinition": theirs }));
    let outcome = deployment.await.unwrap();
    assert_eq!(outcome.verdict(), Verdict::Superseded);
    assert_eq!(service.definition(), theirs, "the other deployment is not changed");
    assert_eq!(shop.calls("ecs:StopServiceDeployment"), 0);
}

#[tokio::test(start_paused = true)]
async fn reports_a_manual_stop_or_rollback() {
    for (stop, verdict) in [("ABORT", Verdict::Stopped), ("ROLLBACK", Verdict::RolledBack)] {
        let shop = Shop::new();
        let service = shop.web(&shop.image("1")).create();
        let deployment = shop.target().deploy(&shop.image("2"));
        tokio::time::sleep(Duration::from_secs(4)).await;
        service.stop_deployment(stop);
        assert_eq!(deployment.await.unwrap().verdict(), verdict);
    }
}

#[tokio::test(start_paused = true)]
async fn reports_a_service_deleted_during_the_deployment() {
    let shop = Shop::new();
    let service = shop.web(&shop.image("1")).create();
    let deployment = shop.target().deploy(&shop.image("2"));
    tokio::time::sleep(Duration::from_secs(4)).await;
    service.delete();
    assert_eq!(deployment.await.unwrap().verdict(), Verdict::Gone);
}

#[tokio::test(start_paused = true)]
async fn applies_the_policy_for_another_deployment_in_progress() {
    for (policy, verdict) in [
        (InFlight::Fail, None),
        (InFlight::AdoptIfSameTarget, None),
        (InFlight::Supersede, Some(Verdict::Deployed)),
        (InFlight::Wait, Some(Verdict::Deployed)),
    ] {
        let shop = Shop::new();
        let service = shop.web(&shop.image("1")).create();
        let theirs = shop.ecs.register(definition(&shop.image("3")));
        service.update(json!({ "taskDefinition": theirs }));
        tokio::time::sleep(Duration::from_secs(3)).await;
        let stable = shop.target().current().await.unwrap();
        assert!(stable.stable.id.ends_with("web:1") && stable.rolling_out.unwrap().id == theirs);
        let result = shop.target_with(options().in_flight(policy)).deploy(&shop.image("2")).await;
        match verdict {
            None => {
                assert!(matches!(result, Err(Error::InFlight { .. })), "{policy:?} {result:?}");
                assert_eq!(service.definition(), theirs);
            }
            Some(verdict) => {
                let outcome = result.unwrap();
                assert_eq!(outcome.verdict(), verdict, "{policy:?}");
                let previous = if policy == InFlight::Wait { "web:2" } else { "web:1" };
                assert!(outcome.previous.unwrap().id.ends_with(previous), "{policy:?}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn rolls_back_to_the_replaced_revision() {
    let shop = Shop::new();
    let service = shop.web(&shop.image("1")).create();
    let old = service.definition();
    assert!(matches!(shop.target().rollback().await, Err(Error::NoPrevious { .. })));
    shop.target().deploy(&shop.image("2")).await.unwrap();
    let outcome = shop.target().rollback().await.unwrap();
    assert_eq!((outcome.verdict(), outcome.revision.unwrap().id), (Verdict::Deployed, old.clone()));
    assert_eq!(service.definition(), old);
}

#[tokio::test(start_paused = true)]
async fn rolls_back_to_the_stable_revision_during_a_failing_deployment() {
    let shop = Shop::new();
    let service = shop.web(&shop.image("1")).create();
    let old = service.definition();
    let leave = options().on_failure(OnFailure::Leave);
    shop.target_with(leave).deploy(&shop.image_that("crash", crashes())).await.unwrap();
    let outcome = shop.target().rollback().await.unwrap();
    assert_eq!((outcome.verdict(), service.definition()), (Verdict::Deployed, old));
}

#[tokio::test(start_paused = true)]
async fn a_restore_follows_a_rollback_by_ecs() {
    let shop = Shop::new();
    let service = shop.web(&shop.image("1")).create();
    let stable = shop.target().current().await.unwrap().stable;
    let deployment = shop.target().deploy(&shop.image("2"));
    tokio::time::sleep(Duration::from_secs(4)).await;
    drop(deployment);
    service.stop_deployment("ROLLBACK");
    tokio::time::sleep(Duration::from_secs(2)).await;
    let outcome = Target::restore(&shop.target(), &stable).await.unwrap();
    assert_eq!(outcome.verdict(), Verdict::Deployed);
    assert_eq!(service.definition(), stable.id);
    assert_eq!(shop.calls("ecs:UpdateService"), 1);
}

#[tokio::test(start_paused = true)]
async fn restoring_a_revision_with_a_tag_is_unproven() {
    let shop = Shop::new();
    let new = shop.image("2");
    shop.image("1");
    let mut tagged = definition(&new);
    tagged["containerDefinitions"][0]["image"] = json!(format!("{}/shop/web:1", common::HOST));
    shop.ecs.new_service("shop", "web").task_definition(tagged).create();
    let stable = shop.target().current().await.unwrap().stable;
    shop.target().deploy(&new).await.unwrap();
    let outcome = shop.target().restore(&stable).await.unwrap();
    assert_eq!((outcome.verdict(), outcome.image), (Verdict::Unproven, None));
    assert!(!outcome.proof.is_empty(), "the running digests are reported");
}

#[tokio::test(start_paused = true)]
async fn restoring_the_current_revision_changes_nothing() {
    let shop = Shop::new();
    shop.web(&shop.image("1")).create();
    let stable = shop.target().current().await.unwrap().stable;
    let outcome = shop.target().restore(&stable).await.unwrap();
    assert_eq!((outcome.verdict(), outcome.changed), (Verdict::Deployed, false));
    assert_eq!(shop.calls("ecs:UpdateService"), 0);
}

#[tokio::test(start_paused = true)]
async fn watching_after_the_end_distinguishes_a_rollback_from_a_success() {
    let shop = Shop::new();
    shop.web(&shop.image("1")).circuit_breaker().create();
    let image = shop.image_that("crash", crashes());
    shop.target().deploy(&image).await.unwrap();
    tokio::time::sleep(Duration::from_secs(300)).await;
    let outcome = shop.target().watch().await.unwrap();
    assert_eq!(outcome.verdict(), Verdict::RolledBack);
    assert_eq!(outcome.failure.unwrap().cause, Cause::ContainerExited);
    assert_eq!(outcome.image.unwrap(), image.reference);
}
