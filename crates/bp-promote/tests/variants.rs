//! Tests of further variants of what registries, caches and proxies answer.

mod common;

use bp_artifact::{
    Digest, ImageRef,
    error::{Classified as _, ErrorClass, chain},
};
use bp_promote::{
    CopyError, CopyOptions, CopyReport,
    content::{Descriptor, Manifest, Reference},
    copy,
    copy::{CopyEvent, CopyOutcome, RunReport},
    copy_all,
};
use bp_sandbox::{Effect, Fault, registry::RegistryOptions};
use bytes::Bytes;
use common::*;
use futures_util::TryStreamExt as _;
use serde_json::{Value, json};

fn answer(status: u16, headers: &[(&str, &str)], body: &str) -> Effect {
    let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Effect::Answer { status, headers, body: body.to_owned() }
}

fn page(status: u16) -> Effect {
    answer(status, &[("content-type", "text/html; charset=utf-8")], "<!doctype html><title>Log in</title>")
}

/// A fault of this number of requests of this kind.
fn inject(world: &World, effect: Effect, host: &str, operation: &str, times: u32) {
    world.sandbox.faults().inject(Fault::new(effect).at(host).on(operation).times(times));
}

fn always(world: &World, effect: Effect, host: &str, operation: &str) {
    inject(world, effect, host, operation, 100_000);
}

fn image_at(host: &str, tag: &str) -> ImageRef {
    format!("{host}/shop/web:{tag}").parse().unwrap()
}

/// Copies `v1` with its referrers, and returns the result with the warnings.
async fn copied(world: &World) -> (Result<CopyReport, CopyError>, Vec<String>) {
    let [from, to] = [SRC, DST].map(|host| world.client.image(&image_at(host, "v1")));
    let mut work = copy(from, to, CopyOptions::default().referrers());
    let mut warnings = Vec::new();
    while let Some(event) = work.next_event().await {
        if matches!(event, CopyEvent::Warning { .. }) {
            warnings.push(event.to_string());
        }
    }
    (work.await, warnings)
}

/// Copies three tags in one run, for which the destination's tags are listed.
async fn copied_three(world: &World, options: CopyOptions) -> RunReport {
    let pairs = ["v1", "v2", "v3"]
        .map(|tag| (world.client.image(&image_at(SRC, tag)), world.client.image(&image_at(DST, tag))));
    copy_all(pairs.into(), options).await
}

fn signature_tag(digest: &str) -> String {
    format!("{}.sig", digest.replace(':', "-"))
}

