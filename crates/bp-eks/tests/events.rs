//! The event stream of every operation: one target, one `Planned` and one `Finished` event.

mod common;

use std::time::Duration;

use bp_artifact::{
    Operation, Outcome, ResolvedImage, Verdict,
    deploy::{DeployEvent, Revision, Target, TargetId},
};
use bp_eks::{BlueGreen, Options, traffic::Slots};
use bp_sandbox::{Behaviour, Effect, Fault};
use serde_json::{Value, json};
use tokio::time::sleep;

use common::{World, check_cancelled, check_stream, crash};

async fn run<E: std::fmt::Debug + Send + 'static>(
    what: &str,
    id: &TargetId,
    mut work: Operation<DeployEvent, Result<Outcome, E>>,
    expected: Verdict,
) -> (Vec<DeployEvent>, Outcome) {
    let mut events = Vec::new();
    while let Some(event) = work.next_event().await {
        events.push(event);
    }
    let outcome = work.await.unwrap();
    assert_eq!(outcome.verdict(), expected, "{what}: {outcome:?}");
    check_stream(what, id, &events, &outcome);
    assert!(applied(&events) <= 1, "{what}: {events:?}");
    (events, outcome)
}

fn options() -> Options {
    Options::new(Duration::from_secs(300)).unwrap().take_over(true).environment("DEPLOY_PLATFORM", "eks")
}

#[tokio::test(start_paused = true)]
async fn a_rollout_of_a_workload_has_one_target_and_is_planned_and_finished_once() {
    let world = World::new().await;
    let target = world.of("web", "web", options());
    let id = target.id();
    let second = world.image("second", Behaviour::default());
    run("a new image", &id, target.deploy(&second), Verdict::Deployed).await;
    run("the same image", &id, target.deploy(&second), Verdict::Deployed).await;
    run("back", &id, target.rollback(), Verdict::Deployed).await;
    run("one that fails", &id, target.deploy(&world.image("crash", crash())), Verdict::RolledBack).await;
    let first = Revision::new("1", &world.first.reference);
    run("to a revision", &id, target.restore(&first), Verdict::Deployed).await;

    world.cluster.create(json!({
        "apiVersion": "batch/v1", "kind": "Job", "metadata": { "name": "migrate", "namespace": "prod" },
        "spec": { "template": { "metadata": {}, "spec": { "restartPolicy": "Never", "containers": [
            { "name": "migrate", "image": world.first.reference.to_string() },
        ] } } },
    }));
    let job = "job/migrate".parse().unwrap();
    let target = world.namespace().workload(job, options()).container("migrate");
    let done = Behaviour::Exits { after: Duration::from_secs(2), code: 0, log: vec![] };
    run("a job", &target.id(), target.deploy(&world.image("done", done)), Verdict::Deployed).await;
}

async fn shop() -> (World, BlueGreen) {
    let labels = json!({ "app": "web", "slot": "blue" });
    let world = World::with(|deployment| {
        deployment["metadata"]["name"] = json!("web-blue");
        deployment["spec"]["selector"]["matchLabels"] = labels.clone();
        deployment["spec"]["template"]["metadata"]["labels"] = labels.clone();
    })
    .await;
    world.cluster.create(service("web", &labels));
    let slots = Slots::of_service("web");
    let shop = world.namespace().blue_green("web", slots, options());
    (world, shop.container("web"))
}

fn service(name: &str, selector: &Value) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service", "metadata": { "name": name, "namespace": "prod" },
        "spec": { "ports": [{ "name": "http", "port": 80, "targetPort": 8080 }], "selector": selector },
    })
}

fn applied(events: &[DeployEvent]) -> usize {
    events.iter().filter(|event| matches!(event, DeployEvent::Applied { .. })).count()
}

#[tokio::test(start_paused = true)]
async fn a_stage_and_a_switch_have_the_services_target_and_are_planned_and_finished_once() {
    let (world, shop) = shop().await;
    let id = shop.id();
    let second = world.image("second", Behaviour::default());
    run("the live image", &id, shop.stage(&world.first), Verdict::Deployed).await;
    let (events, _) = run("a new slot", &id, shop.stage(&second), Verdict::Deployed).await;
    assert_eq!(applied(&events), 1, "{events:?}");
    run("the same again", &id, shop.stage(&second), Verdict::Deployed).await;
    run("a switch", &id, shop.switch(&second), Verdict::Deployed).await;
    run("back", &id, shop.switch_back(), Verdict::Deployed).await;
    run("one that fails", &id, shop.stage(&world.image("crash", crash())), Verdict::RolledBack).await;

    // A slot that was scaled down: sets the image before the replicas.
    shop.clean_up().await.unwrap();
    sleep(Duration::from_secs(60)).await;
    let third = world.image("third", Behaviour::default());
    let (events, _) = run("an idle slot", &id, shop.stage(&third), Verdict::Deployed).await;
    assert_eq!(applied(&events), 1, "{events:?}");

    let fourth = world.image("fourth", Behaviour::default());
    let (events, outcome) = run("stage and switch", &id, shop.deploy(&fourth), Verdict::Deployed).await;
    assert!(outcome.changed);
    let changes = events.iter().find_map(|event| match event {
        DeployEvent::Planned { changes, image, .. } => Some((*changes, image.clone())),
        _ => None,
    });
    assert_eq!(changes, Some((true, Some(fourth.reference.clone()))));
    run("the same again", &id, shop.deploy(&fourth), Verdict::Deployed).await;
    run("of what fails", &id, shop.deploy(&world.image("crash", crash())), Verdict::RolledBack).await;
    let lost = Revision::new("blue", &second.reference);
    run("to a revision", &id, Target::restore(&shop, &lost), Verdict::Deployed).await;
}

