//! `deploy-eks` before anything is changed: images of one platform, as `docker build && docker push` makes them.
#![cfg(feature = "sandbox")]

mod common;

use bp_sandbox::{Effect, Fault};
use common::Stage;

/// Pushes an image of one platform to staging's registry, and runs a dry run of it there.
async fn dry_run(stage: &Stage, platform: &str) -> common::Ended {
    let staging = stage.world.config.environments()[1].clone();
    let image = bp_sandbox::ImageBuilder::new().platform(platform).layer([("app", platform)]).build();
    stage.world.sandbox.registry(staging.registry().as_str()).push(&image, "shop/web", "single");
    let reference = format!("{}@{}", staging.services()[0].repository, image.digest());
    stage.run("deploy-eks", &["--env", "staging", "--image", &reference, "--take-over", "--check"]).await
}

#[tokio::test]
async fn an_image_of_one_platform_is_judged_by_its_configuration() {
    let stage = Stage::new().await;
    // The nodes are linux/amd64.
    let end = dry_run(&stage, "linux/amd64").await;
    assert_eq!(end.code, 0, "{}{}", end.stdout, end.stderr);
    assert!(!end.stdout.contains("architecture"), "{}", end.stdout);
    for platform in ["linux/arm64", "windows/amd64"] {
        let end = dry_run(&stage, platform).await;
        assert_eq!(end.code, 5, "{platform}: {}{}", end.stdout, end.stderr);
        let said = format!("built for {platform}");
        assert!(end.stdout.contains(&said) && end.stdout.contains("linux/amd64"), "{}", end.stdout);
    }
}

#[tokio::test]
async fn a_configuration_that_cannot_be_read_is_said_and_refuses_nothing() {
    let stage = Stage::new().await;
    let denied = Effect::Answer { status: 403, headers: Vec::new(), body: String::new() };
    stage.world.sandbox.faults().inject(Fault::new(denied).on("GET blob").times(u32::MAX));
    let end = dry_run(&stage, "linux/arm64").await;
    assert_eq!(end.code, 0, "{}{}", end.stdout, end.stderr);
    assert!(end.stdout.contains("not known"), "{}", end.stdout);
}
