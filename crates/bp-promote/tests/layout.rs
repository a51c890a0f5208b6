//! Tests of OCI layout directories as source and destination.

mod common;

use bp_promote::{
    CopyOptions, OciLayout, content::Reference, copy, copy::CopyOutcome, layout::LayoutError, store::ImageAt,
};
use common::*;

fn tag(text: &str) -> Reference {
    Reference::Tag(text.parse().unwrap())
}

#[tokio::test]
async fn copies_through_a_layout_directory() {
    let world = World::plain();
    let image = multi();
    world.push(&image);
    let directory = tempfile::tempdir().unwrap();
    let layout = OciLayout::create(directory.path().join("web")).await.unwrap();
    let from = world.client.image(&format!("{SRC}/shop/web:v1").parse().unwrap());
    let report =
        copy(from.clone(), ImageAt::new(layout.clone(), tag("v1")), CopyOptions::default()).await.unwrap();
    assert_eq!((report.digest.as_str(), report.blobs.sent), (image.digest(), 5));
    let again = copy(from, ImageAt::new(layout.clone(), tag("v1")), CopyOptions::default()).await.unwrap();
    assert_eq!(again.outcome, CopyOutcome::Unchanged);
    let images = layout.images().await.unwrap();
    assert_eq!(images.len(), 1);
    assert_eq!(images[0].0.as_deref(), Some("v1"));

    let opened = OciLayout::open(layout.path()).await.unwrap();
    let to = world.client.image(&format!("{DST}/shop/web:v1").parse().unwrap());
    let only = opened.only_image().await.unwrap();
    copy(ImageAt::new(opened, only), to, CopyOptions::default()).await.unwrap();
    world.assert_copied(&image);
}

#[tokio::test]
async fn reads_the_layout_of_another_tool() {
    let world = World::plain();
    let image = multi();
    let directory = tempfile::tempdir().unwrap();
    image.write_layout(directory.path(), "v1").unwrap();
    let layout = OciLayout::open(directory.path()).await.unwrap();
    let to = world.client.image(&format!("{DST}/shop/web:v1").parse().unwrap());
    copy(ImageAt::new(layout, tag("v1")), to, CopyOptions::default()).await.unwrap();
    world.assert_copied(&image);
}

#[tokio::test]
async fn moves_one_tag_of_a_layout_and_keeps_others() {
    let world = World::plain();
    let directory = tempfile::tempdir().unwrap();
    let layout = OciLayout::create(directory.path()).await.unwrap();
    for (image, name) in [(single(), "a"), (multi(), "b"), (multi(), "a")] {
        world.push(&image);
        let from = world.client.image(&format!("{SRC}/shop/web:v1").parse().unwrap());
        copy(from, ImageAt::new(layout.clone(), tag(name)), CopyOptions::default()).await.unwrap();
    }
    let mut names: Vec<_> = layout
        .images()
        .await
        .unwrap()
        .into_iter()
        .map(|(name, image)| (name.unwrap(), image.digest.to_string() == multi().digest()))
        .collect();
    names.sort();
    assert_eq!(names, [("a".to_owned(), true), ("b".to_owned(), true)]);
}

#[tokio::test]
async fn reports_corrupt_files_and_missing_tags() {
    let directory = tempfile::tempdir().unwrap();
    let image = single();
    image.write_layout(directory.path(), "v1").unwrap();
    let layout = OciLayout::open(directory.path()).await.unwrap();
    let world = World::plain();
    let to = || world.client.image(&format!("{DST}/shop/web:v1").parse().unwrap());
    let error =
        copy(ImageAt::new(layout.clone(), tag("v2")), to(), CopyOptions::default()).await.unwrap_err();
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert!(source.ends_with("has no v2 (it has v1)"), "{source}");

    let layer = bp_artifact::Digest::sha256(&image.blobs()[0]);
    std::fs::write(directory.path().join("blobs/sha256").join(layer.hex()), "damaged").unwrap();
    let error = copy(ImageAt::new(layout, tag("v1")), to(), CopyOptions::default()).await.unwrap_err();
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert!(source.contains("its content has the digest"), "{source}");
    assert!(world.sandbox.registry(DST).tags("shop/web").is_empty());
}

#[tokio::test]
async fn rejects_directories_that_are_not_layouts() {
    let directory = tempfile::tempdir().unwrap();
    let missing = OciLayout::open(directory.path().join("none")).await.unwrap_err();
    assert!(matches!(missing, LayoutError::NotALayout { .. }), "{missing}");
    std::fs::write(directory.path().join("manifest.json"), "[]").unwrap();
    let docker = OciLayout::open(directory.path()).await.unwrap_err();
    assert!(docker.to_string().contains("docker save"), "{docker}");
    let full = OciLayout::create(directory.path()).await.unwrap_err();
    assert!(full.to_string().contains("not empty"), "{full}");
}
