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

/// The names and digests in a layout.
async fn names(layout: &OciLayout) -> Vec<String> {
    let names = layout.images().await.unwrap().into_iter().filter_map(|(name, _)| name);
    let mut names: Vec<_> = names.collect();
    names.sort();
    names
}

#[tokio::test]
async fn several_writers_of_one_directory_keep_each_others_images() {
    let world = World::plain();
    world.push(&single());
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("web");
    let copies = (0..8).map(|n| {
        let (path, client) = (path.clone(), world.client.clone());
        async move {
            // A handle of its own, as another process has it.
            let layout = OciLayout::create(path).await.unwrap();
            let from = client.image(&format!("{SRC}/shop/web:v1").parse().unwrap());
            copy(from, ImageAt::new(layout, tag(&format!("v{n}"))), CopyOptions::default()).await.unwrap();
        }
    });
    futures_util::future::join_all(copies).await;
    let expected: Vec<_> = (0..8).map(|n| format!("v{n}")).collect();
    assert_eq!(names(&OciLayout::open(&path).await.unwrap()).await, expected);
}

#[cfg(unix)]
#[tokio::test]
async fn symbolic_links_in_a_layout_are_not_followed() {
    use std::os::unix::fs::symlink;
    let world = World::plain();
    world.push(&single());
    let outside = tempfile::tempdir().unwrap();
    let from = || world.client.image(&format!("{SRC}/shop/web:v1").parse().unwrap());
    // Written through a link.
    for link in ["blobs", "blobs/sha256"] {
        let directory = tempfile::tempdir().unwrap();
        let layout = OciLayout::create(directory.path()).await.unwrap();
        std::fs::remove_dir_all(directory.path().join("blobs")).unwrap();
        if link != "blobs" {
            std::fs::create_dir(directory.path().join("blobs")).unwrap();
        }
        symlink(outside.path(), directory.path().join(link)).unwrap();
        let error = copy(from(), ImageAt::new(layout, tag("v1")), CopyOptions::default()).await.unwrap_err();
        let text = bp_artifact::error::chain(&error);
        assert!(text.contains("symbolic link"), "{link}: {text}");
        assert_eq!(bp_artifact::error::Classified::class(&error), bp_artifact::error::ErrorClass::BadInput);
        assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 0, "{link}");
    }
    // Read through a link: the file of a layer, and files that are not blobs.
    for name in ["index.json", "oci-layout", "layer"] {
        let directory = tempfile::tempdir().unwrap();
        let image = single();
        image.write_layout(directory.path(), "v1").unwrap();
        let layer = bp_artifact::Digest::sha256(&image.blobs()[0]);
        let path = match name {
            "layer" => directory.path().join("blobs/sha256").join(layer.hex()),
            name => directory.path().join(name),
        };
        let moved = outside.path().join(name);
        std::fs::rename(&path, &moved).unwrap();
        symlink(&moved, &path).unwrap();
        let read = async {
            let layout = OciLayout::open(directory.path()).await?;
            let image = layout.images().await?;
            let to = world.client.image(&format!("{DST}/shop/web:{name}").parse().unwrap());
            assert_eq!(image.len(), 1);
            Ok::<_, LayoutError>(copy(ImageAt::new(layout, tag("v1")), to, CopyOptions::default()).await)
        };
        let text = match read.await {
            Err(error) => bp_artifact::error::chain(&error),
            Ok(Err(error)) => bp_artifact::error::chain(&error),
            Ok(Ok(_)) => String::new(),
        };
        assert!(text.contains("symbolic link"), "{name}: {text}");
    }
}

#[tokio::test]
async fn reads_images_under_the_names_of_podman_and_containerd() {
    let directory = tempfile::tempdir().unwrap();
    single().write_layout(directory.path(), "v1").unwrap();
    let index = directory.path().join("index.json");
    let text = std::fs::read_to_string(&index).unwrap();
    let mut value: serde_json::Value = serde_json::from_str(&text).unwrap();
    let digest = value["manifests"][0]["digest"].as_str().unwrap().to_owned();
    let annotate = |annotations: serde_json::Value, entry: &serde_json::Value| {
        let mut entry = entry.clone();
        entry["annotations"] = annotations;
        entry
    };
    let entry = value["manifests"][0].clone();
    for annotations in [
        serde_json::json!({ "org.opencontainers.image.ref.name": "docker.io/library/web:v1" }),
        serde_json::json!({
            "org.opencontainers.image.ref.name": "v1",
            "io.containerd.image.name": "docker.io/library/web:v1",
        }),
    ] {
        value["manifests"] = serde_json::json!([annotate(annotations, &entry)]);
        std::fs::write(&index, value.to_string()).unwrap();
        let layout = OciLayout::open(directory.path()).await.unwrap();
        for name in ["docker.io/library/web:v1", "v1"] {
            let reference = layout.named(name).await.unwrap();
            let found = bp_promote::store::Destination::head(&layout, &reference).await.unwrap().unwrap();
            assert_eq!(found.digest.as_str(), digest, "{name}");
        }
        let missing = layout.named("v2").await.unwrap_err();
        assert!(matches!(missing, LayoutError::NotFound { .. }), "{missing}");
    }
    // Two images with the same tag can be named in full only.
    let mut other = annotate(
        serde_json::json!({ "org.opencontainers.image.ref.name": "docker.io/library/api:v1" }),
        &entry,
    );
    other["digest"] = format!("sha256:{}", "0".repeat(64)).into();
    let web = annotate(
        serde_json::json!({ "org.opencontainers.image.ref.name": "docker.io/library/web:v1" }),
        &entry,
    );
    value["manifests"] = serde_json::json!([web, other]);
    std::fs::write(&index, value.to_string()).unwrap();
    let layout = OciLayout::open(directory.path()).await.unwrap();
    let error = layout.named("v1").await.unwrap_err().to_string();
    assert!(error.contains("full name") && error.contains("docker.io/library/api:v1"), "{error}");
    assert!(layout.named("docker.io/library/web:v1").await.is_ok());
}

#[tokio::test]
async fn refuses_an_index_or_a_manifest_of_unlimited_size() {
    let directory = tempfile::tempdir().unwrap();
    let layout = OciLayout::create(directory.path().join("web")).await.unwrap();
    let world = World::plain();
    world.push(&single());
    let from = world.client.image(&format!("{SRC}/shop/web:v1").parse().unwrap());
    let report = copy(from, ImageAt::new(layout.clone(), tag("v1")), CopyOptions::default()).await.unwrap();
    // A sparse file: it takes no space.
    let grow = |name: String| {
        let path = layout.path().join(name);
        let file = std::fs::File::options().write(true).open(path).unwrap();
        file.set_len(1 << 40).unwrap();
    };
    let hex = report.digest.as_str().split_once(':').unwrap().1;
    grow(format!("blobs/sha256/{hex}"));
    let opened = OciLayout::open(layout.path()).await.unwrap();
    let to = world.client.image(&format!("{DST}/shop/web:v1").parse().unwrap());
    let error = copy(ImageAt::new(opened, tag("v1")), to, CopyOptions::default()).await.unwrap_err();
    let chain = bp_artifact::error::chain(&error);
    assert!(chain.contains(&format!("{hex} is larger than 16 MiB")), "{chain}");
    grow("index.json".to_owned());
    let error = layout.images().await.unwrap_err();
    let chain = bp_artifact::error::chain(&error);
    assert!(chain.contains("index.json is larger than 16 MiB"), "{chain}");
}
