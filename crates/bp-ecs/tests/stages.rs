//! Blue/green, linear and canary deployments: stages, traffic weights, pause hooks and approvals.

mod common;

use std::time::Duration;

use bp_artifact::{
    Verdict,
    deploy::{Cause, DeployEvent},
};
use bp_ecs::{Approval, Error, Options};
use bp_sandbox::{Behaviour, aws::ecs::NewService};
use common::{Shop, run};
use serde_json::{Value, json};

fn with(shop: &Shop, configuration: Value) -> NewService {
    shop.web(&shop.image("1")).with("deploymentConfiguration", configuration)
}

fn hour() -> Options {
    Options::new(Duration::from_secs(3600)).unwrap()
}

fn stages(events: &[DeployEvent]) -> Vec<&str> {
    let mut stages: Vec<&str> = events
        .iter()
        .filter_map(|event| match event {
            DeployEvent::Progress { progress, .. } => Some(progress.stage.as_str()),
            _ => None,
        })
        .collect();
    stages.dedup();
    stages
}

/// The configuration of each strategy, its minimum duration, and its traffic weights.
fn strategies() -> [(Value, u64, &'static [u32]); 3] {
    [
        (json!({ "strategy": "BLUE_GREEN", "bakeTimeInMinutes": 5 }), 300, &[]),
        (
            json!({ "strategy": "LINEAR", "bakeTimeInMinutes": 1,
                    "linearConfiguration": { "stepPercent": 25.0, "stepBakeTimeInMinutes": 2 } }),
            3 * 120 + 60,
            &[25, 50, 75],
        ),
        (
            json!({ "strategy": "CANARY", "bakeTimeInMinutes": 1,
                    "canaryConfiguration": { "canaryPercent": 10.0, "canaryBakeTimeInMinutes": 5 } }),
            300 + 60,
            &[10],
        ),
    ]
}

#[tokio::test(start_paused = true)]
async fn follows_every_strategy_through_its_stages_and_bake_time() {
    for (configuration, least, weights) in strategies() {
        let shop = Shop::new();
        with(&shop, configuration).create();
        let start = tokio::time::Instant::now();
        let mut deployment = shop.target_with(hour()).deploy(&shop.image("2"));
        let mut events = Vec::new();
        while let Some(event) = deployment.next_event().await {
            events.push(event);
        }
        assert_eq!(deployment.await.unwrap().verdict(), Verdict::Deployed);
        assert!(start.elapsed() >= Duration::from_secs(least), "not before the bake time is over");
        let stages = stages(&events);
        for stage in ["SCALE_UP", "BAKE_TIME, 100% of traffic"] {
            assert!(stages.contains(&stage), "{stages:?}");
        }
        for weight in weights {
            let stage = format!("PRODUCTION_TRAFFIC_SHIFT, {weight}% of traffic");
            assert!(stages.contains(&stage.as_str()), "{stage}: {stages:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn every_strategy_rolls_back_when_tasks_fail() {
    for (configuration, ..) in strategies() {
        let shop = Shop::new();
        let service = with(&shop, configuration).create();
        let (old, running) = (service.definition(), service.running());
        let image = shop.image_that("oom", Behaviour::OutOfMemory(Duration::from_secs(1)));
        let outcome = shop.target_with(hour()).deploy(&image).await.unwrap();
        assert_eq!(outcome.verdict(), Verdict::RolledBack);
        assert_eq!(outcome.failure.unwrap().cause, Cause::OutOfMemory);
        assert_eq!((service.definition(), service.running()), (old, running));
    }
}

fn paused(stage: &str, action: &str) -> Value {
    json!({
        "strategy": "BLUE_GREEN",
        "lifecycleHooks": [{
            "targetType": "PAUSE",
            "lifecycleStages": [stage],
            "timeoutConfiguration": { "timeoutInMinutes": 30, "action": action },
        }],
    })
}

#[tokio::test(start_paused = true)]
async fn a_pause_hook_awaits_approval_and_a_rerun_resumes() {
    let shop = Shop::new();
    let service = with(&shop, paused("POST_TEST_TRAFFIC_SHIFT", "ROLLBACK")).create();
    let (target, new) = (shop.target_with(hour()), shop.image("2"));
    let waiting = target.deploy(&new).await.unwrap();
    assert_eq!(waiting.verdict(), Verdict::AwaitingApproval);
    assert!(waiting.detail.contains("POST_TEST_TRAFFIC_SHIFT") && waiting.detail.contains("ROLLBACK"));
    assert!(waiting.previous.unwrap().id.ends_with("web:1"));
    // A rerun still waits, and starts no other deployment.
    assert_eq!(target.deploy(&new).await.unwrap().verdict(), Verdict::AwaitingApproval);
    target.approve(Approval::Continue).await.unwrap();
    let (events, outcome) = run(target.deploy(&new)).await;
    assert_eq!(outcome.unwrap().verdict(), Verdict::Deployed);
    assert!(events.iter().any(|e| matches!(e, DeployEvent::Applied { adopted: true, .. })));
    assert!(service.definition().ends_with("web:2"));
    assert_eq!(shop.calls("ecs:UpdateService"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_rejected_approval_rolls_back() {
    let shop = Shop::new();
    let service = with(&shop, paused("PRE_SCALE_UP", "CONTINUE")).create();
    let (target, new) = (shop.target_with(hour()), shop.image("2"));
    assert_eq!(target.deploy(&new).await.unwrap().verdict(), Verdict::AwaitingApproval);
    target.approve(Approval::RollBack).await.unwrap();
    let outcome = target.watch().await.unwrap();
    assert_eq!(outcome.verdict(), Verdict::RolledBack);
    assert!(service.definition().ends_with("web:1"));
    assert!(matches!(target.approve(Approval::Continue).await, Err(Error::NotAwaitingApproval { .. })));
}

#[tokio::test(start_paused = true)]
async fn a_missing_approval_times_out_with_the_configured_action() {
    for (action, verdict) in [("CONTINUE", Verdict::Deployed), ("ROLLBACK", Verdict::RolledBack)] {
        let shop = Shop::new();
        with(&shop, paused("POST_SCALE_UP", action)).create();
        let (target, new) = (shop.target_with(hour()), shop.image("2"));
        assert_eq!(target.deploy(&new).await.unwrap().verdict(), Verdict::AwaitingApproval);
        tokio::time::sleep(Duration::from_secs(30 * 60 - 20)).await;
        assert_eq!(target.deploy(&new).await.unwrap().verdict(), Verdict::AwaitingApproval);
        tokio::time::sleep(Duration::from_secs(25)).await;
        assert_eq!(target.watch().await.unwrap().verdict(), verdict, "{action}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_alarm_in_the_bake_time_rolls_back() {
    let shop = Shop::new();
    let configuration = json!({
        "strategy": "BLUE_GREEN", "bakeTimeInMinutes": 10,
        "alarms": { "enable": true, "rollback": true, "alarmNames": ["5xx"] },
    });
    let service = with(&shop, configuration).create();
    let deployment = shop.target_with(hour()).deploy(&shop.image("2"));
    tokio::time::sleep(Duration::from_secs(120)).await;
    service.alarm("5xx");
    let outcome = deployment.await.unwrap();
    assert_eq!(outcome.verdict(), Verdict::RolledBack);
    assert_eq!(outcome.failure.unwrap().cause, Cause::AlarmTriggered);
}

#[tokio::test(start_paused = true)]
async fn the_bake_time_is_added_to_the_deadline() {
    let shop = Shop::new();
    with(&shop, json!({ "strategy": "BLUE_GREEN", "bakeTimeInMinutes": 30 })).create();
    let short = Options::new(Duration::from_secs(300)).unwrap();
    let outcome = shop.target_with(short).deploy(&shop.image("2")).await.unwrap();
    assert_eq!(outcome.verdict(), Verdict::Deployed);
}
