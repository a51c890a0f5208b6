//! Tests of blobs that only the destination hashes.

mod common;

use bp_artifact::ImageRef;
use bp_promote::{CopyError, CopyOptions, CopyReport, OciLayout, content::Reference, copy, store::ImageAt};
use bp_sandbox::{Effect, Fault};
use common::*;

async fn trusting(world: &World) -> Result<CopyReport, CopyError> {
    let (from, to): (ImageRef, ImageRef) =
        (format!("{SRC}/shop/web:v1").parse().unwrap(), format!("{DST}/shop/web:v1").parse().unwrap());
    let options = CopyOptions::default().trust_destination();
    copy(world.client.image(&from), world.client.image(&to), options).await
}

#[tokio::test(start_paused = true)]
async fn the_destination_rejects_corrupted_bytes_and_they_are_read_again() {
    for effect in [Effect::Corrupt(5), Effect::CutBody(100), Effect::Reset] {
        let world = World::plain();
        let image = large(100_000);
        world.push(&image);
        world.sandbox.faults().inject(Fault::new(effect.clone()).at(SRC).on("GET blob").times(2));
        trusting(&world).await.unwrap_or_else(|error| panic!("{effect:?}: {error:?}"));
        world.assert_copied(&image);
    }
}

#[tokio::test(start_paused = true)]
async fn a_corrupting_source_moves_no_tag() {
    let world = World::plain();
    let (old, image) = (multi(), large(10_000));
    world.sandbox.registry(DST).push(&old, "shop/web", "v1");
    world.push(&image);
    world.sandbox.faults().inject(Fault::new(Effect::Corrupt(0)).at(SRC).on("GET blob").times(1000));
    let error = trusting(&world).await.unwrap_err();
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert!(source.contains("DIGEST_INVALID"), "{source}");
    world.assert_copied(&old);
}

#[tokio::test]
async fn always_hashes_blobs_for_a_layout() {
    let world = World::plain();
    world.push(&large(10_000));
    world.sandbox.faults().inject(Fault::new(Effect::Corrupt(0)).at(SRC).on("GET blob").times(1000));
    let directory = tempfile::tempdir().unwrap();
    let layout = OciLayout::create(directory.path()).await.unwrap();
    let from = world.client.image(&format!("{SRC}/shop/web:v1").parse().unwrap());
    let to = ImageAt::new(layout, Reference::Tag("v1".parse().unwrap()));
    let options = CopyOptions::default().trust_destination().retry(bp_promote::retry::RetryPolicy::new(0));
    let error = copy(from, to, options).await.unwrap_err();
    assert!(matches!(&error, CopyError::Source { source, .. } if source.is_corrupt()), "{error:?}");
}
