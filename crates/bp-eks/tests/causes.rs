//! Failure causes of pods, and errors of the cluster, against the sandbox in memory.

mod common;

use std::time::Duration;

use bp_artifact::{
    DigestRef, Outcome, ResolvedImage, Verdict,
    deploy::{Cause, Revision},
    error::{Classified, ErrorClass},
};
use bp_eks::{ConnectError, Error, OnFailure, Options, from_kubeconfig};
use bp_sandbox::{Behaviour, ImageBuilder};
use serde_json::{Value, json};

use common::{REGISTRY, World, deploy};

/// Deploys onto a template that was changed so that its pods cannot run.
async fn with_template(spec: Value) -> Outcome {
    let world = World::new().await;
    let patch = json!({ "spec": { "template": { "spec": spec } } });
    world.cluster.patch("kubectl-edit", "deployments", "prod", "web", &patch);
    let image = world.image("second", Behaviour::default());
    let target = world.target_with(|options| options.take_over(true).on_failure(OnFailure::Leave));
    let outcome = deploy(&target, &image).await.1.unwrap();
    assert_eq!(outcome.verdict(), Verdict::FailedInPlace, "{outcome:?}");
    outcome
}

#[tokio::test(start_paused = true)]
async fn waits_for_an_unschedulable_pod_and_then_reports_it() {
    let outcome = with_template(json!({ "nodeSelector": { "disk": "nvme" } })).await;
    let failure = outcome.failure.unwrap();
    assert_eq!(failure.cause, Cause::Unschedulable);
    assert!(failure.message.contains("0/2 nodes are available"), "{failure}");
}

#[tokio::test(start_paused = true)]
async fn reports_a_missing_service_account_without_any_pod() {
    let begun = tokio::time::Instant::now();
    let failure = with_template(json!({ "serviceAccountName": "web" })).await.failure.unwrap();
    assert_eq!(failure.cause, Cause::PermissionMissing);
    assert!(failure.message.contains("serviceaccount \"web\" not found"), "{failure}");
    // After the grace period, in which the account may be created, and before the progress deadline.
    assert!(begun.elapsed() < Duration::from_secs(115), "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn reports_a_missing_config_map() {
    let env = json!([{ "configMapRef": { "name": "settings" } }]);
    let failure =
        with_template(json!({ "containers": [{ "name": "web", "envFrom": env }] })).await.failure.unwrap();
    assert_eq!((failure.cause, failure.container.as_deref()), (Cause::ConfigInvalid, Some("web")));
    assert!(failure.message.contains("settings"), "{failure}");
}

#[tokio::test(start_paused = true)]
async fn reports_an_exceeded_quota() {
    let world = World::new().await;
    world.cluster.create(json!({
        "apiVersion": "v1", "kind": "ResourceQuota",
        "metadata": { "name": "pods", "namespace": "prod" }, "spec": { "hard": { "pods": 3 } },
    }));
    let image = world.image("second", Behaviour::default());
    let outcome = deploy(&world.target(), &image).await.1.unwrap();
    assert_eq!(outcome.verdict(), Verdict::RolledBack, "{outcome:?}");
    let failure = outcome.failure.unwrap();
    assert_eq!(failure.cause, Cause::QuotaExceeded);
    assert!(failure.message.contains("exceeded quota: pods"), "{failure}");
}

#[tokio::test(start_paused = true)]
async fn distinguishes_wrong_architecture_from_a_missing_image() {
    let world = World::new().await;
    let image = ImageBuilder::new().platform("linux/arm64").platform("linux/riscv64").build();
    world.sandbox.registry(REGISTRY).push(&image, "shop/web", "arm");
    let reference: DigestRef = format!("{REGISTRY}/shop/web@{}", image.digest()).parse().unwrap();
    let outcome = deploy(&world.target(), &ResolvedImage::from(reference)).await.1.unwrap();
    assert_eq!(outcome.failure.as_ref().unwrap().cause, Cause::WrongArchitecture);
    assert_eq!(outcome.verdict(), Verdict::RolledBack);
}

#[tokio::test(start_paused = true)]
async fn first_rollout_has_no_rollback_revision() {
    let world = World::new().await;
    let broken = world.image("crash", common::crash());
    let image = broken.reference.to_string();
    world.cluster.deployment("prod", "new", &[("web", image.as_str())]);
    let target = world.of("new", "web", Options::new(Duration::from_secs(300)).unwrap());
    let outcome = target.deploy(&broken).await.unwrap();
    assert_eq!((outcome.verdict(), outcome.changed), (Verdict::FailedInPlace, false), "{outcome:?}");
    assert_eq!(outcome.previous, None);
    assert!(matches!(target.rollback().await, Err(Error::NoPrevious { .. })));
}

#[tokio::test(start_paused = true)]
async fn restored_tag_stays_unproven() {
    let world = World::new().await;
    let revision = Revision::new("1", format!("{REGISTRY}/shop/web:first"));
    let outcome = world.target().restore(&revision).await.unwrap();
    assert_eq!((outcome.verdict(), outcome.changed), (Verdict::Unproven, true), "{outcome:?}");
    assert_eq!(revision.image, world.running_image());
}

#[tokio::test(start_paused = true)]
async fn distinguishes_missing_namespace_workload_and_container() {
    let world = World::new().await;
    let options = || Options::new(Duration::from_secs(60)).unwrap();
    let at = |namespace: &str, workload: &str| {
        let workload = workload.parse().unwrap();
        world.namespace_called(namespace).workload(workload, options())
    };
    let error = at("nowhere", "deployment/web").current().await.unwrap_err();
    assert!(matches!(error, Error::NamespaceNotFound { .. }), "{error}");
    let error = at("prod", "statefulset/db").current().await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "statefulset/db does not exist in the namespace \"prod\"; create it first, or correct the name"
    );
    let error = at("prod", "deployment/web").current().await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "deployment/web has several containers; specify the one to deploy: web, proxy"
    );
    assert_eq!(error.class(), ErrorClass::BadInput);
}

