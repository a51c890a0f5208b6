//! The resolver for Amazon ECR: the real SDK client against the in-memory sandbox.
#![cfg(feature = "ecr")]

use std::{error::Error as _, time::Duration};

use aws_sdk_ecr::{
    Client,
    config::{BehaviorVersion, Credentials, Region, retry::RetryConfig, timeout::TimeoutConfig},
};
use bp_artifact::{
    ImageRef,
    error::{Classified, ErrorClass},
    resolve::{EcrResolver, ManifestError, Resolve, ResolveError, wait_for},
    time::Wait,
};
use bp_sandbox::{Effect, Fault, Image, ImageBuilder, Sandbox, registry::RegistryOptions};

const HOST: &str = "111111111111.dkr.ecr.eu-central-1.amazonaws.com";
const CALL: &str = "ecr:BatchGetImage";

fn sandbox() -> Sandbox {
    let sandbox = Sandbox::builder().registry(HOST, RegistryOptions::ecr()).build();
    sandbox.registry(HOST).create_repository("shop/web");
    sandbox
}

fn config(sandbox: &Sandbox, region: &'static str) -> aws_sdk_ecr::config::Builder {
    aws_sdk_ecr::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new(region))
        .retry_config(RetryConfig::disabled())
        .http_client(sandbox.http_client())
}

fn resolver(sandbox: &Sandbox) -> EcrResolver {
    let credentials = Credentials::new("AKIDTEST", "secret", None, None, "test");
    let config = config(sandbox, "eu-central-1").credentials_provider(credentials);
    EcrResolver::new(Client::from_conf(config.build()))
}

fn image() -> Image {
    ImageBuilder::new().platform("linux/amd64").platform("linux/arm64").layer([("app/x", "x")]).build()
}

fn reference(tail: &str) -> ImageRef {
    format!("{HOST}/{tail}").parse().unwrap()
}

fn error_answer(code: &str) -> Effect {
    let headers = vec![("x-amzn-requestid".to_owned(), "f0e1".to_owned())];
    let status = if code == "ServerException" { 500 } else { 400 };
    Effect::Answer { status, headers, body: format!("{{\"__type\":\"{code}\",\"message\":\"no\"}}") }
}

#[tokio::test(start_paused = true)]
async fn resolves_an_index_with_its_platforms_in_one_call() {
    let sandbox = sandbox();
    let image = image();
    sandbox.registry(HOST).push(&image, "shop/web", "1.0");
    let resolver = resolver(&sandbox);
    let by_tag = resolver.resolve(&reference("shop/web:1.0")).await.unwrap();
    assert_eq!(by_tag.digest().as_str(), image.digest());
    assert_eq!(by_tag.media_type.as_deref(), Some("application/vnd.oci.image.index.v1+json"));
    let platforms: Vec<String> = by_tag.platforms.iter().map(|p| p.platform.to_string()).collect();
    assert_eq!(platforms, ["linux/amd64", "linux/arm64"]);
    for platform in &by_tag.platforms {
        let manifest = sandbox.registry(HOST).manifest("shop/web", platform.digest.as_str()).unwrap();
        assert!(platform.digest.verifies(&manifest.bytes));
    }
    assert_eq!(sandbox.ledger().count_of(CALL), 1);

    // By digest, even with a tag that has moved: the digest takes precedence.
    sandbox.registry(HOST).push(&ImageBuilder::new().platform("linux/amd64").build(), "shop/web", "1.0");
    let pinned = reference(&format!("shop/web:1.0@{}", image.digest()));
    assert_eq!(resolver.resolve(&pinned).await.unwrap(), by_tag);
    // The manifest of one platform is complete.
    let platform = reference(&format!("shop/web@{}", by_tag.platforms[0].digest));
    let single = resolver.resolve(&platform).await.unwrap();
    assert!(single.platforms.is_empty() && single.is_complete());
}

