//! Transient and permanent refusals of the API server: of pods, of the change, and of the undo.

mod common;

use std::time::Duration;

use bp_artifact::{
    Outcome, ResolvedImage, Verdict,
    deploy::{Cause, DeployEvent},
    error::{Classified, ErrorClass},
};
use bp_eks::EksTarget;
use bp_sandbox::{Behaviour, Effect, Fault};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use common::{World, chain, crash, deploy};

const WEBHOOK: &str = "Internal error occurred: failed calling webhook \"mpod.elbv2.k8s.aws\": failed to call webhook: \
                       Post \"https://aws-load-balancer-webhook-service.kube-system.svc:443/mutate-v1-pod?timeout=10s\": no \
                       endpoints available for service \"aws-load-balancer-webhook-service\"";

/// Refusals that the controllers retry, with the status code of the API server.
const TRANSIENT: [(u16, &str); 9] = [
    (500, WEBHOOK),
    (
        500,
        "Internal error occurred: failed calling webhook \"policy\": failed to call webhook: Post \"https://10.0.0.1:443/\": \
         tls: failed to verify certificate: x509: certificate signed by unknown authority",
    ),
    (504, "Timeout: request did not complete within requested timeout - context deadline exceeded"),
    (500, "etcdserver: leader changed"),
    (500, "etcdserver: request timed out"),
    (429, "the server has received too many requests and has asked us to try again later (post pods)"),
    (
        409,
        "Operation cannot be fulfilled on resourcequotas \"pods\": the object has been modified; please apply your changes \
           to the latest version and try again",
    ),
    (403, "pods \"web-x\" is forbidden: not yet ready to handle request"),
    (403, "pods \"web-x\" is forbidden: no PriorityClass with name high was found"),
];

async fn outcome(target: &EksTarget, image: &ResolvedImage) -> Outcome {
    deploy(target, image).await.1.unwrap()
}

fn status(code: u16, message: &str) -> Effect {
    let reason = if code == 409 { "Conflict" } else { "InternalError" };
    let body = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "code": code, "reason": reason, "message": message,
    });
    Effect::Answer { status: code, headers: Vec::new(), body: body.to_string() }
}

fn quota(world: &World, pods: u32) {
    world.cluster.create(json!({
        "apiVersion": "v1", "kind": "ResourceQuota",
        "metadata": { "name": "pods", "namespace": "prod" }, "spec": { "hard": { "pods": pods } },
    }));
}

#[tokio::test(start_paused = true)]
async fn waits_while_pods_are_refused_transiently() {
    for (code, message) in TRANSIENT {
        let world = World::new().await;
        let second = world.image("second", Behaviour::default());
        world.cluster.refuse_pods(code, message);
        let mut work = world.target().deploy(&second);
        sleep(Duration::from_secs(30)).await;
        world.cluster.admit_pods();
        let mut reasons = 0;
        while let Some(event) = work.next_event().await {
            match event {
                DeployEvent::Notice { message, .. } => reasons += u32::from(message.contains("refused")),
                DeployEvent::Failing { failure, .. } => panic!("{failure}"),
                _ => {}
            }
        }
        let outcome = work.await.unwrap();
        assert_eq!(outcome.verdict(), Verdict::Deployed, "{message}: {outcome:?}");
        assert_eq!(reasons, 1, "{message}: the reason is reported once");
    }
}

#[tokio::test(start_paused = true)]
async fn refused_pods_fail_after_the_grace_period_and_the_undo_waits() {
    let world = World::with(|deployment| {
        deployment["spec"]["strategy"] = json!({ "rollingUpdate": { "maxSurge": 1, "maxUnavailable": 2 } });
    })
    .await;
    let second = world.image("second", Behaviour::default());
    world.cluster.refuse_pods(500, WEBHOOK);
    let begun = Instant::now();
    let mut work = world.target().deploy(&second);
    loop {
        let event = work.next_event().await.expect("it fails while the pods are refused");
        if let DeployEvent::Failing { failure, .. } = event {
            assert_eq!(failure.cause, Cause::AdmissionRefused);
            assert!(failure.message.contains("mpod.elbv2.k8s.aws"), "{failure}");
            break;
        }
    }
    assert!(begun.elapsed() >= Duration::from_secs(30), "{:?}: too early", begun.elapsed());
    sleep(Duration::from_secs(20)).await;
    world.cluster.admit_pods();
    let outcome = work.await.unwrap();
    assert_eq!(outcome.verdict(), Verdict::RolledBack, "{outcome:?}");
}

