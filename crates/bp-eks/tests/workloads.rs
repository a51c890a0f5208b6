//! StatefulSets, DaemonSets and Jobs on the sandbox in memory with a paused clock.

mod common;

use std::time::Duration;

use bp_artifact::{
    ResolvedImage, Verdict,
    deploy::{Cause, DeployEvent},
};
use bp_eks::{EksTarget, Error, OnFailure, Options};
use bp_sandbox::Behaviour;
use serde_json::{Value, json};

use common::{World, crash, deploy};

/// A workload `web` with the first image, in addition to the Deployment.
async fn with(kind: &str, spec: Value) -> World {
    let world = World::new().await;
    let version = if kind == "Job" { "batch/v1" } else { "apps/v1" };
    let mut container = json!({ "name": "web", "image": world.first.reference.to_string() });
    if kind != "Job" {
        // Without a probe, a pod is ready as soon as its container has started.
        container["readinessProbe"] = json!({ "httpGet": { "path": "/", "port": 80 }, "periodSeconds": 5 });
    }
    let template =
        json!({ "metadata": { "labels": { "app": kind } }, "spec": { "containers": [container] } });
    let mut object = json!({
        "apiVersion": version, "kind": kind, "metadata": { "name": "web", "namespace": "prod" },
        "spec": { "template": template },
    });
    if kind == "Job" {
        object["spec"]["template"]["spec"]["restartPolicy"] = json!("Never");
    } else {
        object["spec"]["selector"] = json!({ "matchLabels": { "app": kind } });
    }
    for (field, value) in spec.as_object().unwrap() {
        object["spec"][field] = value.clone();
    }
    world.cluster.create(object);
    tokio::time::sleep(Duration::from_secs(60)).await;
    world
}

fn target(world: &World, workload: &str, options: impl FnOnce(Options) -> Options) -> EksTarget {
    let options = options(Options::new(Duration::from_secs(120)).unwrap().take_over(true));
    let workload = workload.parse().unwrap();
    world.namespace().workload(workload, options).container("web")
}

fn image_of(world: &World, plural: &str) -> String {
    let object = world.cluster.object(plural, "prod", "web").unwrap();
    object["spec"]["template"]["spec"]["containers"][0]["image"].as_str().unwrap().to_owned()
}

/// The images of the ready pods of a workload.
fn running(world: &World, kind: &str) -> Vec<String> {
    let pods = world.cluster.objects("pods", "prod");
    let ready = pods.iter().filter(|pod| {
        pod["metadata"]["labels"]["app"] == kind && pod["status"]["containerStatuses"][0]["ready"] == true
    });
    ready.map(|pod| pod["spec"]["containers"][0]["image"].as_str().unwrap().to_owned()).collect()
}

fn all(image: &ResolvedImage, count: usize) -> Vec<String> {
    vec![image.reference.to_string(); count]
}

#[tokio::test(start_paused = true)]
async fn rolls_out_a_stateful_set_pod_by_pod() {
    let world = with("StatefulSet", json!({ "replicas": 3, "serviceName": "web" })).await;
    assert_eq!(running(&world, "StatefulSet"), all(&world.first, 3));
    let second = world.image("second", Behaviour::default());
    let target = target(&world, "statefulset/web", |options| options);
    let outcome = deploy(&target, &second).await.1.unwrap();
    assert_eq!((outcome.verdict(), outcome.proof.observations.len()), (Verdict::Deployed, 3), "{outcome:?}");
    assert_eq!((outcome.revision.unwrap().id.as_str(), outcome.previous.unwrap().id.as_str()), ("2", "1"));
    assert_eq!(running(&world, "StatefulSet"), all(&second, 3), "all pods run the image");
    let again = deploy(&target, &second).await.1.unwrap();
    assert_eq!((again.verdict(), again.changed), (Verdict::Deployed, false));
    let back = target.rollback().await.unwrap();
    assert_eq!(back.verdict(), Verdict::Deployed, "{back:?}");
    assert_eq!(image_of(&world, "statefulsets"), world.first.reference.to_string());
}

#[tokio::test(start_paused = true)]
async fn failing_pod_of_a_stateful_set_does_not_block_its_undo() {
    let world = with("StatefulSet", json!({ "replicas": 3, "serviceName": "web" })).await;
    let target = target(&world, "statefulset/web", |options| options);
    let (events, outcome) = deploy(&target, &world.image("crash", crash())).await;
    let outcome = outcome.unwrap();
    assert_eq!(outcome.verdict(), Verdict::RolledBack, "{outcome:?}");
    let failure = outcome.failure.unwrap();
    assert_eq!((failure.cause, failure.exit_code), (Cause::ContainerExited, Some(3)), "{failure}");
    let told = |e: &DeployEvent| matches!(e, DeployEvent::Notice { message, .. } if message.contains("web-2 was deleted"));
    assert!(events.iter().any(told), "{events:?}");
    assert_eq!(running(&world, "StatefulSet"), all(&world.first, 3));
}

