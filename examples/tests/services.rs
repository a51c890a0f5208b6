//! Several services in one project: selected by name, deployed in one saga, rolled back together.
#![cfg(feature = "sandbox")]

mod common;

use bp_artifact::deploy::Receipt;
use bp_examples::world::version_of;
use common::Stage;

const ALL: &[&str] = &["--env", "staging", "--all"];

/// Builds both services; web fails at startup.
fn break_web(stage: &Stage) {
    let build = |service: &str| match service {
        "web" => version_of(service, "1.1.0").label("dev.bp-sandbox.behaviour", "exit:78").build(),
        _ => version_of(service, "1.1.0").build(),
    };
    stage.built_services(build, "1.1.0");
}

fn running(stage: &Stage) -> [Vec<String>; 3] {
    stage.world.sandbox.clock().advance(std::time::Duration::from_secs(60));
    let ecs = stage.world.sandbox.aws().ecs("222222222222", "eu-central-1");
    let digests = |name: &str| {
        ecs.service("staging", name).running().into_iter().map(|container| container.digest).collect()
    };
    [
        digests("shop-web"),
        digests("shop-worker"),
        stage.world.sandbox.cluster("staging").running("shop", "web"),
    ]
}

#[tokio::test]
async fn requires_the_selection_of_an_existing_service() {
    let stage = Stage::of_services().await;
    for (name, arguments, message) in [
        ("dual-deploy", &[][..], "has the services web, worker: choose with --service NAME or --all"),
        ("deploy-ecs", &[], "has the services web, worker: choose with --service"),
        ("dual-deploy", &["--service", "wrker"], "has no service \"wrker\"; it has web, worker"),
        ("deploy-eks", &["--service", "worker"], "the service worker has no eks target in staging"),
        ("dual-deploy", &["--service", "web", "--all"], "cannot be used with"),
    ] {
        let end = stage.run(name, &[&["--env", "staging"], arguments].concat()).await;
        assert!(end.code == 2 && end.stderr.contains(message), "{name} {arguments:?}: {end:?}");
    }
    assert_eq!(stage.changes(), 0);
}

#[tokio::test]
async fn deploys_all_services_in_order_and_rolls_them_back_together() {
    let stage = Stage::of_services().await;
    let before = running(&stage);
    let end = stage.run("dual-deploy", ALL).await;
    assert_eq!(end.code, 0, "{}", end.stderr);
    let at = |text: &str| end.stderr.find(text).unwrap_or_else(|| panic!("{text}: {}", end.stderr));
    assert!(
        at("ecs/shop-worker: deployed") < at("ecs/shop-web: started"),
        "web is after worker: {}",
        end.stderr
    );
    let receipt = Receipt::read(stage.path("receipt.json")).unwrap();
    assert_eq!(receipt.targets.len(), 3);
    let images: std::collections::BTreeSet<_> = receipt
        .targets
        .iter()
        .map(|entry| receipt.image_of(&entry.target).unwrap().digest().clone())
        .collect();
    assert_eq!(images.len(), 2);
    let end = stage.run("verify", &["--env", "staging"]).await;
    let rollouts = end.stdout.lines().filter(|line| line.contains("  rollout  ")).count();
    assert_eq!((end.code, rollouts), (0, 3), "{end:?}");

    let good = running(&stage);
    assert_ne!(good, before);
    break_web(&stage);
    let end = stage.run("dual-deploy", ALL).await;
    assert_eq!(end.code, 3, "{}", end.stderr);
    assert!(end.stderr.contains("rolling back every target"), "{}", end.stderr);
    assert_eq!(running(&stage), good, "worker was rolled back with web");

    // `limits.failures` as a percentage.
    let percentage = ["--env", "staging", "--service", "web", "--set", "limits.failures=50%"];
    for name in ["deploy-eks", "deploy-ecs"] {
        let end = stage.run(name, &percentage).await;
        assert_eq!(end.code, 3, "{name}: {}", end.stderr);
    }
    assert_eq!(running(&stage), good);

    // Deploying one service does not change the other.
    let end = stage.run("dual-deploy", &["--env", "staging", "--service", "worker"]).await;
    assert_eq!(end.code, 0, "{}", end.stderr);
    let now = running(&stage);
    assert!(now[0] == good[0] && now[1] != good[1], "{now:?}");
    let end = stage.run("verify", &["--env", "staging"]).await;
    assert_eq!(end.code, 6, "web does not run the artifact's image: {}", end.stdout);
    let end = stage.run("rollback", &["--env", "staging"]).await;
    assert_eq!(end.code, 0, "{}", end.stderr);
    assert!(end.stdout.contains("rolled back to the previous revisions"), "{}", end.stdout);
    assert_eq!(running(&stage), good);
}

