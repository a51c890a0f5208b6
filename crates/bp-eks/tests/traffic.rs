//! Blue/green and Ingress switches against the sandbox in memory, on a paused clock.

mod common;

use std::time::Duration;

use bp_artifact::{
    Outcome, ResolvedImage, Verdict,
    deploy::{Cause, DeployEvent, Revision, Target},
    error::{Classified, ErrorClass},
};
use bp_eks::{
    BlueGreen, OnFailure, Options, TrafficError,
    traffic::{Slots, Switch},
};
use bp_sandbox::{Behaviour, Effect, Fault};
use serde_json::{Value, json};

use common::{World, crash};

const PORTS: &str = "ports";

/// The Deployment of [`World`] as `web-blue`, behind a Service that selects it.
async fn world() -> World {
    world_with(|_| {}).await
}

async fn world_with(change: impl FnOnce(&mut Value)) -> World {
    let world = World::with(|deployment| {
        change(deployment);
        let labels = json!({ "app": "web", "slot": "blue" });
        deployment["metadata"]["name"] = json!("web-blue");
        deployment["spec"]["selector"]["matchLabels"] = labels.clone();
        deployment["spec"]["template"]["metadata"]["labels"] = labels;
    })
    .await;
    world.cluster.create(service("web", json!({ "app": "web", "slot": "blue" })));
    world
}

fn service(name: &str, selector: Value) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": { "name": name, "namespace": "prod" },
        "spec": { (PORTS): [{ "name": "http", "port": 80, "targetPort": 8080 }], "selector": selector },
    })
}

fn options() -> Options {
    Options::new(Duration::from_secs(300)).unwrap().take_over(true)
}

fn shop_with(world: &World, options: Options) -> BlueGreen {
    world.namespace().blue_green("web", Slots::of_service("web"), options).container("web")
}

fn shop(world: &World) -> BlueGreen {
    shop_with(world, options())
}

async fn run(mut work: Switch) -> (Vec<DeployEvent>, Result<Outcome, TrafficError>) {
    let mut events = Vec::new();
    while let Some(event) = work.next_event().await {
        events.push(event);
    }
    (events, work.await)
}

fn selected(world: &World) -> String {
    let service = world.cluster.object("services", "prod", "web").unwrap();
    service["spec"]["selector"]["slot"].as_str().unwrap().to_owned()
}

/// The images of the pods behind the Service's endpoints.
fn served(world: &World, service: &str) -> Vec<String> {
    let slices = world.cluster.objects("endpointslices", "prod");
    let of = slices.iter().filter(|s| s["metadata"]["labels"]["kubernetes.io/service-name"] == service);
    let endpoints: Vec<Value> =
        of.flat_map(|s| s["endpoints"].as_array().cloned().unwrap_or_default()).collect();
    let ready = endpoints.iter().filter(|e| e["conditions"]["ready"] == true);
    let image = |endpoint: &Value| {
        let pod = world.cluster.object("pods", "prod", endpoint["targetRef"]["name"].as_str().unwrap());
        pod.unwrap()["spec"]["containers"][0]["image"].as_str().unwrap().to_owned()
    };
    ready.map(image).collect()
}

async fn settle() {
    tokio::time::sleep(Duration::from_secs(60)).await;
}