#[tokio::test]
async fn reports_a_missing_kubeconfig() {
    let error = from_kubeconfig(Some("/nowhere/config".as_ref()), Some("shop")).await.err().unwrap();
    assert!(matches!(error, ConnectError::Kubeconfig { .. }));
    assert_eq!(error.to_string(), "failed to load the kubeconfig /nowhere/config with the context \"shop\"");
}

#[tokio::test(start_paused = true)]
async fn detects_a_missing_aws_role_from_the_log() {
    let world = World::new().await;
    let line = "operation error STS: AssumeRoleWithWebIdentity, AccessDenied: Not authorized";
    let log = vec!["booting".to_owned(), line.to_owned()];
    let image = world.image("role", Behaviour::Exits { after: Duration::from_secs(1), code: 1, log });
    let outcome = deploy(&world.target(), &image).await.1.unwrap();
    let failure = outcome.failure.as_ref().unwrap();
    assert_eq!(
        (outcome.verdict(), failure.cause),
        (Verdict::RolledBack, Cause::PermissionMissing),
        "{failure}"
    );
    assert!(failure.message.ends_with(line), "{failure}");
}

#[tokio::test(start_paused = true)]
async fn circuit_breaker_fails_an_occasionally_crashing_rollout() {
    let mut took = Vec::new();
    for guarded in [true, false] {
        let world = World::with(|deployment| {
            deployment["spec"]["replicas"] = json!(6);
            deployment["spec"]["strategy"] = json!({ "rollingUpdate": { "maxSurge": "100%" } });
        })
        .await;
        let slow_death = Behaviour::Exits { after: Duration::from_secs(50), code: 7, log: vec![] };
        let image = world.image("flapping", slow_death);
        let target = world.target_with(|options| options.take_over(true).circuit_breaker(guarded));
        let begun = tokio::time::Instant::now();
        let failure = deploy(&target, &image).await.1.unwrap().failure.unwrap();
        assert_eq!((failure.cause, failure.exit_code), (Cause::ContainerExited, Some(7)), "{failure}");
        assert_eq!(failure.message.contains("its threshold is 3"), guarded, "{failure}");
        took.push(begun.elapsed());
    }
    assert!(took[0] < took[1], "{took:?}: does not wait for the crash loop");
}

#[tokio::test(start_paused = true)]
async fn does_not_recreate_a_workload_deleted_before_the_apply() {
    let world = World::new().await;
    let second = world.image("second", Behaviour::default());
    // The dry run is slow enough for a concurrent change.
    let slow = bp_sandbox::Fault::new(bp_sandbox::Effect::Delay(Duration::from_secs(5)));
    world.sandbox.faults().inject(slow.on("patch deployments"));
    let work = world.target().deploy(&second);
    tokio::time::sleep(Duration::from_secs(2)).await;
    world.cluster.delete("deployments", "prod", "web");
    let error = work.await.unwrap_err();
    assert!(matches!(error, Error::NotFound { .. }), "{error}");
    assert!(world.cluster.object("deployments", "prod", "web").is_none());
}
