//! What somebody else completes while the rollout waits, and differences without a change: late Secrets, Jobs with a time to live,
//! rewritten references, owned workloads.

mod common;

use std::{sync::Arc, time::Duration};

use bp_artifact::{
    DigestRef, ImageRef, ResolvedImage, Verdict,
    deploy::{Cause, DeployEvent},
    error::{Classified, ErrorClass},
    resolve::{Resolve, ResolveError},
};
use bp_eks::{Error, OnFailure, Options};
use bp_sandbox::{Behaviour, Effect, Fault};
use futures_core::future::BoxFuture;
use serde_json::json;
use tokio::time::{Instant, sleep};

use common::{World, deploy};

/// A Deployment whose next revision needs the Secret `db`.
async fn with_secret() -> World {
    let world = World::new().await;
    let env = json!([{ "secretRef": { "name": "db" } }]);
    let template = json!({ "spec": { "containers": [{ "name": "web", "envFrom": env }] } });
    world.cluster.patch(
        "kubectl-edit",
        "deployments",
        "prod",
        "web",
        &json!({ "spec": { "template": template } }),
    );
    world
}

#[tokio::test(start_paused = true)]
async fn waits_for_a_secret_that_is_created_later() {
    let world = with_secret().await;
    let mut work = world.target().deploy(&world.image("second", Behaviour::default()));
    sleep(Duration::from_secs(30)).await;
    world.cluster.create(json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "db", "namespace": "prod" }, "data": {},
    }));
    let mut notices = Vec::new();
    while let Some(event) = work.next_event().await {
        if let DeployEvent::Notice { message, .. } = event {
            notices.push(message);
        }
    }
    let outcome = work.await.unwrap();
    assert_eq!(outcome.verdict(), Verdict::Deployed, "{outcome:?}");
    let told =
        notices.iter().filter(|notice| notice.contains("the kubelet is retrying: a secret is missing"));
    assert_eq!(told.count(), 1, "{notices:?}");
}