#[tokio::test(start_paused = true)]
async fn distinguishes_missing_images_from_missing_repositories() {
    let sandbox = sandbox();
    let resolver = resolver(&sandbox);
    let error = resolver.resolve(&reference("shop/web:2.0")).await.unwrap_err();
    assert!(matches!(&error, ResolveError::ImageNotFound { request_id: Some(_), .. }), "{error:?}");
    assert!(error.to_string().contains("shop/web:2.0 does not exist (request "), "{error}");
    assert_eq!(error.class(), ErrorClass::BadInput);
    let error = resolver.resolve(&reference("shop/wep:2.0")).await.unwrap_err();
    assert!(matches!(&error, ResolveError::RepositoryNotFound { request_id: Some(_), .. }), "{error:?}");
    assert!(
        error.to_string().starts_with(&format!("the repository {HOST}/shop/wep does not exist")),
        "{error}"
    );
}

#[tokio::test(start_paused = true)]
async fn denied_access_reports_the_required_permission() {
    let sandbox = sandbox();
    sandbox.aws().deny(CALL);
    let error = resolver(&sandbox).resolve(&reference("shop/web:1.0")).await.unwrap_err();
    assert!(error.to_string().contains("is denied: it needs ecr:BatchGetImage (request "), "{error}");
    assert_eq!(error.class(), ErrorClass::Unavailable);
    assert!(!error.is_retryable());
}

#[tokio::test(start_paused = true)]
async fn does_not_wait_with_missing_or_expired_credentials() {
    let sandbox = sandbox();
    let without = EcrResolver::new(Client::from_conf(config(&sandbox, "eu-central-1").build()));
    let wait = Wait::new(Duration::from_secs(60), Duration::from_secs(1)).unwrap();
    let error = wait_for(&without, &reference("shop/web:1.0"), wait).await.unwrap_err();
    assert!(matches!(error, ResolveError::NoCredentials { .. }), "{error:?}");
    assert!(sandbox.ledger().entries().is_empty());

    sandbox.faults().inject(Fault::new(error_answer("ExpiredTokenException")).on(CALL));
    let error = wait_for(&resolver(&sandbox), &reference("shop/web:1.0"), wait).await.unwrap_err();
    assert!(matches!(error, ResolveError::NoCredentials { .. }), "{error:?}");
    assert_eq!(sandbox.ledger().count_of(CALL), 1);
}

#[tokio::test(start_paused = true)]
async fn rejects_another_registry_without_a_call() {
    let sandbox = sandbox();
    let resolver = resolver(&sandbox);
    for (image, reason) in [
        ("ghcr.io/shop/web:1", "not a private registry of Amazon ECR"),
        (
            "111111111111.dkr.ecr.eu-west-1.amazonaws.com/shop/web:1",
            "in eu-west-1 and the client in eu-central-1",
        ),
    ] {
        let error = resolver.resolve(&image.parse().unwrap()).await.unwrap_err();
        assert!(error.to_string().contains(reason), "{error}");
        assert_eq!(error.class(), ErrorClass::BadInput);
    }
    assert!(sandbox.ledger().entries().is_empty());
}

#[tokio::test(start_paused = true)]
async fn rejects_a_manifest_with_the_wrong_digest() {
    let sandbox = sandbox();
    let digest = image().digest().to_owned();
    let forged = |reported: &str, manifest: &str| {
        let body = serde_json::json!({ "failures": [], "images": [{
            "imageId": { "imageDigest": reported, "imageTag": "1.0" }, "imageManifest": manifest,
        }]});
        Effect::Answer { status: 200, headers: Vec::new(), body: body.to_string() }
    };
    for (reported, manifest, class) in [
        (digest.as_str(), "{\"schemaVersion\":2}", ErrorClass::DigestMismatch),
        ("sha256:1", "{}", ErrorClass::Unexpected),
        ("", "", ErrorClass::Unexpected),
    ] {
        sandbox.faults().inject(Fault::new(forged(reported, manifest)).on(CALL));
        let error = resolver(&sandbox).resolve(&reference("shop/web:1.0")).await.unwrap_err();
        assert!(matches!(&error, ResolveError::BadManifest { .. }), "{error:?}");
        assert_eq!(error.class(), class);
        assert!(error.source().is_some());
    }
    // Another image than the requested digest.
    let other = "{\"schemaVersion\":2}";
    let reported = bp_artifact::Digest::sha256(other);
    sandbox.faults().inject(Fault::new(forged(reported.as_str(), other)).on(CALL));
    let error = resolver(&sandbox).resolve(&reference(&format!("shop/web@{digest}"))).await.unwrap_err();
    let ResolveError::BadManifest { source, .. } = error else { panic!("{error}") };
    assert!(matches!(*source, ManifestError::Digest { .. }), "{source}");
}

