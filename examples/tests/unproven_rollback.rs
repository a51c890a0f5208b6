//! `deploy-ecs` and `dual-deploy` check before the first change that the revision to return to can still run.
#![cfg(feature = "sandbox")]

mod common;

use bp_examples::world::shop;
use common::Stage;
use serde_json::Value;

const REGISTRY: &str = "222222222222.dkr.ecr.eu-central-1.amazonaws.com";

#[tokio::test]
async fn an_archived_rollback_image_refuses_a_deployment_unless_it_is_accepted() {
    let stage = Stage::new().await;
    stage.built(&shop("2.0.0").build(), "2.0.0");
    let registry = stage.world.sandbox.registry(REGISTRY);
    let running = registry.tags("shop/web")["0.9.0"].clone();
    registry.archive("shop/web", &running);
    let before = stage.changes();

    let end = stage.run("deploy-ecs", &["--env", "staging"]).await;
    assert_eq!(end.code, 5, "{} {}", end.stdout, end.stderr);
    for part in ["could not be rolled back", "is archived and cannot be pulled", "--accept-unproven-rollback"]
    {
        assert!(end.stderr.contains(part), "{part}: {}", end.stderr);
    }
    let end = stage.run("deploy-ecs", &["--env", "staging", "--check", "--output", "json"]).await;
    assert_eq!(end.code, 5, "{} {}", end.stdout, end.stderr);
    let found: Value = serde_json::from_str(end.stdout.trim()).unwrap();
    let findings = found["data"]["preflight"]["rollback"]["findings"].as_array().unwrap();
    assert!(findings.iter().any(|finding| finding["state"] == "invalid"), "{findings:?}");
    let end = stage.run("dual-deploy", &["--env", "staging"]).await;
    assert_eq!(end.code, 5, "{} {}", end.stdout, end.stderr);
    assert!(!stage.path("receipt.json").exists(), "a refused run leaves no receipt");
    assert_eq!(stage.changes(), before, "nothing was changed");

    let end = stage.run("dual-deploy", &["--env", "staging", "--accept-unproven-rollback"]).await;
    assert_eq!(end.code, 0, "{} {}", end.stdout, end.stderr);
    let receipt: Value = serde_json::from_str(&stage.read("receipt.json")).unwrap();
    let targets = receipt["targets"].as_array().unwrap();
    let ecs = targets.iter().find(|target| target["target"].as_str().unwrap().starts_with("ecs/")).unwrap();
    assert_eq!(ecs["rollback"]["accepted"], true, "{ecs}");
    assert_eq!(ecs["rollback"]["revision"], ecs["previous"]);
    assert!(end.stderr.contains("rollback revision shop-web:1: INVALID: image "), "{}", end.stderr);
}
