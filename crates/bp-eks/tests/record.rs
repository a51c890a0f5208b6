//! Recordings of a workload: redacted, and read again as a test of the causes (`tests/recorded`).

mod common;

use bp_artifact::recording::Recording;
use bp_sandbox::{Effect, Fault};
use common::{World, crash, deploy};
use jiff::Timestamp;
use serde_json::json;

const INCIDENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/recorded/m01-recorded-crash-loop.json");

/// A rollout whose new pods exit with code 3, which stays as it is.
async fn incident() -> World {
    let world = World::with(|deployment| {
        deployment["metadata"]["annotations"] = json!({ "team/contact": "falcon@corp.example" });
        deployment["spec"]["template"]["spec"]["containers"][0]["env"] =
            json!([{ "name": "DSN", "value": "postgres-hunter2" }]);
    })
    .await;
    let image = world.image("second", crash());
    let options = |options: bp_eks::Options| options.take_over(true).on_failure(bp_eks::OnFailure::Leave);
    deploy(&world.target_with(options), &image).await.1.unwrap();
    world
}

/// Writes the committed recording with `BP_WRITE_RECORDINGS=1`.
#[tokio::test(start_paused = true)]
async fn an_incident_is_recorded_without_values_and_addresses() {
    let world = incident().await;
    let at = "2026-11-28T12:00:00Z".parse::<Timestamp>().unwrap();
    let mut recording = world.target().record(at).await.unwrap();
    let text = serde_json::to_string(&recording).unwrap();
    for gone in ["hunter2", "falcon", "managedFields", "last-applied"] {
        assert!(!text.contains(gone), "{gone}: {text}");
    }
    assert_eq!((recording.kind.as_str(), recording.expect.len()), ("eks-workload", 0));
    assert!(recording.missing.is_empty(), "{:?}", recording.missing);
    let pods = recording.data["pods"].as_array().unwrap();
    assert!(pods.len() > 3 && recording.data["replicas"] == 3, "{pods:?}");
    let about =
        recording.data["events"].as_array().unwrap().iter().filter_map(|event| event["about"].as_u64());
    assert!(about.clone().count() > 0 && about.max().unwrap() < pods.len() as u64);

    if std::env::var_os("BP_WRITE_RECORDINGS").is_some() {
        recording.source = "bp-sandbox, by crates/bp-eks/tests/record.rs".to_owned();
        recording.expect = serde_json::from_value(json!({
            "fatal_now": true, "causes": ["ContainerExited"], "why": "exit code 3, again and again",
        }))
        .unwrap();
        recording.write(INCIDENT).unwrap();
    }
    assert_eq!(Recording::read(INCIDENT).unwrap().kind, "eks-workload");
}

#[tokio::test(start_paused = true)]
async fn what_is_not_allowed_is_listed_and_the_rest_is_recorded() {
    let world = incident().await;
    let message = "events is forbidden: User \"ci\" cannot list resource \"events\" in API group \"\"";
    let body = json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "Forbidden", "code": 403, "message": message,
    });
    let denied = Effect::Answer { status: 403, headers: Vec::new(), body: body.to_string() };
    world.sandbox.faults().inject(Fault::new(denied).on("list events").times(u32::MAX));
    let recording = world.target().record(Timestamp::UNIX_EPOCH).await.unwrap();
    let parts: Vec<&str> = recording.missing.iter().map(|missing| missing.part.as_str()).collect();
    assert_eq!(parts, ["events"], "{:?}", recording.missing);
    assert!(recording.data.contains_key("pods") && recording.data.contains_key("replicaSets"));
}
