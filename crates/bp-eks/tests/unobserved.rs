//! An applied change that can no longer be observed: neither success nor failure, and never a rollback.

mod common;

use std::time::Duration;

use bp_artifact::{
    ExitCode, Outcome, Verdict,
    deploy::{DeployEvent, Revision},
    error::{Classified, ErrorClass},
};
use bp_eks::{BlueGreen, Options, traffic::Slots};
use bp_sandbox::{Behaviour, Effect, Fault};
use serde_json::{Value, json};
use tokio::time::sleep;

use common::{World, crash};

const SLOW: Behaviour = Behaviour::Healthy(Duration::from_secs(40));

/// Answers every request with `effect` from now on, and ends open watches.
fn block(world: &World, effect: Effect) {
    let host = world.cluster.host().to_owned();
    world.sandbox.faults().inject(Fault::new(effect).at(host).times(u32::MAX));
    world.cluster.end_watches();
}

fn answer(status: u16, message: &str) -> Effect {
    let reason = match status {
        401 => "Unauthorized",
        403 => "Forbidden",
        _ => "TooManyRequests",
    };
    let body = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "code": status, "reason": reason, "message": message,
    });
    Effect::Answer { status, headers: Vec::new(), body: body.to_string() }
}

fn unauthorized() -> Effect {
    answer(401, "Unauthorized")
}

