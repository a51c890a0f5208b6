//! Tests of runs of several images, and of the number of requests.

mod common;

use bp_artifact::{ImageRef, Tag};
use bp_promote::{
    CopyError, CopyOptions, OciLayout, copy,
    copy::{CopyOutcome, RunPlan, RunReport, apply_all, plan_all},
    copy_all,
    registry::RepositoryClient,
    store::ImageAt,
};
use bp_sandbox::{Image, ImageBuilder, Sandbox, registry::RegistryOptions};
use common::*;

type Pair = (ImageAt<RepositoryClient>, ImageAt<RepositoryClient>);

/// `n` images that share their base layer.
fn releases(n: usize) -> Vec<Image> {
    let release =
        |at: usize| ImageBuilder::new().layer([("base", "base")]).layer([("app", at.to_string())]).build();
    (0..n).map(release).collect()
}

fn tag(n: usize) -> Tag {
    format!("v{n}").parse().unwrap()
}

/// Pushes the images to the source and pairs them with `to`.
fn pairs(world: &World, images: &[Image], to: impl Fn(usize) -> String) -> Vec<Pair> {
    let pair = |(n, image): (usize, &Image)| {
        world.sandbox.registry(SRC).push(image, "shop/web", tag(n).as_str());
        let from: ImageRef = format!("{SRC}/shop/web:{}", tag(n)).parse().unwrap();
        let to: ImageRef = to(n).parse().unwrap();
        (world.client.image(&from), world.client.image(&to))
    };
    images.iter().enumerate().map(pair).collect()
}

async fn run(pairs: Vec<Pair>) -> RunReport {
    copy_all(pairs, CopyOptions::default()).await.into_result().unwrap()
}

#[tokio::test(start_paused = true)]
async fn sends_shared_blobs_once_and_lists_tags_once() {
    let world = World::plain();
    let images = releases(20);
    let to = |n| format!("{DST}/shop/web:{}", tag(n));
    let report = run(pairs(&world, &images, to)).await;
    assert_eq!(report.images.len(), 20);
    // The base layer is shared; each image has a layer and a configuration of its own.
    let moved = 1 + 2 * 20;
    assert_eq!((report.blobs.sent, report.blobs.present), (moved, 0));
    assert_eq!(report.source_requests, 20 + moved);
    assert_eq!(report.destination_requests, 1 + 2 * moved + 20, "one list, no other check");
    for (n, image) in images.iter().enumerate() {
        assert_eq!(world.sandbox.registry(DST).tags("shop/web")[tag(n).as_str()], image.digest());
    }
    let again = run(pairs(&world, &images, to)).await;
    assert!(again.images.iter().all(|image| matches!(image.result, Ok((_, CopyOutcome::Unchanged)))));
    assert_eq!((again.source_requests, again.destination_requests), (20, 1 + 20));
}

