//! The record of a promotion.

mod common;

use bp_promote::{Descriptor, PROMOTION_RECORD, PromotionRecord};
use common::*;
use futures_util::TryStreamExt as _;
use serde_json::Value;

#[tokio::test(start_paused = true)]
async fn a_record_is_attached_to_the_image_and_tells_the_way_back() {
    let world = World::plain();
    let (old, image) = (single(), multi());
    world.sandbox.registry(DST).push(&old, "shop/web", "v1");
    world.push(&image);
    let report = world.copy().await.unwrap();
    assert_eq!(report.previous.as_ref().unwrap().as_str(), old.digest());
    let [from, to] =
        [SRC, DST].map(|host| format!("{host}/shop/web").parse::<bp_artifact::Repository>().unwrap());
    let at = world.sandbox.clock().now();
    let record = PromotionRecord::new(&report, from, to.clone(), "v1", at);
    let json = serde_json::to_string(&record).unwrap();
    assert_eq!(serde_json::from_str::<PromotionRecord>(&json).unwrap(), record);

    let repository = world.client.repository(&to);
    let digest = record.attach(&repository).await.unwrap();
    assert_eq!(record.attach(&repository).await.unwrap(), digest, "again, it is the same");
    let listed = repository.referrers(&report.digest).await.unwrap();
    assert_eq!(listed.iter().map(|referrer| &referrer.digest).collect::<Vec<_>>(), [&digest]);
    let manifest: Value =
        serde_json::from_slice(&repository.manifest(&digest.into()).await.unwrap().bytes).unwrap();
    assert_eq!(manifest["artifactType"], PROMOTION_RECORD);
    let layer: Descriptor = serde_json::from_value(manifest["layers"][0].clone()).unwrap();
    let bytes: Vec<_> = repository.blob(&layer).await.unwrap().try_collect().await.unwrap();
    assert_eq!(serde_json::from_slice::<PromotionRecord>(&bytes.concat()).unwrap(), record);
}
