//! Hooks that fail: the report contains the hook, its pod's exit code and log, also if helm deletes the pod.

use std::time::Duration;

use bp_artifact::{
    ResolvedImage, Verdict,
    deploy::{Cause, DeployEvent, EvidenceKind},
};
use bp_eks::{OnFailure, Options};
use serde_json::{Value, json};

use crate::{
    common::{check_stream, crash},
    fixture::{Release, manifest},
};

fn job(image: &ResolvedImage) -> Value {
    json!({
        "apiVersion": "batch/v1", "kind": "Job", "metadata": { "name": "migrate", "namespace": "prod" },
        "spec": { "backoffLimit": 0, "template": { "metadata": { "labels": { "app": "migrate" } }, "spec": {
            "restartPolicy": "Never",
            "containers": [{ "name": "migrate", "image": image.reference.to_string() }],
        } } },
    })
}

fn pod(image: &ResolvedImage) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "check", "namespace": "prod" },
        "spec": { "restartPolicy": "Never", "containers": [{ "name": "check", "image": image.reference.to_string() }] },
    })
}

/// A dry run with a hook of this object.
fn with_hook(it: &Release, event: &str, object: &Value) {
    let hook = json!({
        "name": object["metadata"]["name"], "kind": object["kind"], "path": "web/templates/hook.yaml",
        "manifest": object.to_string(), "events": [event], "delete_policies": ["hook-failed"],
        "last_run": { "phase": "" },
    });
    it.write("dry-run", &json!({ "manifest": manifest(&it.second), "hooks": [hook] }).to_string());
}

fn failed_history(it: &Release) {
    let failed =
        [json!({ "revision": 1, "status": "deployed" }), json!({ "revision": 2, "status": "failed" })];
    it.write("history", &json!(failed).to_string());
}

async fn release() -> Release {
    Release::new(Options::new(Duration::from_secs(60)).unwrap().on_failure(OnFailure::Leave)).await
}

#[tokio::test]
async fn a_failed_job_of_a_hook_is_reported_with_its_exit_code_and_log_while_helm_waits() {
    let it = release().await;
    let image = it.world.image("migrate", crash());
    with_hook(&it, "pre-upgrade", &job(&image));
    // A Job of an earlier upgrade failed too.
    it.world.cluster.create(job(&image));
    let (events, outcome) = it
        .run(it.release.upgrade(&it.second), "upgrade", |it| {
            failed_history(it);
            it.world.cluster.delete("jobs", "prod", "migrate");
            it.world.cluster.create(job(&image));
        })
        .await;
    let outcome = outcome.unwrap();
    assert_eq!(outcome.verdict(), Verdict::FailedInPlace, "{outcome:?}");
    let failure = outcome.failure.clone().unwrap();
    assert_eq!((failure.cause, failure.exit_code), (Cause::ContainerExited, Some(3)), "{failure}");
    let hook = "pre-upgrade hook job/migrate (web/templates/hook.yaml)";
    assert!(failure.message.starts_with(hook), "{failure}");
    let log = failure.evidence.iter().find(|evidence| evidence.kind == EvidenceKind::Log);
    assert!(log.is_some_and(|log| log.message.contains("fatal: no DATABASE_URL")), "{failure:?}");
    let reported = events.iter().find_map(|event| match event {
        DeployEvent::Failing { failure, .. } => Some(failure.message.clone()),
        _ => None,
    });
    assert!(reported.is_some_and(|message| message.starts_with(hook)), "{events:?}");
    assert!(!it.has("done"), "helm still waited");
    check_stream("a failed hook", &it.release.id(), &events, &outcome);
}

#[tokio::test]
async fn the_log_of_a_hooks_pod_is_read_before_helm_deletes_it() {
    let it = release().await;
    let image = it.world.image("check", crash());
    with_hook(&it, "post-upgrade", &pod(&image));
    let (_, outcome) = it
        .run(it.release.upgrade(&it.second), "upgrade", |it| {
            failed_history(it);
            it.apply(&it.second);
            it.world.cluster.create(pod(&image));
            let (cluster, home) = (it.world.cluster.clone(), it.home.path().to_owned());
            tokio::spawn(async move {
                // As helm does with the policy hook-failed.
                let phase =
                    || cluster.object("pods", "prod", "check").map(|pod| pod["status"]["phase"].clone());
                while phase().is_some_and(|phase| phase != "Failed") {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                std::fs::write(home.join("delete"), "/api/v1/namespaces/prod/pods/check").unwrap();
                while !home.join("deleted").exists() || home.join("delete").exists() {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                std::fs::write(home.join("done"), "1").unwrap();
            });
        })
        .await;
    let outcome = outcome.unwrap();
    assert!(it.read("deleted").starts_with("HTTP/1.1 200"), "{}", it.read("deleted"));
    assert_eq!(outcome.verdict(), Verdict::FailedInPlace, "{outcome:?}");
    let failure = outcome.failure.unwrap();
    assert_eq!((failure.container.as_deref(), failure.exit_code), (Some("check"), Some(3)), "{failure}");
    assert!(
        failure.message.starts_with("post-upgrade hook pod/check (web/templates/hook.yaml)"),
        "{failure}"
    );
    assert!(failure.evidence[0].message.contains("fatal: no DATABASE_URL"), "{failure:?}");
}

#[tokio::test]
async fn ignores_a_hook_that_succeeds_and_the_failed_one_of_an_earlier_run() {
    let it = release().await;
    let (good, bad) = (it.world.image("good", exits_with_zero()), it.world.image("bad", crash()));
    with_hook(&it, "pre-upgrade", &job(&good));
    it.world.cluster.create(job(&bad));
    let (_, outcome) = it
        .run(it.release.upgrade(&it.second), "upgrade", |it| {
            it.apply(&it.second);
            it.write("done", "0");
        })
        .await;
    assert_eq!(outcome.unwrap().verdict(), Verdict::Deployed);

    let it = release().await;
    with_hook(&it, "pre-upgrade", &job(&it.world.image("good", exits_with_zero())));
    let (_, outcome) = it
        .run(it.release.upgrade(&it.second), "upgrade", |it| {
            let good = it.world.image("good", exits_with_zero());
            it.world.cluster.create(job(&good));
            it.apply(&it.second);
            it.write("done", "0");
        })
        .await;
    assert_eq!(outcome.unwrap().verdict(), Verdict::Deployed);
}

fn exits_with_zero() -> bp_sandbox::Behaviour {
    bp_sandbox::Behaviour::Exits { after: Duration::from_secs(1), code: 0, log: Vec::new() }
}