#[tokio::test(start_paused = true)]
async fn gives_advice_without_permission_to_delete_pods() {
    let world = with("StatefulSet", json!({ "replicas": 2, "serviceName": "web" })).await;
    world.cluster.deny("delete", "pods");
    let target = target(&world, "statefulset/web", |options| options);
    let (events, outcome) = deploy(&target, &world.image("crash", crash())).await;
    assert_eq!(
        outcome.unwrap().verdict(),
        Verdict::RollbackFailed,
        "the controller waits for the broken pod"
    );
    let told = |e: &DeployEvent| matches!(e, DeployEvent::Notice { message, .. } if message.contains("kubectl delete pod web-1"));
    assert!(events.iter().any(told), "{events:?}");
}

#[tokio::test(start_paused = true)]
async fn next_image_fixes_a_stuck_stateful_set() {
    let world = with("StatefulSet", json!({ "replicas": 3, "serviceName": "web" })).await;
    // The stuck pod has been restarted once: it may recover, but blocks the next image until then.
    let leave = target(&world, "statefulset/web", |options| {
        options.on_failure(OnFailure::Leave).restarts(std::num::NonZeroU32::MIN)
    });
    let outcome = deploy(&leave, &world.image("crash", crash())).await.1.unwrap();
    assert_eq!(outcome.verdict(), Verdict::FailedInPlace);
    let current = leave.current().await.unwrap();
    assert_eq!(current.stable.image, world.first.reference.to_string(), "the controller's current revision");
    let second = world.image("second", Behaviour::default());
    assert_eq!(deploy(&leave, &second).await.1.unwrap().verdict(), Verdict::Deployed);
}

/// The pod that was stuck is deleted; the watch shows it as it was for a moment, which is not a failure of this run.
#[tokio::test(start_paused = true)]
async fn the_same_image_is_tried_again_on_a_stuck_stateful_set() {
    let world = with("StatefulSet", json!({ "replicas": 3, "serviceName": "web" })).await;
    let leave = target(&world, "statefulset/web", |options| options.on_failure(OnFailure::Leave));
    let image = world.image("crash", crash());
    assert_eq!(deploy(&leave, &image).await.1.unwrap().verdict(), Verdict::FailedInPlace);
    // What it needs exists now.
    world.sandbox.script(&image.reference.digest().to_string(), Behaviour::default());
    let (events, outcome) = deploy(&leave, &image).await;
    assert_eq!(outcome.unwrap().verdict(), Verdict::Deployed, "{events:?}");
}

#[tokio::test(start_paused = true)]
async fn a_stateful_set_that_is_scaled_down_is_not_complete_before_its_pods_are_gone() {
    let world = with("StatefulSet", json!({ "replicas": 3, "serviceName": "web" })).await;
    let target = target(&world, "statefulset/web", |options| options);
    let second = world.image("second", Behaviour::Healthy(Duration::from_secs(8)));
    let work = target.deploy(&second);
    tokio::time::sleep(Duration::from_millis(1_350)).await;
    world.cluster.patch("kubectl", "statefulsets", "prod", "web", &json!({ "spec": { "replicas": 1 } }));
    let outcome = work.await.unwrap();
    assert_eq!((outcome.verdict(), outcome.proof.observations.len()), (Verdict::Deployed, 1), "{outcome:?}");
    assert_eq!(running(&world, "StatefulSet"), all(&second, 1));
}

#[tokio::test(start_paused = true)]
async fn respects_a_partition_and_rejects_on_delete() {
    let world = with("StatefulSet", json!({
        "replicas": 3, "serviceName": "web", "updateStrategy": { "type": "RollingUpdate", "rollingUpdate": { "partition": 2 } },
    }))
    .await;
    let second = world.image("second", Behaviour::default());
    let target = target(&world, "statefulset/web", |options| options);
    let outcome = deploy(&target, &second).await.1.unwrap();
    assert_eq!((outcome.verdict(), outcome.proof.observations.len()), (Verdict::Deployed, 1), "{outcome:?}");
    assert!(outcome.detail.contains("partition 2"), "{}", outcome.detail);
    assert_eq!(
        running(&world, "StatefulSet").iter().filter(|i| **i == second.reference.to_string()).count(),
        1
    );
    // `prove` observes all pods.
    assert_eq!(target.prove().await.unwrap().judge(&second), Verdict::DigestMismatch);

    let strategy = json!({ "spec": { "updateStrategy": { "type": "OnDelete", "rollingUpdate": null } } });
    world.cluster.patch("kubectl", "statefulsets", "prod", "web", &strategy);
    let error = deploy(&target, &world.image("third", Behaviour::default())).await.1.unwrap_err();
    assert!(matches!(error, Error::OnDelete { .. }), "{error}");
    assert_eq!(image_of(&world, "statefulsets"), second.reference.to_string());
}

