//! Deployments and promotions wait for an image that does not exist yet.
#![cfg(feature = "sandbox")]

mod common;

use std::process::Stdio;

use bp_examples::world::shop;
use bp_sandbox::{Effect, Fault};
use common::{Ended, Stage};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};

/// Builds an image that is listed in the artifact but not pushed to any registry.
fn only_in_artifact(stage: &Stage) -> bp_sandbox::Image {
    let image = shop("3.0.0").build();
    stage.write_artifact(&image, "3.0.0");
    image
}

#[tokio::test]
async fn exits_with_7_and_changes_nothing_if_the_image_does_not_appear() {
    let stage = Stage::new().await;
    only_in_artifact(&stage);
    for (name, arguments) in [
        ("deploy-ecs", ["--env", "staging"]),
        ("deploy-eks", ["--env", "staging"]),
        ("dual-deploy", ["--env", "staging"]),
        ("promote", ["--to", "staging"]),
    ] {
        for wait in [["--image-timeout", "1s"], ["--set", "deploy.image-timeout=1s"]] {
            let end = stage.run(name, &[arguments, wait].concat()).await;
            assert_eq!(end.code, 7, "{name}: {end:?}");
            assert!(end.stderr.contains("not found after 1 s"), "{name}: {end:?}");
        }
    }
    // Read-only commands do not wait.
    for (name, arguments, code) in [
        ("deploy-ecs", &["--env", "staging", "--check"][..], 2),
        ("deploy-eks", &["--env", "staging", "--check"], 2),
        ("promote", &["--to", "staging", "--plan"], 2),
        ("verify", &["--env", "staging", "--only", "image"], 6),
    ] {
        let end = stage.run(name, arguments).await;
        assert_eq!(end.code, code, "{name}: {end:?}");
    }
    assert_eq!(stage.changes(), 0);
}

#[tokio::test]
async fn a_deployment_starts_when_the_image_appears() {
    let stage = Stage::new().await;
    let image = only_in_artifact(&stage);
    let mut command = stage.command("dual-deploy", &["--env", "staging", "--image-timeout", "2m"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let title = lines.next_line().await.unwrap().unwrap();
    assert_eq!(title, "== Deploy to staging");
    let first = lines.next_line().await.unwrap().unwrap();
    assert!(first.starts_with("  waiting up to 120s for 222222222222.dkr"), "{first}");
    let staging = stage.world.config.environments()[1].registry().clone();
    stage.world.sandbox.registry(staging.as_str()).push(&image, "shop/web", "3.0.0");
    let mut rest = String::new();
    lines.into_inner().read_to_string(&mut rest).await.unwrap();
    let code = child.wait().await.unwrap().code();
    assert_eq!(code, Some(0), "{rest}");
}

#[tokio::test]
async fn rejected_credentials_end_the_wait_immediately() {
    let stage = Stage::new().await;
    only_in_artifact(&stage);
    let body = serde_json::json!({ "__type": "ExpiredTokenException", "message": "The token is expired" });
    let headers = vec![("content-type".to_owned(), "application/x-amz-json-1.1".to_owned())];
    let answer = Effect::Answer { status: 400, headers, body: body.to_string() };
    stage.world.sandbox.faults().inject(Fault::new(answer).on("ecr:BatchGetImage").times(u32::MAX));
    let start = tokio::time::Instant::now();
    let end: Ended = stage.run("deploy-ecs", &["--env", "staging", "--image-timeout", "10m"]).await;
    assert_eq!(end.code, 7, "{end:?}");
    assert!(end.stderr.contains("credentials") && !end.stderr.contains("waiting up to"), "{end:?}");
    assert!(start.elapsed() < std::time::Duration::from_secs(60));
}

#[cfg(unix)]
#[tokio::test]
async fn sigint_and_sigterm_exit_with_130_and_143() {
    let stage = Stage::new().await;
    only_in_artifact(&stage);
    for (signal, code) in [("-INT", 130), ("-TERM", 143)] {
        let mut command = stage.command("deploy-eks", &["--env", "staging", "--image-timeout", "10m"]);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        while !lines
            .next_line()
            .await
            .unwrap()
            .expect("the wait is reported")
            .starts_with("  waiting up to 600s")
        {}
        let pid = child.id().unwrap().to_string();
        assert!(std::process::Command::new("kill").args([signal, &pid]).status().unwrap().success());
        assert_eq!(child.wait().await.unwrap().code(), Some(code), "{signal}");
        let mut rest = String::new();
        lines.into_inner().read_to_string(&mut rest).await.unwrap();
        let last = rest.lines().last().unwrap_or_default();
        assert!(last.contains("interrupted") && last.contains("rerun the same command"), "{rest}");
    }
}
