//! Helm releases with a fake helm program and a cluster in memory: events, and no rollback when the state cannot be
//! observed. Uses a socket, so the sandbox's clock is advanced and tokio's is not paused.
#![cfg(unix)]

#[path = "helm/charts.rs"]
mod charts;
mod common;
#[path = "helm/fixture.rs"]
mod fixture;
#[path = "helm/hooks.rs"]
mod hooks;
#[path = "helm/outside.rs"]
mod outside;
#[path = "helm/states.rs"]
mod states;

use std::time::Duration;

use bp_artifact::{ExitCode, Verdict, deploy::DeployEvent};
use bp_eks::Options;
use bp_sandbox::{Effect, Fault};
use serde_json::json;

use common::{check_cancelled, check_stream};
use fixture::{Release, manifest};

#[tokio::test]
async fn a_release_has_one_target_and_is_planned_and_finished_once() {
    let it = Release::new(Options::new(Duration::from_secs(60)).unwrap()).await;
    let id = it.release.id();
    let (events, outcome) = it
        .run(it.release.upgrade(&it.second), "upgrade", |it| {
            it.apply(&it.second);
            it.write("done", "0");
        })
        .await;
    let outcome = outcome.unwrap();
    assert_eq!(outcome.verdict(), Verdict::Deployed, "{outcome:?}");
    check_stream("an upgrade", &id, &events, &outcome);
    let names_workload = |event: &DeployEvent| matches!(event, DeployEvent::Progress { progress, .. } if progress.stage.starts_with("deployment/web: "));
    assert!(events.iter().any(names_workload), "{events:?}");

    it.write(
        "history",
        &json!([{ "revision": 1, "status": "superseded" }, { "revision": 2, "status": "deployed" }])
            .to_string(),
    );
    it.apply(&it.world.first);
    let (events, outcome) = it.run(it.release.rollback(None), "rollback", |_| {}).await;
    check_stream("a rollback", &id, &events, &outcome.unwrap());
}

#[tokio::test]
async fn unobserved_release_is_not_rolled_back() {
    let options = Options::new(Duration::from_secs(3)).unwrap().grace(Duration::from_millis(300));
    let it = Release::new(options).await;
    let id = it.release.id();
    // Helm has applied the image, and waits forever.
    let (events, outcome) = it
        .run(it.release.upgrade(&it.second), "upgrade", |it| {
            it.apply(&it.second);
            let host = it.world.cluster.host().to_owned();
            let body =
                json!({ "kind": "Status", "code": 401, "reason": "Unauthorized", "message": "Unauthorized" });
            let answer = Effect::Answer { status: 401, headers: Vec::new(), body: body.to_string() };
            it.world.sandbox.faults().inject(Fault::new(answer).at(host).times(u32::MAX));
            it.world.cluster.end_watches();
        })
        .await;
    let outcome = outcome.unwrap();
    assert_eq!(outcome.verdict(), Verdict::Unobserved, "{outcome:?}");
    assert_eq!(ExitCode::from(outcome.verdict()), ExitCode::Unavailable);
    for expected in ["revision 2", "continues", "401", "run the same command"] {
        assert!(outcome.detail.contains(expected), "{}", outcome.detail);
    }
    assert!(!outcome.detail.contains("access"), "{}", outcome.detail);
    check_stream("unobserved", &id, &events, &outcome);
    assert!(!it.has("rollback"), "nothing was rolled back");
}

#[tokio::test]
async fn a_release_that_fails_or_is_cancelled_is_planned_once() {
    let it = Release::new(Options::new(Duration::from_secs(60)).unwrap()).await;
    let id = it.release.id();
    // Helm has not applied anything yet, and waits.
    check_cancelled("a cancelled upgrade", &id, it.release.upgrade(&it.second)).await;

    let it = Release::new(Options::new(Duration::from_secs(60)).unwrap()).await;
    let crash = it.world.image("crash", common::crash());
    it.write("manifest", &manifest(&crash));
    it.write("dry-run", &json!({ "manifest": manifest(&crash) }).to_string());
    let (events, outcome) = it
        .run(it.release.upgrade(&crash), "upgrade", |it| {
            it.apply(&crash);
            let failed = [
                json!({ "revision": 1, "status": "deployed" }),
                json!({ "revision": 2, "status": "failed" }),
            ];
            it.write("history", &json!(failed).to_string());
            it.write("done", "0");
        })
        .await;
    let outcome = outcome.unwrap();
    assert_eq!(outcome.verdict(), Verdict::RolledBack, "{outcome:?}");
    assert!(outcome.failure.is_some());
    check_stream("an upgrade that fails", &id, &events, &outcome);
}

#[tokio::test]
async fn a_release_is_recorded_with_its_status_and_only_its_workloads() {
    let it = Release::new(Options::new(Duration::from_secs(60)).unwrap()).await;
    it.world.cluster.deployment("prod", "other", &[("other", "registry.example.com/other:1")]);
    let failed = json!({
        "revision": 2, "status": "failed", "chart": "web-1.2.0", "description": "upgrade failed: password=canary-7f3kq9",
    });
    it.write("history", &json!([{ "revision": 1, "status": "deployed" }, failed]).to_string());
    let recording = it.release.record(jiff::Timestamp::UNIX_EPOCH).await.unwrap();
    assert_eq!(recording.kind, "eks-release");
    let latest = &recording.data["release"]["revisions"][1];
    assert_eq!((&latest["status"], &latest["chart"]), (&json!("failed"), &json!("web-1.2.0")));
    assert_eq!(latest["description"], "upgrade failed: password=<secret 1>");
    assert_eq!(recording.data["release"]["workloads"], json!(["deployment/web"]));
    for (part, count) in [("deployments", 1), ("replicasets", 1), ("pods", 3), ("jobs", 0)] {
        let objects = recording.data[part].as_array().unwrap();
        assert_eq!(objects.len(), count, "{part}");
        let is_web =
            |object: &serde_json::Value| object["metadata"]["name"].as_str().unwrap().starts_with("web");
        assert!(objects.iter().all(is_web), "{part}");
    }
    assert!(!recording.data["events"].as_array().unwrap().is_empty());
    assert!(recording.missing.is_empty(), "{:?}", recording.missing);

    // Which pods belong to the release is unknown: all are recorded.
    it.world.cluster.deny("list", "replicasets");
    let recording = it.release.record(jiff::Timestamp::UNIX_EPOCH).await.unwrap();
    assert_eq!(recording.missing[0].permission.as_deref(), Some("list replicasets.apps"));
    assert!(recording.data["pods"].as_array().unwrap().len() > 3);
}