#[tokio::test(start_paused = true)]
async fn retries_transient_errors_until_the_image_appears() {
    let sandbox = sandbox();
    let (image, registry) = (image(), sandbox.registry(HOST));
    let late = image.clone();
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_secs(9)).await;
        registry.push(&late, "shop/web", "1.0");
    });
    // Transient errors: a 500, throttling, a reset connection.
    sandbox.faults().inject(Fault::new(error_answer("ServerException")).on(CALL));
    sandbox.faults().inject(Fault::new(error_answer("ThrottlingException")).on(CALL));
    sandbox.faults().inject(Fault::new(Effect::Reset).on(CALL));
    let wait = Wait::new(Duration::from_secs(60), Duration::from_secs(1)).unwrap();
    let found = wait_for(&resolver(&sandbox), &reference("shop/web:1.0"), wait).await.unwrap();
    assert_eq!(found.digest().as_str(), image.digest());
    assert!(sandbox.faults().is_empty());
    assert!((9..14).contains(&sandbox.ledger().count_of(CALL)));
}

#[tokio::test(start_paused = true)]
async fn reports_an_unresponsive_registry_as_unavailable() {
    let sandbox = sandbox();
    sandbox.faults().inject(Fault::new(Effect::Delay(Duration::from_secs(3600))).on(CALL).times(100));
    let credentials = Credentials::new("AKIDTEST", "secret", None, None, "test");
    let timeouts = TimeoutConfig::builder().operation_timeout(Duration::from_secs(5)).build();
    let sleep = aws_sdk_ecr::config::SharedAsyncSleep::new(TokioSleep);
    let config = config(&sandbox, "eu-central-1").credentials_provider(credentials);
    let config = config.timeout_config(timeouts).sleep_impl(sleep);
    let resolver = EcrResolver::new(Client::from_conf(config.build()));
    let wait = Wait::new(Duration::from_secs(30), Duration::from_secs(1)).unwrap();
    let error = wait_for(&resolver, &reference("shop/web:1.0"), wait).await.unwrap_err();
    assert!(matches!(error, ResolveError::Unavailable { .. }), "{error:?}");
    assert!(error.is_retryable());
}

#[derive(Debug)]
struct TokioSleep;

impl aws_sdk_ecr::config::AsyncSleep for TokioSleep {
    fn sleep(&self, duration: Duration) -> aws_sdk_ecr::config::Sleep {
        aws_sdk_ecr::config::Sleep::new(tokio::time::sleep(duration))
    }
}

#[tokio::test(start_paused = true)]
async fn confirms_a_known_digest_in_one_call() {
    let sandbox = sandbox();
    let image = image();
    sandbox.registry(HOST).push(&image, "shop/web", "1.0");
    let resolver = resolver(&sandbox);
    let known = reference("shop/web:1.0").repository().at(image.digest().parse().unwrap());
    resolver.confirm(&known).await.unwrap();
    assert_eq!(
        (sandbox.ledger().count_of(CALL), sandbox.ledger().count_of("ecr:DescribePullThroughCacheRules")),
        (1, 0)
    );
    let missing = known.repository().at(bp_artifact::Digest::sha256("never pushed"));
    assert!(resolver.confirm(&missing).await.unwrap_err().is_not_found());
}
