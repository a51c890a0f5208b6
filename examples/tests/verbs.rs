//! `status`, `wait`, `--no-wait`, `rollback` without a receipt, and the receipt of every deployment.
#![cfg(feature = "sandbox")]

mod common;

use bp_artifact::{
    Verdict,
    deploy::{Receipt, ReceiptState},
};
use bp_examples::world::shop;
use common::Stage;
use serde_json::{Value, json};

const STAGING: (&str, &str) = ("222222222222", "staging");
const ENV: &[&str] = &["--env", "staging"];

fn receipt(stage: &Stage) -> Receipt {
    Receipt::read(stage.path("receipt.json")).unwrap()
}

/// Builds an image that exits at startup.
fn build_broken(stage: &Stage) {
    stage.built(&shop("1.1.0").label("dev.bp-sandbox.behaviour", "exit:78").build(), "1.1.0");
}

#[tokio::test]
async fn a_deployment_to_one_platform_writes_a_receipt_that_rollback_accepts() {
    let stage = Stage::new().await;
    let before = stage.running(STAGING.0, STAGING.1);
    for (name, target) in
        [("deploy-ecs", "ecs/staging/shop-web"), ("deploy-eks", "eks/staging/shop/deployment/web")]
    {
        // A rerun keeps the recorded rollback revision.
        for run in ["first", "rerun"] {
            let end = stage.run(name, ENV).await;
            assert_eq!(end.code, 0, "{name}, {run}: {end:?}");
            assert!(end.stderr.contains("recorded in receipt.json"), "{end:?}");
        }
        let written = receipt(&stage);
        assert_eq!((written.state, written.verdict), (ReceiptState::Finished, Some(Verdict::Deployed)));
        assert_eq!((written.targets.len(), written.targets[0].target.as_str()), (1, target));

        let changes = stage.changes();
        let check = stage.run("rollback", &[ENV, &["--check"]].concat()).await;
        assert_eq!((check.code, stage.changes()), (0, changes), "{check:?}");
        let previous = written.targets[0].previous.short_id();
        assert!(check.stdout.starts_with(target), "{check:?}");
        assert!(check.stdout.contains(&format!("(stable) -> {previous}\n")), "{check:?}");
        let end = stage.run("rollback", ENV).await;
        assert_eq!(end.code, 0, "{name}: {end:?}");
        assert_eq!(stage.running(STAGING.0, STAGING.1), before, "{name}");
    }
}

#[tokio::test]
async fn a_receipt_that_cannot_be_written_fails_before_the_first_change() {
    let stage = Stage::new().await;
    for name in ["deploy-ecs", "deploy-eks", "dual-deploy"] {
        let end = stage.run(name, &[ENV, &["--receipt", "absent/receipt.json"]].concat()).await;
        assert_eq!((end.code, stage.changes()), (7, 0), "{name}: {end:?}");
        assert!(end.stderr.contains("cannot write absent/receipt.json"), "{name}: {end:?}");
    }
}

#[tokio::test]
async fn an_unfinished_receipt_of_another_platform_is_not_overwritten() {
    let stage = Stage::new().await;
    let end = stage.run("deploy-ecs", &[ENV, &["--no-wait"]].concat()).await;
    assert_eq!(end.code, 0, "{end:?}");
    let end = stage.run("deploy-eks", ENV).await;
    assert_eq!(end.code, 5, "{end:?}");
    for part in ["ecs/staging/shop-web", "--receipt"] {
        assert!(end.stderr.contains(part), "{part}: {end:?}");
    }
    let end = stage.run("deploy-eks", &[ENV, &["--receipt", "eks.json"]].concat()).await;
    assert_eq!(end.code, 0, "{end:?}");
}

#[tokio::test]
async fn shifting_traffic_writes_a_receipt_that_rollback_accepts() {
    let stage = Stage::new().await;
    stage.weighted_front();
    let now = || stage.weights();
    let pair = ["--object", "httproute/shop", "--services", "front-blue,front-green"];
    let end = stage.run("switch-traffic", &[ENV, &["shift"], &pair].concat()).await;
    assert_eq!((end.code, now()), (5, [100, 0]), "the rules are kubectl's: {end:?}");
    // The pair is in bp.toml from here on: rollback finds it there.
    let text = std::fs::read_to_string(stage.path("bp.toml")).unwrap();
    let traffic = "traffic.object = \"httproute/shop\"\ntraffic.services = \"front-blue, front-green\"\n";
    let changed = text.replacen("[environment.eks]\n", &format!("[environment.eks]\n{traffic}"), 1);
    assert_ne!(text, changed);
    stage.write("bp.toml", &changed);
    let take_over = [ENV, &["--take-over"]].concat();
    let end = stage.run("switch-traffic", &[&take_over[..], &["shift", "--steps", "50,100"]].concat()).await;
    assert_eq!((end.code, now()), (0, [0, 100]), "{end:?}");
    let written = receipt(&stage);
    assert_eq!(written.targets[0].target.as_str(), "eks/staging/shop/httproute/shop");
    assert_eq!(written.targets[0].previous.id, "front-blue");
    let end = stage.run("switch-traffic", &[ENV, &["shift", "--show"]].concat()).await;
    assert!(end.code == 0 && end.stdout.contains("front-green: 100 % (weight 100)"), "{end:?}");
    let end = stage.run("rollback", ENV).await;
    assert_eq!((end.code, now()), (0, [100, 0]), "{end:?}");
    let end = stage.run("switch-traffic", &[ENV, &["shift", "--return"]].concat()).await;
    assert_eq!((end.code, now()), (0, [100, 0]), "nothing is left to return: {end:?}");
}

