//! `deploy-eks --check`: images of a single platform, as produced by `docker build && docker push`.
#![cfg(feature = "sandbox")]

mod common;

use bp_sandbox::{Effect, Fault};
use common::Stage;

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