#[tokio::test(start_paused = true)]
async fn fails_after_the_grace_period_without_the_secret() {
    for grace in [10, 90] {
        let world = with_secret().await;
        let options = |options: Options| options.take_over(true).grace(Duration::from_secs(grace));
        let begun = Instant::now();
        let target = world.target_with(|o| options(o).on_failure(OnFailure::Leave));
        let outcome = deploy(&target, &world.image("second", Behaviour::default())).await.1.unwrap();
        let failure = outcome.failure.as_ref().unwrap();
        assert_eq!(
            (outcome.verdict(), failure.cause),
            (Verdict::FailedInPlace, Cause::SecretMissing),
            "{failure}"
        );
        let took = begun.elapsed().as_secs();
        assert!((grace..grace + 30).contains(&took), "{grace}: {took}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_cause_that_is_briefly_absent_does_not_restart_the_grace_period() {
    let world = with_secret().await;
    let target =
        world.target_with(|o| o.take_over(true).grace(Duration::from_secs(60)).on_failure(OnFailure::Leave));
    let second = world.image("second", Behaviour::default());
    let begun = Instant::now();
    let work = target.deploy(&second);
    // Its successor is being created for some seconds, without a symptom.
    for _ in 0..2 {
        sleep(Duration::from_secs(25)).await;
        let pods = world.cluster.objects("pods", "prod");
        let is_new = |pod: &&serde_json::Value| {
            pod["spec"]["containers"][0]["image"] == second.reference.to_string().as_str()
        };
        for pod in pods.iter().filter(is_new) {
            world.cluster.delete("pods", "prod", pod["metadata"]["name"].as_str().unwrap());
        }
    }
    let outcome = work.await.unwrap();
    assert_eq!(outcome.failure.as_ref().unwrap().cause, Cause::SecretMissing, "{outcome:?}");
    let took = begun.elapsed().as_secs();
    assert!((60..80).contains(&took), "{took}");
}

/// A registry that has every image, or none.
struct Registry(bool);

impl Resolve for Registry {
    fn resolve<'a>(&'a self, image: &'a ImageRef) -> BoxFuture<'a, Result<ResolvedImage, ResolveError>> {
        Box::pin(async move {
            let digest = bp_artifact::Digest::sha256("x");
            let found = ResolvedImage::from(image.repository().at(digest));
            if self.0 {
                Ok(found)
            } else {
                Err(ResolveError::ImageNotFound { image: image.clone(), request_id: None })
            }
        })
    }
}

#[tokio::test(start_paused = true)]
async fn image_that_its_registry_has_is_waited_for() {
    // The progress deadline is 120 s.
    for (has, expected) in [(true, 90..130), (false, 0..30)] {
        let world = World::new().await;
        let missing = world.first.reference.repository().at(bp_artifact::Digest::sha256("late"));
        let target = world.target_with(|options| options.take_over(true).registry(Arc::new(Registry(has))));
        let begun = Instant::now();
        let outcome = deploy(&target, &ResolvedImage::from(missing)).await.1.unwrap();
        let failure = outcome.failure.as_ref().unwrap();
        assert_eq!(
            (outcome.verdict(), failure.cause),
            (Verdict::RolledBack, Cause::ImageNotFound),
            "{failure}"
        );
        assert!(expected.contains(&begun.elapsed().as_secs()), "{has}: {:?}", begun.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn job_with_a_time_to_live_runs_once_per_digest() {
    let world = World::new().await;
    world.cluster.create(json!({
        "apiVersion": "batch/v1", "kind": "Job", "metadata": { "name": "migrate", "namespace": "prod" },
        "spec": { "ttlSecondsAfterFinished": 5, "template": { "spec": {
            "restartPolicy": "Never",
            "containers": [{ "name": "migrate", "image": world.first.reference.to_string() }],
        } } },
    }));
    let done = || Behaviour::Exits { after: Duration::from_secs(3), code: 0, log: vec![] };
    let second = world.image("second", done());
    let target = world
        .namespace()
        .workload("job/migrate".parse().unwrap(), Options::new(Duration::from_secs(120)).unwrap());
    let outcome = deploy(&target, &second).await.1.unwrap();
    assert_eq!((outcome.verdict(), outcome.changed), (Verdict::Deployed, true), "{outcome:?}");
    let name = outcome.revision.unwrap().id;
    let job = world.cluster.object("jobs", "prod", &name).unwrap();
    assert!(job["spec"]["ttlSecondsAfterFinished"].is_null(), "the Job is the record that the image has run");

    // The configured Job ends, and its time to live passes.
    world.cluster.delete("jobs", "prod", "migrate");
    let again = deploy(&target, &second).await.1.unwrap();
    assert_eq!((again.verdict(), again.changed), (Verdict::Deployed, false), "{again:?}");
    let third = deploy(&target, &world.image("third", done())).await.1.unwrap();
    assert_eq!((third.verdict(), third.changed), (Verdict::Deployed, true), "{third:?}");
    assert_eq!(world.cluster.objects("jobs", "prod").len(), 2);
}

#[tokio::test(start_paused = true)]
async fn owned_workload_is_refused_before_any_change_unless_allowed() {
    let world = World::with(|deployment| {
        deployment["metadata"]["ownerReferences"] = json!([{
            "apiVersion": "kafka.strimzi.io/v1", "kind": "Kafka", "name": "events", "uid": "1", "controller": true,
        }]);
    })
    .await;
    let second = world.image("second", Behaviour::default());
    let error = deploy(&world.target(), &second).await.1.unwrap_err();
    assert!(matches!(&error, Error::Owned { owner, .. } if owner == "Kafka/events"), "{error}");
    assert_eq!(
        (error.class(), world.sandbox.ledger().count_of("patch deployments")),
        (ErrorClass::Refused, 0)
    );
    let target = world.target_with(|options| options.take_over(true).allow_owner(true));
    assert_eq!(deploy(&target, &second).await.1.unwrap().verdict(), Verdict::Deployed);
}

#[tokio::test(start_paused = true)]
async fn reference_that_a_webhook_rewrites_is_neither_a_change_nor_drift() {
    let world = World::new().await;
    let mirrored: DigestRef =
        format!("mirror.example.com/cache/web@{}", world.first.digest()).parse().unwrap();
    let image = ResolvedImage { reference: mirrored, ..world.first.clone() };
    let drift = world.target().drift(&image).await.unwrap();
    assert!(drift.definition.is_empty(), "{drift:?}");

    // The webhook gives every change the registry that is in place.
    let live = world.cluster.object("deployments", "prod", "web").unwrap();
    let answer = Effect::Answer { status: 200, headers: Vec::new(), body: live.to_string() };
    world.sandbox.faults().inject(Fault::new(answer).on("patch deployments").times(u32::MAX));
    let outcome = deploy(&world.target(), &image).await.1.unwrap();
    assert_eq!((outcome.verdict(), outcome.changed), (Verdict::Deployed, false), "{outcome:?}");
    world.sandbox.faults().clear();

    // Without one, another registry is a change.
    let target = world.target_with(|options| options.take_over(true).on_failure(OnFailure::Leave));
    let outcome = deploy(&target, &image).await.1.unwrap();
    assert_eq!(outcome.verdict(), Verdict::FailedInPlace, "the mirror does not exist: {outcome:?}");
    assert!(world.running_image().starts_with("mirror.example.com/"), "{}", world.running_image());
}

#[tokio::test(start_paused = true)]
async fn several_containers_get_the_image_in_one_rollout() {
    let world = World::new().await;
    let second = world.image("second", Behaviour::default());
    let target = world.target().also("proxy");
    let outcome = deploy(&target, &second).await.1.unwrap();
    assert_eq!((outcome.verdict(), outcome.proof.observations.len()), (Verdict::Deployed, 6), "{outcome:?}");
    assert_eq!(outcome.revision.unwrap().id, "2", "one rollout");
    let live = world.cluster.object("deployments", "prod", "web").unwrap();
    assert_eq!(live["spec"]["template"]["spec"]["containers"][1]["image"], second.reference.to_string());
    let again = deploy(&target, &second).await.1.unwrap();
    assert_eq!((again.verdict(), again.changed), (Verdict::Deployed, false), "{again:?}");
    // A target for one of them takes only its own field.
    let third = world.image("third", Behaviour::default());
    assert_eq!(deploy(&world.target(), &third).await.1.unwrap().verdict(), Verdict::Deployed);
    let live = world.cluster.object("deployments", "prod", "web").unwrap();
    assert_eq!(live["spec"]["template"]["spec"]["containers"][1]["image"], second.reference.to_string());
}