#[tokio::test(start_paused = true)]
async fn undo_with_refused_pods_exceeds_the_deadline_without_failing() {
    let world = World::with(|deployment| {
        deployment["spec"]["strategy"] = json!({ "rollingUpdate": { "maxSurge": 1, "maxUnavailable": 2 } });
    })
    .await;
    world.cluster.refuse_pods(500, WEBHOOK);
    let outcome = outcome(&world.target(), &world.image("second", Behaviour::default())).await;
    assert_eq!(outcome.verdict(), Verdict::DeadlineExceeded, "{outcome:?}");
    assert!(outcome.failure.is_some() && outcome.detail.contains("mpod.elbv2.k8s.aws"), "{outcome:?}");
    assert_eq!(world.running_image(), world.first.reference.to_string(), "the previous template is in place");
}

#[tokio::test(start_paused = true)]
async fn waits_for_a_quota_that_the_rollout_frees() {
    let world = World::with(|deployment| deployment["spec"]["replicas"] = json!(4)).await;
    quota(&world, 4);
    let second = world.image("second", Behaviour::Healthy(Duration::from_secs(20)));
    let outcome = outcome(&world.target(), &second).await;
    assert_eq!(outcome.verdict(), Verdict::Deployed, "{outcome:?}");
}

#[tokio::test(start_paused = true)]
async fn waits_for_a_freed_quota_and_a_late_service_account() {
    let world = World::new().await;
    quota(&world, 3);
    let work = world.target().deploy(&world.image("second", Behaviour::default()));
    sleep(Duration::from_secs(3)).await;
    world.cluster.delete("resourcequotas", "prod", "pods");
    let outcome = work.await.unwrap();
    assert_eq!(outcome.verdict(), Verdict::Deployed, "{outcome:?}");

    let account = json!({ "spec": { "template": { "spec": { "serviceAccountName": "web" } } } });
    let world = World::new().await;
    world.cluster.patch("kubectl-edit", "deployments", "prod", "web", &account);
    let work = world.target().deploy(&world.image("second", Behaviour::default()));
    sleep(Duration::from_secs(2)).await;
    world.cluster.create(json!({
        "apiVersion": "v1", "kind": "ServiceAccount", "metadata": { "name": "web", "namespace": "prod" },
    }));
    let outcome = work.await.unwrap();
    assert_eq!(outcome.verdict(), Verdict::Deployed, "{outcome:?}");
}

#[tokio::test(start_paused = true)]
async fn fails_immediately_on_permanent_refusals() {
    for (code, message) in [
        (
            403,
            "pods \"web-x\" is forbidden: violates PodSecurity \"restricted:latest\": timeout is not an issue",
        ),
        (
            400,
            "admission webhook \"validate.kyverno.svc-fail\" denied the request: context deadline exceeded is no reason",
        ),
        (
            403,
            "pods \"web-x\" is forbidden: ValidatingAdmissionPolicy 'signed' with binding 'all' denied request: no",
        ),
        (422, "Pod \"web-x\" is invalid: spec.containers[0].resources: Invalid value"),
        (
            403,
            "pods \"web-x\" is forbidden: unable to create new content in namespace prod because it is being terminated",
        ),
    ] {
        let world = World::new().await;
        world.cluster.refuse_pods(code, message);
        let begun = Instant::now();
        let outcome = outcome(&world.target(), &world.image("second", Behaviour::default())).await;
        assert_eq!(outcome.failure.as_ref().map(|f| f.cause), Some(Cause::AdmissionRefused), "{message}");
        assert!(begun.elapsed() < Duration::from_secs(5), "{message}: {:?}", begun.elapsed());
        assert_eq!(outcome.verdict(), Verdict::RolledBack, "{message}: {outcome:?}");
    }
}