#[tokio::test(start_paused = true)]
async fn stages_switches_switches_back_and_cleans_up() {
    let world = world().await;
    let (shop, second) = (shop(&world), world.image("second", Behaviour::default()));
    let (first_ref, second_ref) = (world.first.reference.to_string(), second.reference.to_string());

    // The second Deployment does not exist: it is derived from the first.
    let staged = run(shop.stage(&second)).await.1.unwrap();
    assert_eq!((staged.verdict(), staged.changed), (Verdict::Deployed, true), "{staged:?}");
    assert_eq!(staged.proof.observations.len(), 3);
    settle().await;
    assert_eq!(served(&world, "web"), vec![first_ref.clone(); 3], "the live slot is not changed");
    assert_eq!(served(&world, "web-test"), vec![second_ref.clone(); 3], "the test Service selects green");

    world.sandbox.ledger().clear();
    let (events, switched) = run(shop.switch(&second)).await;
    let switched = switched.unwrap();
    assert_eq!((switched.verdict(), switched.changed), (Verdict::Deployed, true), "{switched:?}");
    assert_eq!(switched.previous.as_ref().unwrap().id, "blue");
    assert_eq!(switched.proof.observations.len(), 3, "the pods that have the traffic");
    assert!(matches!(events.first(), Some(DeployEvent::Planned { changes: true, .. })));
    assert!(matches!(events.last(), Some(DeployEvent::Finished { .. })));
    assert_eq!(served(&world, "web"), vec![second_ref.clone(); 3]);
    // The first patch conflicts because kubectl owns the selector, the second takes over: the switch is one patch.
    assert_eq!(world.sandbox.ledger().count_of("patch services"), 2);

    let back = run(shop.switch_back()).await.1.unwrap();
    assert_eq!((back.verdict(), back.changed), (Verdict::Deployed, true), "{back:?}");
    assert_eq!(served(&world, "web"), vec![first_ref; 3]);
    let again = run(shop.switch_back()).await.1.unwrap();
    assert_eq!((again.changed, selected(&world)), (false, "blue".into()), "the second run changes nothing");

    assert_eq!(run(shop.switch(&second)).await.1.unwrap().verdict(), Verdict::Deployed);
    let again = run(shop.switch(&second)).await.1.unwrap();
    assert_eq!((again.verdict(), again.changed), (Verdict::Deployed, false));

    let left = shop.clean_up().await.unwrap();
    assert_eq!((left.live.slot.name.as_str(), left.idle.replicas, left.switched_from), ("green", 0, None));
    assert!(world.cluster.object("services", "prod", "web-test").is_none());
    let error = run(shop.switch_back()).await.1.unwrap_err();
    assert!(matches!(error, TrafficError::NothingToSwitchBack { .. }), "{error}");
    shop.clean_up().await.unwrap();

    // In the other direction, into the slot that was scaled down.
    let third = world.image("third", Behaviour::default());
    let outcome = run(shop.deploy(&third)).await.1.unwrap();
    assert_eq!(outcome.verdict(), Verdict::Deployed, "{outcome:?}");
    assert_eq!(
        (selected(&world).as_str(), served(&world, "web")),
        ("blue", vec![third.reference.to_string(); 3])
    );
}

#[tokio::test(start_paused = true)]
async fn failing_slot_gets_no_traffic() {
    let world = world().await;
    let broken = world.image("crash", crash());
    let (events, outcome) = run(shop(&world).deploy(&broken)).await;
    let outcome = outcome.unwrap();
    assert_eq!(outcome.verdict(), Verdict::RolledBack, "{outcome:?}");
    let failure = outcome.failure.unwrap();
    assert_eq!((failure.cause, failure.exit_code), (Cause::ContainerExited, Some(3)));
    assert!(failure.evidence.iter().any(|e| e.message.contains("no DATABASE_URL")), "the log is kept");
    assert!(events.iter().any(|e| matches!(e, DeployEvent::Failing { .. })));
    assert_eq!((selected(&world).as_str(), world.sandbox.ledger().count_of("patch services")), ("blue", 0));
    assert!(
        world.cluster.object("deployments", "prod", "web-green").is_some(),
        "left in place for inspection"
    );
    let error = run(shop(&world).switch(&broken)).await.1.unwrap_err();
    assert!(matches!(error, TrafficError::NotReady { .. }), "{error}");
    let elsewhere = world.image("elsewhere", Behaviour::default());
    let error = run(shop(&world).switch(&elsewhere)).await.1.unwrap_err();
    assert!(matches!(error, TrafficError::NotStaged { .. }), "{error}");
    assert_eq!(error.class(), ErrorClass::Refused);
}