/// The reasons why a rollout cannot be observed, each with a part of its message.
fn blocks() -> [(Effect, &'static str); 5] {
    let denied = "pods is forbidden: User \"ci\" cannot watch resource \"pods\" in API group \"\" in the namespace \"prod\"";
    [
        (unauthorized(), "401"),
        (answer(403, denied), "\"watch\" on pods"),
        (answer(429, "the server has received too many requests"), "too many requests"),
        (Effect::Reset, "cannot reach"),
        (
            Effect::Answer { status: 403, headers: Vec::new(), body: "<html>403 Forbidden</html>".into() },
            "proxy",
        ),
    ]
}

fn check(outcome: &Outcome, applied: &str, why: &str) {
    assert_eq!(outcome.verdict(), Verdict::Unobserved, "{outcome:?}");
    assert_eq!(ExitCode::from(outcome.verdict()), ExitCode::Unavailable);
    let detail = &outcome.detail;
    for expected in [applied, why, "continues", "to resume"] {
        assert!(detail.contains(expected), "{expected:?} is not in: {detail}");
    }
    assert!(
        !detail.contains("access entry") && !detail.contains("access-entry"),
        "no setup advice: {detail}"
    );
}

async fn events_of(
    mut work: bp_eks::Rollout,
    mut each: impl FnMut(&DeployEvent),
) -> (Vec<DeployEvent>, Result<Outcome, bp_eks::Error>) {
    let mut events = Vec::new();
    while let Some(event) = work.next_event().await {
        each(&event);
        events.push(event);
    }
    (events, work.await)
}

#[tokio::test(start_paused = true)]
async fn unobserved_rollout_is_not_rolled_back_and_a_rerun_resumes() {
    for (effect, why) in blocks() {
        let world = World::new().await;
        let second = world.image("second", SLOW);
        let work = world.target().deploy(&second);
        sleep(Duration::from_secs(5)).await;
        block(&world, effect);
        let (events, outcome) = events_of(work, |_| {}).await;
        check(&outcome.unwrap(), "deployment/web", why);
        let undone = |event: &DeployEvent| {
            matches!(event, DeployEvent::RollingBack { .. } | DeployEvent::Failing { .. })
        };
        assert!(!events.iter().any(undone), "{why}: {events:?}");
        assert!(matches!(events.last(), Some(DeployEvent::Finished { .. })), "{why}");
        assert_eq!(world.running_image(), second.reference.to_string(), "{why}");

        world.sandbox.faults().clear();
        let (events, outcome) = events_of(world.target().deploy(&second), |_| {}).await;
        assert_eq!(outcome.unwrap().verdict(), Verdict::Deployed, "{why}");
        assert!(!events.iter().any(|e| matches!(e, DeployEvent::Applied { adopted: false, .. })), "{why}");
    }
}

#[tokio::test(start_paused = true)]
async fn tolerates_one_denied_read_and_renewed_credentials() {
    for (effect, times) in
        [(answer(403, "pods is forbidden: authorization webhook: timeout"), 1), (unauthorized(), 12)]
    {
        let world = World::new().await;
        let work = world.target().deploy(&world.image("second", SLOW));
        sleep(Duration::from_secs(5)).await;
        world.sandbox.faults().inject(Fault::new(effect).on("watch pods").times(times));
        world.cluster.end_watches();
        let outcome = work.await.unwrap();
        assert_eq!(outcome.verdict(), Verdict::Deployed, "{outcome:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn refusal_before_the_change_is_an_error_with_advice() {
    let world = World::new().await;
    block(&world, unauthorized());
    let (_, outcome) = events_of(world.target().deploy(&world.image("second", SLOW)), |_| {}).await;
    let error = outcome.unwrap_err();
    assert!(
        error.to_string().contains("access-entry") || error.to_string().contains("access entry"),
        "{error}"
    );
    assert_eq!(error.class(), ErrorClass::Unavailable);
}

#[tokio::test(start_paused = true)]
async fn unobserved_undo_has_not_failed() {
    let world = World::new().await;
    let broken = world.image("crash", crash());
    // After the previous revision is restored.
    let (events, outcome) = {
        let mut undone = false;
        let work = world.target().deploy(&broken);
        events_of(work, |event| match event {
            DeployEvent::RollingBack { .. } => undone = true,
            DeployEvent::Progress { .. } if undone => {
                undone = false;
                block(&world, unauthorized());
            }
            _ => {}
        })
        .await
    };
    let outcome = outcome.unwrap();
    check(&outcome, "deployment/web", "401");
    // The same command would deploy the failed image again.
    assert!(outcome.detail.contains("rerun the rollback"), "{}", outcome.detail);
    assert!(outcome.failure.is_some(), "the failure is reported: {outcome:?}");
    assert!(events.iter().any(|event| matches!(event, DeployEvent::RollingBack { .. })));
    assert_eq!(world.running_image(), world.first.reference.to_string());
}

#[tokio::test(start_paused = true)]
async fn change_with_a_lost_answer_is_unobserved() {
    let world = World::new().await;
    let second = world.image("second", SLOW);
    // The dry runs pass; the change arrives, but all later answers are lost.
    let lost = Fault::new(Effect::LoseAnswer).on("patch deployments").after(3).times(u32::MAX);
    world.sandbox.faults().inject(lost);
    let (_, outcome) = events_of(world.target().deploy(&second), |_| {}).await;
    let outcome = outcome.unwrap();
    assert_eq!(outcome.verdict(), Verdict::Unobserved, "{outcome:?}");
    assert!(outcome.detail.contains("may have been applied"), "{}", outcome.detail);
    assert!(outcome.changed);
    assert_eq!(world.running_image(), second.reference.to_string());
}

/// The change is processed and its answer lost; the next attempt is denied, which does not concern the first one.
#[tokio::test(start_paused = true)]
async fn a_denied_attempt_after_a_lost_answer_is_unobserved() {
    let denied = "deployments.apps \"web\" is forbidden: User \"ci\" cannot patch resource \"deployments\" in API group \"apps\"";
    let world = World::new().await;
    let second = world.image("second", SLOW);
    let faults = world.sandbox.faults();
    faults.inject(Fault::new(Effect::LoseAnswer).on("patch deployments").after(3));
    faults.inject(Fault::new(answer(403, denied)).on("patch deployments").after(3).times(u32::MAX));
    let outcome = world.target().deploy(&second).await.unwrap();
    assert_eq!(outcome.verdict(), Verdict::Unobserved, "{outcome:?}");
    assert!(outcome.detail.contains("may have been applied"), "{}", outcome.detail);
    assert_eq!(world.running_image(), second.reference.to_string());

    // The same for the rollback: one read of the workload before the rollout, one before its rollback.
    let world = World::new().await;
    let broken = world.image("crash", crash());
    let faults = world.sandbox.faults();
    faults.inject(Fault::new(Effect::LoseAnswer).on("patch deployments").after(4).times(u32::MAX));
    faults.inject(Fault::new(unauthorized()).on("get deployments").after(2).times(u32::MAX));
    let target = world.target_with(|options| options.take_over(true).grace(Duration::from_secs(10)));
    let outcome = target.deploy(&broken).await.unwrap();
    assert_eq!(outcome.verdict(), Verdict::Unobserved, "{outcome:?}");
    assert!(outcome.detail.contains("may have been applied"), "{}", outcome.detail);
    assert_eq!(world.running_image(), world.first.reference.to_string());
}

/// A response that ends early is not complete: the request is sent again.
#[tokio::test(start_paused = true)]
async fn a_truncated_response_is_retried() {
    let world = World::new().await;
    for operation in ["list pods", "patch deployments"] {
        world.sandbox.faults().inject(Fault::new(Effect::CutBody(400)).on(operation).after(1));
    }
    let outcome = world.target().deploy(&world.image("second", Behaviour::default())).await.unwrap();
    assert_eq!(outcome.verdict(), Verdict::Deployed, "{outcome:?}");
}

#[tokio::test(start_paused = true)]
async fn unreadable_pods_leave_the_rollout_unproven() {
    for adopted in [false, true] {
        let world = World::new().await;
        let second = if adopted { world.first.clone() } else { world.image("second", Behaviour::default()) };
        let denied =
            answer(403, "pods is forbidden: User \"ci\" cannot list resource \"pods\" in API group \"\"");
        // The first list belongs to the watch.
        world.sandbox.faults().inject(Fault::new(denied).on("list pods").after(1).times(u32::MAX));
        let (events, outcome) = events_of(world.target().deploy(&second), |_| {}).await;
        let outcome = outcome.unwrap();
        assert_eq!(outcome.verdict(), Verdict::Unproven, "{outcome:?}");
        assert!(outcome.detail.contains("\"list\" on pods"), "{}", outcome.detail);
        assert!(matches!(events.last(), Some(DeployEvent::Finished { .. })));
    }
}

#[tokio::test(start_paused = true)]
async fn restored_revision_and_job_can_be_unobserved() {
    let world = World::new().await;
    let second = world.image("second", SLOW);
    let revision = Revision::new("7", &second.reference);
    let work = world.target().restore(&revision);
    sleep(Duration::from_secs(5)).await;
    block(&world, unauthorized());
    check(&work.await.unwrap(), "deployment/web", "401");

    let world = World::new().await;
    world.cluster.create(json!({
        "apiVersion": "batch/v1", "kind": "Job", "metadata": { "name": "migrate", "namespace": "prod" },
        "spec": { "template": { "metadata": {}, "spec": { "restartPolicy": "Never", "containers": [
            { "name": "migrate", "image": world.first.reference.to_string() },
        ] } } },
    }));
    let options = Options::new(Duration::from_secs(300)).unwrap();
    let job = "job/migrate".parse().unwrap();
    let target = world.namespace().workload(job, options).container("migrate");
    // Immediately after the Job is created, before the watches start.
    let work = target.deploy(&world.image("second", SLOW));
    let (_, outcome) = events_of(work, |event| {
        if matches!(event, DeployEvent::Applied { .. }) {
            block(&world, unauthorized());
        }
    })
    .await;
    check(&outcome.unwrap(), "job/migrate-", "401");
}

/// The Deployment as `web-blue` behind a Service, with a staged `web-green`, and an Ingress with blue as backend.
async fn shop() -> (World, BlueGreen, bp_artifact::ResolvedImage) {
    let labels = json!({ "app": "web", "slot": "blue" });
    let world = World::with(|deployment| {
        deployment["metadata"]["name"] = json!("web-blue");
        deployment["spec"]["selector"]["matchLabels"] = labels.clone();
        deployment["spec"]["template"]["metadata"]["labels"] = labels.clone();
    })
    .await;
    let service = |name: &str, selector: &Value| {
        json!({
            "apiVersion": "v1", "kind": "Service", "metadata": { "name": name, "namespace": "prod" },
            "spec": { "ports": [{ "name": "http", "port": 80, "targetPort": 8080 }], "selector": selector },
        })
    };
    world.cluster.create(service("web", &labels));
    let options = Options::new(Duration::from_secs(300)).unwrap().take_over(true);
    let slots = Slots::of_service("web");
    let shop = world.namespace().blue_green("web", slots, options).container("web");
    let second = world.image("second", Behaviour::default());
    assert_eq!(shop.stage(&second).await.unwrap().verdict(), Verdict::Deployed);
    for slot in ["blue", "green"] {
        world.cluster.create(service(&format!("web-{slot}"), &json!({ "app": "web", "slot": slot })));
    }
    let backend = json!({ "service": { "name": "web-blue", "port": { "name": "http" } } });
    world.cluster.create(json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": { "name": "shop", "namespace": "prod" },
        "spec": { "rules": [{ "http": { "paths": [{ "path": "/", "pathType": "Prefix", "backend": backend }] } }] },
    }));
    sleep(Duration::from_secs(60)).await;
    (world, shop, second)
}

fn selected(world: &World) -> Value {
    world.cluster.object("services", "prod", "web").unwrap()["spec"]["selector"]["slot"].clone()
}

#[tokio::test(start_paused = true)]
async fn unobserved_switch_is_not_rolled_back() {
    for (effect, why) in blocks() {
        let (world, shop, second) = shop().await;
        let mut work = shop.bake(Duration::from_secs(30)).switch(&second);
        let mut events = Vec::new();
        while let Some(event) = work.next_event().await {
            if matches!(event, DeployEvent::Applied { .. }) {
                sleep(Duration::from_secs(1)).await;
                block(&world, effect.clone());
            }
            events.push(event);
        }
        let outcome = work.await.unwrap();
        check(&outcome, "service/web", why);
        assert_eq!(selected(&world), "green", "{why}");
        assert!(!events.iter().any(|event| matches!(event, DeployEvent::RollingBack { .. })), "{why}");
    }
}

#[tokio::test(start_paused = true)]
async fn ingress_patch_with_a_lost_answer_is_retried_or_unobserved() {
    let (world, _, second) = shop().await;
    let options = Options::new(Duration::from_secs(60)).unwrap().take_over(true);
    let pair = ["web-blue", "web-green"];
    let switch = || {
        world
            .namespace()
            .ingress("shop", pair, options.clone())
            .container("web")
            .switch("web-green", Some(&second))
    };
    // The answer is lost, and the patch is sent again: its tests fail because it was applied.
    world.sandbox.faults().inject(Fault::new(Effect::LoseAnswer).on("patch ingresses"));
    let outcome = switch().await.unwrap();
    assert_eq!((outcome.verdict(), outcome.changed), (Verdict::Deployed, true), "{outcome:?}");

    let back = json!({ "spec": { "rules": [{ "http": { "paths": [{ "path": "/", "pathType": "Prefix", "backend": {
        "service": { "name": "web-blue", "port": { "name": "http" } },
    } }] } }] } });
    world.cluster.patch("kubectl", "ingresses", "prod", "shop", &back);
    world.sandbox.faults().inject(Fault::new(Effect::LoseAnswer).on("patch ingresses"));
    world.sandbox.faults().inject(Fault::new(Effect::Reset).on("patch ingresses").times(u32::MAX));
    world.sandbox.faults().inject(Fault::new(Effect::Reset).on("get ingresses").after(1).times(u32::MAX));
    let outcome = switch().await.unwrap();
    assert_eq!(outcome.verdict(), Verdict::Unobserved, "{outcome:?}");
    assert!(outcome.detail.contains("may have been applied"), "{}", outcome.detail);
}