#[tokio::test(start_paused = true)]
async fn signatures_are_copied_although_a_cache_lists_only_its_own_tags() {
    for list in [r#"{"tags":["other"]}"#, r#"{"tags":[]}"#, r#"{"tags":null}"#, "{}"] {
        let world = World::plain();
        let (image, signature) = (multi(), single());
        world.push(&image);
        let tag = signature_tag(image.digest());
        world.sandbox.registry(SRC).push(&signature, "shop/web", &tag);
        always(&world, answer(200, &[], list), SRC, "GET tags");
        let (done, warnings) = copied(&world).await;
        done.unwrap();
        let tags = world.sandbox.registry(DST).tags("shop/web");
        assert_eq!(tags.get(&tag).map(String::as_str), Some(signature.digest()), "{list}");
        assert!(
            warnings.iter().any(|line| line.contains("incomplete") && line.contains("v1")),
            "{warnings:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn no_clobber_does_not_rest_on_a_list_of_tags() {
    let world = World::plain();
    let old = large(10);
    for tag in ["v1", "v2", "v3"] {
        world.sandbox.registry(SRC).push(&multi(), "shop/web", tag);
    }
    world.sandbox.registry(DST).push(&old, "shop/web", "v1");
    always(&world, answer(200, &[], r#"{"tags":["v0"]}"#), DST, "GET tags");
    let report = copied_three(&world, CopyOptions::default().no_clobber()).await;
    let failed: Vec<_> = report.failed().map(|(image, error)| (image.reference.clone(), error)).collect();
    let [(tag, error)] = &failed[..] else { panic!("{failed:?}") };
    assert!(tag == "v1" && error.to_string().contains(old.digest()), "{failed:?}");
    let tags = world.sandbox.registry(DST).tags("shop/web");
    assert_eq!(tags["v1"], old.digest());
    assert_eq!((tags["v2"].as_str(), tags["v3"].as_str()), (multi().digest(), multi().digest()));
    // What the tag pointed to before is recorded.
    let report = copied_three(&world, CopyOptions::default().confirm_absence()).await.into_result().unwrap();
    let previous: Vec<_> =
        report.images.iter().map(|image| image.previous.as_ref().map(Digest::as_str)).collect();
    assert_eq!(previous, [Some(old.digest()), Some(multi().digest()), Some(multi().digest())]);
}

#[tokio::test(start_paused = true)]
async fn a_signature_is_kept_although_its_tag_is_not_listed() {
    let world = World::plain();
    let (ours, theirs) = (single(), large(10));
    let tag = signature_tag(multi().digest());
    for name in ["v1", "v2", "v3"] {
        world.sandbox.registry(SRC).push(&multi(), "shop/web", name);
    }
    world.sandbox.registry(SRC).push(&ours, "shop/web", &tag);
    world.sandbox.registry(DST).push(&theirs, "shop/web", &tag);
    always(&world, answer(200, &[], r#"{"tags":["v0"]}"#), DST, "GET tags");
    copied_three(&world, CopyOptions::default().referrers()).await.into_result().unwrap();
    assert_eq!(world.sandbox.registry(DST).tags("shop/web")[&tag], theirs.digest());
}

#[tokio::test(start_paused = true)]
async fn a_signature_is_kept_although_head_does_not_find_its_tag() {
    for status in [404, 405] {
        let world = World::plain();
        let (ours, theirs) = (single(), large(10));
        let tag = signature_tag(multi().digest());
        world.push(&multi());
        world.sandbox.registry(SRC).push(&ours, "shop/web", &tag);
        world.sandbox.registry(DST).push(&theirs, "shop/web", &tag);
        always(&world, answer(status, &[], ""), DST, "HEAD manifest");
        let report = copied(&world).await.0.unwrap();
        assert_eq!(report.kept.len(), 1, "{status}");
        assert_eq!(world.sandbox.registry(DST).tags("shop/web")[&tag], theirs.digest(), "{status}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_web_page_is_not_an_existing_image() {
    let world = World::plain();
    let image = multi();
    world.push(&image);
    // The address of the destination is that of a web application, which answers any path.
    for operation in ["HEAD manifest", "GET manifest", "HEAD blob", "GET blob", "GET tags", "GET referrers"] {
        always(&world, page(200), DST, operation);
    }
    let pinned = format!("{DST}/shop/web@{}", image.digest());
    for to in [pinned.as_str(), &format!("{DST}/shop/web:v1")] {
        let error = world.copy_as(&format!("{SRC}/shop/web:v1"), to).await.unwrap_err();
        assert!(chain(&error).contains("web page"), "{to}: {}", chain(&error));
        assert_eq!(error.class(), ErrorClass::Unexpected, "{to}: no digest is compared with that of a page");
    }
    let repository = world.client.repository(&format!("{DST}/shop/web").parse().unwrap());
    assert!(!repository.has_blob(&Digest::sha256("x")).await.unwrap());
    // So is a login page of a proxy in front of the source.
    world.sandbox.faults().clear();
    always(&world, page(200), SRC, "GET manifest");
    let error = world.copy().await.unwrap_err();
    assert!(chain(&error).contains("proxy requires a login"), "{}", chain(&error));
    assert!(world.sandbox.registry(DST).tags("shop/web").is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_manifest_served_as_a_web_page_is_read() {
    // A static file server sends the type of its default.
    let world = World::plain();
    let image = single();
    world.push(&image);
    let (_, bytes) = &image.manifests()[0];
    let body = String::from_utf8(bytes.to_vec()).unwrap();
    inject(&world, answer(200, &[("content-type", "text/html")], &body), SRC, "GET manifest", 1);
    world.copy().await.unwrap();
    assert_eq!(world.sandbox.registry(DST).tags("shop/web")["v1"], image.digest());
}

#[tokio::test(start_paused = true)]
async fn blobs_of_a_web_page_and_digests_of_other_content_are_sent() {
    let other = Digest::sha256("other").to_string();
    for effect in [page(200), answer(200, &[("docker-content-digest", &other)], "")] {
        let world = World::plain();
        let image = multi();
        world.push(&image);
        world.sandbox.registry(DST).push(&large(10), "shop/web", "v0");
        if matches!(&effect, Effect::Answer { body, .. } if !body.is_empty()) {
            for operation in ["HEAD blob", "GET blob"] {
                always(&world, effect.clone(), DST, operation);
            }
        } else {
            always(&world, effect, DST, "HEAD manifest");
            // Only the tag is not asked by its digest.
            inject(&world, answer(404, &[], ""), DST, "GET manifest", 1);
        }
        world.copy().await.unwrap();
        world.assert_copied(&image);
    }
}

#[tokio::test(start_paused = true)]
async fn reads_the_rest_of_a_blob_although_parts_are_rejected() {
    let content = "0123456789".repeat(1_000);
    for status in [416, 400, 403, 405, 501] {
        let world = World::plain();
        let digest = world.sandbox.registry(SRC).put_blob("shop/web", content.clone());
        inject(&world, Effect::CutBody(5_000), SRC, "GET blob", 1);
        inject(&world, answer(status, &[], ""), SRC, "GET blob", 1);
        // It breaks again, but parts are not asked for any more.
        inject(&world, Effect::CutBody(7_000), SRC, "GET blob", 1);
        let repository = world.client.repository(&format!("{SRC}/shop/web").parse().unwrap());
        let blob = Descriptor::of("a/b", digest.parse().unwrap(), content.len() as u64);
        let read: Vec<Bytes> = repository.blob(&blob).await.unwrap().try_collect().await.unwrap();
        assert_eq!(read.concat(), content.as_bytes(), "{status}");
        assert_eq!(world.sandbox.ledger().count_of("GET blob"), 4, "{status}");
    }
}

#[tokio::test(start_paused = true)]
async fn starts_a_new_upload_after_the_registry_has_lost_one() {
    let lost = r#"{"errors":[{"code":"BLOB_UPLOAD_UNKNOWN"}]}"#;
    for (status, body) in [(404, "<html>not found"), (404, lost), (416, ""), (409, ""), (409, "{}")] {
        // In one request, and in several.
        for options in [RegistryOptions::default(), RegistryOptions::default().without_whole_uploads()] {
            let world = World::new(RegistryOptions::default(), options);
            let image = multi();
            world.push(&image);
            for operation in ["PUT upload", "PATCH upload"] {
                inject(&world, answer(status, &[], body), DST, operation, 2);
            }
            world.copy().await.unwrap_or_else(|error| panic!("{status} {body}: {}", chain(&error)));
            world.assert_copied(&image);
        }
    }
    // A registry that loses every upload ends the copy soon.
    let world = World::plain();
    world.push(&single());
    always(&world, answer(404, &[], ""), DST, "PUT upload");
    world.copy().await.unwrap_err();
    assert!(world.sandbox.ledger().count_of("PUT upload") <= 3 * 5);
    // A repository that does not exist is not a lost upload.
    let world = World::new(RegistryOptions::default(), RegistryOptions::default().create_on_push(false));
    world.push(&single());
    assert!(matches!(world.copy().await.unwrap_err(), CopyError::NoRepository { .. }));
    assert!(world.sandbox.ledger().count_of("POST upload") <= 3);
}

#[tokio::test(start_paused = true)]
async fn another_writer_has_pushed_the_same_blob() {
    // A repository that permits no second upload of a blob.
    let nexus = r#"{"errors":[{"code":"BLOB_UPLOAD_INVALID","detail":"blobs/sha256:… cannot be updated"}]}"#;
    for (status, body) in [(400, nexus), (409, "")] {
        let world = World::plain();
        let image = single();
        world.push(&image);
        let destination = world.sandbox.registry(DST);
        for blob in image.blobs() {
            destination.put_blob("shop/web", blob.clone());
        }
        // They did not exist when the copy started.
        inject(&world, answer(404, &[], ""), DST, "HEAD blob", image.blobs().len() as u32);
        always(&world, answer(status, &[], body), DST, "PUT upload");
        let report = world.copy().await.unwrap_or_else(|error| panic!("{status}: {}", chain(&error)));
        assert_eq!((report.blobs.sent, report.blobs.present), (0, 3), "{status}");
        world.assert_copied(&image);
    }
}

#[tokio::test(start_paused = true)]
async fn another_writer_pushes_the_same_manifest() {
    for body in ["", r#"{"errors":[{"code":"CONFLICT","message":"concurrent modification"}]}"#] {
        let world = World::plain();
        let image = multi();
        world.push(&image);
        inject(&world, answer(409, &[], body), DST, "PUT manifest", 2);
        assert_eq!(world.copy().await.unwrap().outcome, CopyOutcome::Copied, "{body}");
        world.assert_copied(&image);
        // A conflict that does not end: the manifest exists, or it does not.
        always(&world, answer(409, &[], body), DST, "PUT manifest");
        let repository = world.client.repository(&format!("{DST}/shop/web").parse().unwrap());
        let (media_type, bytes) = &image.manifests()[0];
        let stored = Manifest::read(Some(media_type), None, bytes.clone()).unwrap();
        let missing = Manifest::read(Some("a/b"), None, Bytes::from_static(b"{}")).unwrap();
        for (manifest, exists) in [(stored, true), (missing, false)] {
            let put = repository.put_manifest(&Reference::Digest(manifest.digest.clone()), &manifest).await;
            assert_eq!(put.is_ok(), exists, "{body}: {put:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn asks_a_cache_to_revalidate_a_tag() {
    let world = World::plain();
    let (old, image) = (single(), multi());
    world.push(&image);
    let (media_type, bytes) = &old.manifests()[0];
    let headers = [("content-type", media_type.as_str()), ("age", "12")];
    let body = String::from_utf8(bytes.to_vec()).unwrap();
    inject(&world, answer(200, &headers, &body), SRC, "GET manifest", 1);
    world.copy().await.unwrap();
    world.assert_copied(&image);
}

#[tokio::test(start_paused = true)]
async fn sends_requests_of_the_size_that_the_registry_states() {
    for (options, requests) in [
        (RegistryOptions::default().max_chunk_length(500_000), 3),
        (RegistryOptions::default().max_chunk_length(500_000).min_chunk_length(500_000), 3),
        (RegistryOptions::default().max_chunk_length(2_000_000), 0),
        // A registry that asks for requests of a byte does not get a million of them.
        (RegistryOptions::default().stating_max_chunk_length(1), 5),
    ] {
        let world = World::new(RegistryOptions::default(), options);
        let image = large(1_100_000);
        world.push(&image);
        world.copy().await.unwrap();
        world.assert_copied(&image);
        let ledger = world.sandbox.ledger();
        assert_eq!(ledger.count(|entry| entry.status == Some(413)), 0);
        assert_eq!(ledger.count_of("PATCH upload"), requests);
    }
}

#[tokio::test(start_paused = true)]
async fn copies_everything_although_the_destination_has_each_oddity_at_once() {
    let world = World::new(
        RegistryOptions::default().without_ranges().page_size(1),
        RegistryOptions::default().absolute_locations().max_chunk_length(300_000).mounts(false),
    );
    let image = large(1 << 20);
    world.push(&image);
    let signature = single();
    let tag = signature_tag(image.digest());
    world.sandbox.registry(SRC).push(&signature, "shop/web", &tag);
    let destination = world.sandbox.registry(DST);
    destination.push(&large(10), "shop/web", "v0");
    always(&world, answer(404, &[], ""), DST, "HEAD manifest");
    always(&world, page(200), DST, "GET tags");
    always(&world, page(404), DST, "GET referrers");
    inject(&world, answer(429, &[("retry-after", "1")], "Too Many Requests"), DST, "PUT manifest", 1);
    inject(&world, answer(409, &[], ""), DST, "PATCH upload", 1);
    inject(&world, Effect::CutBody(100_000), SRC, "GET blob", 2);
    let (done, warnings) = copied(&world).await;
    done.unwrap_or_else(|error| panic!("{}: {warnings:?}", chain(&error)));
    world.assert_copied(&image);
    assert_eq!(destination.tags("shop/web")[&tag], signature.digest());
    let list: Value = json!(destination.tags("shop/web"));
    assert_eq!(list.as_object().unwrap().len(), 3);
}
