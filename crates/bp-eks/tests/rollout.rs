//! Rollouts on the sandbox in memory with a paused clock, including EKS API, tokens and watches.

mod common;

use std::time::Duration;

use bp_artifact::{
    Digest, ResolvedImage, Verdict,
    deploy::{Cause, DeployEvent, EvidenceKind},
    error::{Classified, ErrorClass},
};
use bp_eks::{ConnectError, Error, OnFailure, Options};
use bp_sandbox::{Behaviour, Effect, Fault};
use serde_json::json;

use common::{REGISTRY, World, chain, connector, crash, deploy};

#[tokio::test(start_paused = true)]
async fn deploys_verifies_every_pod_and_is_idempotent() {
    let world = World::new().await;
    let second = world.image("second", Behaviour::default());
    let (events, outcome) = deploy(&world.target(), &second).await;
    let outcome = outcome.unwrap();
    assert_eq!(outcome.verdict(), Verdict::Deployed, "{outcome:?}");
    assert_eq!(outcome.proof.observations.len(), 3);
    assert!(outcome.proof.observations.iter().all(|o| o.digest.as_ref() == Some(second.digest())));
    assert_eq!(outcome.revision.as_ref().unwrap().id, "2");
    assert_eq!(outcome.previous.as_ref().unwrap().image, world.first.reference.to_string());
    assert!(matches!(events.first(), Some(DeployEvent::Planned { changes: true, .. })));
    assert!(matches!(events.last(), Some(DeployEvent::Finished { .. })));
    // Watches without polling: one list and one watch per kind, besides reading the state, apply and verification.
    let ledger = world.sandbox.ledger();
    for (operation, times) in [
        ("get deployments", 1),
        // A dry run and the change: each conflicts first, and is then forced.
        ("patch deployments", 4),
        ("list deployments", 1),
        ("list replicasets", 2),
        ("list pods", 2),
        ("watch deployments", 1),
        ("watch replicasets", 1),
        ("watch pods", 1),
        ("watch events", 1),
    ] {
        assert_eq!(ledger.count_of(operation), times, "{operation}");
    }

    // The image field is owned now: no take-over is needed, and nothing is written.
    let target = world.target_with(|options| options);
    ledger.clear();
    let (_, again) = deploy(&target, &second).await;
    let again = again.unwrap();
    assert_eq!((again.verdict(), again.changed), (Verdict::Deployed, false));
    assert_eq!(ledger.count_of("patch deployments"), 0);
    let third = world.image("third", Behaviour::default());
    assert_eq!(deploy(&target, &third).await.1.unwrap().verdict(), Verdict::Deployed);
    assert_eq!(target.prove().await.unwrap().judge(&third), Verdict::Deployed);
}

#[tokio::test(start_paused = true)]
async fn rejects_an_image_field_of_another_manager() {
    let world = World::new().await;
    let second = world.image("second", Behaviour::default());
    let error = deploy(&world.target_with(|options| options), &second).await.1.unwrap_err();
    let Error::Conflict { conflicts, .. } = &error else { panic!("{error}") };
    assert!(conflicts[0].manager == "kubectl-client-side-apply");
    assert_eq!(conflicts[0].field, ".spec.template.spec.containers[name=\"web\"].image");
    assert_eq!(error.class(), ErrorClass::Refused);
    assert_eq!(world.running_image(), world.first.reference.to_string());
}

