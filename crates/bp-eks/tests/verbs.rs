//! Restarts, revisions by number, and annotations about the build, on the sandbox in memory with a paused clock.

mod common;

use std::{sync::Arc, time::Duration};

use bp_artifact::{
    DigestRef, ImageRef, ResolvedImage, Verdict,
    deploy::DeployEvent,
    error::{Classified, ErrorClass},
    resolve::{Resolve, ResolveError},
    saga::SingleReceipt,
};
use bp_eks::{Error, OnFailure, Options};
use bp_sandbox::Behaviour;
use futures_core::future::BoxFuture;
use serde_json::{Value, json};

use common::{World, crash, deploy};

fn options(change: impl FnOnce(Options) -> Options) -> Options {
    change(Options::new(Duration::from_secs(300)).unwrap().take_over(true))
}

fn web(world: &World) -> Value {
    world.cluster.object("deployments", "prod", "web").unwrap()
}

fn pods(world: &World) -> Vec<String> {
    let pods = world.cluster.objects("pods", "prod");
    let active = pods.iter().filter(|pod| pod["metadata"]["deletionTimestamp"].is_null());
    active.map(|pod| pod["metadata"]["uid"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test(start_paused = true)]
async fn a_forced_restart_replaces_the_pods_of_the_same_image() {
    let world = World::new().await;
    let second = world.image("second", Behaviour::default());
    let target = world.of("web", "web", options(|options| options));
    deploy(&target, &second).await.1.unwrap();
    let before = pods(&world);
    let forced = world.of("web", "web", options(|options| options.restart(true)));
    let outcome = deploy(&forced, &second).await.1.unwrap();
    assert_eq!((outcome.verdict(), outcome.changed), (Verdict::Deployed, true), "{outcome:?}");
    assert!(pods(&world).iter().all(|pod| !before.contains(pod)), "every pod is new");
    let annotations = web(&world)["spec"]["template"]["metadata"]["annotations"].clone();
    let restarted = annotations["bp-eks/restarted-at"].as_str().unwrap().to_owned();
    assert!(restarted.ends_with('Z'), "{restarted}");
    assert!(annotations["kubectl.kubernetes.io/restartedAt"].is_null());

    // Without the option, the same image changes nothing, and another image keeps the annotation.
    let after = pods(&world);
    let again = deploy(&target, &second).await.1.unwrap();
    assert_eq!((again.changed, pods(&world)), (false, after));
    let third = world.image("third", Behaviour::default());
    deploy(&target, &third).await.1.unwrap();
    assert_eq!(
        web(&world)["spec"]["template"]["metadata"]["annotations"]["bp-eks/restarted-at"],
        restarted.as_str()
    );
    // A restart is a revision: it can be undone.
    let back = target.rollback().await.unwrap();
    assert_eq!((back.verdict(), world.running_image()), (Verdict::Deployed, second.reference.to_string()));
}

#[tokio::test(start_paused = true)]
async fn a_changed_secret_or_config_map_replaces_the_pods_on_request() {
    let refer = |deployment: &mut Value| {
        deployment["spec"]["template"]["spec"]["containers"][0]["envFrom"] = json!([{ "secretRef": { "name": "db" } }, { "configMapRef": { "name": "web", "optional": true } }]);
    };
    let world = World::with(|deployment| deployment["spec"]["replicas"] = json!(1)).await;
    world.cluster.create(json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "db", "namespace": "prod" },
        "stringData": { "PASSWORD": "hunter2" },
    }));
    let mut patch = json!({ "spec": { "template": { "spec": { "containers": [{ "name": "web" }] } } } });
    refer(&mut patch);
    world.cluster.patch("kubectl-edit", "deployments", "prod", "web", &patch);
    assert!(world.cluster.settled("prod", "web").await);

    let second = world.image("second", Behaviour::default());
    let target = world.of("web", "web", options(|options| options.restart_on_config(true)));
    let (events, outcome) = deploy(&target, &second).await;
    assert_eq!(outcome.unwrap().verdict(), Verdict::Deployed);
    let checksum = |world: &World| {
        let annotations = &web(world)["spec"]["template"]["metadata"]["annotations"];
        annotations["bp-eks/config-checksum"].as_str().unwrap().to_owned()
    };
    let first = checksum(&world);
    assert_eq!(first.len(), 64);
    assert!(!format!("{events:?} {}", web(&world)).contains("hunter2"));
    assert!(!deploy(&target, &second).await.1.unwrap().changed, "nothing has changed");

    let changed = json!({ "data": { "PASSWORD": "aHVudGVyMw==" } });
    world.cluster.patch("kubectl-edit", "secrets", "prod", "db", &changed);
    let before = pods(&world);
    // Not without the option.
    let plain = world.of("web", "web", options(|options| options));
    assert!(!deploy(&plain, &second).await.1.unwrap().changed);
    let outcome = deploy(&target, &second).await.1.unwrap();
    assert_eq!((outcome.verdict(), outcome.changed), (Verdict::Deployed, true), "{outcome:?}");
    assert!(pods(&world).iter().all(|pod| !before.contains(pod)));
    let second_checksum = checksum(&world);
    assert_ne!(second_checksum, first);
    // An optional ConfigMap that appears counts.
    world.cluster.create(json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "web", "namespace": "prod" }, "data": { "A": "1" },
    }));
    assert!(deploy(&target, &second).await.1.unwrap().changed);
    assert_ne!(checksum(&world), second_checksum);

    world.cluster.deny("get", "secrets");
    let error = deploy(&target, &second).await.1.unwrap_err();
    assert!(matches!(&error, Error::Forbidden { verb, .. } if verb == "get"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn commit_and_version_are_annotations_of_the_workload_that_a_rollback_restores() {
    let world = World::new().await;
    let built = |commit: &str, options: Options| {
        options
            .build_annotation("bp-eks/Commit", commit)
            .build_annotation("bp-eks/Version", format!("v-{commit}"))
    };
    let annotation = |name: &str| web(&world)["metadata"]["annotations"][name].clone();
    let second = world.image("second", Behaviour::default());
    let target = world.of("web", "web", options(|options| built("aaa", options)));
    deploy(&target, &second).await.1.unwrap();
    assert_eq!((annotation("bp-eks/Commit"), annotation("bp-eks/Version")), (json!("aaa"), json!("v-aaa")));
    assert!(web(&world)["spec"]["template"]["metadata"]["annotations"].is_null(), "not of the pods");
    // The same image of another commit changes nothing.
    let other = world.of("web", "web", options(|options| built("bbb", options)));
    assert!(!deploy(&other, &second).await.1.unwrap().changed);
    assert_eq!(annotation("bp-eks/Commit"), "aaa");

    // A failure, and a rollback on request, return to the commit of the earlier revision.
    let broken = world.image("crash", crash());
    let (_, outcome) =
        deploy(&world.of("web", "web", options(|options| built("ccc", options))), &broken).await;
    assert_eq!(outcome.unwrap().verdict(), Verdict::RolledBack);
    assert_eq!(annotation("bp-eks/Commit"), "aaa");
    let third = world.image("third", Behaviour::default());
    deploy(&world.of("web", "web", options(|options| built("ddd", options))), &third).await.1.unwrap();
    assert_eq!(annotation("bp-eks/Commit"), "ddd");
    world.of("web", "web", options(|options| options)).rollback().await.unwrap();
    assert_eq!(world.running_image(), second.reference.to_string());
    assert_eq!(annotation("bp-eks/Commit"), "aaa");
    // The first revision had none.
    let first = world.of("web", "web", options(|options| options));
    let back = first.restore(&bp_artifact::deploy::Revision::new("1", &world.first.reference)).await.unwrap();
    assert_eq!(back.verdict(), Verdict::Deployed, "{back:?}");
    assert!(annotation("bp-eks/Commit").is_null() && annotation("bp-eks/Version").is_null());
}

#[tokio::test(start_paused = true)]
async fn restores_a_revision_by_its_number() {
    let world = World::new().await;
    let target = world.target_with(|options| options.take_over(true));
    let (second, third) =
        (world.image("second", Behaviour::default()), world.image("third", Behaviour::default()));
    for image in [&second, &third] {
        assert_eq!(deploy(&target, image).await.1.unwrap().verdict(), Verdict::Deployed);
    }
    let first = target.revision("1").await.unwrap();
    assert_eq!(first.image, world.first.reference.to_string());
    let back = target.restore(&first).await.unwrap();
    assert_eq!(
        (back.verdict(), world.running_image()),
        (Verdict::Deployed, world.first.reference.to_string())
    );
    // It is revision 4 now, and its earlier number is still known.
    assert_eq!(target.revision("4").await.unwrap().image, world.first.reference.to_string());
    assert_eq!(target.revision("1").await.unwrap().image, world.first.reference.to_string());
    let error = target.revision("9").await.unwrap_err();
    assert_eq!(error.to_string(), "deployment/web has no revision 9; it has 2, 3, 4");
    assert_eq!(error.class(), ErrorClass::BadInput);
}

#[tokio::test(start_paused = true)]
async fn a_deployment_is_refused_if_its_rollback_revision_cannot_run() {
    let refer = json!({ "spec": { "template": { "spec": { "containers": [{
        "name": "web", "envFrom": [{ "secretRef": { "name": "db" } }],
    }] } } } });
    let world = World::new().await;
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "db", "namespace": "prod" }, "data": {},
    });
    world.cluster.create(secret.clone());
    world.cluster.patch("kubectl-edit", "deployments", "prod", "web", &refer);
    assert!(world.cluster.settled("prod", "web").await);
    let second = world.image("second", Behaviour::default());
    let path = std::env::temp_dir().join(format!("bp-eks-rollback-{}.json", std::process::id()));
    let registry = |has: bool| -> Arc<dyn Resolve> { Arc::new(Registry(has)) };
    let check = async |options: Options| {
        let target = world.of("web", "web", options);
        let current = target.current().await.unwrap().stable;
        target.check_rollback(&second, &current).await.unwrap().unwrap()
    };
    let found = check(options(|options| options.registry(registry(true)))).await;
    assert!(!found.is_refused(), "{found}");
    assert!(found.summary().ends_with(": ok"), "{found}");
    // Without a client the image is unknown, which refuses nothing.
    assert!(!check(options(|options| options)).await.is_refused());
    let missing = check(options(|options| options.registry(registry(false)))).await;
    assert!(missing.is_refused() && missing.reasons().contains("push or copy it there again"), "{missing}");
    assert!(
        !check(options(|options| options.registry(registry(false)).accept_unproven_rollback(true)))
            .await
            .is_refused()
    );

    world.cluster.delete("secrets", "prod", "db");
    let target = world.of("web", "web", options(|options| options));
    let error = SingleReceipt::start(&target, &second, &path).await.unwrap_err().to_string();
    assert!(error.contains("secret db: does not exist"), "{error}");
    assert!(!path.exists(), "a refused deployment leaves no receipt");
    world.cluster.deny("get", "secrets");
    assert!(!check(options(|options| options)).await.is_refused(), "what cannot be read refuses nothing");
    world.cluster.allow("get", "secrets");
    world.cluster.create(secret);
    deploy(&target, &second).await.1.unwrap();
    let current = target.current().await.unwrap().stable;
    assert!(target.check_rollback(&second, &current).await.unwrap().is_none(), "nothing would be changed");
}