/// The events of a StatefulSet are kept for an hour; a pod created after a refusal shows that it no longer applies.
#[tokio::test(start_paused = true)]
async fn ignores_old_refusal_events_of_a_stateful_set() {
    let world = World::new().await;
    world.cluster.create(json!({
        "apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": { "name": "db", "namespace": "prod" },
        "spec": {
            "replicas": 3, "serviceName": "db", "selector": { "matchLabels": { "app": "db" } },
            "template": { "metadata": { "labels": { "app": "db" } }, "spec": { "containers": [
                { "name": "db", "image": world.first.reference.to_string() },
            ] } },
        },
    }));
    sleep(Duration::from_secs(60)).await;
    let options = bp_eks::Options::new(Duration::from_secs(900)).unwrap().take_over(true);
    let workload = "statefulset/db".parse().unwrap();
    let target = world.namespace().workload(workload, options).container("db");
    let second = world.image("second", Behaviour::Healthy(Duration::from_secs(100)));
    world.cluster.refuse_pods(500, WEBHOOK);
    let work = target.deploy(&second);
    sleep(Duration::from_secs(15)).await;
    world.cluster.admit_pods();
    let outcome = work.await.unwrap();
    assert_eq!(outcome.verdict(), Verdict::Deployed, "{outcome:?}");
}

#[tokio::test(start_paused = true)]
async fn retries_the_change_while_it_is_refused_transiently() {
    for (code, message) in TRANSIENT.into_iter().filter(|(code, _)| *code != 403) {
        let world = World::new().await;
        let second = world.image("second", Behaviour::default());
        world.sandbox.faults().inject(Fault::new(status(code, message)).on("patch deployments").times(12));
        let outcome = outcome(&world.target(), &second).await;
        assert_eq!(outcome.verdict(), Verdict::Deployed, "{message}: {outcome:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn change_fails_after_the_grace_period_with_the_webhook_in_the_error() {
    let world = World::new().await;
    let second = world.image("second", Behaviour::default());
    world.sandbox.faults().inject(Fault::new(status(500, WEBHOOK)).on("patch deployments").times(u32::MAX));
    let begun = Instant::now();
    let error = deploy(&world.target(), &second).await.1.unwrap_err();
    assert!(error.to_string().contains("webhook \"mpod.elbv2.k8s.aws\""), "{error}");
    assert!(chain(&error).contains("no endpoints available"), "{}", chain(&error));
    assert_eq!(error.class(), ErrorClass::Unavailable);
    assert!((10..200).contains(&begun.elapsed().as_secs()), "{:?}", begun.elapsed());
    assert_eq!(world.running_image(), world.first.reference.to_string());
    let patches = world.sandbox.ledger().count_of("patch deployments");
    assert!((5..100).contains(&patches), "{patches}: retries with backoff");
}

#[tokio::test(start_paused = true)]
async fn retries_an_undo_while_it_is_refused_transiently() {
    for (code, message) in [(500, WEBHOOK), (500, "etcdserver: leader changed"), (429, "slow down")] {
        let world = World::new().await;
        let broken = world.image("crash", crash());
        // The dry run and the change succeed.
        let fault = Fault::new(status(code, message)).on("patch deployments").after(4).times(25);
        world.sandbox.faults().inject(fault);
        let outcome = outcome(&world.target(), &broken).await;
        assert_eq!(outcome.verdict(), Verdict::RolledBack, "{message}: {outcome:?}");
        assert_eq!(outcome.failure.map(|f| f.cause), Some(Cause::ContainerExited));
    }
}

#[tokio::test(start_paused = true)]
async fn undo_that_stays_refused_leaves_the_revision_and_reports_why() {
    let world = World::new().await;
    let broken = world.image("crash", crash());
    let fault = Fault::new(status(500, WEBHOOK)).on("patch deployments").after(4).times(u32::MAX);
    world.sandbox.faults().inject(fault);
    let outcome = outcome(&world.target(), &broken).await;
    assert_eq!(outcome.verdict(), Verdict::FailedInPlace, "{outcome:?}");
    assert!(outcome.detail.contains("webhook \"mpod.elbv2.k8s.aws\""), "{}", outcome.detail);
    let deployment: Value = world.cluster.object("deployments", "prod", "web").unwrap();
    assert_eq!(
        deployment["spec"]["template"]["spec"]["containers"][0]["image"],
        broken.reference.to_string()
    );
}