#[tokio::test]
async fn emits_images_of_services_separately_and_promotes_them_together() {
    let stage = Stage::of_services().await;
    let dev = &stage.world.config.environments()[0];
    std::fs::remove_file(stage.path("artifact.json")).unwrap();
    let emit = async |service: &bp_artifact::config::ServiceConfig| {
        let name = service.name.as_ref().unwrap().as_str();
        let image = version_of(name, "2.0.0").build();
        let registry = stage.world.sandbox.registry(dev.registry().as_str());
        registry.push(&image, service.repository.path(), "2.0.0");
        let pushed = format!("{}:2.0.0", service.repository);
        let emit = ["--env", "dev", "--service", name, "--image", &pushed, "--commit", "1a2b3c4"];
        let end = stage.run("emit-artifact", &emit).await;
        assert_eq!(end.code, 0, "{}", end.stderr);
    };
    // Two programs at the same time, one file.
    let [web, worker] = dev.services() else { panic!("two services") };
    tokio::join!(emit(web), emit(worker));
    let artifact = bp_artifact::Artifact::read(stage.path("artifact.json")).unwrap();
    assert_eq!(artifact.images.keys().map(|name| name.as_str()).collect::<Vec<_>>(), ["web", "worker"]);

    let end = stage.run("promote", &["--to", "staging", "--all"]).await;
    assert_eq!((end.code, end.stdout.lines().count()), (0, 2), "{}", end.stderr);
    let staging = &stage.world.config.environments()[1];
    for service in staging.services() {
        let registry = stage.world.sandbox.registry(staging.registry().as_str());
        assert!(registry.tags(service.repository.path()).contains_key("2.0.0"), "{:?}", service.name);
    }
}

#[tokio::test]
async fn assumes_each_role_once_per_run() {
    let stage = Stage::of_services().await;
    let assumed = |before: usize| stage.world.sandbox.ledger().count_of("sts:AssumeRole") - before;
    for (name, arguments, roles) in [
        ("dual-deploy", ALL, 1),
        ("verify", &["--env", "staging"], 1),
        ("promote", &["--to", "prod", "--all"], 2),
    ] {
        let before = stage.world.sandbox.ledger().count_of("sts:AssumeRole");
        let end = stage.run(name, arguments).await;
        assert_eq!((end.code, assumed(before)), (0, roles), "{name}: {}", end.stderr);
    }
}

#[tokio::test]
async fn shows_and_checks_settings_of_services() {
    let stage = Stage::of_services().await;
    let end = stage.run("config", &["check"]).await;
    assert_eq!(end.stdout.trim(), "shop: dev -> staging -> prod; services web, worker", "{end:?}");
    let end = stage.run("config", &["show", "--env", "prod", "--output", "json"]).await;
    let line: serde_json::Value = serde_json::from_str(end.stdout.trim()).unwrap();
    let services = line["data"][0]["services"].as_array().unwrap();
    assert_eq!(services.len(), 2);
    let cpu = services[1]["settings"].as_array().unwrap().iter().find(|row| row["key"] == "ecs.cpu").unwrap();
    assert_eq!(cpu["value"], "512");
}
