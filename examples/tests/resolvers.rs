//! The ECR API resolver and the registry API resolver return the same result, or the same class of error, for the same
//! image.
#![cfg(feature = "sandbox")]

use std::time::Duration;

use aws_sdk_ecr::{
    Client,
    config::{BehaviorVersion, Credentials, Region, retry::RetryConfig},
};
use bp_artifact::{
    Digest, ImageRef, ResolvedImage,
    error::{Classified, ErrorClass},
    resolve::{EcrResolver, Resolve, ResolveError, wait_for},
    time::{TimeSource, Wait},
};
use bp_promote::{
    RegistryClient,
    registry::{EcrClients, RegistryResolver, transport},
};
use bp_sandbox::{Effect, Fault, Image, ImageBuilder, Sandbox, registry::RegistryOptions};
use serde_json::json;

const HOST: &str = "111111111111.dkr.ecr.eu-central-1.amazonaws.com";
const API: &str = "ecr:BatchGetImage";
const REGISTRY: &str = "GET manifest";

/// The same image, resolved by both resolvers.
struct BothResolvers {
    sandbox: Sandbox,
    client: Client,
    by_api: EcrResolver,
    by_registry: RegistryResolver,
}

impl BothResolvers {
    fn new() -> Self {
        let sandbox = Sandbox::builder()
            .registry(HOST, RegistryOptions::ecr())
            .registry("mirror.gcr.io", RegistryOptions::default())
            .build();
        let config = aws_sdk_ecr::Config::builder()
            .behavior_version(BehaviorVersion::v2026_01_12())
            .region(Region::new("eu-central-1"))
            .retry_config(RetryConfig::disabled())
            .credentials_provider(Credentials::new("AKIDTEST", "secret", None, None, "test"))
            .http_client(sandbox.http_client());
        let client = Client::from_conf(config.build());
        let clock = sandbox.clock().clone();
        let registry = RegistryClient::builder()
            .transport(transport(sandbox.transport()))
            .ecr(EcrClients::new().with(HOST.parse().unwrap(), client.clone()))
            .time_source(TimeSource::from_fn(move || clock.now()))
            .build()
            .unwrap();
        BothResolvers {
            by_api: EcrResolver::new(client.clone()),
            by_registry: RegistryResolver::new(registry),
            client,
            sandbox,
        }
    }

    fn push(&self, image: &Image, tag: &str) {
        self.sandbox.registry(HOST).push(image, "shop/web", tag);
    }

    /// The results of both resolvers for `image`.
    async fn resolve(&self, image: &str) -> [Result<ResolvedImage, ResolveError>; 2] {
        let image: ImageRef = image.parse().unwrap();
        [self.by_api.resolve(&image).await, self.by_registry.resolve(&image).await]
    }

    async fn found(&self, image: &str) -> ResolvedImage {
        let [by_api, by_registry] =
            self.resolve(image).await.map(|found| found.unwrap_or_else(|e| panic!("{image}: {e}")));
        assert_eq!(by_api, by_registry, "{image}");
        by_api
    }

    /// Asserts that both fail with the same class and retryability, and with a message that contains `parts`.
    async fn fails(&self, image: &str, class: ErrorClass, parts: &[&str]) -> [ResolveError; 2] {
        let errors = self.resolve(image).await.map(|found| found.unwrap_err());
        for error in &errors {
            assert_eq!(error.class(), class, "{error:?}");
            assert!(parts.iter().all(|part| error.to_string().contains(part)), "{error}");
        }
        let [by_api, by_registry] = &errors;
        assert_eq!(
            std::mem::discriminant(by_api),
            std::mem::discriminant(by_registry),
            "{by_api:?} {by_registry:?}"
        );
        let retries = |error: &ResolveError| (error.is_not_found(), error.is_retryable());
        assert_eq!(retries(by_api), retries(by_registry));
        errors
    }

    /// Replaces the next `times` responses: `api` for the ECR API, `registry` for the registry API.
    fn inject(&self, times: u32, api: Effect, registry: Effect) {
        self.sandbox.faults().inject(Fault::new(api).on(API).times(times));
        self.sandbox.faults().inject(Fault::new(registry).on(REGISTRY).times(times));
    }
}

fn at(tail: &str) -> String {
    format!("{HOST}/shop/web{tail}")
}

fn index() -> Image {
    ImageBuilder::new().platform("linux/amd64").platform("linux/arm64").layer([("app/x", "x")]).build()
}

