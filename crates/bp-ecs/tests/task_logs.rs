//! The log of a one-off task while it runs.

mod common;

use std::time::Duration;

use aws_credential_types::Credentials;
use aws_sdk_cloudwatchlogs::config::{BehaviorVersion, Region, retry::RetryConfig};
use bp_artifact::{
    Outcome,
    deploy::{DeployEvent, EvidenceKind},
};
use bp_sandbox::Behaviour;
use common::{ACCOUNT, MIGRATE, REGION, Shop, migrate, network, run};
use serde_json::json;

/// Runs a migration that writes these lines in 60 s.
async fn migrated(code: i32, log: Vec<String>, prepare: impl FnOnce(&Shop)) -> (Vec<DeployEvent>, Outcome) {
    let shop = Shop::new();
    let mut definition = common::definition(&shop.image("1"));
    definition["containerDefinitions"][0]["logConfiguration"] = json!({
        "logDriver": "awslogs",
        "options": { "awslogs-group": "/shop/web", "awslogs-region": REGION, "awslogs-stream-prefix": "ecs" },
    });
    let service = shop.ecs.new_service("shop", "web").task_definition(definition);
    service.with("networkConfiguration", network()).create();
    shop.sandbox.aws().log_group(ACCOUNT, REGION, "/shop/web");
    prepare(&shop);
    let image = shop.image("2");
    let behaviour = Behaviour::Exits { after: Duration::from_secs(60), code, log };
    shop.sandbox.script_command(image.reference.digest().as_str(), &MIGRATE, behaviour);
    let config = aws_sdk_cloudwatchlogs::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new(REGION))
        .credentials_provider(Credentials::for_tests())
        .retry_config(RetryConfig::disabled())
        .http_client(shop.sandbox.http_client())
        .build();
    let target = shop.target().logs(aws_sdk_cloudwatchlogs::Client::from_conf(config));
    let (events, outcome) = run(target.run_task(&image, &migrate())).await;
    (events, outcome.unwrap())
}

fn lines(events: &[DeployEvent]) -> Vec<(String, u32)> {
    let line = |event: &DeployEvent| match event {
        DeployEvent::Log { line, left_out, .. } => Some((line.clone(), *left_out)),
        _ => None,
    };
    events.iter().filter_map(line).collect()
}

#[tokio::test(start_paused = true)]
async fn follows_the_log_while_the_task_runs() {
    let mut log: Vec<String> = (1..10).map(|n| format!("step {n}")).collect();
    log.push("\u{1b}[31m::error::done".to_owned());
    let (events, outcome) = migrated(0, log, |_| {}).await;
    assert_eq!(outcome.exit_code, Some(0));
    let lines = lines(&events);
    assert_eq!(lines.len(), 10, "{lines:?}");
    assert_eq!((lines[0].0.as_str(), lines[8].0.as_str()), ("step 1", "step 9"));
    assert!(!lines[9].0.contains(['\u{1b}']) && !lines[9].0.starts_with("::error::"), "{lines:?}");
    let at = |wanted: &dyn Fn(&DeployEvent) -> bool| events.iter().position(wanted).unwrap();
    let first = at(&|event| matches!(event, DeployEvent::Log { .. }));
    let stages = ["DEPROVISIONING", "STOPPED"];
    let stopped = at(
        &|event| matches!(event, DeployEvent::Progress { progress, .. } if stages.contains(&progress.stage.as_str())),
    );
    assert!(first < stopped, "{events:?}");
    let DeployEvent::Log { source, at: Some(_), .. } = &events[first] else { panic!("{events:?}") };
    assert!(source.starts_with("task/") && source.ends_with("/web"), "{source}");
}

#[tokio::test(start_paused = true)]
async fn too_many_lines_are_counted_and_the_last_ones_shown() {
    let log = (0..20_000).map(|n| format!("line {n}")).collect();
    let (events, outcome) = migrated(5, log, |_| {}).await;
    let lines = lines(&events);
    let left_out: u32 = lines.iter().map(|(_, left_out)| left_out).sum();
    assert_eq!(lines.len() + left_out as usize, 20_000);
    assert_eq!(lines.last().unwrap().0, "line 19999");
    assert!(lines.len() < 5_000, "{}", lines.len());
    let evidence = &outcome.failure.unwrap().evidence[0];
    assert_eq!(evidence.kind, EvidenceKind::Log);
    assert!(evidence.message.ends_with("line 19999"), "{}", evidence.message);
}

#[tokio::test(start_paused = true)]
async fn a_denied_log_is_reported_once_and_hides_nothing() {
    let (events, outcome) =
        migrated(5, vec!["a".to_owned()], |shop| shop.sandbox.aws().deny("logs:GetLogEvents")).await;
    assert_eq!(outcome.exit_code, Some(5));
    let notices = events.iter().filter(
        |event| matches!(event, DeployEvent::Notice { message, .. } if message.contains("cannot be read: AccessDenied")),
    );
    assert_eq!((notices.count(), lines(&events).len()), (1, 0));
}