#[tokio::test]
async fn switching_traffic_writes_a_receipt_that_rollback_accepts() {
    let stage = Stage::new().await;
    let cluster = stage.world.sandbox.cluster("staging");
    let host = stage.world.config.environments()[1].registry().clone();
    let image = shop("0.8.0").build();
    stage.world.sandbox.registry(host.as_str()).push(&image, "shop/web", "0.8.0");
    let labels = json!({ "app": "front", "slot": "blue" });
    cluster.create(json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": { "name": "front-blue", "namespace": "shop" },
        "spec": {
            "replicas": 1,
            "selector": { "matchLabels": labels },
            "template": { "metadata": { "labels": labels }, "spec": { "containers": [
                { "name": "web", "image": format!("{host}/shop/web@{}", image.digest()) },
            ] } },
        },
    }));
    cluster.create(json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": { "name": "front", "namespace": "shop" },
        "spec": { "selector": labels, "ports": [{ "port": 80 }] },
    }));
    stage.world.sandbox.clock().advance(std::time::Duration::from_secs(60));
    let front = [ENV, &["--kubernetes-service", "front", "--take-over"]].concat();
    for command in ["stage", "switch"] {
        let end = stage.run("switch-traffic", &[&front[..], &[command]].concat()).await;
        assert_eq!(end.code, 0, "{command}: {end:?}");
        let written = receipt(&stage);
        assert_eq!(written.targets[0].target.as_str(), "eks/staging/shop/service/front");
        assert_eq!(written.targets[0].previous.id, "blue", "{command}");
    }
    let slots = ["--kubernetes-service", "front", "--slots", "blue=front-blue,green=front-green", "status"];
    let end = stage.run("switch-traffic", &[ENV, &slots].concat()).await;
    assert!(end.code == 0 && end.stdout.contains("live: green"), "{end:?}");
    let end = stage.run("rollback", &[ENV, &["--take-over"]].concat()).await;
    assert_eq!(end.code, 0, "{end:?}");
    let service = cluster.object("services", "shop", "front").unwrap();
    assert_eq!(service["spec"]["selector"]["slot"], "blue");
}

#[tokio::test]
async fn no_wait_starts_a_deployment_and_wait_proves_it() {
    for (name, started) in [("deploy-ecs", "ecs-svc/"), ("deploy-eks", "generation ")] {
        let stage = Stage::new().await;
        let end = stage.run(name, &[ENV, &["--no-wait"]].concat()).await;
        assert_eq!(end.code, 0, "{name}: {end:?}");
        for part in [started, "is not watched", "no digest is proven", "`wait`"] {
            assert!(end.stdout.contains(part), "{part}: {end:?}");
        }
        assert_eq!((receipt(&stage).state, receipt(&stage).verdict), (ReceiptState::Started, None));
        let changes = stage.changes();
        let end = stage.run("wait", &[ENV, &["--receipt", "receipt.json"]].concat()).await;
        assert_eq!((end.code, stage.changes()), (0, changes), "{name}: {end:?}");
        let written = receipt(&stage);
        assert_eq!((written.state, written.verdict), (ReceiptState::Finished, Some(Verdict::Deployed)));
        assert!(!written.targets[0].outcome.as_ref().unwrap().proof.is_empty());
        // A rerun finds that nothing has to change, which is proven even without waiting.
        let end = stage.run(name, &[ENV, &["--no-wait"]].concat()).await;
        assert!(end.code == 0 && !end.stdout.contains("is not watched"), "{name}: {end:?}");
    }
}

