//! Log lines of the failed container in failure reports.

mod common;

use std::time::Duration;

use aws_credential_types::Credentials;
use aws_sdk_cloudwatchlogs::config::{BehaviorVersion, Region, retry::RetryConfig};
use bp_artifact::{
    Verdict,
    deploy::{DeployEvent, EvidenceKind, FailureReport},
};
use bp_sandbox::Behaviour;
use common::{ACCOUNT, REGION, Shop, run};
use serde_json::json;

/// Deploys an image that logs and crashes; returns the failure report.
async fn failing(prepare: impl FnOnce(&Shop)) -> FailureReport {
    let shop = Shop::new();
    let log = (1..=30).map(|n| format!("line {n}")).chain(["panicked: no DATABASE_URL".to_owned()]).collect();
    let crash = Behaviour::Exits { after: Duration::from_secs(1), code: 3, log };
    let (old, new) = (shop.image("1"), shop.image_that("2", crash));
    let mut definition = common::definition(&old);
    definition["containerDefinitions"][0]["logConfiguration"] = json!({
        "logDriver": "awslogs",
        "options": { "awslogs-group": "/shop/web", "awslogs-region": REGION, "awslogs-stream-prefix": "ecs" },
    });
    shop.ecs.new_service("shop", "web").task_definition(definition).create();
    prepare(&shop);
    let config = aws_sdk_cloudwatchlogs::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new(REGION))
        .credentials_provider(Credentials::for_tests())
        .retry_config(RetryConfig::disabled())
        .http_client(shop.sandbox.http_client())
        .build();
    let target = shop.target().logs(aws_sdk_cloudwatchlogs::Client::from_conf(config));
    let (events, outcome) = run(target.deploy(&new)).await;
    let outcome = outcome.unwrap();
    assert_eq!(outcome.verdict(), Verdict::RolledBack);
    let reported = events.into_iter().find_map(|event| match event {
        DeployEvent::Failing { failure, .. } => Some(failure),
        _ => None,
    });
    assert_eq!(reported, outcome.failure);
    reported.unwrap()
}

#[tokio::test(start_paused = true)]
async fn reports_the_last_log_lines_before_the_rollback() {
    let failure = failing(|shop| shop.sandbox.aws().log_group(ACCOUNT, REGION, "/shop/web")).await;
    let log = &failure.evidence[0];
    assert_eq!(log.kind, EvidenceKind::Log);
    assert!(log.source.starts_with("log /shop/web ecs/web/"), "{}", log.source);
    let lines: Vec<&str> = log.message.lines().collect();
    assert_eq!((lines.len(), lines[0], lines[19]), (20, "line 12", "panicked: no DATABASE_URL"));
    assert!(log.at.is_some());
    assert_eq!(failure.exit_code, Some(3));
}

#[tokio::test(start_paused = true)]
async fn a_denied_log_is_reported_and_hides_nothing() {
    let failure = failing(|shop| {
        shop.sandbox.aws().log_group(ACCOUNT, REGION, "/shop/web");
        shop.sandbox.aws().deny("logs:GetLogEvents");
    })
    .await;
    assert!(failure.evidence[0].message.starts_with("cannot be read: AccessDeniedException"), "{failure:?}");
    assert_eq!(failure.exit_code, Some(3));
}

#[tokio::test(start_paused = true)]
async fn reports_that_a_log_has_no_lines() {
    let failure = failing(|_| {}).await;
    let log = &failure.evidence[0];
    assert_eq!((log.kind, log.message.as_str()), (EvidenceKind::Log, "has no lines"));
    assert!(log.source.starts_with("log /shop/web ecs/web/"), "{}", log.source);
}
