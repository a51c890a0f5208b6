//! The functions of the fuzz targets, on their corpus and on variations of it.
#![allow(unreachable_pub, reason = "the files are modules of the fuzz targets' crate")]

#[path = "../../../fuzz/src/artifact.rs"]
mod artifact;
#[path = "../../../fuzz/src/replay.rs"]
mod replay;

#[test]
fn every_target_passes_on_its_corpus() {
    replay::replay(artifact::TARGETS, 150);
}