#[tokio::test]
async fn wait_reports_a_failure_with_the_exit_code_of_a_deployment() {
    // The circuit breaker of the service rolls back.
    let stage = Stage::new().await;
    build_broken(&stage);
    let end = stage.run("deploy-ecs", &[ENV, &["--no-wait"]].concat()).await;
    assert_eq!(end.code, 0, "{end:?}");
    let changes = stage.changes();
    let end = stage.run("wait", &[ENV, &["--receipt", "receipt.json"]].concat()).await;
    assert_eq!((end.code, stage.changes()), (3, changes), "{end:?}");
    assert!(end.stderr.contains("FAILING") && end.stderr.contains("exit code 78"), "{end:?}");
    assert_eq!(receipt(&stage).verdict, Some(Verdict::RolledBack));

    // Kubernetes does not roll back.
    let before = stage.running(STAGING.0, STAGING.1);
    let end = stage.run("deploy-eks", &[ENV, &["--no-wait"]].concat()).await;
    assert_eq!(end.code, 0, "{end:?}");
    let end = stage.run("wait", ENV).await;
    assert_eq!(end.code, 4, "{end:?}");
    assert!(end.stdout.contains("failed and not rolled back"), "{end:?}");
    let end = stage.run("wait", &[ENV, &["--rollback-on-failure"]].concat()).await;
    assert_eq!(end.code, 3, "{end:?}");
    assert_eq!(stage.running(STAGING.0, STAGING.1).1, before.1);
}

#[tokio::test]
async fn rolls_back_to_the_previous_revisions_without_a_receipt() {
    let stage = Stage::new().await;
    let before = stage.running(STAGING.0, STAGING.1);
    let end = stage.run("rollback", ENV).await;
    assert_eq!((end.code, stage.changes()), (5, 0), "{end:?}");
    assert!(end.stderr.contains("\"shop-web\" has no earlier revision to roll back to"), "{end:?}");
    let end = stage.run("dual-deploy", ENV).await;
    assert_eq!(end.code, 0, "{end:?}");
    let deployed = stage.running(STAGING.0, STAGING.1);
    std::fs::remove_file(stage.path("receipt.json")).unwrap();

    let changes = stage.changes();
    let end = stage.run("rollback", &[ENV, &["--check"]].concat()).await;
    assert_eq!((end.code, stage.changes()), (0, changes), "{end:?}");
    assert!(end.stdout.contains("ecs/staging/shop-web: shop-web:2 (stable) -> shop-web:1\n"), "{end:?}");
    assert!(!stage.path("receipt.json").exists());
    let end = stage.run("rollback", ENV).await;
    assert_eq!(end.code, 0, "{end:?}");
    assert!(end.stderr.contains("no receipt.json"), "{end:?}");
    assert_eq!(stage.running(STAGING.0, STAGING.1), before);
    assert_eq!(receipt(&stage).verdict, Some(Verdict::RolledBack));

    // A rerun continues with the receipt of the rollback, and does not return to the newer revision.
    let end = stage.run("rollback", ENV).await;
    assert_eq!(end.code, 0, "{end:?}");
    assert_eq!(stage.running(STAGING.0, STAGING.1), before);
    let end = stage.run("rollback", &[ENV, &["--no-receipt"]].concat()).await;
    assert_eq!(end.code, 0, "{end:?}");
    assert_eq!(stage.running(STAGING.0, STAGING.1), deployed);
}

#[tokio::test]
async fn status_shows_what_runs_and_what_to_do_next() {
    let stage = Stage::new().await;
    let end = stage.run("status", ENV).await;
    assert_eq!(end.code, 0, "{end:?}");
    for part in [
        "ecs/staging/shop-web: ACTIVE, 2/2 running, revision shop-web:1",
        "eks/staging/shop/deployment/web: complete, ",
        "  container web: 222222222222.dkr.ecr",
        " running sha256:",
    ] {
        assert!(end.stdout.contains(part), "{part}: {end:?}");
    }
    assert!(!end.stdout.contains("next: "), "{end:?}");

    build_broken(&stage);
    let end = stage.run("deploy-ecs", &[ENV, &["--no-wait"]].concat()).await;
    assert_eq!(end.code, 0, "{end:?}");
    let end = stage.run("status", &[ENV, &["--output", "json"]].concat()).await;
    assert_eq!(end.code, 0, "{end:?}");
    let first: Value = serde_json::from_str(end.stdout.lines().next().unwrap()).unwrap();
    assert_eq!(first["data"]["status"]["deployments"][0]["inProgress"], true, "{first}");
    assert!(first["data"]["next"].as_str().unwrap().contains("wait"), "{first}");
    let end = stage.run("wait", ENV).await;
    assert_eq!(end.code, 3, "{end:?}");
    let end = stage.run("status", ENV).await;
    assert!(end.code == 0 && end.stdout.contains("exit code 78"), "{end:?}");
    let end = stage.run("status", &["--env", "dev"]).await;
    assert_eq!(end.code, 2, "{end:?}");
}
