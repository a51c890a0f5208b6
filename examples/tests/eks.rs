//! `deploy-eks`: images of a single platform, as produced by `docker build && docker push`; the options of bp.toml.
#![cfg(feature = "sandbox")]

mod common;

use bp_sandbox::{Effect, Fault};
use common::Stage;
use serde_json::json;

/// Pushes an image of one platform to the registry of staging, and runs `deploy-eks --check` with it.
async fn dry_run(stage: &Stage, platform: &str) -> common::Ended {
    let staging = stage.world.config.environments()[1].clone();
    let image = bp_sandbox::ImageBuilder::new().platform(platform).layer([("app", platform)]).build();
    stage.world.sandbox.registry(staging.registry().as_str()).push(&image, "shop/web", "single");
    let reference = format!("{}@{}", staging.services()[0].repository, image.digest());
    stage.run("deploy-eks", &["--env", "staging", "--image", &reference, "--take-over", "--check"]).await
}

#[tokio::test]
async fn checks_a_single_platform_image_by_its_configuration() {
    let stage = Stage::new().await;
    // The nodes are linux/amd64.
    let end = dry_run(&stage, "linux/amd64").await;
    assert_eq!(end.code, 0, "{}{}", end.stdout, end.stderr);
    assert!(!end.stdout.contains("architecture"), "{}", end.stdout);
    for platform in ["linux/arm64", "windows/amd64"] {
        let end = dry_run(&stage, platform).await;
        assert_eq!(end.code, 5, "{platform}: {}{}", end.stdout, end.stderr);
        let expected = format!("built for {platform}");
        assert!(end.stdout.contains(&expected) && end.stdout.contains("linux/amd64"), "{}", end.stdout);
    }
}

#[tokio::test]
async fn an_unreadable_image_configuration_is_reported_and_does_not_fail_the_check() {
    let stage = Stage::new().await;
    let denied = Effect::Answer { status: 403, headers: Vec::new(), body: String::new() };
    stage.world.sandbox.faults().inject(Fault::new(denied).on("GET blob").times(u32::MAX));
    let end = dry_run(&stage, "linux/arm64").await;
    assert_eq!(end.code, 0, "{}{}", end.stdout, end.stderr);
    assert!(end.stdout.contains("not known"), "{}", end.stdout);
}

#[tokio::test]
async fn a_workload_scaled_to_zero_is_deployed_if_bp_toml_allows_it() {
    let stage = Stage::new().await;
    let cluster = stage.world.sandbox.cluster("staging");
    cluster.patch("keda", "deployments", "shop", "web", &json!({ "spec": { "replicas": 0 } }));
    let deploy = ["--env", "staging", "--take-over"];
    let end = stage.run("deploy-eks", &deploy).await;
    assert_eq!(end.code, 6, "{}{}", end.stdout, end.stderr);
    assert!(end.stdout.contains("0 replicas"), "{}", end.stdout);
    let end = stage.run("deploy-eks", &[&deploy[..], &["--set", "eks.allow-no-replicas=on"]].concat()).await;
    assert_eq!(end.code, 0, "{}{}", end.stdout, end.stderr);
    assert!(end.stdout.contains("0 replicas"), "{}", end.stdout);
}

#[tokio::test]
async fn a_workload_of_an_operator_is_changed_if_bp_toml_allows_it() {
    let stage = Stage::new().await;
    let owner = json!([{ "apiVersion": "apps.example.com/v1", "kind": "Shop", "name": "shop", "uid": "1", "controller": true }]);
    let cluster = stage.world.sandbox.cluster("staging");
    cluster.patch(
        "operator",
        "deployments",
        "shop",
        "web",
        &json!({ "metadata": { "ownerReferences": owner } }),
    );
    let deploy = ["--env", "staging", "--take-over"];
    let end = stage.run("deploy-eks", &deploy).await;
    assert_eq!(end.code, 5, "{}{}", end.stdout, end.stderr);
    assert!(end.stderr.contains("Shop/shop") && end.stderr.contains("eks.allow-owner"), "{}", end.stderr);
    let end = stage.run("deploy-eks", &[&deploy[..], &["--set", "eks.allow-owner=on"]].concat()).await;
    assert_eq!(end.code, 0, "{}{}", end.stdout, end.stderr);
}