#[tokio::test(start_paused = true)]
async fn reports_each_failure_with_its_cause_and_rolls_back() {
    let missing = |world: &World| {
        let digest = Digest::sha256("nowhere");
        ResolvedImage::from(world.first.reference.repository().at(digest))
    };
    for (name, cause, exit) in [
        ("missing", Cause::ImageNotFound, None),
        ("denied", Cause::ImagePullDenied, None),
        ("crash", Cause::ContainerExited, Some(3)),
        ("memory", Cause::OutOfMemory, Some(137)),
        ("probe", Cause::HealthCheckFailed, None),
    ] {
        let world = World::new().await;
        let image = match name {
            "missing" => missing(&world),
            "crash" => world.image(name, crash()),
            "memory" => world.image(name, Behaviour::OutOfMemory(Duration::from_secs(1))),
            "probe" => {
                world.image(name, Behaviour::Unhealthy("HTTP probe failed with statuscode: 500".into()))
            }
            _ => world.image(name, Behaviour::default()),
        };
        if name == "denied" {
            world.cluster.deny_pulls(REGISTRY);
        }
        let start = tokio::time::Instant::now();
        let (events, outcome) = deploy(&world.target(), &image).await;
        let outcome = outcome.unwrap();
        let failure = outcome.failure.as_ref().unwrap_or_else(|| panic!("{name}: {outcome:?}"));
        assert_eq!((failure.cause, failure.exit_code), (cause, exit), "{name}: {failure}");
        assert_eq!(failure.container.as_deref(), Some("web"), "{name}");
        assert!(!failure.evidence.is_empty(), "{name}");
        let command = failure.inspect.as_deref().unwrap();
        let expected =
            if name == "crash" { "kubectl -n prod logs web-" } else { "kubectl -n prod describe pod web-" };
        assert!(command.starts_with(expected), "{name}: {command}");
        let failing = events.iter().position(|e| matches!(e, DeployEvent::Failing { .. })).unwrap();
        let back = events.iter().position(|e| matches!(e, DeployEvent::RollingBack { .. })).unwrap();
        assert!(failing < back, "{name}: the failure is reported before the rollback");
        // A pull that fails permanently does not stop the old pods.
        assert_eq!(outcome.verdict(), Verdict::RolledBack, "{name}: {}", outcome.detail);
        assert_eq!(world.running_image(), world.first.reference.to_string(), "{name}");
        assert_eq!(outcome.revision.as_ref().unwrap().id, "3", "{name}: an undo creates a new revision");
        if name == "crash" {
            let log = failure.evidence.iter().find(|e| e.kind == EvidenceKind::Log).unwrap();
            assert!(log.message.contains("no DATABASE_URL"), "{}", log.message);
        }
        if name == "probe" {
            assert!(failure.message.contains("statuscode: 500"), "{failure}");
        } else {
            assert!(start.elapsed() < Duration::from_secs(60), "{name}: detected early, not by a deadline");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn leaves_the_failed_revision_without_rollback() {
    let world = World::new().await;
    let image = world.image("crash", crash());
    let target = world.target_with(|options| options.take_over(true).on_failure(OnFailure::Leave));
    let outcome = deploy(&target, &image).await.1.unwrap();
    assert_eq!(outcome.verdict(), Verdict::FailedInPlace);
    assert_eq!(world.running_image(), image.reference.to_string());
    // The rollback revision is known although the failed revision is the current one.
    let current = target.current().await.unwrap();
    assert_eq!(current.stable.image, world.first.reference.to_string());
    let restored = target.restore(&current.stable).await.unwrap();
    assert_eq!(restored.verdict(), Verdict::Deployed, "{restored:?}");
    // The restored revision has a new number; restoring its old number changes nothing.
    let again = target.restore(&current.stable).await.unwrap();
    assert_eq!((again.verdict(), again.changed), (Verdict::Deployed, false));
}

#[tokio::test(start_paused = true)]
async fn detects_superseding_and_deletion_but_tolerates_scaling() {
    let world = World::new().await;
    let slow = world.image("slow", Behaviour::Healthy(Duration::from_secs(40)));
    let other = json!({ "spec": { "template": { "spec": { "containers": [{ "name": "web", "image": "r.example.com/x:1" }] } } } });
    let rollout = world.target().deploy(&slow);
    tokio::time::sleep(Duration::from_secs(5)).await;
    world.cluster.patch("hpa", "deployments", "prod", "web", &json!({ "spec": { "replicas": 4 } }));
    tokio::time::sleep(Duration::from_secs(5)).await;
    world.cluster.patch("kubectl-edit", "deployments", "prod", "web", &other);
    let outcome = rollout.await.unwrap();
    assert_eq!(outcome.verdict(), Verdict::Superseded);
    assert!(outcome.detail.contains("r.example.com/x:1"), "{}", outcome.detail);
    assert_eq!(world.running_image(), "r.example.com/x:1", "the foreign change is kept");

    let world = World::new().await;
    let rollout = world.target().deploy(&world.image("slow", Behaviour::Healthy(Duration::from_secs(40))));
    tokio::time::sleep(Duration::from_secs(5)).await;
    world.cluster.delete("deployments", "prod", "web");
    assert_eq!(rollout.await.unwrap().verdict(), Verdict::Gone);
}

#[tokio::test(start_paused = true)]
async fn slow_rollout_exceeds_the_deadline_and_continues() {
    let world = World::new().await;
    let slow = world.image("slow", Behaviour::Healthy(Duration::from_secs(50)));
    let options = Options::new(Duration::from_secs(20)).unwrap().take_over(true);
    let target = world.of("web", "web", options);
    let outcome = deploy(&target, &slow).await.1.unwrap();
    assert_eq!(outcome.verdict(), Verdict::DeadlineExceeded, "{outcome:?}");
    assert_eq!(world.running_image(), slow.reference.to_string());
    // A rerun adopts it.
    let (events, outcome) = deploy(&world.target(), &slow).await;
    assert_eq!(outcome.unwrap().verdict(), Verdict::Deployed);
    assert!(events.iter().any(|e| matches!(e, DeployEvent::Applied { adopted: true, .. })));
}

#[tokio::test(start_paused = true)]
async fn resumes_after_a_kill_at_any_moment() {
    for moment in [0, 60, 500, 2000, 5000, 20_000, 60_000] {
        let world = World::new().await;
        let second = world.image("second", Behaviour::Healthy(Duration::from_secs(5)));
        let work = world.target().deploy(&second);
        tokio::time::sleep(Duration::from_millis(moment)).await;
        drop(work);
        let outcome = deploy(&world.target(), &second).await.1.unwrap();
        assert_eq!(outcome.verdict(), Verdict::Deployed, "after {moment} ms");
        assert_eq!(world.cluster.objects("replicasets", "prod").len(), 2, "nothing is duplicated");

        // Killed while it fails: the rollback revision is still the first image.
        let world = World::new().await;
        let broken = world.image("crash", crash());
        let work = world.target().deploy(&broken);
        tokio::time::sleep(Duration::from_millis(moment)).await;
        drop(work);
        let outcome = deploy(&world.target(), &broken).await.1.unwrap();
        assert_eq!(outcome.verdict(), Verdict::RolledBack, "after {moment} ms: {outcome:?}");
        assert_eq!(world.running_image(), world.first.reference.to_string());
    }
}

#[tokio::test(start_paused = true)]
async fn invalid_input_changes_nothing_and_gives_advice() {
    let world = World::new().await;
    let second = world.image("second", Behaviour::default());
    let options = || Options::new(Duration::from_secs(60)).unwrap();
    let target = |name: &str, container: &str| world.of(name, container, options());
    let error = deploy(&target("web", "wbe"), &second).await.1.unwrap_err();
    assert_eq!(error.to_string(), "deployment/web has no container \"wbe\"; it has web, proxy");
    let error = deploy(&target("api", "web"), &second).await.1.unwrap_err();
    assert!(matches!(error, Error::NotFound { .. }), "{error}");

    world.cluster.patch("kubectl", "deployments", "prod", "web", &json!({ "spec": { "paused": true } }));
    let error = deploy(&target("web", "web"), &second).await.1.unwrap_err();
    assert!(matches!(error, Error::Paused { .. }), "{error}");
    world.cluster.patch("kubectl", "deployments", "prod", "web", &json!({ "spec": { "paused": false } }));

    world.cluster.refuse("deployments", "policy.example.com", "images must be signed");
    let error = deploy(&world.target(), &second).await.1.unwrap_err();
    assert!(chain(&error).contains("images must be signed"), "{error}");
    assert_eq!(error.class(), ErrorClass::Refused);
    assert_eq!(world.running_image(), world.first.reference.to_string());
}

#[tokio::test(start_paused = true)]
async fn reports_missing_permissions() {
    let world = World::new().await;
    let second = world.image("second", Behaviour::default());
    world.cluster.deny("patch", "deployments");
    let error = deploy(&world.target(), &second).await.1.unwrap_err();
    assert!(error.to_string().contains("the verb \"patch\" on deployments.apps"), "{error}");
    world.cluster.allow("patch", "deployments");
    // Events are optional.
    world.cluster.deny("list", "events");
    assert_eq!(deploy(&world.target(), &second).await.1.unwrap().verdict(), Verdict::Deployed);

    let unknown = connector(&world.sandbox, "shopp");
    let error = unknown.connect_with(world.sandbox.transport()).await.err().unwrap();
    assert!(matches!(error, ConnectError::ClusterNotFound { .. }), "{error}");
    world.sandbox.aws().deny("eks:DescribeCluster");
    let denied = connector(&world.sandbox, "shop");
    let error = denied.connect_with(world.sandbox.transport()).await.err().unwrap();
    assert!(matches!(error, ConnectError::AccessDenied { request_id: Some(_), .. }), "{error:?}");
}

#[tokio::test(start_paused = true)]
async fn signs_a_rejected_token_again_and_rejects_foreign_credentials() {
    let world = World::new().await;
    let unauthorized = Effect::Answer { status: 401, headers: Vec::new(), body: "{}".to_owned() };
    world.sandbox.faults().inject(Fault::new(unauthorized).on("get deployments"));
    assert!(world.target().current().await.is_ok());
    assert_eq!(world.sandbox.ledger().count_of("get deployments"), 2);

    world.sandbox.faults().inject(Fault::status(503).on("get deployments").times(2));
    assert!(world.target().current().await.is_ok(), "reads are retried");

    // After the first token has expired.
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert!(world.target().current().await.is_ok());

    world.sandbox.aws().access_key("AKIASANDBOX", "999999999999");
    let error = world.target().current().await.unwrap_err();
    assert!(matches!(error, Error::Unauthorized { .. }), "{error}");
}

#[tokio::test(start_paused = true)]
async fn resumes_an_interrupted_or_expired_watch() {
    let world = World::new().await;
    let second = world.image("second", Behaviour::Healthy(Duration::from_secs(30)));
    for _ in 0..3 {
        world.sandbox.faults().inject(Fault::new(Effect::CutBody(2000)).on("watch pods"));
    }
    world.sandbox.faults().inject(Fault::status(500).on("watch replicasets"));
    let work = world.target().deploy(&second);
    tokio::time::sleep(Duration::from_secs(10)).await;
    world.cluster.compact();
    assert_eq!(work.await.unwrap().verdict(), Verdict::Deployed);
}

#[tokio::test(start_paused = true)]
async fn zero_replicas_are_unproven_and_other_containers_keep_their_image() {
    let world = World::with(|deployment| deployment["spec"]["replicas"] = json!(0)).await;
    let second = world.image("second", Behaviour::default());
    let outcome = deploy(&world.target(), &second).await.1.unwrap();
    assert_eq!(outcome.verdict(), Verdict::Unproven);
    assert!(outcome.detail.starts_with("0 replicas"), "{}", outcome.detail);
    let idle = world.target_with(|options| options.allow_no_replicas(true));
    let again = deploy(&idle, &second).await.1.unwrap();
    assert_eq!((again.verdict(), again.changed), (Verdict::Deployed, false), "{again:?}");
    assert!(again.detail.starts_with("0 replicas"), "{}", again.detail);

    // A target for another container must not remove the first container's image.
    let third = world.image("third", Behaviour::default());
    let options = Options::new(Duration::from_secs(60)).unwrap().take_over(true);
    let proxy = world.of("web", "proxy", options);
    deploy(&proxy, &third).await.1.unwrap();
    assert_eq!(world.running_image(), second.reference.to_string());
}

#[tokio::test(start_paused = true)]
async fn unreachable_cluster_is_an_error_before_the_change_and_retried_after_it() {
    let world = World::new().await;
    let second = world.image("second", Behaviour::Healthy(Duration::from_secs(5)));
    let host = world.cluster.host().to_owned();
    world.sandbox.faults().inject(Fault::new(Effect::Reset).at(&host).times(u32::MAX));
    let error = deploy(&world.target(), &second).await.1.unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }), "{error}");
    assert!(error.is_retryable());
    world.sandbox.faults().clear();

    // Each watch breaks with its next event, and none can be restarted for two minutes.
    for operation in ["watch deployments", "watch replicasets", "watch pods"] {
        world.sandbox.faults().inject(Fault::new(Effect::CutBody(100)).on(operation));
    }
    let work = world.target().deploy(&second);
    tokio::time::sleep(Duration::from_millis(20)).await;
    world.sandbox.faults().inject(Fault::status(500).at(&host).times(u32::MAX));
    tokio::time::sleep(Duration::from_secs(120)).await;
    let refused = world.sandbox.ledger().count(|entry| entry.status == Some(500));
    assert!((10..200).contains(&refused), "{refused}: retries with backoff");
    world.sandbox.faults().clear();
    assert_eq!(work.await.unwrap().verdict(), Verdict::Deployed);
}