#[tokio::test(start_paused = true)]
async fn an_ingress_switch_is_planned_and_finished_once() {
    let (world, shop) = shop().await;
    let second: ResolvedImage = world.image("second", Behaviour::default());
    shop.stage(&second).await.unwrap();
    for slot in ["blue", "green"] {
        world.cluster.create(service(&format!("web-{slot}"), &json!({ "app": "web", "slot": slot })));
    }
    let backend = json!({ "service": { "name": "web-blue", "port": { "name": "http" } } });
    world.cluster.create(json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": { "name": "shop", "namespace": "prod" },
        "spec": { "rules": [{ "http": { "paths": [{ "path": "/", "pathType": "Prefix", "backend": backend }] } }] },
    }));
    sleep(Duration::from_secs(60)).await;
    let ingress = world.namespace().ingress("shop", ["web-blue", "web-green"], options()).container("web");
    let id: TargetId = TargetId::new("eks/shop/prod/ingress/shop");
    for what in ["a switch", "again"] {
        run(what, &id, ingress.switch("web-green", Some(&second)), Verdict::Deployed).await;
    }
    check_cancelled("back", &id, ingress.switch("web-blue", None)).await;
    world.sandbox.faults().inject(Fault::new(Effect::Reset).on("patch ingresses").times(u32::MAX));
    run("not answered", &id, ingress.switch("web-green", Some(&second)), Verdict::Unobserved).await;
}

/// The second Deployment is created with image and variables: its pods are not replaced immediately.
#[tokio::test(start_paused = true)]
async fn the_first_stage_of_a_new_slot_rolls_out_once() {
    let (world, shop) = shop().await;
    let second = world.image("second", Behaviour::default());
    let staged = shop.stage(&second).await.unwrap();
    assert_eq!((staged.verdict(), staged.changed), (Verdict::Deployed, true), "{staged:?}");
    let green = world.cluster.object("deployments", "prod", "web-green").unwrap();
    assert_eq!(green["metadata"]["generation"], 1, "unchanged since its creation: {green}");
    let env = &green["spec"]["template"]["spec"]["containers"][0]["env"];
    assert_eq!(*env, json!([{ "name": "DEPLOY_PLATFORM", "value": "eks" }]));
}

const SLOW: Behaviour = Behaviour::Healthy(Duration::from_secs(60));

#[tokio::test(start_paused = true)]
async fn a_cancelled_rollout_and_a_cancelled_job_are_planned_and_applied_once() {
    let world = World::new().await;
    let target = world.of("web", "web", options());
    let second = world.image("second", SLOW);
    check_cancelled("a new image", &target.id(), target.deploy(&second)).await;
    let first = Revision::new("1", &world.first.reference);
    check_cancelled("to a revision", &target.id(), target.restore(&first)).await;

    world.cluster.create(json!({
        "apiVersion": "batch/v1", "kind": "Job", "metadata": { "name": "migrate", "namespace": "prod" },
        "spec": { "template": { "metadata": {}, "spec": { "restartPolicy": "Never", "containers": [
            { "name": "migrate", "image": world.first.reference.to_string() },
        ] } } },
    }));
    let target = world.namespace().workload("job/migrate".parse().unwrap(), options()).container("migrate");
    let done = Behaviour::Exits { after: Duration::from_secs(60), code: 0, log: vec![] };
    check_cancelled("a job", &target.id(), target.deploy(&world.image("done", done))).await;
    let failed = world.image("failed", crash());
    run("a job that fails", &target.id(), target.deploy(&failed), Verdict::FailedInPlace).await;
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_blue_green_operation_is_planned_and_applied_once() {
    let (world, shop) = shop().await;
    let id = shop.id();
    let second = world.image("second", SLOW);
    check_cancelled("a stage", &id, shop.stage(&second)).await;
    run("the same again", &id, shop.stage(&second), Verdict::Deployed).await;
    check_cancelled("a switch", &id, shop.switch(&second)).await;
    sleep(Duration::from_secs(60)).await;
    check_cancelled("back", &id, shop.switch_back()).await;
    sleep(Duration::from_secs(60)).await;
    let noted = Revision::new("green", &second.reference);
    check_cancelled("to a revision", &id, Target::restore(&shop, &noted)).await;
    sleep(Duration::from_secs(60)).await;
    let third = world.image("third", Behaviour::default());
    check_cancelled("stage and switch", &id, shop.deploy(&third)).await;
}
