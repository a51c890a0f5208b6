//! Tests of unusual content: embedded data, foreign layers, sha512, unknown media types.

mod common;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use bp_artifact::{Digest, digest::Algorithm};
use bp_promote::{
    content::{Descriptor, Manifest, Reference},
    copy::CopyOutcome,
    registry::RepositoryClient,
};
use bytes::Bytes;
use common::*;
use futures_util::stream;
use serde_json::{Value, json};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

fn repository(world: &World, host: &str) -> RepositoryClient {
    world.client.repository(&format!("{host}/shop/web").parse().unwrap())
}

/// The descriptor of `content`, which is pushed to the source.
async fn blob(world: &World, algorithm: Algorithm, media_type: &str, content: &str) -> Value {
    let bytes = Bytes::from(content.to_owned());
    let blob = Descriptor::of(media_type, Digest::of(algorithm, &bytes), bytes.len() as u64);
    let bytes: bp_promote::store::BlobStream = Box::pin(stream::once(async { Ok(bytes) }));
    repository(world, SRC).put_blob(&blob, None, Box::pin(async { Ok(bytes) })).await.unwrap();
    serde_json::to_value(&blob).unwrap()
}

/// Pushes a manifest as `v1`, copies it, and compares the bytes and the media type of the copy.
async fn copy_manifest(world: &World, config: &Value, layers: &[Value]) -> bp_promote::CopyReport {
    let text = json!({ "schemaVersion": 2, "config": config, "layers": layers }).to_string();
    let manifest = Manifest::read(Some(MANIFEST), None, text.into()).unwrap();
    let name = Reference::Tag("v1".parse().unwrap());
    repository(world, SRC).put_manifest(&name, &manifest).await.unwrap();
    world.sandbox.ledger().clear();
    let report = world.copy().await.unwrap();
    assert_eq!(repository(world, DST).manifest(&name).await.unwrap(), manifest);
    report
}

#[tokio::test(start_paused = true)]
async fn pushes_embedded_content_without_reading_and_ignores_a_mismatch() {
    for (data, reads) in [("{}", 0), ("[]", 1)] {
        let world = World::plain();
        let mut config = blob(&world, Algorithm::Sha256, "application/vnd.oci.empty.v1+json", "{}").await;
        config["data"] = BASE64_STANDARD.encode(data).into();
        let report = copy_manifest(&world, &config, &[]).await;
        assert_eq!(report.blobs.sent, 1);
        assert_eq!(world.sandbox.ledger().count_of("GET blob"), reads, "{data}");
        let stored = world.sandbox.registry(DST).blob("shop/web", Digest::sha256("{}").as_str());
        assert_eq!(stored.as_deref(), Some(&b"{}"[..]));
    }
}

#[tokio::test(start_paused = true)]
async fn does_not_copy_foreign_layers() {
    let world = World::plain();
    let config = blob(&world, Algorithm::Sha256, "c", "{}").await;
    let foreign = json!({
        "mediaType": "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip", "size": 9,
        "digest": Digest::sha256("elsewhere"), "urls": ["https://example.com/layer"],
    });
    let report = copy_manifest(&world, &config, &[foreign]).await;
    assert_eq!(report.blobs.sent, 1);
}

#[tokio::test(start_paused = true)]
async fn copies_empty_and_duplicate_layers() {
    let world = World::plain();
    let config = blob(&world, Algorithm::Sha256, "c", "{}").await;
    let empty = blob(&world, Algorithm::Sha256, LAYER, "").await;
    let twice = blob(&world, Algorithm::Sha256, LAYER, "twice").await;
    let report = copy_manifest(&world, &config, &[twice.clone(), empty, twice]).await;
    assert_eq!(report.blobs.sent, 3, "each is sent once");
    assert_eq!(world.sandbox.registry(DST).blob("shop/web", Digest::sha256("").as_str()), Some(Bytes::new()));
}