#[tokio::test(start_paused = true)]
async fn slot_failing_under_traffic_is_switched_back() {
    let bake = Duration::from_secs(120);
    for (policy, bake) in
        [(OnFailure::RollBack, bake), (OnFailure::Leave, bake), (OnFailure::RollBack, Duration::MAX)]
    {
        // Without a probe a pod is ready until it ends.
        let probe = |deployment: &mut Value| {
            let container = &mut deployment["spec"]["template"]["spec"]["containers"][0];
            container.as_object_mut().unwrap().remove("readinessProbe");
        };
        let world = world_with(probe).await;
        // Runs long enough to be staged, and ends under traffic.
        let log = vec!["fatal: pool exhausted".to_owned()];
        let late = Behaviour::Exits { after: Duration::from_secs(90), code: 7, log };
        let image = world.image("late", late);
        let shop = shop_with(&world, options().on_failure(policy)).bake(bake);
        let outcome = run(shop.deploy(&image)).await.1.unwrap();
        let failure = outcome.failure.as_ref().unwrap_or_else(|| panic!("{outcome:?}"));
        assert_eq!((failure.cause, failure.exit_code), (Cause::ContainerExited, Some(7)), "{failure}");
        assert!(failure.evidence.iter().any(|e| e.message.contains("pool exhausted")));
        match policy {
            OnFailure::RollBack => {
                assert_eq!((outcome.verdict(), selected(&world)), (Verdict::RolledBack, "blue".into()));
                assert_eq!(served(&world, "web"), vec![world.first.reference.to_string(); 3]);
            }
            _ => assert_eq!((outcome.verdict(), selected(&world)), (Verdict::FailedInPlace, "green".into())),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn rejects_a_service_behind_a_load_balancer() {
    let backend = |service: &str| {
        json!({ "http": { "paths": [{ "path": "/", "pathType": "Prefix", "backend": { "service": {
            "name": service, "port": { "number": 80 } } } }] } })
    };
    let ingress = |class: &str, service: &str| {
        json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "Ingress",
            "metadata": { "name": "shop", "namespace": "prod" },
            "spec": { "ingressClassName": class, "rules": [backend(service)] },
        })
    };
    let binding = json!({
        "apiVersion": "elbv2.k8s.aws/v1beta1", "kind": "TargetGroupBinding",
        "metadata": { "name": "k8s-web", "namespace": "prod" },
        "spec": { "serviceRef": { "name": "web", "port": 80 }, "targetType": "ip" },
    });
    for (objects, refused) in [
        (vec![ingress("public", "web")], Some("ingress/shop")),
        (vec![ingress("public", "other")], None),
        (vec![ingress("nginx", "web")], None),
        (vec![binding.clone()], Some("targetgroupbinding/k8s-web")),
    ] {
        let world = world().await;
        for (name, controller) in [("public", "ingress.k8s.aws/alb"), ("nginx", "k8s.io/ingress-nginx")] {
            world.cluster.create(json!({
                "apiVersion": "networking.k8s.io/v1", "kind": "IngressClass",
                "metadata": { "name": name }, "spec": { "controller": controller },
            }));
        }
        objects.into_iter().for_each(|object| drop(world.cluster.create(object)));
        let second = world.image("second", Behaviour::default());
        let ended = run(shop(&world).deploy(&second)).await.1;
        match (ended, refused) {
            (Ok(outcome), None) => assert_eq!(outcome.verdict(), Verdict::Deployed),
            (Err(error @ TrafficError::BehindLoadBalancer { .. }), Some(by)) => {
                assert!(error.to_string().contains(by) && error.class() == ErrorClass::Refused, "{error}");
                assert!(
                    world.cluster.object("deployments", "prod", "web-green").is_none(),
                    "nothing was started"
                );
            }
            (ended, _) => panic!("{ended:?}"),
        }
    }
    // Without permission to list them, the error contains the verb, and nothing is switched.
    let world = world().await;
    world.cluster.deny("list", "ingresses");
    let error = run(shop(&world).deploy(&world.image("second", Behaviour::default()))).await.1.unwrap_err();
    assert!(error.to_string().contains("\"list\" on ingresses.networking.k8s.io"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn resumes_after_a_kill_at_any_moment() {
    for moment in [0, 60, 500, 2000, 5000, 8000, 12_000, 20_000] {
        let world = world().await;
        let second = world.image("second", Behaviour::Healthy(Duration::from_secs(5)));
        let work = shop(&world).deploy(&second);
        tokio::time::sleep(Duration::from_millis(moment)).await;
        drop(work);
        let outcome = run(shop(&world).deploy(&second)).await.1.unwrap();
        assert_eq!(outcome.verdict(), Verdict::Deployed, "after {moment} ms: {outcome:?}");
        assert_eq!(
            (selected(&world).as_str(), served(&world, "web").len()),
            ("green", 3),
            "after {moment} ms"
        );
        assert_eq!(world.cluster.objects("deployments", "prod").len(), 2);
        // The previous slot is known after any number of runs.
        let back = run(shop(&world).switch_back()).await.1.unwrap();
        assert_eq!((back.revision.unwrap().id, selected(&world)), ("blue".into(), "blue".into()));
    }
}

#[tokio::test(start_paused = true)]
async fn precondition_distinguishes_harmless_writes_from_foreign_switches() {
    // Another client writes an annotation between read and patch: reads again and succeeds.
    let world = world().await;
    let second = world.image("second", Behaviour::default());
    run(shop(&world).stage(&second)).await.1.unwrap();
    let stale = |times| {
        let status = json!({
            "kind": "Status", "status": "Failure", "code": 409, "reason": "Conflict",
            "message": "Operation cannot be fulfilled on services \"web\": the object has been modified",
        });
        Fault::new(Effect::Answer { status: 409, headers: Vec::new(), body: status.to_string() })
            .on("patch services")
            .times(times)
    };
    world.sandbox.faults().inject(stale(2));
    assert_eq!(run(shop(&world).switch(&second)).await.1.unwrap().verdict(), Verdict::Deployed);

    // Repeated conflicts: an error, and nothing is switched.
    world.sandbox.faults().inject(stale(100));
    let error = run(shop(&world).switch_back()).await.1.unwrap_err();
    assert!(matches!(error, TrafficError::Contended { .. }), "{error}");
    world.sandbox.faults().clear();

    // The API server rejects an outdated resource version.
    let work = shop(&world).switch_back();
    world.cluster.patch(
        "kubectl",
        "services",
        "prod",
        "web",
        &json!({ "metadata": { "labels": { "a": "b" } } }),
    );
    assert!(work.await.unwrap().changed);

    // Another client switches while the endpoints are watched.
    let shop = shop(&world).bake(Duration::from_secs(60));
    let work = shop.switch(&second);
    tokio::time::sleep(Duration::from_secs(10)).await;
    world.cluster.patch(
        "kubectl",
        "services",
        "prod",
        "web",
        &json!({ "spec": { "selector": { "slot": "blue" } } }),
    );
    let outcome = work.await.unwrap();
    assert_eq!(outcome.verdict(), Verdict::Superseded, "{outcome:?}");
    assert_eq!(selected(&world), "blue", "the foreign change is kept");

    let work = shop.switch(&second);
    tokio::time::sleep(Duration::from_secs(10)).await;
    world.cluster.delete("services", "prod", "web");
    assert_eq!(work.await.unwrap().verdict(), Verdict::Gone);
}

#[tokio::test(start_paused = true)]
async fn distinguishes_field_owners_foreign_objects_and_invalid_input() {
    let world = world().await;
    let second = world.image("second", Behaviour::default());
    let careful = shop_with(&world, Options::new(Duration::from_secs(300)).unwrap());
    run(careful.stage(&second)).await.1.unwrap();
    let error = run(careful.switch(&second)).await.1.unwrap_err();
    let TrafficError::Rollout(bp_eks::Error::Conflict { conflicts, .. }) = &error else { panic!("{error}") };
    assert_eq!(
        (conflicts[0].manager.as_str(), conflicts[0].field.as_str()),
        ("kubectl-client-side-apply", ".spec.selector")
    );
    assert_eq!(selected(&world), "blue");

    world.cluster.create(service("taken", json!({ "app": "other" })));
    let error = run(careful.clone().test_service(Some("taken".into())).stage(&second)).await.1.unwrap_err();
    assert!(matches!(error, TrafficError::NotOurs { .. }), "{error}");
    let cleaned = careful.clone().test_service(Some("taken".into())).clean_up().await.unwrap();
    assert_eq!(cleaned.idle.replicas, 0);
    assert!(world.cluster.object("services", "prod", "taken").is_some(), "a foreign Service is kept");

    world.cluster.create(service("plain", json!({ "app": "web" })));
    let of = |name: &str| world.namespace().blue_green(name, Slots::of_service("web"), options());
    let error = of("plain").traffic().await.unwrap_err();
    assert!(matches!(error, TrafficError::NoSlot { .. }), "{error}");
    let error = of("nowhere").traffic().await.unwrap_err();
    assert!(error.to_string().contains("service/nowhere does not exist"), "{error}");
    // Two containers, and none specified.
    let error = run(of("web").test_service(None).stage(&world.image("third", Behaviour::default()))).await.1;
    assert!(error.unwrap_err().to_string().contains("several containers"));
    world.cluster.deny("patch", "services");
    let error = run(shop(&world).deploy(&second)).await.1.unwrap_err();
    assert!(error.to_string().contains("\"patch\" on services"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn restores_a_recorded_revision_as_a_target() {
    let world = world().await;
    let shop = shop(&world);
    let target: &dyn Target = &shop;
    let noted = target.current().await.unwrap().stable;
    assert_eq!(noted, Revision::new("blue", &world.first.reference));
    let second = world.image("second", Behaviour::default());
    assert_eq!(target.deploy(&second).await.unwrap().verdict(), Verdict::Deployed);
    assert_eq!(target.prove().await.unwrap().judge(&second), Verdict::Deployed);
    let restored = target.restore(&noted).await.unwrap();
    assert_eq!((restored.revision, selected(&world)), (Some(noted.clone()), "blue".into()));
    // Later, when both slots have other images: it is staged again.
    for tag in ["third", "fourth"] {
        let image = world.image(tag, Behaviour::default());
        assert_eq!(target.deploy(&image).await.unwrap().verdict(), Verdict::Deployed);
    }
    target.restore(&noted).await.unwrap();
    settle().await;
    assert_eq!(served(&world, "web"), vec![noted.image.to_string(); 3]);
    let lost = Revision::new("blue", "r.example.com/web:1.0");
    assert!(target.restore(&lost).await.unwrap_err().to_string().contains("cannot switch service/web back"));
}

/// Two permanent Services with a Deployment each, and an Ingress with the first as backend.
async fn ingress_world() -> (World, ResolvedImage) {
    let world = world().await;
    let second = world.image("second", Behaviour::default());
    run(shop(&world).stage(&second)).await.1.unwrap();
    for slot in ["blue", "green"] {
        world.cluster.create(service(&format!("web-{slot}"), json!({ "app": "web", "slot": slot })));
    }
    let backend = |name: &str| json!({ "service": { "name": name, "port": { "name": "http" } } });
    world.cluster.create(json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "Ingress",
        "metadata": { "name": "shop", "namespace": "prod" },
        "spec": { "ingressClassName": "nginx", "rules": [{ "http": { "paths": [
            { "path": "/api", "pathType": "Prefix", "backend": backend("api") },
            { "path": "/", "pathType": "Prefix", "backend": backend("web-blue") },
        ] } }] },
    }));
    settle().await;
    (world, second)
}

fn leads_to(world: &World) -> Vec<String> {
    let ingress = world.cluster.object("ingresses", "prod", "shop").unwrap();
    let paths = ingress["spec"]["rules"][0]["http"]["paths"].as_array().unwrap().clone();
    paths.iter().map(|p| p["backend"]["service"]["name"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test(start_paused = true)]
async fn switches_an_ingress_and_back() {
    let (world, second) = ingress_world().await;
    let switch = |options: Options| {
        world.namespace().ingress("shop", ["web-blue", "web-green"], options).container("web")
    };
    let error = run(switch(Options::new(Duration::from_secs(60)).unwrap()).switch("web-green", None)).await.1;
    assert!(
        matches!(error, Err(TrafficError::Rollout(bp_eks::Error::Conflict { .. }))),
        "kubectl owns the rules: {error:?}"
    );
    let shop = switch(options());
    assert_eq!(shop.live().await.unwrap().as_deref(), Some("web-blue"));
    let outcome = run(shop.switch("web-green", Some(&second))).await.1.unwrap();
    assert_eq!((outcome.verdict(), outcome.changed), (Verdict::Deployed, true), "{outcome:?}");
    assert_eq!(outcome.previous.unwrap().id, "web-blue");
    assert_eq!(leads_to(&world), ["api", "web-green"], "only the configured backend");
    let again = run(shop.switch("web-green", Some(&second))).await.1.unwrap();
    assert_eq!((again.verdict(), again.changed), (Verdict::Deployed, false));
    // The field is owned by now: no take-over.
    let back = run(switch(Options::new(Duration::from_secs(60)).unwrap()).switch("web-blue", None)).await.1;
    assert_eq!((back.unwrap().changed, leads_to(&world)[1].as_str()), (true, "web-blue"));
}

#[tokio::test(start_paused = true)]
async fn rejects_an_ingress_of_an_application_load_balancer() {
    let (world, second) = ingress_world().await;
    let shop = || world.namespace().ingress("shop", ["web-blue", "web-green"], options()).container("web");
    let class = |name: &str, controller: &str| {
        world.cluster.create(json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "IngressClass",
            "metadata": { "name": name }, "spec": { "controller": controller },
        }));
    };
    class("public", "ingress.k8s.aws/alb");
    class("alb", "k8s.io/ingress-nginx");
    let with = |change: Value| world.cluster.patch("kubectl", "ingresses", "prod", "shop", &change);
    for change in [
        json!({ "spec": { "ingressClassName": "public" } }),
        json!({
            "spec": { "ingressClassName": null },
            "metadata": { "annotations": { "alb.ingress.kubernetes.io/scheme": "internal" } },
        }),
    ] {
        with(change);
        let error = run(shop().switch("web-green", Some(&second))).await.1.unwrap_err();
        assert!(matches!(error, TrafficError::TargetGroupReplaced { .. }), "{error}");
        assert_eq!(error.class(), ErrorClass::Refused);
        assert_eq!(leads_to(&world), ["api", "web-blue"], "nothing was changed");
    }
    // A class with the name of the controller, which another controller serves.
    with(json!({ "spec": { "ingressClassName": "alb" } }));
    assert_eq!(run(shop().switch("web-green", Some(&second))).await.1.unwrap().verdict(), Verdict::Deployed);
}

#[tokio::test(start_paused = true)]
async fn rejects_an_ingress_switch_to_an_unready_service() {
    let (world, second) = ingress_world().await;
    let shop = |services: [&str; 2]| world.namespace().ingress("shop", services, options()).container("web");
    let pair = ["web-blue", "web-green"];
    for (services, to, image, expected) in [
        (pair, "web-red", None, "web-red is not"),
        (["web-blue", "web-red"], "web-red", None, "service/web-red does not exist"),
        (["web-1", "web-2"], "web-2", None, "no backend web-1 or web-2; its backends are api, web-blue"),
        (pair, "web-green", Some(&world.first), "another digest runs"),
    ] {
        // The platforms of the first image are known, so another digest is a mismatch.
        let error = run(shop(services).switch(to, image)).await.1.unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
    }
    world.cluster.create(service("other-port", json!({ "app": "web", "slot": "green" })));
    let ports = json!({ "spec": { (PORTS): [{ "$patch": "delete", "port": 80 }, { "name": "https", "port": 443 }] } });
    world.cluster.patch("kubectl", "services", "prod", "other-port", &ports);
    let error = run(shop(["web-blue", "other-port"]).switch("other-port", None)).await.1.unwrap_err();
    assert!(error.to_string().contains("it has no port http"), "{error}");
    world.cluster.patch("kubectl", "deployments", "prod", "web-green", &json!({ "spec": { "replicas": 0 } }));
    settle().await;
    let error = run(shop(pair).switch("web-green", Some(&second))).await.1.unwrap_err();
    assert!(error.to_string().contains("no ready pod"), "{error}");
    assert_eq!(leads_to(&world), ["api", "web-blue"]);

    // Another client changes the backend between read and patch.
    let failed = json!({ "kind": "Status", "status": "Failure", "code": 422, "reason": "Invalid",
        "message": "the server rejected our request due to an error in our request: testing path failed" });
    world.sandbox.faults().inject(
        Fault::new(Effect::Answer { status: 422, headers: Vec::new(), body: failed.to_string() })
            .on("patch ingresses"),
    );
    world.cluster.patch("kubectl", "deployments", "prod", "web-green", &json!({ "spec": { "replicas": 1 } }));
    settle().await;
    let error = run(shop(pair).switch("web-green", Some(&second))).await.1.unwrap_err();
    assert!(matches!(error, TrafficError::Contended { .. }), "{error}");
}

#[tokio::test(start_paused = true)]
async fn accepts_the_longest_possible_deadline() {
    let world = world().await;
    let shop = shop_with(&world, Options::new(Duration::MAX).unwrap().take_over(true));
    let second = world.image("second", Behaviour::default());
    run(shop.stage(&second)).await.1.unwrap();
    run(shop.switch(&second)).await.1.unwrap();
    assert_eq!(run(shop.switch_back()).await.1.unwrap().verdict(), Verdict::Deployed);
}
