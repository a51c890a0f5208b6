//! Tests of Amazon ECR's own API: the real SDK client against the in-memory sandbox.
#![cfg(feature = "ecr")]

mod common;

use std::time::Duration;

use bp_artifact::error::Classified as _;
use bp_promote::{CopyError, Journal, copy::CopyOutcome, registry::RegistryClientBuilder};
use bp_sandbox::{Effect, Fault, ImageBuilder};
use common::{
    ecr::{PROD, STAGING},
    *,
};

fn world() -> World {
    world_with(|builder| builder)
}

fn world_with(describe: impl FnOnce(RegistryClientBuilder) -> RegistryClientBuilder) -> World {
    let world = common::ecr::world(describe);
    world.sandbox.registry(PROD).create_repository("shop/web");
    world
}

#[tokio::test(start_paused = true)]
async fn copies_between_accounts_and_regions_with_separate_roles() {
    let world = world();
    let (from, to) = (format!("{STAGING}/shop/web:v1"), format!("{PROD}/shop/web:v1"));
    let report = world.copy_as(&from, &to).await.unwrap();
    assert_eq!(report.outcome, CopyOutcome::Copied);
    assert_eq!(world.sandbox.registry(PROD).tags("shop/web")["v1"], multi().digest());
    let logins = || world.sandbox.ledger().count_of("ecr:GetAuthorizationToken");
    assert_eq!(logins(), 2, "one per registry");
    assert_eq!(world.sandbox.ledger().count(|entry| entry.status == Some(401)), 0);

    // Both logins expire after twelve hours, and are renewed before the next request.
    tokio::time::sleep(Duration::from_secs(12 * 3600)).await;
    assert_eq!(world.copy_as(&from, &to).await.unwrap().outcome, CopyOutcome::Unchanged);
    assert_eq!(logins(), 4);
    assert_eq!(world.sandbox.ledger().count(|entry| entry.status == Some(403)), 0);
}

#[tokio::test(start_paused = true)]
async fn retries_api_failures_and_reports_denials() {
    let world = world();
    let (from, to) = (format!("{STAGING}/shop/web:v1"), format!("{PROD}/shop/web:v1"));
    world.sandbox.faults().inject(Fault::status(500).on("ecr:GetAuthorizationToken"));
    world.copy_as(&from, &to).await.unwrap();

    let world = self::world();
    let body = r#"{"__type":"AccessDeniedException","message":"not authorized to perform ecr:GetAuthorizationToken"}"#;
    let denied = Effect::Answer { status: 400, headers: Vec::new(), body: body.into() };
    world.sandbox.faults().inject(Fault::new(denied).on("ecr:GetAuthorizationToken").times(100));
    let error = world.copy_as(&from, &to).await.unwrap_err();
    assert!(matches!(&error, CopyError::Source { .. } | CopyError::Destination { .. }), "{error:?}");
    assert!(!error.is_retryable());
    let mut chain = Vec::new();
    let mut next: Option<&dyn std::error::Error> = Some(&error);
    while let Some(error) = next {
        chain.push(error.to_string());
        next = error.source();
    }
    let text = chain.join(": ");
    assert!(
        text.contains("no credentials for")
            && text.contains("ecr:GetAuthorizationToken returned no credentials"),
        "{text}"
    );
    assert!(text.contains("AccessDeniedException"), "{text}");
}

const CHECK: &str = "ecr:BatchCheckLayerAvailability";

#[tokio::test(start_paused = true)]
async fn checks_a_hundred_layers_with_one_call() {
    for (layers, calls) in [(99, 1), (150, 2)] {
        let world = world();
        let image = (0..layers)
            .fold(ImageBuilder::new(), |image, n| image.layer([(format!("f{n}"), n.to_string())]))
            .build();
        world.sandbox.registry(STAGING).push(&image, "shop/web", "wide");
        // Some of its layers exist.
        for blob in &image.blobs()[..10] {
            world.sandbox.registry(PROD).put_blob("shop/web", blob.clone());
        }
        let (from, to) = (format!("{STAGING}/shop/web:wide"), format!("{PROD}/shop/web:wide"));
        let report = world.copy_as(&from, &to).await.unwrap();
        assert_eq!((report.blobs.sent, report.blobs.present), (layers + 1 - 10, 10));
        assert_eq!(world.sandbox.ledger().count_of(CHECK), calls);
        assert_eq!(world.sandbox.ledger().count_of("HEAD blob"), 0);
        let blobs = report.blobs.sent * 2;
        assert_eq!(
            report.destination_requests,
            3 + calls as u64 + blobs + 1,
            "HEAD, first PUT, list, checks, PUT"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn tags_existing_content_with_two_requests() {
    let world = world();
    let (from, to) = (format!("{STAGING}/shop/web:v1"), format!("{PROD}/shop/web:v1"));
    world.copy_as(&from, &to).await.unwrap();
    let report = world.copy_as(&from, &format!("{PROD}/shop/web:v2")).await.unwrap();
    assert_eq!((report.outcome, report.destination_requests), (CopyOutcome::Tagged, 2));
}

#[tokio::test(start_paused = true)]
async fn checks_layers_one_by_one_without_permission_for_the_api() {
    let world = world();
    let body = r#"{"__type":"AccessDeniedException","message":"no"}"#;
    let denied = Effect::Answer { status: 400, headers: Vec::new(), body: body.into() };
    world.sandbox.faults().inject(Fault::new(denied).on(CHECK).times(100));
    let (from, to) = (format!("{STAGING}/shop/web:v1"), format!("{PROD}/shop/web:v1"));
    let report = world.copy_as(&from, &to).await.unwrap();
    assert_eq!((report.blobs.sent, world.sandbox.ledger().count_of("HEAD blob")), (5, 5));
}

#[tokio::test(start_paused = true)]
async fn resumes_an_interrupted_multipart_upload() {
    const PART: &str = "ecr:UploadLayerPart";
    let directory = tempfile::tempdir().unwrap();
    let journal = Journal::open(directory.path().join("journal")).unwrap();
    let world = world_with(|builder| builder.ecr_parts().journal(journal));
    let image = large(11 << 20);
    world.sandbox.registry(STAGING).push(&image, "shop/web", "big");
    // The source stalls permanently after the first part.
    let stalled = Effect::Stall((10 << 20) + 1, Duration::from_secs(86_400));
    world.sandbox.faults().inject(Fault::new(stalled).at(STAGING).on("GET blob").times(100));
    let (from, to) = (format!("{STAGING}/shop/web:big"), format!("{PROD}/shop/web:big"));
    let _ = tokio::time::timeout(Duration::from_secs(5), world.copy_as(&from, &to)).await.unwrap_err();
    world.sandbox.faults().clear();
    // One part is the configuration.
    assert_eq!(world.sandbox.ledger().count_of(PART), 2);
    world.copy_as(&from, &to).await.unwrap();
    assert_eq!(world.sandbox.ledger().count_of(PART), 3, "only the second part is sent");
    let registry = world.sandbox.registry(PROD);
    for blob in image.blobs() {
        let digest = bp_artifact::Digest::sha256(blob);
        assert_eq!(registry.blob("shop/web", digest.as_str()).as_ref(), Some(blob));
    }
    assert_eq!(world.sandbox.ledger().count_of("PUT upload"), 0);
}