fn answer(status: u16, body: String) -> Effect {
    Effect::Answer { status, headers: Vec::new(), body }
}

#[tokio::test(start_paused = true)]
async fn both_resolve_indexes_platforms_and_single_manifests() {
    let both = BothResolvers::new();
    both.push(&index(), "1");
    both.push(&ImageBuilder::new().platform("linux/amd64").build(), "single");
    let by_tag = both.found(&at(":1")).await;
    assert_eq!((by_tag.digest().as_str(), by_tag.platforms.len()), (index().digest(), 2));
    for platform in &by_tag.platforms {
        let one = both.found(&at(&format!("@{}", platform.digest))).await;
        assert!(one.platforms.is_empty() && one.is_complete() && by_tag.covers(one.digest()));
    }
    both.found(&at(":single")).await;
    // The tag has moved since: the digest wins.
    both.push(&ImageBuilder::new().platform("linux/arm64").build(), "1");
    assert_eq!(both.found(&at(&format!(":1@{}", index().digest()))).await, by_tag);
    assert_ne!(both.found(&at(":1")).await, by_tag);
}

#[tokio::test(start_paused = true)]
async fn both_report_missing_images_denied_access_and_unreachable_registries() {
    let both = BothResolvers::new();
    both.push(&index(), "1");
    both.fails(&at(":2"), ErrorClass::BadInput, &["shop/web:2 does not exist"]).await;
    let digest = Digest::sha256("nobody pushed it");
    both.fails(&at(&format!("@{digest}")), ErrorClass::BadInput, &["does not exist", digest.as_str()]).await;
    both.fails(
        &format!("{HOST}/shop/wep:1"),
        ErrorClass::BadInput,
        &["repository", "shop/wep does not exist"],
    )
    .await;

    let denied =
        r#"{"__type":"AccessDeniedException","message":"not authorized to perform: ecr:BatchGetImage"}"#;
    let refused = r#"{"errors":[{"code":"DENIED","message":"not authorized"}]}"#;
    both.inject(u32::MAX, answer(400, denied.into()), answer(403, refused.into()));
    // The registry API does not report the missing IAM action; only the ECR API does.
    let [by_api, _] = both.fails(&at(":1"), ErrorClass::Unavailable, &["access to", "is denied"]).await;
    assert!(by_api.to_string().contains("it needs ecr:BatchGetImage"), "{by_api}");

    both.sandbox.faults().clear();
    both.inject(u32::MAX, Effect::Reset, Effect::Reset);
    both.fails(&at(":1"), ErrorClass::Unavailable, &["is unavailable"]).await;
}

#[tokio::test(start_paused = true)]
async fn both_reject_a_manifest_with_the_wrong_digest() {
    let both = BothResolvers::new();
    both.push(&index(), "1");
    let digest = index().digest().to_owned();
    let other = r#"{"schemaVersion":2}"#;
    let api = json!({ "failures": [], "images": [{ "imageId": { "imageDigest": digest }, "imageManifest": other }] });
    let wrong_bytes = || {
        let headers = vec![
            ("content-type".to_owned(), "application/vnd.oci.image.index.v1+json".to_owned()),
            ("docker-content-digest".to_owned(), digest.clone()),
        ];
        Effect::Answer { status: 200, headers, body: other.to_owned() }
    };
    for image in [at(":1"), at(&format!("@{digest}"))] {
        both.inject(u32::MAX, answer(200, api.to_string()), wrong_bytes());
        let errors = both
            .fails(&image, ErrorClass::DigestMismatch, &["the registry returned an invalid manifest"])
            .await;
        for error in errors {
            let source = std::error::Error::source(&error).unwrap().to_string();
            assert!(source.contains(&Digest::sha256(other).to_string()), "{source}");
        }
        both.sandbox.faults().clear();
    }
}

#[tokio::test(start_paused = true)]
async fn both_retry_a_404_after_the_push() {
    let both = BothResolvers::new();
    both.push(&index(), "1");
    let missing = json!({ "images": [], "failures": [{
        "imageId": { "imageTag": "1" }, "failureCode": "ImageNotFound", "failureReason": "Requested image not found",
    }]});
    let unknown = r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}"#;
    both.inject(3, answer(200, missing.to_string()), answer(404, unknown.into()));
    let wait = Wait::new(Duration::from_secs(60), Duration::from_secs(1)).unwrap();
    let image: ImageRef = at(":1").parse().unwrap();
    let by_api = wait_for(&both.by_api, &image, wait).await.unwrap();
    let by_registry = wait_for(&both.by_registry, &image, wait).await.unwrap();
    assert_eq!(by_api, by_registry);
    assert!(both.sandbox.faults().is_empty());
    assert_eq!(both.sandbox.ledger().count_of(API), 4);
    assert_eq!(both.sandbox.ledger().count_of(REGISTRY), 4);
}

