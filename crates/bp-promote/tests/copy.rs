//! Tests of what is copied, and with which requests.

mod common;

use bp_artifact::{
    Digest, ImageRef,
    error::{Classified as _, ErrorClass},
};
use bp_promote::{
    CopyError, CopyOptions,
    content::Reference,
    copy,
    copy::{CopyEvent, CopyOutcome, Counts, Transfer},
};
use bp_sandbox::{ImageBuilder, registry::RegistryOptions};
use common::*;

fn counts(sent: u64, mounted: u64, present: u64) -> Counts {
    let mut counts = Counts::default();
    (counts.sent, counts.mounted, counts.present) = (sent, mounted, present);
    counts
}

#[tokio::test(start_paused = true)]
async fn copies_a_single_manifest_to_a_new_repository() {
    let world = World::plain();
    let image = single();
    world.push(&image);
    let report = world.copy().await.unwrap();
    world.assert_copied(&image);
    assert_eq!((report.digest.as_str(), report.outcome), (image.digest(), CopyOutcome::Copied));
    assert_eq!((report.manifests, report.blobs), (counts(1, 0, 0), counts(3, 0, 0)));
    assert_eq!(report.bytes, image.blobs().iter().map(|blob| blob.len() as u64).sum::<u64>());

    assert_eq!(report.source_requests, 4, "one for the manifest and one per blob");
    let ledger = world.sandbox.ledger();
    assert_eq!(ledger.count_of("HEAD blob"), 0, "nothing is checked in a new repository");
    assert_eq!((ledger.count_of("POST upload"), ledger.count_of("PUT upload")), (3, 3));
    // The tag, the digest, the tag list that shows that the repository is new; two per blob; the manifest.
    assert_eq!(report.destination_requests, 3 + 2 * 3 + 1);
    assert_eq!(world.operations(DST).len() as u64, report.destination_requests);
    assert_eq!(world.operations(DST).last().unwrap(), "PUT manifest");
}

