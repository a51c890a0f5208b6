//! Whether an image in Amazon ECR can be pulled, now and after its lifecycle policy was applied: the real SDK client
//! against the in-memory sandbox.
#![cfg(feature = "ecr")]

use std::time::Duration;

use aws_sdk_ecr::{
    Client,
    config::{BehaviorVersion, Credentials, Region, retry::RetryConfig},
    types::TargetStorageClass,
};
use bp_artifact::{
    ImageRef,
    error::Classified as _,
    resolve::{Availability, EcrResolver, Resolve, ResolveError, Retention, Storage, wait_for},
    time::Wait,
};
use bp_sandbox::{Effect, Fault, ImageBuilder, Sandbox, registry::RegistryOptions};

const HOST: &str = "111111111111.dkr.ecr.eu-central-1.amazonaws.com";
/// Keeps the newest image.
const KEEP_ONE: &str = r#"{ "rules": [{ "rulePriority": 7, "description": "keep one image, the newest of all images",
    "selection": { "tagStatus": "any", "countType": "imageCountMoreThan", "countNumber": 1 },
    "action": { "type": "expire" } }] }"#;

struct Setup {
    sandbox: Sandbox,
    client: Client,
    /// The older of the two images.
    old: ImageRef,
    new: ImageRef,
}

impl Setup {
    fn new() -> Self {
        let sandbox = Sandbox::builder().registry(HOST, RegistryOptions::ecr()).build();
        let push = |name: &str| -> ImageRef {
            let image = ImageBuilder::new().platform("linux/amd64").layer([("app/name", name)]).build();
            sandbox.registry(HOST).push(&image, "shop/web", name);
            sandbox.clock().advance(Duration::from_secs(60));
            format!("{HOST}/shop/web@{}", image.digest()).parse().unwrap()
        };
        let (old, new) = (push("1"), push("2"));
        let config = aws_sdk_ecr::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new("eu-central-1"))
            .credentials_provider(Credentials::new("AKIDTEST", "secret", None, None, "test"))
            .retry_config(RetryConfig::disabled())
            .http_client(sandbox.http_client())
            .build();
        Setup { client: Client::from_conf(config), sandbox, old, new }
    }

    fn resolver(&self) -> EcrResolver {
        EcrResolver::new(self.client.clone())
    }

    /// A resolver that previews the lifecycle policy for at most this time.
    fn previewing(&self, seconds: u64) -> EcrResolver {
        let wait = Wait::new(Duration::from_secs(seconds), Duration::from_secs(2)).unwrap();
        self.resolver().lifecycle_preview(wait)
    }

    async fn set_policy(&self, policy: &str) {
        let call =
            self.client.put_lifecycle_policy().repository_name("shop/web").lifecycle_policy_text(policy);
        call.send().await.unwrap();
        self.sandbox.ledger().clear();
    }

    fn calls(&self, operation: &str) -> usize {
        self.sandbox.ledger().count_of(operation)
    }

    fn all_calls(&self) -> usize {
        self.sandbox.ledger().operations("aws").len()
    }
}

async fn retention(resolver: &EcrResolver, image: &ImageRef) -> Retention {
    resolver.availability(image).await.unwrap().retention
}