#[tokio::test(start_paused = true)]
async fn rolls_out_a_daemon_set_node_by_node() {
    let world = with("DaemonSet", json!({})).await;
    assert_eq!(running(&world, "DaemonSet"), all(&world.first, 2));
    let second = world.image("second", Behaviour::default());
    let target = target(&world, "daemonset/web", |options| options);
    let outcome = deploy(&target, &second).await.1.unwrap();
    assert_eq!((outcome.verdict(), outcome.proof.observations.len()), (Verdict::Deployed, 2), "{outcome:?}");
    let outcome = deploy(&target, &world.image("crash", crash())).await.1.unwrap();
    assert_eq!(outcome.verdict(), Verdict::RolledBack, "{outcome:?}");
    assert_eq!(running(&world, "DaemonSet"), all(&second, 2));
}

#[tokio::test(start_paused = true)]
async fn reads_an_exceeded_quota_of_a_stateful_set_from_events() {
    let world = with("StatefulSet", json!({ "replicas": 2, "serviceName": "web" })).await;
    let used = world.cluster.objects("pods", "prod").len() - 1;
    world.cluster.create(json!({
        "apiVersion": "v1", "kind": "ResourceQuota",
        "metadata": { "name": "pods", "namespace": "prod" }, "spec": { "hard": { "pods": used } },
    }));
    let target = target(&world, "statefulset/web", |options| options.on_failure(OnFailure::Leave));
    let outcome = deploy(&target, &world.image("second", Behaviour::default())).await.1.unwrap();
    let failure = outcome.failure.as_ref().unwrap();
    assert_eq!(
        (outcome.verdict(), failure.cause),
        (Verdict::FailedInPlace, Cause::QuotaExceeded),
        "{failure}"
    );
}

fn done() -> Behaviour {
    Behaviour::Exits { after: Duration::from_secs(3), code: 0, log: vec!["migrated".into()] }
}

#[tokio::test(start_paused = true)]
async fn each_image_gets_its_own_job_and_runs_once() {
    let world = with("Job", json!({})).await;
    let second = world.image("second", done());
    let target = target(&world, "job/web", |options| options.annotation("bp-eks/Owner", "shop-team"));
    let outcome = deploy(&target, &second).await.1.unwrap();
    assert_eq!((outcome.verdict(), outcome.changed), (Verdict::Deployed, true), "{outcome:?}");
    let jobs = world.cluster.objects("jobs", "prod");
    let owned = jobs.iter().filter(|job| job["metadata"]["annotations"]["bp-eks/Owner"] == "shop-team");
    assert_eq!(owned.count(), 1, "the one that was created, not its pattern");
    assert_eq!(outcome.proof.observations[0].digest.as_ref(), Some(second.digest()));
    let again = deploy(&target, &second).await.1.unwrap();
    assert_eq!((again.verdict(), again.changed), (Verdict::Deployed, false), "{again:?}");
    assert_eq!(world.cluster.objects("jobs", "prod").len(), 2, "the configured Job and a derived one");
    assert_eq!(
        image_of(&world, "jobs"),
        world.first.reference.to_string(),
        "the configured Job is not changed"
    );
    assert!(matches!(target.rollback().await, Err(Error::NotUndoable { .. })));
}

#[tokio::test(start_paused = true)]
async fn job_fails_at_its_backoff_limit_and_the_next_run_creates_another() {
    let world = with("Job", json!({ "backoffLimit": 2 })).await;
    let broken = world.image("crash", crash());
    let target = target(&world, "job/web", |options| options);
    let outcome = deploy(&target, &broken).await.1.unwrap();
    assert_eq!(outcome.verdict(), Verdict::FailedInPlace, "{outcome:?}");
    let failure = outcome.failure.unwrap();
    assert_eq!((failure.cause, failure.exit_code), (Cause::ContainerExited, Some(3)), "{failure}");
    let log = failure.evidence.iter().any(|e| e.message.contains("no DATABASE_URL"));
    assert!(log, "the log of the pod that failed: {:?}", failure.evidence);
    let first = outcome.revision.unwrap().id;
    let again = deploy(&target, &broken).await.1.unwrap();
    assert_eq!(again.revision.unwrap().id, format!("{first}-2"));

    // A failing pull does not count as a failed attempt: the Job controller would wait forever.
    let begun = tokio::time::Instant::now();
    let missing =
        ResolvedImage::from(broken.reference.repository().at(bp_artifact::Digest::sha256("nowhere")));
    let outcome = deploy(&target, &missing).await.1.unwrap();
    assert_eq!(outcome.failure.unwrap().cause, Cause::ImageNotFound);
    assert!(begun.elapsed() < Duration::from_secs(20));
}

#[tokio::test(start_paused = true)]
async fn resumes_a_killed_run_of_a_job() {
    let world = with("Job", json!({})).await;
    let slow = world.image("slow", Behaviour::Exits { after: Duration::from_secs(30), code: 0, log: vec![] });
    let target = target(&world, "job/web", |options| options);
    let work = target.deploy(&slow);
    tokio::time::sleep(Duration::from_secs(10)).await;
    drop(work);
    let (events, outcome) = deploy(&target, &slow).await;
    assert_eq!(outcome.unwrap().verdict(), Verdict::Deployed);
    assert!(events.iter().any(|e| matches!(e, DeployEvent::Applied { adopted: true, .. })));
    assert_eq!(world.cluster.objects("jobs", "prod").len(), 2);
}