#[tokio::test(start_paused = true)]
async fn mounts_uploaded_blobs_into_other_repositories() {
    let world = World::plain();
    let pairs = pairs(&world, &releases(2), |n| format!("{DST}/team-{n}/web:v1"));
    let report = run(pairs).await;
    assert_eq!((report.blobs.sent, report.blobs.mounted), (5, 1), "the base layer was uploaded once");
    assert_eq!(world.sandbox.registry(DST).tags("team-1/web").len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_failed_image_does_not_stop_the_others() {
    let world = World::plain();
    let mut pairs = pairs(&world, &releases(3), |n| format!("{DST}/shop/web:{}", tag(n)));
    pairs[1].0.reference = "none".parse::<Tag>().unwrap().into();
    let report = copy_all(pairs, CopyOptions::default()).await;
    let failed: Vec<_> = report.failed().collect();
    assert_eq!(failed.len(), 1);
    assert!(matches!(failed[0], (image, CopyError::NoImage { .. }) if image.reference == "v1"));
    assert_eq!(world.sandbox.registry(DST).tags("shop/web").len(), 2);
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(json["images"][1]["result"]["error"], "none not found in dev.example.com/shop/web");
    assert!(report.into_result().is_err());
}

#[tokio::test(start_paused = true)]
async fn plans_stores_and_applies_a_run() {
    let world = World::plain();
    let images = releases(4);
    let pairs = || pairs(&world, &images, |n| format!("{DST}/shop/web:{}", tag(n)));
    let plan = plan_all(pairs(), CopyOptions::default()).await.unwrap();
    let reads = |operation: &String| operation.starts_with("GET") || operation.starts_with("HEAD");
    assert!(world.operations(DST).iter().all(reads));
    let blobs: usize = plan.images.iter().map(|image| image.blobs.len()).sum();
    assert_eq!(blobs, 1 + 2 * 4, "shared content is planned once");
    assert!(plan.to_string().contains("4 of 4 images to change"), "{plan}");
    let kept: RunPlan = serde_json::from_str(&serde_json::to_string(&plan).unwrap()).unwrap();
    assert_eq!(kept, plan);

    // A tag moves before the plan is applied: only that image fails.
    world.sandbox.registry(DST).push(&multi(), "shop/web", "v2");
    let report = apply_all(&kept, pairs(), CopyOptions::default()).await;
    let failed: Vec<_> = report.failed().map(|(image, error)| (image.reference.clone(), error)).collect();
    assert!(matches!(&failed[..], [(reference, CopyError::Moved { .. })] if reference == "v2"), "{failed:?}");
    assert!(report.bytes <= plan.bytes());
    assert_eq!(world.sandbox.registry(DST).tags("shop/web")["v2"], multi().digest());
}

/// A world whose destination is known to reject manifests with missing content.
fn strict() -> World {
    let sandbox = Sandbox::builder()
        .registry(SRC, RegistryOptions::default())
        .registry(DST, RegistryOptions::default())
        .build();
    let client = bp_promote::RegistryClient::builder()
        .transport(bp_promote::registry::transport(sandbox.transport()))
        .credentials(bp_promote::registry::Anonymous)
        .validates_references(DST.parse().unwrap())
        .build()
        .unwrap();
    World { sandbox, client }
}

#[tokio::test(start_paused = true)]
async fn tagging_takes_two_requests_if_references_are_validated() {
    let world = strict();
    let image = multi();
    world.push(&image);
    let cold = world.copy().await.unwrap();
    world.assert_copied(&image);
    assert_eq!(cold.outcome, CopyOutcome::Copied);
    assert_eq!(cold.destination_requests, 3 + 2 * 5 + 3, "the first copy takes the same requests");
    let report = world.copy_as(&format!("{SRC}/shop/web:v1"), &format!("{DST}/shop/web:v2")).await.unwrap();
    assert_eq!((report.outcome, report.destination_requests), (CopyOutcome::Tagged, 2));
    // A tag that points to another digest, copied from a source given by digest.
    world.sandbox.registry(DST).push(&single(), "shop/web", "v3");
    let pinned = format!("{SRC}/shop/web@{}", image.digest());
    let report = world.copy_as(&pinned, &format!("{DST}/shop/web:v3")).await.unwrap();
    assert_eq!((report.outcome, report.destination_requests), (CopyOutcome::Tagged, 2));
    assert_eq!(world.sandbox.registry(DST).tags("shop/web")["v3"], image.digest());
}

#[tokio::test(start_paused = true)]
async fn selecting_platforms_changes_the_digest_and_reports_both() {
    let world = World::plain();
    let image = multi();
    world.push(&image);
    let (from, to): (ImageRef, ImageRef) =
        (format!("{SRC}/shop/web:v1").parse().unwrap(), format!("{DST}/shop/web:v1").parse().unwrap());
    let options = || CopyOptions::default().platforms(["linux/arm64".parse().unwrap()]);
    let report = copy(world.client.image(&from), world.client.image(&to), options()).await.unwrap();
    assert_ne!(report.digest.as_str(), image.digest());
    assert_eq!(report.selected_from.as_ref().unwrap().as_str(), image.digest());
    assert_eq!((report.manifests.sent, report.blobs.sent), (2, 3), "only the content of one platform");
    let registry = world.sandbox.registry(DST);
    assert!(registry.manifest("shop/web", image.platform("linux/arm64")).is_some());
    assert!(registry.manifest("shop/web", image.platform("linux/amd64")).is_none());
    let again = copy(world.client.image(&from), world.client.image(&to), options()).await.unwrap();
    assert_eq!(again.outcome, CopyOutcome::Unchanged, "the selection is deterministic");

    // Keeping the digest and selecting platforms conflict.
    let must = || copy(world.client.image(&from), world.client.image(&to), options().keep_digest());
    assert!(matches!(must().await, Err(CopyError::DigestMustStay { .. })));
    let by_digest: ImageRef = format!("{DST}/shop/web@{}", image.digest()).parse().unwrap();
    let asked = copy(world.client.image(&from), world.client.image(&by_digest), options()).await;
    assert!(matches!(asked, Err(CopyError::OtherDigest { .. })));
}

#[tokio::test]
async fn copies_all_tags_into_one_layout() {
    let world = World::plain();
    let images = releases(3);
    let directory = tempfile::tempdir().unwrap();
    let layout = OciLayout::create(directory.path()).await.unwrap();
    let from: Vec<_> =
        pairs(&world, &images, |_| format!("{DST}/x:y")).into_iter().map(|(from, _)| from).collect();
    let to = |n: usize| ImageAt::new(layout.clone(), tag(n));
    let pairs = from.into_iter().enumerate().map(|(n, from)| (from, to(n))).collect();
    let report = copy_all(pairs, CopyOptions::default()).await.into_result().unwrap();
    assert_eq!((report.images.len(), report.blobs.sent), (3, 7));
    assert_eq!(layout.images().await.unwrap().len(), 3);
}