/// A registry that has every image, or none.
struct Registry(bool);

impl Resolve for Registry {
    fn resolve<'a>(&'a self, image: &'a ImageRef) -> BoxFuture<'a, Result<ResolvedImage, ResolveError>> {
        Box::pin(async move {
            let found = DigestRef::try_from(image.clone()).ok().filter(|_| self.0);
            found
                .map(ResolvedImage::from)
                .ok_or_else(|| ResolveError::ImageNotFound { image: image.clone(), request_id: None })
        })
    }
}

fn nightly(world: &World, image: &str) -> Value {
    world.cluster.create(json!({
        "apiVersion": "batch/v1", "kind": "CronJob",
        "metadata": { "name": "nightly", "namespace": "prod" },
        "spec": { "schedule": "0 3 * * *", "timeZone": "Etc/UTC", "jobTemplate": { "spec": { "template": { "spec": {
            "restartPolicy": "Never",
            "initContainers": [{ "name": "wait", "image": image }],
            "containers": [{ "name": "report", "image": image }, { "name": "proxy", "image": "envoy:1" }],
        } } } } },
    }))
}

fn image_of_nightly(world: &World) -> String {
    let object = world.cluster.object("cronjobs", "prod", "nightly").unwrap();
    let spec = &object["spec"]["jobTemplate"]["spec"]["template"]["spec"];
    spec["containers"][0]["image"].as_str().unwrap().to_owned()
}

