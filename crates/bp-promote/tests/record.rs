//! Tests of promotion records.

mod common;

use bp_promote::{
    CopyOptions, PromotionRecord, content::Descriptor, copy_all, registry::RepositoryClient, store::ImageAt,
};
use bp_sandbox::registry::RegistryOptions;
use common::*;
use futures_util::TryStreamExt as _;
use serde_json::Value;

fn repository(host: &str) -> bp_artifact::Repository {
    format!("{host}/shop/web").parse().unwrap()
}

/// Promotes `v1`; returns the record and the destination.
async fn promoted(world: &World) -> (PromotionRecord, RepositoryClient) {
    let [from, to] = [SRC, DST].map(repository);
    let at = |of| ImageAt::new(world.client.repository(of), "v1".parse::<bp_artifact::Tag>().unwrap());
    let report = copy_all(vec![(at(&from), at(&to))], CopyOptions::default()).await;
    let record = PromotionRecord::of(&report.images[0], &from, &to, world.sandbox.clock().now()).unwrap();
    (record, world.client.repository(&to))
}

#[tokio::test(start_paused = true)]
async fn attaches_a_record_with_the_previous_digest() {
    let world = World::plain();
    let (old, image) = (single(), multi());
    world.sandbox.registry(DST).push(&old, "shop/web", "v1");
    world.push(&image);
    let (record, repository) = promoted(&world).await;
    assert_eq!(record.digest.as_str(), image.digest());
    assert_eq!(record.previous.as_ref().unwrap().as_str(), old.digest());
    let json = serde_json::to_string(&record).unwrap();
    assert_eq!(serde_json::from_str::<PromotionRecord>(&json).unwrap(), record);

    let digest = record.attach(&repository).await.unwrap();
    assert_eq!(record.attach(&repository).await.unwrap(), digest, "a second attach changes nothing");
    let listed = repository.referrers(&record.digest).await.unwrap();
    assert_eq!(listed.iter().map(|referrer| &referrer.digest).collect::<Vec<_>>(), [&digest]);
    let manifest: Value =
        serde_json::from_slice(&repository.manifest(&digest.into()).await.unwrap().bytes).unwrap();
    assert_eq!(manifest["artifactType"], PromotionRecord::MEDIA_TYPE);
    let layer: Descriptor = serde_json::from_value(manifest["layers"][0].clone()).unwrap();
    let bytes: Vec<_> = repository.blob(&layer).await.unwrap().try_collect().await.unwrap();
    assert_eq!(serde_json::from_slice::<PromotionRecord>(&bytes.concat()).unwrap(), record);
}

#[tokio::test(start_paused = true)]
async fn a_rerun_promotion_attaches_no_second_record() {
    for options in [RegistryOptions::default(), RegistryOptions::default().without_referrers()] {
        let world = World::new(RegistryOptions::default(), options);
        let (old, image) = (single(), multi());
        world.push(&image);
        let mut left = Vec::new();
        for _ in 0..3 {
            let (record, repository) = promoted(&world).await;
            left.push(record.attach(&repository).await.unwrap());
        }
        assert!(left.iter().all(|digest| *digest == left[0]), "{left:?}");
        let count = async |record: &PromotionRecord, repository: RepositoryClient| {
            repository.referrers(&record.digest).await.unwrap().len()
        };
        let (record, repository) = promoted(&world).await;
        assert_eq!(count(&record, repository).await, 1);

        // Promoting after the tag was moved away is another promotion.
        world.sandbox.registry(DST).push(&old, "shop/web", "v1");
        let (record, repository) = promoted(&world).await;
        assert_ne!(record.attach(&repository).await.unwrap(), left[0]);
        let (record, repository) = promoted(&world).await;
        assert_eq!(count(&record, repository).await, 2);
        // So is promoting the same image under another tag.
        let mut other = record.clone();
        other.reference = "stable".to_owned();
        assert!(!left.contains(&other.attach(&world.client.repository(&other.destination)).await.unwrap()));
    }
}
