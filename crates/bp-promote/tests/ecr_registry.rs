//! Tests of what Amazon ECR does by itself: archived images, creation templates, immutable tags, replication. The real
//! SDK client against the in-memory sandbox.
#![cfg(feature = "ecr")]

mod common;

use std::time::Duration;

use aws_sdk_ecr::{
    Client,
    types::{
        RctAppliedFor, ReplicationConfiguration, ReplicationDestination, ReplicationRule, RepositoryFilter,
        RepositoryFilterType,
    },
};
use bp_artifact::{
    ImageRef,
    deploy::preflight::{Finding, FindingState},
    error::{Classified as _, ErrorClass, chain},
    time::Wait,
};
use bp_promote::{
    CopyError, CopyOptions, copy,
    copy::{CopyOutcome, RunPlan, plan_all},
    ecr::{Replication, await_replication, check},
    registry::RegistryError,
    store::StoreError,
};
use bp_sandbox::{Effect, Fault, Image, registry::TagMutability};
use common::{
    World,
    ecr::{PROD, STAGING, ecr},
    multi, single,
};
use serde_json::json;
use tokio::time::Instant;

const SIGNATURE: &str = "application/vnd.oci.image.manifest.v1+json";

fn staging(world: &World) -> Client {
    ecr(&world.sandbox, "AKIASTAGING", "eu-central-1")
}

fn prod(world: &World) -> Client {
    ecr(&world.sandbox, "AKIAPROD", "us-east-1")
}

fn world() -> World {
    common::ecr::world(|builder| builder)
}

fn sides(tag: &str) -> [ImageRef; 2] {
    [STAGING, PROD].map(|host| format!("{host}/shop/web:{tag}").parse().unwrap())
}

async fn copied(world: &World, options: CopyOptions) -> Result<bp_promote::CopyReport, CopyError> {
    let [from, to] = sides("v1");
    copy(world.client.image(&from), world.client.image(&to), options).await
}

async fn planned(world: &World, options: CopyOptions) -> RunPlan {
    let [from, to] = sides("v1");
    plan_all(vec![(world.client.image(&from), world.client.image(&to))], options).await.unwrap()
}

async fn findings(world: &World, options: CopyOptions) -> Vec<Finding> {
    check(&world.client, &planned(world, options).await).await
}

fn is_archived(error: &CopyError) -> bool {
    let CopyError::Source { source, .. } = error else { return false };
    matches!(&**source, StoreError::Registry(RegistryError::Archived { restoring: false, .. }))
}

#[tokio::test(start_paused = true)]
async fn an_archived_image_is_reported_as_archived_and_not_as_missing() {
    let world = world();
    let image = multi();
    world.sandbox.registry(PROD).create_repository("shop/web");
    // The index, and one of its platforms.
    for digest in [image.digest(), image.platform("linux/arm64")] {
        world.sandbox.registry(STAGING).archive("shop/web", digest);
        let error = copied(&world, CopyOptions::default()).await.unwrap_err();
        assert!(is_archived(&error), "{error:?}");
        assert_eq!(error.class(), ErrorClass::BadInput);
        let said = chain(&error);
        assert!(
            said.contains("is archived and cannot be pulled: restore it with UpdateImageStorageClass"),
            "{said}"
        );
        assert!(world.sandbox.registry(PROD).tags("shop/web").is_empty());
        restore(&world, digest).await;
    }
    // An image that does not exist, and without the permission to look: the registry's own answer.
    world.sandbox.aws().deny("ecr:DescribeImages");
    world.sandbox.registry(STAGING).archive("shop/web", image.digest());
    let error = copied(&world, CopyOptions::default()).await.unwrap_err();
    assert!(matches!(error, CopyError::NoImage { .. }), "{error:?}");
}