#[tokio::test(start_paused = true)]
async fn copies_shared_blobs_of_an_index_once_and_children_first() {
    let world = World::plain();
    let image = multi();
    world.push(&image);
    let report = world.copy().await.unwrap();
    world.assert_copied(&image);
    assert_eq!((report.manifests, report.blobs), (counts(3, 0, 0), counts(5, 0, 0)));
    assert_eq!(report.source_requests, 3 + 5);
    assert_eq!(report.destination_requests, 3 + 2 * 5 + 3);
    let last = world.sandbox.ledger().entries().pop().unwrap();
    assert_eq!((last.operation.as_str(), last.path.as_str()), ("PUT manifest", "/v2/shop/web/manifests/v1"));
    let to = "prod.example.com/shop/web".parse().unwrap();
    assert_eq!(report.image_in(&to).unwrap().platforms.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn an_equal_tag_takes_one_request_per_side_and_a_pinned_source_one_in_total() {
    let world = World::plain();
    let image = multi();
    world.push(&image);
    world.copy().await.unwrap();
    world.sandbox.ledger().clear();

    let report = world.copy().await.unwrap();
    assert_eq!(report.outcome, CopyOutcome::Unchanged);
    assert_eq!((report.source_requests, report.destination_requests), (1, 1));
    assert_eq!(world.sandbox.ledger().entries().len(), 2);

    let pinned = format!("{SRC}/shop/web@{}", image.digest());
    let report = world.copy_as(&pinned, &format!("{DST}/shop/web:v1")).await.unwrap();
    assert_eq!((report.source_requests, report.destination_requests), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn tagging_an_existing_digest_copies_nothing() {
    let world = World::plain();
    let image = multi();
    world.push(&image);
    world.copy().await.unwrap();
    let to = format!("{DST}/shop/web:stable");
    let report = world.copy_as(&format!("{SRC}/shop/web:v1"), &to).await.unwrap();
    assert_eq!(report.outcome, CopyOutcome::Tagged);
    assert_eq!((report.source_requests, report.destination_requests), (1, 3));
    assert_eq!(world.sandbox.registry(DST).tags("shop/web")["stable"], image.digest());
}

#[tokio::test(start_paused = true)]
async fn tagging_within_a_repository_takes_two_requests() {
    let world = World::plain();
    let image = multi();
    world.push(&image);
    let report =
        world.copy_as(&format!("{SRC}/shop/web:v1"), &format!("{SRC}/shop/web:stable")).await.unwrap();
    assert_eq!(
        (report.outcome, report.source_requests, report.destination_requests),
        (CopyOutcome::Tagged, 1, 2)
    );
    let tags = world.sandbox.registry(SRC).tags("shop/web");
    assert_eq!(tags.get("stable").map(String::as_str), Some(image.digest()));
}

#[tokio::test(start_paused = true)]
async fn selecting_platforms_within_a_repository_pushes_a_new_index() {
    let world = World::plain();
    world.push(&multi());
    let (from, to): (ImageRef, ImageRef) =
        (format!("{SRC}/shop/web:v1").parse().unwrap(), format!("{SRC}/shop/web:amd64").parse().unwrap());
    let options = CopyOptions::default().platforms(["linux/amd64".parse().unwrap()]);
    let report = copy(world.client.image(&from), world.client.image(&to), options).await.unwrap();
    assert_eq!(report.outcome, CopyOutcome::Copied);
    assert_eq!(report.blobs.sent, 0, "the platform's content exists");
}

#[tokio::test(start_paused = true)]
async fn does_not_send_existing_blobs() {
    let world = World::plain();
    let (old, new) = (single(), ImageBuilder::new().layer([("base", "base")]).layer([("app", "2")]).build());
    world.sandbox.registry(DST).push(&old, "shop/web", "v0");
    world.push(&new);
    let report = world.copy().await.unwrap();
    world.assert_copied(&new);
    assert_eq!(report.blobs, counts(2, 0, 1), "the base layer existed");
}

#[tokio::test(start_paused = true)]
async fn mounts_blobs_within_a_registry_or_uploads_if_refused() {
    for mounts in [true, false] {
        let world = World::new(RegistryOptions::default().mounts(mounts), RegistryOptions::default());
        let image = single();
        world.push(&image);
        let to = format!("{SRC}/prod/web:v1");
        let report = world.copy_as(&format!("{SRC}/shop/web:v1"), &to).await.unwrap();
        let expected = if mounts { counts(0, 3, 0) } else { counts(3, 0, 0) };
        assert_eq!(report.blobs, expected);
        if mounts {
            assert_eq!((report.source_requests, report.destination_requests), (1, 3 + 3 + 1), "one per blob");
        }
        assert_eq!(world.sandbox.ledger().count_of("POST mount"), 3);
        assert_eq!(
            world.sandbox.ledger().count_of("POST upload"),
            0,
            "a 202 response is continued, not restarted"
        );
        assert_eq!(world.sandbox.registry(SRC).tags("prod/web")["v1"], image.digest());
    }
}

#[tokio::test(start_paused = true)]
async fn copies_by_digest_without_a_tag() {
    let world = World::plain();
    let image = single();
    world.push(&image);
    let to = format!("{DST}/shop/web@{}", image.digest());
    world.copy_as(&format!("{SRC}/shop/web:v1"), &to).await.unwrap();
    assert_complete(&world.sandbox, DST, &image);
    assert!(world.sandbox.registry(DST).tags("shop/web").is_empty());

    let other = format!("{DST}/shop/web@{}", Digest::sha256("other"));
    let error = world.copy_as(&format!("{SRC}/shop/web:v1"), &other).await.unwrap_err();
    assert!(matches!(error, CopyError::OtherDigest { .. }), "{error}");
}

#[tokio::test(start_paused = true)]
async fn an_immutable_tag_accepts_the_same_digest_and_refuses_another() {
    for options in [RegistryOptions::default().immutable_tags(), RegistryOptions::ecr().immutable_tags()] {
        let ecr = options.clone();
        let sandbox = bp_sandbox::Sandbox::builder()
            .registry(SRC, RegistryOptions::default())
            .registry(DST, ecr)
            .build();
        let registry = sandbox.registry(DST);
        let password = registry.log_in(std::time::Duration::from_secs(3600));
        let world = World { client: client(&sandbox, login(DST, "AWS", &password)), sandbox };
        let (image, other) = (single(), multi());
        world.push(&image);
        registry.create_repository("shop/web");
        world.copy().await.unwrap();
        world.assert_copied(&image);
        assert_eq!(world.copy().await.unwrap().outcome, CopyOutcome::Unchanged);

        // A concurrent writer pushed the same image first.
        world.sandbox.faults().inject(bp_sandbox::Fault::status(404).at(DST).on("HEAD manifest").times(1));
        assert_eq!(world.copy().await.unwrap().outcome, CopyOutcome::Tagged);

        world.push(&other);
        let error = world.copy().await.unwrap_err();
        assert!(
            matches!(&error, CopyError::TagTaken { found, wanted, .. }
            if found.as_str() == image.digest() && wanted.as_str() == other.digest()),
            "{error:?}"
        );
        assert_eq!(error.class(), ErrorClass::Refused);
        world.assert_copied(&image);
    }
}

#[tokio::test(start_paused = true)]
async fn no_clobber_fails_before_anything_is_sent() {
    let world = World::plain();
    world.push(&single());
    world.sandbox.registry(DST).push(&multi(), "shop/web", "v1");
    let (from, to): (ImageRef, ImageRef) =
        (format!("{SRC}/shop/web:v1").parse().unwrap(), format!("{DST}/shop/web:v1").parse().unwrap());
    let options = CopyOptions::default().no_clobber();
    let error = copy(world.client.image(&from), world.client.image(&to), options).await.unwrap_err();
    assert!(matches!(error, CopyError::TagTaken { .. }), "{error}");
    assert_eq!(world.operations(DST), ["HEAD manifest"]);
}

#[tokio::test(start_paused = true)]
async fn no_clobber_accepts_a_tag_that_already_points_to_the_image() {
    let world = World::plain();
    world.push(&single());
    let (from, to): (ImageRef, ImageRef) =
        (format!("{SRC}/shop/web:v1").parse().unwrap(), format!("{DST}/shop/web:v1").parse().unwrap());
    for outcome in [CopyOutcome::Copied, CopyOutcome::Unchanged] {
        let options = CopyOptions::default().no_clobber();
        let report = copy(world.client.image(&from), world.client.image(&to), options).await.unwrap();
        assert_eq!(report.outcome, outcome);
    }
}

#[tokio::test(start_paused = true)]
async fn uploads_after_a_failed_mount_and_reports_mounts() {
    for status in [201, 400, 403, 404] {
        let world = World::plain();
        let image = single();
        world.push(&image);
        if status != 201 {
            let fault = bp_sandbox::Fault::status(status).at(SRC).on("POST mount").times(3);
            world.sandbox.faults().inject(fault);
        }
        let [from, to] = ["shop/web", "prod/web"].map(|name| format!("{SRC}/{name}:v1").parse().unwrap());
        let mut work = copy(world.client.image(&from), world.client.image(&to), CopyOptions::default());
        let mut mounted = 0;
        while let Some(event) = work.next_event().await {
            mounted += u64::from(matches!(event, CopyEvent::Blob { how: Transfer::Mounted, .. }));
        }
        let report = work.await.unwrap();
        let expected = if status == 201 { counts(0, 3, 0) } else { counts(3, 0, 0) };
        assert_eq!((report.blobs, mounted), (expected, expected.mounted), "{status}");
        assert_eq!(world.sandbox.registry(SRC).tags("prod/web")["v1"], image.digest());
    }
}

#[tokio::test(start_paused = true)]
async fn the_tag_is_unchanged_if_the_destination_reports_another_digest() {
    let world = World::plain();
    let old = single();
    world.sandbox.registry(DST).push(&old, "shop/web", "v1");
    world.push(&multi());
    // A child's upload is acknowledged with another digest.
    let other = bp_sandbox::Effect::Answer {
        status: 201,
        headers: vec![("docker-content-digest".into(), Digest::sha256("other").to_string())],
        body: String::new(),
    };
    world.sandbox.faults().inject(bp_sandbox::Fault::new(other).at(DST).on("PUT manifest").times(100));
    let error = world.copy().await.unwrap_err();
    assert!(matches!(&error, CopyError::Destination { source, .. } if source.is_corrupt()), "{error:?}");
    world.assert_copied(&old);
}

#[tokio::test(start_paused = true)]
async fn reports_missing_images_and_repositories() {
    let world = World::new(RegistryOptions::default(), RegistryOptions::default().create_on_push(false));
    let error = world.copy().await.unwrap_err();
    assert_eq!(error.to_string(), "v1 not found in dev.example.com/shop/web");
    assert_eq!(error.class(), ErrorClass::BadInput);
    world.push(&single());
    let error = world.copy().await.unwrap_err();
    assert_eq!(error.to_string(), "prod.example.com/shop/web does not exist: create the repository first");
    assert_eq!(error.class(), ErrorClass::BadInput);
}

#[tokio::test(start_paused = true)]
async fn copies_manifests_of_every_kind_verbatim() {
    let world = World::plain();
    let source = world.sandbox.registry(SRC);
    let config = source.put_blob("shop/web", "{}");
    let foreign = Digest::sha256("somewhere else");
    // Docker's media types, odd spacing, an unknown field, no mediaType, a foreign layer that does not exist.
    let child = format!(
        r#"{{ "schemaVersion":2,  "x":[1], "config":{{"mediaType":"application/vnd.docker.container.image.v1+json","digest":"{config}","size":2}},
        "layers":[{{"mediaType":"application/vnd.docker.image.rootfs.foreign.diff.tar.gzip","digest":"{foreign}","size":9,"urls":["https://example.com/l"]}}] }}"#
    );
    let docker = "application/vnd.docker.distribution.manifest.v2+json";
    let digest = source.put_manifest("shop/web", docker, child.clone());
    // An index in an index.
    let index = |digest: &str, size: usize, media_type: &str| {
        format!(
            r#"{{"schemaVersion":2,"manifests":[{{"mediaType":"{media_type}","digest":"{digest}","size":{size}}}]}}"#
        )
    };
    let inner = index(&digest, child.len(), docker);
    let list = "application/vnd.docker.distribution.manifest.list.v2+json";
    let inner_digest = source.put_manifest("shop/web", list, inner.clone());
    let outer = index(&inner_digest, inner.len(), list);
    let oci = "application/vnd.oci.image.index.v1+json";
    let outer_digest = source.put_manifest("shop/web", oci, outer.clone());
    source.tag("shop/web", "v1", &outer_digest);

    let report = world.copy().await.unwrap();
    assert_eq!(report.digest.as_str(), outer_digest);
    let destination = world.sandbox.registry(DST);
    for (digest, media_type, text) in
        [(&digest, docker, &child), (&inner_digest, list, &inner), (&outer_digest, oci, &outer)]
    {
        let stored = destination.manifest("shop/web", digest).unwrap();
        assert_eq!((stored.media_type.as_str(), &stored.bytes[..]), (media_type, text.as_bytes()));
    }
}

#[tokio::test(start_paused = true)]
async fn emits_events_in_order() {
    let world = World::plain();
    let image = single();
    world.push(&image);
    let (from, to): (ImageRef, ImageRef) =
        (format!("{SRC}/shop/web:v1").parse().unwrap(), format!("{DST}/shop/web:v1").parse().unwrap());
    let mut work = copy(world.client.image(&from), world.client.image(&to), CopyOptions::default());
    let mut events = Vec::new();
    while let Some(event) = work.next_event().await {
        events.push(event);
    }
    assert!(matches!(&events[0], CopyEvent::Resolved { present: false, .. }));
    let blobs = events.iter().filter(|event| matches!(event, CopyEvent::Blob { .. })).count();
    assert_eq!(blobs, 3);
    let progress = events.iter().rev().find_map(|event| match event {
        CopyEvent::Progress(progress) => Some(*progress),
        _ => None,
    });
    let total = image.blobs().iter().map(|blob| blob.len() as u64).sum::<u64>();
    let progress = progress.unwrap();
    assert_eq!(
        (progress.blobs, progress.blobs_total, progress.bytes, progress.bytes_total),
        (3, 3, total, total)
    );
    assert!(matches!(events.last().unwrap(), CopyEvent::Tagged { .. }));
    work.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn lists_tags_over_all_pages() {
    let world = World::new(RegistryOptions::default().page_size(2), RegistryOptions::default());
    let image = single();
    for n in 0..5 {
        world.sandbox.registry(SRC).push(&image, "shop/web", &format!("v{n}"));
    }
    let repository = world.client.repository(&format!("{SRC}/shop/web").parse().unwrap());
    let tags: Vec<String> = repository.tags().await.unwrap().iter().map(ToString::to_string).collect();
    assert_eq!(tags, ["v0", "v1", "v2", "v3", "v4"]);
    assert!(repository.head(&Reference::Tag("v9".parse().unwrap())).await.unwrap().is_none());
    let none = world.client.repository(&format!("{SRC}/none").parse().unwrap());
    assert!(matches!(none.tags().await, Err(bp_promote::registry::RegistryError::NotFound { .. })));
}

#[tokio::test(start_paused = true)]
async fn checks_each_child_and_blob_once_in_a_used_repository() {
    let world = World::plain();
    world.sandbox.registry(DST).push(&single(), "shop/web", "v0");
    let image = multi();
    world.push(&image);
    let report = world.copy().await.unwrap();
    world.assert_copied(&image);
    let missing = report.blobs.sent;
    assert_eq!(report.blobs.present, 5 - missing);
    assert_eq!(report.source_requests, 3 + missing);
    // Reference, digest, tag list; two children; five blobs; the missing blobs; three manifests.
    assert_eq!(report.destination_requests, 3 + 2 + 5 + 2 * missing + 3);
}