/// A Job of the CronJob with its present image.
fn job(world: &World, name: &str, conditions: &Value) {
    let owner = world.cluster.object("cronjobs", "prod", "nightly").unwrap();
    let mut job = json!({
        "apiVersion": "batch/v1", "kind": "Job",
        "metadata": { "name": name, "namespace": "prod", "ownerReferences": [{
            "apiVersion": "batch/v1", "kind": "CronJob", "name": "nightly", "uid": owner["metadata"]["uid"], "controller": true,
        }] },
        "spec": owner["spec"]["jobTemplate"]["spec"],
        "status": { "conditions": conditions },
    });
    job["spec"]["suspend"] = json!(true);
    world.cluster.create(job);
}

#[tokio::test(start_paused = true)]
async fn the_specification_of_a_cron_job_proves_the_digest_and_its_latest_job_is_reported() {
    let world = World::new().await;
    nightly(&world, &world.first.reference.to_string());
    let target = |change: fn(Options) -> Options| {
        let workload = "cronjob/nightly".parse().unwrap();
        world.namespace().workload(workload, options(change)).container("report")
    };
    let second = world.image("second", Behaviour::default());
    let both = target(|options| options).also("wait");
    let (events, outcome) = deploy(&both, &second).await;
    let outcome = outcome.unwrap();
    assert_eq!((outcome.verdict(), outcome.changed), (Verdict::Deployed, true), "{outcome:?}");
    let observed: Vec<(&str, &str)> =
        outcome.proof.observations.iter().map(|o| (o.unit.as_str(), o.container.as_str())).collect();
    assert_eq!(observed, [("cronjob/nightly", "report"), ("cronjob/nightly", "wait")]);
    assert_eq!(outcome.detail, "schedule 0 3 * * * (Etc/UTC); no Job yet");
    let applied = events.iter().filter(|event| matches!(event, DeployEvent::Applied { .. })).count();
    assert_eq!((applied, image_of_nightly(&world)), (1, second.reference.to_string()));
    let again = deploy(&both, &second).await.1.unwrap();
    assert_eq!((again.verdict(), again.changed), (Verdict::Deployed, false));
    assert_eq!(both.watch().await.unwrap().verdict(), Verdict::Deployed);
    assert!(both.drift(&second).await.unwrap().is_none());
    assert!(!both.drift(&world.first).await.unwrap().is_none());

    // A Job in progress keeps its image.
    job(&world, "nightly-1", &json!([]));
    let third = world.image("third", Behaviour::default());
    let outcome = deploy(&both, &third).await.1.unwrap();
    let kept = format!("job/nightly-1 is in progress and keeps the earlier image {}", second.reference);
    assert!(outcome.detail.ends_with(&kept), "{}", outcome.detail);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let failed =
        json!([{ "type": "Failed", "status": "True", "reason": "BackoffLimitExceeded", "message": "no" }]);
    job(&world, "nightly-2", &failed);
    let status = both.status().await.unwrap();
    assert_eq!(
        status.state,
        "schedule 0 3 * * * (Etc/UTC); its latest Job, job/nightly-2, has failed (BackoffLimitExceeded: no)"
    );
    assert_eq!(status.revision.as_ref().unwrap().image, third.reference.to_string());

    // Rollback, without and with a revision; suspended.
    let suspend = json!({ "spec": { "suspend": true } });
    world.cluster.patch("kubectl-edit", "cronjobs", "prod", "nightly", &suspend);
    let previous = both.previous().await.unwrap();
    assert_eq!(previous.image, second.reference.to_string());
    let back = both.rollback().await.unwrap();
    assert_eq!((back.verdict(), back.changed), (Verdict::Deployed, true), "{back:?}");
    assert!(back.detail.contains("suspended: it creates no Jobs"), "{}", back.detail);
    assert_eq!(image_of_nightly(&world), second.reference.to_string());
    let id = both.current().await.unwrap().stable.id;
    assert_eq!(both.revision(&id).await.unwrap().image, second.reference.to_string());
    assert!(matches!(both.revision("1").await, Err(Error::NoRevision { .. })));
}

#[tokio::test(start_paused = true)]
async fn a_cron_job_of_another_field_manager_or_owner_is_refused() {
    let world = World::new().await;
    nightly(&world, &world.first.reference.to_string());
    let second = world.image("second", Behaviour::default());
    let workload = "cronjob/nightly".parse().unwrap();
    let modest = Options::new(Duration::from_secs(60)).unwrap().on_failure(OnFailure::Leave);
    let target = world.namespace().workload(workload, modest).container("report");
    let error = deploy(&target, &second).await.1.unwrap_err();
    let Error::Conflict { conflicts, .. } = &error else { panic!("{error}") };
    assert_eq!(conflicts[0].field, ".spec.jobTemplate.spec.template.spec.containers[name=\"report\"].image");
    assert_eq!(image_of_nightly(&world), world.first.reference.to_string());
}