async fn restore(world: &World, digest: &str) {
    let id = aws_sdk_ecr::types::ImageIdentifier::builder().image_digest(digest).build();
    let call = staging(world).update_image_storage_class().repository_name("shop/web").image_id(id);
    call.target_storage_class(aws_sdk_ecr::types::TargetStorageClass::Standard).send().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_archived_signature_is_not_skipped() {
    let world = world();
    let image = multi();
    let registry = world.sandbox.registry(STAGING);
    world.sandbox.registry(PROD).create_repository("shop/web");
    let config = registry.put_blob("shop/web", "{}");
    let signature = json!({ "schemaVersion": 2, "mediaType": SIGNATURE, "artifactType": "application/signature",
        "config": { "mediaType": "application/vnd.oci.empty.v1+json", "digest": config, "size": 2 }, "layers": [],
        "subject": { "mediaType": SIGNATURE, "digest": image.digest(), "size": 1 } });
    let signature = registry.put_manifest("shop/web", SIGNATURE, signature.to_string());
    registry.archive("shop/web", &signature);
    let error = copied(&world, CopyOptions::default().referrers()).await.unwrap_err();
    assert!(is_archived(&error), "{error:?}");
    assert!(
        world.sandbox.registry(PROD).tags("shop/web").is_empty(),
        "the tag is not moved without its signature"
    );
    restore(&world, &signature).await;
    let report = copied(&world, CopyOptions::default().referrers()).await.unwrap();
    assert_eq!((report.referrers.sent, report.skipped.len()), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn an_image_archived_at_the_destination_is_restored_by_the_copy() {
    let world = world();
    let image = multi();
    let registry = world.sandbox.registry(PROD);
    registry.push(&image, "shop/web", "v1");
    for (_, bytes) in image.manifests() {
        registry.archive("shop/web", bp_artifact::Digest::sha256(bytes).as_str());
    }
    let report = copied(&world, CopyOptions::default()).await.unwrap();
    assert_eq!((report.outcome, report.blobs.sent), (CopyOutcome::Copied, image.blobs().len() as u64));
    assert!(registry.manifest("shop/web", "v1").is_some(), "it can be pulled");
    let resolved = copied(&world, CopyOptions::default()).await.unwrap();
    assert_eq!(resolved.outcome, CopyOutcome::Unchanged);
}

#[tokio::test(start_paused = true)]
async fn a_plan_shows_which_template_creates_the_repository() {
    let world = world();
    let missing = findings(&world, CopyOptions::default()).await;
    let [finding] = &missing[..] else { panic!("{missing:?}") };
    assert_eq!(finding.state, FindingState::Missing);
    assert!(finding.subject.contains(&format!("{PROD}/shop/web")), "{finding}");
    assert!(finding.message.contains("no creation template for pushes"), "{finding}");
    let error = copied(&world, CopyOptions::default()).await.unwrap_err();
    assert!(matches!(error, CopyError::NoRepository { .. }), "the plan is right: {error:?}");

    let create = |prefix: &str, applied: RctAppliedFor| {
        prod(&world)
            .create_repository_creation_template()
            .prefix(prefix)
            .applied_for(applied)
            .image_tag_mutability(aws_sdk_ecr::types::ImageTagMutability::Immutable)
            .send()
    };
    create("shop", RctAppliedFor::Replication).await.unwrap();
    assert_eq!(findings(&world, CopyOptions::default()).await[0].state, FindingState::Missing);
    create("ROOT", RctAppliedFor::CreateOnPush).await.unwrap();
    let plan = planned(&world, CopyOptions::default()).await;
    let [finding] = &check(&world.client, &plan).await[..] else { panic!("one finding") };
    assert_eq!(finding.state, FindingState::Present);
    assert!(finding.message.contains("creation template ROOT; tags are immutable"), "{finding}");
    assert_eq!(copied(&world, CopyOptions::default()).await.unwrap().outcome, CopyOutcome::Copied);

    // Lookups that fail are unknown.
    for (denied, part) in [
        ("ecr:DescribeRepositories", "ecr:DescribeRepositories failed"),
        (
            "ecr:DescribeRepositoryCreationTemplates",
            "it does not exist; ecr:DescribeRepositoryCreationTemplates failed",
        ),
    ] {
        let world = self::world();
        world.sandbox.aws().deny(denied);
        let unknown = findings(&world, CopyOptions::default()).await;
        assert_eq!(unknown[0].state, FindingState::Unknown, "{unknown:?}");
        assert!(unknown[0].message.contains(part), "{unknown:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_plan_shows_immutable_tags_with_their_exclusions() {
    let filters = |filters: &[&str]| filters.iter().map(|filter| (*filter).to_owned()).collect::<Vec<_>>();
    for (mutability, is_refused, shown) in [
        (TagMutability::Mutable, false, None),
        (TagMutability::Immutable, true, Some("tags are immutable")),
        (
            TagMutability::ImmutableWithExclusion(filters(&["v*"])),
            false,
            Some("tags are immutable, except v*"),
        ),
        (
            TagMutability::ImmutableWithExclusion(filters(&["dev-*", "sha256-*"])),
            true,
            Some("tags are immutable, except dev-*, sha256-*"),
        ),
        (TagMutability::MutableWithExclusion(filters(&["v*"])), true, Some("tags are mutable, except v*")),
        (TagMutability::MutableWithExclusion(filters(&["r*"])), false, Some("tags are mutable, except r*")),
    ] {
        let world = world();
        world.sandbox.registry(PROD).push(&single(), "shop/web", "v1");
        world.sandbox.registry(PROD).set_mutability("shop/web", mutability.clone());
        let found = findings(&world, CopyOptions::default()).await;
        let repository = found.iter().find(|finding| finding.subject.starts_with("repository"));
        assert_eq!(repository.map(|finding| finding.message.as_str()), shown, "{found:?}");
        let refused = found.iter().find(|finding| finding.subject.starts_with("tag v1"));
        assert_eq!(refused.is_some(), is_refused, "{mutability:?}: {found:?}");
        assert!(refused.is_none_or(|finding| finding.state == FindingState::Denied));
        // The copy does what the plan says.
        let copied = copied(&world, CopyOptions::default()).await;
        assert_eq!(matches!(copied, Err(CopyError::TagTaken { .. })), is_refused, "{copied:?}");
    }
    // Signature tags that could not be merged later.
    for (mutability, warns) in [
        (TagMutability::Immutable, true),
        (TagMutability::ImmutableWithExclusion(filters(&["sha256-*"])), false),
        (TagMutability::ImmutableWithExclusion(filters(&["v*"])), true),
    ] {
        let world = world();
        world.sandbox.registry(PROD).set_mutability("shop/web", mutability.clone());
        let found = findings(&world, CopyOptions::default().referrers()).await;
        let warned = found.iter().any(|finding| finding.state == FindingState::Warning);
        assert_eq!(warned, warns, "{mutability:?}: {found:?}");
        assert!(
            !findings(&world, CopyOptions::default()).await.iter().any(|f| f.state == FindingState::Warning)
        );
    }
}

/// Configures replication of the source registry to the account and region, for these prefixes.
async fn replicate(world: &World, account: &str, region: &str, prefixes: &[&str]) {
    let to = ReplicationDestination::builder().region(region).registry_id(account).build().unwrap();
    let filter = |prefix: &&str| {
        let filter = RepositoryFilter::builder().filter(*prefix);
        filter.filter_type(RepositoryFilterType::PrefixMatch).build().unwrap()
    };
    let rule = ReplicationRule::builder()
        .destinations(to)
        .set_repository_filters(Some(prefixes.iter().map(filter).collect()))
        .build()
        .unwrap();
    let configuration = ReplicationConfiguration::builder().rules(rule).build().unwrap();
    let call = staging(world).put_replication_configuration();
    call.replication_configuration(configuration).send().await.unwrap();
}

/// Pushes an image to the source registry through its API.
async fn push(world: &World, image: &Image) {
    let registry = world.sandbox.registry(STAGING);
    for bytes in image.blobs() {
        registry.put_blob("shop/web", bytes.clone());
    }
    for (number, (media_type, bytes)) in image.manifests().iter().enumerate() {
        let call =
            staging(world).put_image().repository_name("shop/web").image_manifest_media_type(media_type);
        let call = call.image_manifest(String::from_utf8(bytes.to_vec()).unwrap());
        let is_last = number + 1 == image.manifests().len();
        call.set_image_tag(is_last.then(|| "v1".to_owned())).send().await.unwrap();
    }
}

fn replication_of(found: &[Finding]) -> Option<&Finding> {
    found.iter().find(|finding| finding.subject.starts_with("replication of"))
}

#[tokio::test(start_paused = true)]
async fn a_plan_shows_that_replication_would_do_the_same() {
    for (account, region, prefixes, is_shown) in [
        ("222222222222", "us-east-1", &[][..], true),
        ("222222222222", "us-east-1", &["shop/"], true),
        ("222222222222", "us-east-1", &["tools/"], false),
        ("222222222222", "us-east-2", &[], false),
        ("333333333333", "us-east-1", &[], false),
    ] {
        let world = world();
        world.sandbox.registry(PROD).create_repository("shop/web");
        replicate(&world, account, region, prefixes).await;
        let found = findings(&world, CopyOptions::default()).await;
        assert_eq!(replication_of(&found).is_some(), is_shown, "{account} {region} {prefixes:?}: {found:?}");
        if let Some(finding) = replication_of(&found) {
            assert_eq!(finding.state, FindingState::Present);
            assert!(finding.message.contains("not this image, which was pushed before"), "{finding}");
        }
    }
    let world = world();
    world.sandbox.registry(PROD).create_repository("shop/web");
    replicate(&world, "222222222222", "us-east-1", &[]).await;
    push(&world, &common::large(1000)).await;
    let found = findings(&world, CopyOptions::default()).await;
    let finding = replication_of(&found).expect("it is shown");
    assert!(finding.message.contains("in progress: wait for it with --await-replication"), "{finding}");
    world.sandbox.aws().deny("ecr:DescribeImageReplicationStatus");
    let found = findings(&world, CopyOptions::default()).await;
    assert_eq!(replication_of(&found).map(|finding| finding.state), Some(FindingState::Unknown), "{found:?}");
    world.sandbox.aws().deny("ecr:DescribeRegistry");
    let found = findings(&world, CopyOptions::default()).await;
    assert_eq!(replication_of(&found).map(|finding| finding.state), Some(FindingState::Unknown), "{found:?}");
}

async fn awaited(world: &World, seconds: u64) -> (Replication, Duration) {
    let [from, to] = sides("v1");
    let wait = Wait::new(Duration::from_secs(seconds), Duration::from_secs(5)).unwrap();
    let start = Instant::now();
    let reference = bp_promote::content::Reference::from_image(&from);
    let found = await_replication(&world.client, from.repository(), &reference, to.repository(), wait).await;
    (found, start.elapsed())
}

#[tokio::test(start_paused = true)]
async fn replication_is_awaited_and_the_copy_does_the_rest() {
    let world = world();
    assert_eq!(awaited(&world, 300).await, (Replication::NotConfigured, Duration::ZERO));
    replicate(&world, "222222222222", "us-east-1", &["shop/"]).await;
    // Pushed before: nothing is awaited for long.
    let (found, took) = awaited(&world, 300).await;
    assert_eq!(found, Replication::NotReplicated);
    assert!(took < Duration::from_secs(10), "{took:?}");

    let image = common::large(1000);
    push(&world, &image).await;
    let (found, took) = awaited(&world, 10).await;
    assert_eq!((found, took), (Replication::InProgress, Duration::from_secs(10)));
    let (found, took) = awaited(&world, 300).await;
    assert_eq!(found, Replication::Complete);
    assert!(took < Duration::from_secs(60), "{took:?}");
    let before = world.sandbox.ledger().count_of("POST upload");
    let report = copied(&world, CopyOptions::default()).await.unwrap();
    assert_eq!((report.outcome, report.digest.as_str()), (CopyOutcome::Unchanged, image.digest()));
    assert_eq!(world.sandbox.ledger().count_of("POST upload"), before, "nothing is sent");
}

#[tokio::test(start_paused = true)]
async fn failed_and_unknown_replication_is_stated() {
    let world = world();
    replicate(&world, "222222222222", "us-east-1", &[]).await;
    push(&world, &single()).await;
    let status = |status: &str| {
        Effect::Answer {
        status: 200,
        headers: vec![("content-type".into(), "application/x-amz-json-1.1".into())],
        body: json!({ "repositoryName": "shop/web", "replicationStatuses": [
            { "region": "us-east-1", "registryId": "222222222222", "status": status, "failureCode": "A\u{1b}[2Jcode" },
        ] })
        .to_string(),
    }
    };
    let answer = |effect: Effect, times: u32| {
        world.sandbox.faults().clear();
        let fault = Fault::new(effect).on("ecr:DescribeImageReplicationStatus").times(times);
        world.sandbox.faults().inject(fault);
    };
    answer(status("FAILED"), 1);
    let (found, _) = awaited(&world, 60).await;
    let Replication::Failed { code } = &found else { panic!("{found:?}") };
    assert!(code.ends_with("code") && !code.contains('\u{1b}'), "{code:?}");
    answer(status("PAUSED"), 1);
    let (found, _) = awaited(&world, 60).await;
    assert!(matches!(&found, Replication::Unknown { reason } if reason.contains("PAUSED")), "{found:?}");
    // A service that fails for a while is asked again; one that does not answer in time is unknown.
    answer(Effect::Answer { status: 500, headers: Vec::new(), body: String::new() }, 2);
    assert_eq!(awaited(&world, 60).await.0, Replication::Complete);
    answer(Effect::Answer { status: 500, headers: Vec::new(), body: String::new() }, 1000);
    let (found, took) = awaited(&world, 60).await;
    assert!(matches!(found, Replication::Unknown { .. }), "{found:?}");
    assert_eq!(took, Duration::from_secs(60));
    answer(Effect::Delay(Duration::from_secs(86_400)), 1);
    let (found, took) = awaited(&world, 60).await;
    assert!(matches!(found, Replication::Unknown { .. }), "{found:?}");
    assert_eq!(took, Duration::from_secs(60));
}
