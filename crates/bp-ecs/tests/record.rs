//! Recordings of a service: redacted, and used as a test of failure causes (`tests/recorded/incidents`).

mod common;

use std::time::Duration;

use bp_artifact::{Verdict, recording::Recording};
use bp_sandbox::Behaviour;
use common::{ACCOUNT, REGION, Shop, definition};
use jiff::Timestamp;
use serde_json::{Value, json};

const INCIDENT: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/tests/recorded/incidents/sandbox-exits-with-3.json");

/// A service whose new tasks exit with code 3.
async fn incident() -> (Shop, Recording) {
    let shop = Shop::new();
    let mut web = definition(&shop.image("1"));
    let container = &mut web["containerDefinitions"][0];
    container["environment"] = json!([{ "name": "DSN", "value": "postgres-hunter2" }]);
    shop.ecs.new_service("shop", "web").task_definition(web).create();
    let crash =
        Behaviour::Exits { after: Duration::from_secs(1), code: 3, log: vec!["no such table".into()] };
    let image = shop.image_that("2", crash);
    let outcome = shop.target().deploy(&image).await.unwrap();
    assert_eq!(outcome.verdict(), Verdict::RolledBack, "{outcome:#?}");
    let at = "2026-11-28T12:00:00Z".parse::<Timestamp>().unwrap();
    let recording = shop.target().record(at).await.unwrap();
    (shop, recording)
}

/// With `BP_WRITE_RECORDINGS=1` it writes the committed recording.
#[tokio::test(start_paused = true)]
async fn records_an_incident_without_account_ids_and_values() {
    let (_shop, recording) = incident().await;
    let text = serde_json::to_string(&recording).unwrap();
    for redacted in [ACCOUNT, REGION, "hunter2"] {
        assert!(!text.contains(redacted), "{redacted}: {text}");
    }
    assert_eq!((recording.kind.as_str(), &recording.want), ("ecs-service", &Value::Null));
    assert!(recording.missing.is_empty() && recording.source.is_empty(), "{:?}", recording.missing);
    let parts: Vec<&str> = recording.data.keys().map(String::as_str).collect();
    for part in [
        "describeServices",
        "listServiceDeployments",
        "describeServiceDeployments",
        "describeServiceRevisions",
        "runningTasks",
        "stoppedTasks",
        "describeTaskDefinition",
    ] {
        assert!(parts.contains(&part), "{part}: {parts:?}");
    }
    // References are kept: the stopped task was started by a deployment that the recording contains.
    let task = &recording.data["stoppedTasks"]["tasks"][0];
    assert_eq!(task["containers"][0]["exitCode"], 3, "{task}");
    let definition = task["taskDefinitionArn"].as_str().unwrap();
    let revisions = recording.data["describeServiceRevisions"]["serviceRevisions"].as_array().unwrap();
    assert!(revisions.iter().any(|revision| revision["taskDefinition"] == definition), "{revisions:?}");

    if std::env::var_os("BP_WRITE_RECORDINGS").is_some() {
        let mut recording = recording;
        recording.source = "bp-sandbox, by crates/bp-ecs/tests/record.rs".to_owned();
        recording.want = json!("container-exited");
        recording.write(INCIDENT).unwrap();
    }
    assert_eq!(Recording::read(INCIDENT).unwrap().kind, "ecs-service");
}

#[tokio::test(start_paused = true)]
async fn records_the_rest_if_a_read_is_denied() {
    let (shop, _) = incident().await;
    shop.sandbox.faults().inject(shop.deny("ecs:ListTasks").on("ecs:ListTasks"));
    let recording = shop.target().record(Timestamp::UNIX_EPOCH).await.unwrap();
    let parts: Vec<&str> = recording.missing.iter().map(|missing| missing.part.as_str()).collect();
    assert_eq!(parts, ["runningTasks", "stoppedTasks"]);
    let reason = &recording.missing[0].reason;
    assert!(reason.contains("ecs:ListTasks") && !reason.contains(ACCOUNT), "{reason}");
    assert!(recording.data.contains_key("describeTaskDefinition"));

    shop.sandbox.faults().inject(shop.refuse_all("AccessDeniedException", "not authorized"));
    shop.target().record(Timestamp::UNIX_EPOCH).await.unwrap_err();
}

#[tokio::test(start_paused = true)]
async fn recording_a_missing_service_is_an_error() {
    let error = Shop::new().target().record(Timestamp::UNIX_EPOCH).await.unwrap_err();
    assert!(error.to_string().contains("shop"), "{error}");
}