fn reason(retention: Retention) -> String {
    match retention {
        Retention::Unknown { reason } => reason,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn an_active_image_takes_one_call() {
    let setup = Setup::new();
    let by_tag: ImageRef = format!("{HOST}/shop/web:1").parse().unwrap();
    for image in [&setup.old, &by_tag] {
        setup.sandbox.ledger().clear();
        let found = setup.resolver().availability(image).await.unwrap();
        assert_eq!(found, Availability::default());
        assert_eq!((setup.calls("ecr:DescribeImages"), setup.all_calls()), (1, 1));
    }
}

#[tokio::test(start_paused = true)]
async fn an_archived_image_exists_and_cannot_be_pulled() {
    let setup = Setup::new();
    let id = aws_sdk_ecr::types::ImageIdentifier::builder().image_tag("1").build();
    let call = setup.client.update_image_storage_class().repository_name("shop/web").image_id(id.clone());
    let archived = call.target_storage_class(TargetStorageClass::Archive).send().await.unwrap();
    assert_eq!(archived.image_status().map(|status| status.as_str()), Some("ARCHIVED"));
    let found = setup.previewing(10).availability(&setup.old).await.unwrap();
    assert_eq!(found, Availability::new(Storage::Archived, Retention::NotChecked));
    assert_eq!(setup.calls("ecr:StartLifecyclePolicyPreview"), 0, "it cannot be pulled anyway");
    let resolver = setup.resolver();
    for (attempt, error) in [
        (1, resolver.resolve(&setup.old).await.map(drop)),
        (2, resolver.confirm(&setup.old.clone().try_into().unwrap()).await),
    ] {
        let error = error.unwrap_err();
        assert!(matches!(&error, ResolveError::Archived { restoring: false, .. }), "{attempt}: {error}");
        assert!(!error.is_not_found() && !error.is_retryable());
        assert!(error.to_string().contains("restore it with UpdateImageStorageClass"), "{error}");
    }
    // Waiting for it ends at once.
    let start = tokio::time::Instant::now();
    let wait = Wait::new(Duration::from_secs(300), Duration::from_secs(2)).unwrap();
    let error = wait_for(&setup.resolver(), &setup.old, wait).await.unwrap_err();
    assert!(matches!(error, ResolveError::Archived { .. }), "{error}");
    assert!(start.elapsed() < Duration::from_secs(1));

    let call = setup.client.update_image_storage_class().repository_name("shop/web").image_id(id);
    call.target_storage_class(TargetStorageClass::Standard).send().await.unwrap();
    assert_eq!(setup.resolver().availability(&setup.old).await.unwrap().storage, Storage::Active);
}

#[tokio::test(start_paused = true)]
async fn a_missing_image_is_looked_up_twice_because_a_cache_would_import_it() {
    let setup = Setup::new();
    let digest = bp_artifact::Digest::sha256("never pushed");
    for path in ["shop/web", "shop/nothing"] {
        setup.sandbox.ledger().clear();
        let image: ImageRef = format!("{HOST}/{path}@{digest}").parse().unwrap();
        let error = setup.previewing(10).availability(&image).await.unwrap_err();
        assert!(error.is_not_found(), "{error}");
        assert_eq!((setup.calls("ecr:BatchGetImage"), setup.all_calls()), (1, 2));
    }
}

#[tokio::test(start_paused = true)]
async fn without_permission_to_describe_it_only_the_storage_class_is_unknown() {
    let setup = Setup::new();
    setup.sandbox.aws().deny("ecr:DescribeImages");
    let found = setup.resolver().availability(&setup.old).await.unwrap();
    let Storage::Unknown { reason } = found.storage else { panic!("{found:?}") };
    assert!(reason.contains("it needs ecr:DescribeImages"), "{reason}");
    setup.sandbox.aws().deny("ecr:BatchGetImage");
    let error = setup.resolver().availability(&setup.old).await.unwrap_err();
    assert!(matches!(error, ResolveError::AccessDenied { .. }), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_throttled_call_is_an_error_and_not_a_missing_image() {
    let setup = Setup::new();
    let body = r#"{"__type":"ThrottlingException","message":"Rate exceeded"}"#.to_owned();
    let headers = vec![("content-type".to_owned(), "application/x-amz-json-1.1".to_owned())];
    let throttled = Effect::Answer { status: 400, headers, body };
    setup.sandbox.faults().inject(Fault::new(throttled).on("ecr:DescribeImages"));
    let error = setup.resolver().availability(&setup.old).await.unwrap_err();
    assert!(matches!(error, ResolveError::Unavailable { .. }), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_lifecycle_policy_is_previewed_within_a_bounded_number_of_calls() {
    let setup = Setup::new();
    assert_eq!(retention(&setup.previewing(10), &setup.old).await, Retention::Kept, "no policy");
    assert_eq!(setup.calls("ecr:StartLifecyclePolicyPreview"), 1);
    assert_eq!(setup.calls("ecr:GetLifecyclePolicyPreview"), 0);

    setup.set_policy(KEEP_ONE).await;
    assert_eq!(retention(&setup.previewing(10), &setup.old).await, Retention::Expires { rule: Some(7) });
    assert_eq!(retention(&setup.previewing(10), &setup.new).await, Retention::Kept);
    assert!(setup.calls("ecr:GetLifecyclePolicyPreview") <= 2 * 3, "at most one every 1.6 s for 3 s");

    setup.set_policy(&KEEP_ONE.replace("expire", "transition")).await;
    assert_eq!(retention(&setup.previewing(10), &setup.old).await, Retention::Archives { rule: Some(7) });
}

#[tokio::test(start_paused = true)]
async fn a_slow_or_denied_preview_is_unknown() {
    let setup = Setup::new();
    setup.set_policy(KEEP_ONE).await;
    let slow = reason(retention(&setup.previewing(1), &setup.old).await);
    assert_eq!(slow, "the lifecycle policy preview took longer than 1 s");
    for action in ["ecr:GetLifecyclePolicyPreview", "ecr:StartLifecyclePolicyPreview"] {
        setup.sandbox.aws().deny(action);
        tokio::time::sleep(Duration::from_secs(10)).await;
        let denied = reason(retention(&setup.previewing(10), &setup.old).await);
        assert!(denied.contains(&format!("it needs {action}")), "{denied}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_preview_in_progress_is_joined_if_it_is_of_the_same_policy() {
    let setup = Setup::new();
    setup.set_policy(KEEP_ONE).await;
    let start = || setup.client.start_lifecycle_policy_preview().repository_name("shop/web");
    start().send().await.unwrap();
    assert_eq!(retention(&setup.previewing(10), &setup.old).await, Retention::Expires { rule: Some(7) });
    assert_eq!(setup.calls("ecr:GetLifecyclePolicy"), 1);

    start().lifecycle_policy_text(KEEP_ONE.replace("1 }", "9 }")).send().await.unwrap();
    let other = reason(retention(&setup.previewing(10), &setup.old).await);
    assert!(other.contains("previews another policy"), "{other}");
}