#[tokio::test(start_paused = true)]
async fn copies_zstd_layers_and_unknown_media_types() {
    let world = World::plain();
    let config = blob(&world, Algorithm::Sha256, "application/vnd.acme.config+json", "{}").await;
    let zstd = "application/vnd.oci.image.layer.v1.tar+zstd";
    let layer = blob(&world, Algorithm::Sha256, zstd, "\u{28}\u{b5}\u{2f}\u{fd}").await;
    assert_eq!(copy_manifest(&world, &config, &[layer]).await.blobs.sent, 2);
}

#[tokio::test(start_paused = true)]
async fn supports_sha512_digests() {
    let world = World::plain();
    let config = blob(&world, Algorithm::Sha256, "c", "{}").await;
    let layer = blob(&world, Algorithm::Sha512, LAYER, "long").await;
    assert_eq!(copy_manifest(&world, &config, &[layer]).await.blobs.sent, 2);
    let digest = Digest::of(Algorithm::Sha512, "long");
    assert!(world.sandbox.registry(DST).blob("shop/web", digest.as_str()).is_some());
    // Corruption is detected with the blob's own algorithm.
    let other = blob(&world, Algorithm::Sha512, LAYER, "other").await;
    world
        .sandbox
        .faults()
        .inject(bp_sandbox::Fault::new(bp_sandbox::Effect::Corrupt(0)).at(SRC).on("GET blob"));
    copy_manifest(&world, &config, &[other]).await;

    // A manifest referenced by a sha512 digest.
    let text =
        json!({ "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [] }).to_string();
    let digest = Digest::of(Algorithm::Sha512, &text);
    let manifest = Manifest::read(None, Some(&digest), text.into()).unwrap();
    let by_digest = Reference::Digest(digest.clone());
    repository(&world, SRC).put_manifest(&by_digest, &manifest).await.unwrap();
    let (from, to) = (format!("{SRC}/shop/web@{digest}"), format!("{DST}/shop/web@{digest}"));
    assert_eq!(world.copy_as(&from, &to).await.unwrap().outcome, CopyOutcome::Copied);
    assert_eq!(repository(&world, DST).manifest(&by_digest).await.unwrap().bytes, manifest.bytes);
}

#[tokio::test(start_paused = true)]
async fn keeps_the_content_type_of_manifests_without_media_type() {
    let world = World::plain();
    let config = blob(&world, Algorithm::Sha256, "c", "{}").await;
    // `copy_manifest` writes no mediaType, and compares the media type of the copy.
    copy_manifest(&world, &config, &[]).await;
    let kept = world.sandbox.registry(DST).manifest("shop/web", "v1").unwrap();
    assert_eq!(kept.media_type, MANIFEST);
    assert!(!String::from_utf8_lossy(&kept.bytes).contains("image.manifest"));
}

#[tokio::test(start_paused = true)]
async fn copies_artifacts_and_unknown_manifest_types_verbatim() {
    let world = World::plain();
    let source = world.sandbox.registry(SRC);
    let layer = source.put_blob("shop/web", "layer");
    // Odd spacing and an unknown member must be preserved.
    for (n, (media_type, member)) in [
        ("application/vnd.oci.artifact.manifest.v1+json", "blobs"),
        ("application/vnd.acme.bundle.v7+json", "layers"),
        ("application/vnd.acme.nothing+json", "things"),
    ]
    .into_iter()
    .enumerate()
    {
        let text = format!(
            r#"{{ "x-acme" : [1, 2 ],  "mediaType":"{media_type}", "{member}":[{{"mediaType":"a/b","digest":"{layer}","size":5}}] }}"#
        );
        let digest = source.put_manifest("shop/web", media_type, text.clone());
        source.tag("shop/web", "v1", &digest);
        world.copy_as(&format!("{SRC}/shop/web:v1"), &format!("{DST}/shop/web-{n}:v1")).await.unwrap();
        let destination = world.sandbox.registry(DST);
        let kept = destination.manifest(&format!("shop/web-{n}"), "v1").unwrap();
        assert_eq!((kept.media_type.as_str(), &kept.bytes[..]), (media_type, text.as_bytes()));
        let blobs = destination.blobs(&format!("shop/web-{n}")).len();
        assert_eq!(blobs, usize::from(member != "things"), "{media_type}");
    }
}
