//! The functions of the fuzz targets, on their corpus and on variations of it.
#![allow(unreachable_pub, reason = "the files are modules of the fuzz targets' crate")]

#[path = "../../../fuzz/src/aws.rs"]
mod aws;
#[path = "../../../fuzz/src/replay.rs"]
mod replay;

#[test]
fn every_target_passes_on_its_corpus() {
    replay::replay(aws::TARGETS, 15);
}

/// The corpus has a response for every operation that a deployment calls, so that most of the code reads one.
#[tokio::test(start_paused = true)]
async fn the_corpus_has_a_response_for_every_operation() {
    let steady = include_str!("../../../fuzz/corpus/ecs/steady");
    let status = aws::service(steady).status().await.unwrap();
    assert!(status.to_string().contains("web:2"), "{status}");
    assert_eq!(aws::service(steady).definition().await.unwrap().secrets().len(), 2);
    let image = format!("registry.example.com/shop/web@{}", bp_artifact::Digest::sha256("x"));
    let image = image.parse::<bp_artifact::DigestRef>().unwrap().into();
    let end = aws::service(steady).container("web").deploy(&image).await;
    assert!(!format!("{end:?}").contains("no response"), "{end:?}");
}