#[tokio::test(start_paused = true)]
async fn both_confirm_a_resolved_image_with_one_request() {
    let both = BothResolvers::new();
    both.push(&index(), "1");
    let known = both.found(&at(":1")).await;
    both.sandbox.ledger().clear();
    both.by_api.confirm(&known.reference).await.unwrap();
    both.by_registry.confirm(&known.reference).await.unwrap();
    let ledger = both.sandbox.ledger();
    let counts = [API, "HEAD manifest", REGISTRY].map(|operation| ledger.count_of(operation));
    assert_eq!(counts, [1, 1, 0]);
    let missing = known.reference.repository().at(Digest::sha256("never pushed"));
    for error in [both.by_api.confirm(&missing).await, both.by_registry.confirm(&missing).await] {
        assert!(error.unwrap_err().is_not_found());
    }
}

#[tokio::test(start_paused = true)]
async fn both_refuse_tags_of_pull_through_caches() {
    let both = BothResolvers::new();
    let registry = both.sandbox.registry(HOST);
    registry.push(&index(), "hub/library/web", "1");
    both.push(&index(), "1");
    let create = both.client.create_pull_through_cache_rule();
    create.ecr_repository_prefix("hub").upstream_registry_url("registry-1.docker.io").send().await.unwrap();

    // ECR API: detected by the pull-through cache rules, which are read once. Digests are accepted.
    let cached: ImageRef = format!("{HOST}/hub/library/web:1").parse().unwrap();
    for _ in 0..2 {
        let error = both.by_api.resolve(&cached).await.unwrap_err();
        assert_eq!(error.class(), ErrorClass::Refused);
        assert!(error.to_string().contains("a pull-through cache of registry-1.docker.io"), "{error}");
        assert!(!error.is_not_found() && !error.is_retryable(), "not retryable");
    }
    let pinned = cached.clone().with_digest(index().digest().parse().unwrap());
    assert!(both.by_api.resolve(&pinned).await.is_ok());
    both.found(&at(":1")).await;
    assert_eq!(both.sandbox.ledger().count_of("ecr:DescribePullThroughCacheRules"), 1);

    // If the rules cannot be read, a tag is refused, except with `assume_no_caches`.
    both.sandbox.aws().deny("ecr:DescribePullThroughCacheRules");
    let error = EcrResolver::new(both.client.clone()).resolve(&cached).await.unwrap_err();
    assert!(error.to_string().contains("it needs ecr:DescribePullThroughCacheRules"), "{error}");
    assert!(EcrResolver::new(both.client.clone()).assume_no_caches().resolve(&cached).await.is_ok());

    // Registry API: detected by well-known host names and by the `Age` header.
    let mirror: ImageRef = "mirror.gcr.io/library/nginx:1".parse().unwrap();
    let error = both.by_registry.resolve(&mirror).await.unwrap_err();
    assert!(error.to_string().contains("a pull-through cache of Docker Hub"), "{error}");
    let manifest = registry.manifest("shop/web", "1").unwrap();
    let aged = |age: &str| Effect::Answer {
        status: 200,
        headers: vec![("content-type".into(), manifest.media_type.clone()), ("age".into(), age.into())],
        body: String::from_utf8(manifest.bytes.to_vec()).unwrap(),
    };
    // The request for a fresh answer is answered from the cache too.
    both.sandbox.faults().inject(Fault::new(aged("3600")).on(REGISTRY).times(u32::MAX));
    let error = both.by_registry.resolve(&at(":1").parse().unwrap()).await.unwrap_err();
    both.sandbox.faults().clear();
    assert!(
        matches!(error, ResolveError::Cached { .. }) && error.class() == ErrorClass::Refused,
        "{error:?}"
    );
    for (age, image) in [("0", at(":1")), ("3600", at(&format!("@{}", index().digest())))] {
        both.sandbox.faults().inject(Fault::new(aged(age)).on(REGISTRY));
        assert!(both.by_registry.resolve(&image.parse().unwrap()).await.is_ok(), "{image}, {age} s old");
    }
}
