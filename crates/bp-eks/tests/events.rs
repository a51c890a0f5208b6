//! The events of every operation on Kubernetes: one target, planned once, finished once.

mod common;

use std::time::Duration;

use bp_artifact::{DeployEvent, Operation, Outcome, ResolvedImage, Revision, Target, TargetId, Verdict};
use bp_eks::{BlueGreen, EksTarget, IngressSwitch, Options, Slots};
use bp_sandbox::Behaviour;
use serde_json::{Value, json};
use tokio::time::sleep;

use common::{World, check_stream, crash};

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
    assert_eq!(outcome.verdict, expected, "{what}: {outcome:?}");
    check_stream(what, id, &events, &outcome);
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
    let (client, job) = (world.client.clone(), "job/migrate".parse().unwrap());
    let target = EksTarget::new(client, "shop", "prod", job, Some("migrate".into()), options());
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
    let shop = BlueGreen::new(world.client.clone(), "shop", "prod", "web", slots, options());
    (world, shop.container(Some("web".into())))
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

    // A slot that was scaled down: the image comes first, and the replicas after it.
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
    let pair = ("web-blue", "web-green");
    let ingress = IngressSwitch::new(world.client.clone(), "shop", "prod", "shop", pair, options());
    let ingress = ingress.container(Some("web".into()));
    let id: TargetId = TargetId::new("eks/shop/prod/ingress/shop");
    for what in ["a switch", "again"] {
        run(what, &id, ingress.switch("web-green", Some(&second)), Verdict::Deployed).await;
    }
}

/// The variables come with the image when the second Deployment is made: its pods are not replaced at once.
#[tokio::test(start_paused = true)]
async fn the_first_stage_of_a_new_slot_rolls_out_once() {
    let (world, shop) = shop().await;
    let second = world.image("second", Behaviour::default());
    let staged = shop.stage(&second).await.unwrap();
    assert_eq!((staged.verdict, staged.changed), (Verdict::Deployed, true), "{staged:?}");
    let green = world.cluster.object("deployments", "prod", "web-green").unwrap();
    assert_eq!(green["metadata"]["generation"], 1, "it is as it was made: {green}");
    let env = &green["spec"]["template"]["spec"]["containers"][0]["env"];
    assert_eq!(*env, json!([{ "name": "DEPLOY_PLATFORM", "value": "eks" }]));
}
