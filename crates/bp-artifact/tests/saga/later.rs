//! Receipts of a later minor version: accepted, used, and rewritten without losing unknown fields and values.

use std::fs;

use bp_artifact::{
    ExitCode, Verdict,
    deploy::{Cause, Receipt, ReceiptState},
    saga::{Saga, SagaError},
};
use serde_json::{Value, json};

use crate::{
    deploy,
    fake::{End, Fake},
    image, process, receipt_path, targets,
};

/// A receipt of version 1.1 with unknown fields and unknown enum values at every level.
fn later() -> Value {
    let image = image("new").reference.to_string();
    let outcome = json!({
        "target": "ecs",
        "verdict": "deployed-to-half",
        "image": image,
        "changed": true,
        "revision": { "id": "rev-new", "image": image, "zone": "a" },
        "failure": {
            "cause": "quota-of-gpus",
            "message": "no GPUs left",
            "severity": "high",
            "evidence": [{ "kind": "profile", "source": "task 1", "message": "flat", "frames": [1, 2] }],
        },
        "proof": [{ "unit": "task/1", "container": "web", "signature": "ok" }],
        "detail": "half",
        "took": { "seconds": 12 },
    });
    json!({
        "schema": "bp.receipt/1.1",
        "image": { "reference": image, "provenance": true },
        "state": "paused",
        "verdict": "half-way",
        "startedAt": "2026-01-01T12:00:00Z",
        "updatedAt": "2026-01-01T12:05:00Z",
        "approval": { "by": "ops" },
        "targets": [
            {
                "target": "ecs",
                "previous": { "id": "rev-old", "image": "old", "region": "eu-central-1" },
                "outcome": outcome,
                "shard": 3,
            },
            { "target": "eks", "previous": { "id": "rev-old", "image": "old" }, "shard": 4 },
        ],
    })
}

/// Both targets run the new image.
fn fakes() -> [Fake; 2] {
    let fakes = ["ecs", "eks"].map(|id| Fake::new(id, End::Verdict(Verdict::Deployed)));
    for fake in &fakes {
        fake.platform().stable = image("new").reference.to_string();
    }
    fakes
}

#[test]
fn rewrites_a_receipt_of_a_later_version_unchanged() {
    let (_directory, path) = receipt_path();
    let receipt = Receipt::parse(&later().to_string(), "receipt.json").unwrap();
    assert_ne!(receipt.state, ReceiptState::Finished);
    let outcome = receipt.targets[0].outcome.as_ref().unwrap();
    assert_eq!(outcome.failure.as_ref().unwrap().cause, Cause::Unknown);
    for verdict in [receipt.verdict.unwrap(), outcome.verdict()] {
        assert!(!verdict.is_success());
        assert_eq!(ExitCode::from(verdict), ExitCode::Unavailable);
    }
    receipt.write(&path).unwrap();
    let written: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    assert_eq!(written, later());
    assert_eq!(Receipt::read(&path).unwrap(), receipt);
    // Also with serde alone.
    let receipt: Receipt = serde_json::from_value(later()).unwrap();
    assert_eq!(serde_json::to_value(&receipt).unwrap(), later());
}

#[test]
fn a_verdict_that_is_not_a_string_is_an_error_with_its_location() {
    let mut wrong = later();
    wrong["verdict"] = json!(3);
    let error = Receipt::parse(&serde_json::to_string_pretty(&wrong).unwrap(), "receipt.json").unwrap_err();
    assert!(error.to_string().starts_with("receipt.json:"), "{error}");
}

#[test]
fn a_rollback_requires_only_the_previous_revisions() {
    let (_directory, path) = receipt_path();
    fs::write(&path, later().to_string()).unwrap();
    let [ecs, eks] = fakes();
    let receipt = process(async { Saga::rollback(targets(&[&ecs, &eks]), &path).await }).unwrap();
    assert_eq!(ExitCode::from(receipt.rollback_verdict()), ExitCode::Done);
    assert!(ecs.runs("old") && eks.runs("old"));

    let written: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    assert_eq!(written["state"], "finished");
    assert_eq!(written["verdict"], "rolled-back");
    for (at, entry) in later()["targets"].as_array().unwrap().iter().enumerate() {
        for member in ["previous", "outcome", "shard"] {
            assert_eq!(written["targets"][at][member], entry[member], "{at}: {member}");
        }
        assert_eq!(written["targets"][at]["restored"]["verdict"], "deployed");
    }
    for member in ["schema", "image", "approval"] {
        assert_eq!(written[member], later()[member], "{member}");
    }
}

#[test]
fn resumes_a_run_in_an_unknown_state_with_its_previous_revisions() {
    let (_directory, path) = receipt_path();
    fs::write(&path, later().to_string()).unwrap();
    let [ecs, eks] = fakes();
    let refused = deploy(&[&ecs, &eks], &image("newer"), &path).unwrap_err();
    assert!(matches!(refused, SagaError::Unfinished { .. }), "{refused}");

    let receipt = deploy(&[&ecs, &eks], &image("new"), &path).unwrap();
    assert_eq!(receipt.verdict, Some(Verdict::Deployed));
    let written: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    assert_eq!((&written["state"], &written["verdict"]), (&json!("finished"), &json!("deployed")));
    assert_eq!(written["approval"], later()["approval"]);
    assert_eq!(written["targets"][0]["previous"], later()["targets"][0]["previous"]);
    assert_eq!(written["targets"][0]["shard"], 3);
    // The outcome of the earlier run is not mixed into that of this one.
    let outcome = &written["targets"][0]["outcome"];
    assert_eq!(outcome["verdict"], "deployed");
    assert!(outcome.get("took").is_none(), "{outcome}");
}
