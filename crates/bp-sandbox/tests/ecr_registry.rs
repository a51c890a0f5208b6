//! Settings of a whole ECR registry, with the AWS SDK, in memory: creation templates and replication.
#![cfg(feature = "aws")]

#[path = "common/ecr.rs"]
mod setup;

use std::time::Duration;

use aws_sdk_ecr::{
    error::ProvideErrorMetadata,
    types::{
        ImageIdentifier, ImageTagMutability, ImageTagMutabilityExclusionFilter,
        ImageTagMutabilityExclusionFilterType, RctAppliedFor, ReplicationConfiguration,
        ReplicationDestination, ReplicationRule, ReplicationStatus, RepositoryFilter, RepositoryFilterType,
    },
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use bp_sandbox::{ImageBuilder, Sandbox};
use http::{Request, StatusCode};
use http_body_util::Full;
use setup::{HOST, OTHER_REGION, client, sandbox};
use tower::ServiceExt as _;

/// The status of a request to start an upload.
async fn push(sandbox: &Sandbox, repository: &str) -> StatusCode {
    let password = sandbox.registry(HOST).log_in(Duration::from_secs(60));
    let login = BASE64_STANDARD.encode(format!("AWS:{password}"));
    let request = Request::post(format!("https://{HOST}/v2/{repository}/blobs/uploads/"))
        .header("authorization", format!("Basic {login}"))
        .body(Full::new(bytes::Bytes::new()))
        .unwrap();
    sandbox.transport().oneshot(request).await.unwrap().status()
}

#[tokio::test(start_paused = true)]
async fn a_template_for_pushes_creates_repositories_below_its_prefix() {
    let sandbox = sandbox();
    let client = client(&sandbox);
    let create = |prefix: &str, applied: RctAppliedFor| {
        client.create_repository_creation_template().prefix(prefix).applied_for(applied)
    };
    assert_eq!(push(&sandbox, "prod/web").await, StatusCode::NOT_FOUND);
    create("prod", RctAppliedFor::Replication).send().await.unwrap();
    assert_eq!(push(&sandbox, "prod/web").await, StatusCode::NOT_FOUND);
    let filter = ImageTagMutabilityExclusionFilter::builder()
        .filter("sha256-*")
        .filter_type(ImageTagMutabilityExclusionFilterType::Wildcard)
        .build()
        .unwrap();
    create("team", RctAppliedFor::CreateOnPush)
        .image_tag_mutability(ImageTagMutability::ImmutableWithExclusion)
        .image_tag_mutability_exclusion_filters(filter)
        .send()
        .await
        .unwrap();
    for (repository, status) in [
        ("team/web", StatusCode::ACCEPTED),
        ("team", StatusCode::NOT_FOUND),
        ("teams/web", StatusCode::NOT_FOUND),
        ("shop/web", StatusCode::NOT_FOUND),
    ] {
        assert_eq!(push(&sandbox, repository).await, status, "{repository}");
    }
    let created = client.describe_repositories().repository_names("team/web").send().await.unwrap();
    let created = &created.repositories()[0];
    assert_eq!(created.image_tag_mutability(), Some(&ImageTagMutability::ImmutableWithExclusion));
    assert_eq!(created.image_tag_mutability_exclusion_filters()[0].filter(), "sha256-*");

    create("ROOT", RctAppliedFor::CreateOnPush).send().await.unwrap();
    assert_eq!(push(&sandbox, "shop/web").await, StatusCode::ACCEPTED);
    let again = create("ROOT", RctAppliedFor::CreateOnPush).send().await.unwrap_err();
    assert_eq!(again.code(), Some("TemplateAlreadyExistsException"));

    let found = client.describe_repository_creation_templates().send().await.unwrap();
    let prefixes: Vec<_> =
        found.repository_creation_templates().iter().filter_map(|template| template.prefix()).collect();
    assert_eq!(prefixes, ["ROOT", "prod", "team"]);
    client.delete_repository_creation_template().prefix("ROOT").send().await.unwrap();
    assert_eq!(push(&sandbox, "other/web").await, StatusCode::NOT_FOUND);
    let missing = client.describe_repository_creation_templates().prefixes("ROOT").send().await.unwrap_err();
    assert_eq!(missing.code(), Some("TemplateNotFoundException"));
}

#[tokio::test(start_paused = true)]
async fn images_pushed_after_the_configuration_are_replicated() {
    let sandbox = sandbox();
    let client = client(&sandbox);
    let registry = sandbox.registry(HOST);
    let image = ImageBuilder::new().layer([("app/x", "x")]).build();
    registry.push(&image, "shop/web", "old");
    let rule = |region: &str, account: &str| {
        let to = ReplicationDestination::builder().region(region).registry_id(account).build().unwrap();
        let filter = RepositoryFilter::builder()
            .filter("shop/")
            .filter_type(RepositoryFilterType::PrefixMatch)
            .build()
            .unwrap();
        ReplicationRule::builder().destinations(to).repository_filters(filter).build().unwrap()
    };
    let configure = |rules: Vec<ReplicationRule>| {
        let configuration = ReplicationConfiguration::builder().set_rules(Some(rules)).build().unwrap();
        client.put_replication_configuration().replication_configuration(configuration).send()
    };
    let itself = configure(vec![rule("eu-central-1", "111111111111")]).await.unwrap_err();
    assert_eq!(itself.code(), Some("InvalidParameterException"));
    configure(vec![rule("eu-west-1", "111111111111"), rule("us-east-1", "222222222222")]).await.unwrap();
    let described = client.describe_registry().send().await.unwrap();
    assert_eq!(described.replication_configuration().unwrap().rules().len(), 2);

    // An image that was pushed before is not replicated.
    let status = |tag: &str| {
        let id = ImageIdentifier::builder().image_tag(tag).build();
        client.describe_image_replication_status().repository_name("shop/web").image_id(id).send()
    };
    assert!(status("old").await.unwrap().replication_statuses().is_empty());
    let missing = status("missing").await.unwrap_err();
    assert_eq!(missing.code(), Some("ImageNotFoundException"));

    for repository in ["shop/web", "tools/web"] {
        for blob in image.blobs() {
            registry.put_blob(repository, blob.clone());
        }
        let (media_type, bytes) = image.manifests()[0].clone();
        let bytes = String::from_utf8(bytes.to_vec()).unwrap();
        let call = client.put_image().repository_name(repository).image_tag("v1").image_manifest(bytes);
        call.image_manifest_media_type(media_type).send().await.unwrap();
    }
    let statuses = async || {
        let answer = status("v1").await.unwrap();
        let mut found: Vec<_> = answer
            .replication_statuses()
            .iter()
            .map(|one| (one.region().unwrap().to_owned(), one.status().unwrap().clone()))
            .collect();
        found.sort_by(|a, b| a.0.cmp(&b.0));
        found
    };
    let failed = ("us-east-1".to_owned(), ReplicationStatus::Failed);
    let west = |status| ("eu-west-1".to_owned(), status);
    assert_eq!(statuses().await, [west(ReplicationStatus::InProgress), failed.clone()]);
    assert!(sandbox.registry(OTHER_REGION).tags("shop/web").is_empty());
    sandbox.clock().advance(Duration::from_secs(30));
    assert_eq!(statuses().await, [west(ReplicationStatus::Complete), failed]);
    let replica = sandbox.registry(OTHER_REGION);
    assert_eq!(replica.tags("shop/web")["v1"], image.digest());
    assert_eq!(replica.blobs("shop/web").len(), image.blobs().len());
    assert_eq!(replica.repositories(), ["shop/web"], "the filter excludes the other repository");
}