#[tokio::test(start_paused = true)]
async fn manual_rollback_alternates_between_two_revisions() {
    let world = World::new().await;
    let second = world.image("second", Behaviour::default());
    let target = world.target();
    assert_eq!(deploy(&target, &second).await.1.unwrap().verdict(), Verdict::Deployed);
    let back = target.rollback().await.unwrap();
    assert_eq!((back.verdict(), back.changed), (Verdict::Deployed, true), "{back:?}");
    assert_eq!(world.running_image(), world.first.reference.to_string());
    target.rollback().await.unwrap();
    assert_eq!(world.running_image(), second.reference.to_string());
}

#[tokio::test(start_paused = true)]
async fn rollback_restores_the_whole_template_but_not_the_replicas() {
    let world = World::new().await;
    // Another client sets a broken setting; before that rollout ends, an image is deployed.
    let setting = json!({ "spec": { "template": { "spec": { "containers": [{
        "name": "web", "env": [{ "name": "URL", "valueFrom": { "secretKeyRef": { "name": "db", "key": "url" } } }],
    }] } } } });
    world.cluster.patch("kubectl-edit", "deployments", "prod", "web", &setting);
    tokio::time::sleep(Duration::from_secs(10)).await;
    world.cluster.patch("hpa", "deployments", "prod", "web", &json!({ "spec": { "replicas": 4 } }));
    let second = world.image("second", Behaviour::default());
    let outcome = deploy(&world.target(), &second).await.1.unwrap();
    assert_eq!(outcome.verdict(), Verdict::RolledBack, "{outcome:?}");
    assert_eq!(outcome.failure.unwrap().cause, Cause::SecretMissing);
    let deployment = world.cluster.object("deployments", "prod", "web").unwrap();
    assert!(
        deployment["spec"]["template"]["spec"]["containers"][0]["env"].is_null(),
        "the setting is removed"
    );
    assert_eq!(deployment["spec"]["replicas"], 4);

    // The image was restored with the template; its field is still owned.
    let third = world.image("third", Behaviour::default());
    let target = world.target_with(|options| options);
    assert_eq!(deploy(&target, &third).await.1.unwrap().verdict(), Verdict::Deployed);
}

#[tokio::test(start_paused = true)]
async fn accepts_the_longest_possible_deadline() {
    let world = World::new().await;
    let options = Options::new(Duration::MAX).unwrap().take_over(true);
    let target = world.of("web", "web", options);
    let second = world.image("second", Behaviour::default());
    let outcome = deploy(&target, &second).await.1.unwrap();
    assert_eq!(outcome.verdict(), Verdict::Deployed);
    let back = target.restore(outcome.previous.as_ref().unwrap()).await.unwrap();
    assert_eq!(back.verdict(), Verdict::Deployed);
    // A failed rollout is rolled back within its own deadline.
    let outcome = deploy(&target, &world.image("crash", crash())).await.1.unwrap();
    assert_eq!(outcome.verdict(), Verdict::RolledBack);
}
