//! What is copied, and with which requests.

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
async fn a_single_manifest_to_a_new_repository() {
    let world = World::plain();
    let image = single();
    world.push(&image);
    let report = world.copy().await.unwrap();
    world.assert_copied(&image);
    assert_eq!((report.digest.as_str(), report.outcome), (image.digest(), CopyOutcome::Copied));
    assert_eq!((report.manifests, report.blobs), (counts(1, 0, 0), counts(3, 0, 0)));
    assert_eq!(report.bytes, image.blobs().iter().map(|blob| blob.len() as u64).sum::<u64>());

    assert_eq!(report.source_requests, 4, "one for the manifest and one for each blob");
    let ledger = world.sandbox.ledger();
    assert_eq!(ledger.count_of("HEAD blob"), 0, "in a new repository nothing is looked for");
    assert_eq!((ledger.count_of("POST upload"), ledger.count_of("PUT upload")), (3, 3));
    // The tag, the digest, the list that tells that it is new; two for each blob; the manifest.
    assert_eq!(report.destination_requests, 3 + 2 * 3 + 1);
    assert_eq!(world.operations(DST).len() as u64, report.destination_requests);
    assert_eq!(world.operations(DST).last().unwrap(), "PUT manifest");
}

#[tokio::test(start_paused = true)]
async fn an_index_with_shared_blobs_moves_each_once_and_children_first() {
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
async fn an_equal_tag_costs_one_request_on_each_side_and_a_pinned_one_one_in_all() {
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
async fn the_same_digest_under_a_new_tag_moves_nothing() {
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
async fn another_tag_in_the_same_repository_is_two_requests_more_than_reading_the_image() {
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
async fn some_platforms_in_the_same_repository_are_an_index_that_is_not_there_yet() {
    let world = World::plain();
    world.push(&multi());
    let (from, to): (ImageRef, ImageRef) =
        (format!("{SRC}/shop/web:v1").parse().unwrap(), format!("{SRC}/shop/web:amd64").parse().unwrap());
    let options = CopyOptions::default().platforms(["linux/amd64".parse().unwrap()]);
    let report = copy(world.client.image(&from), world.client.image(&to), options).await.unwrap();
    assert_eq!(report.outcome, CopyOutcome::Copied);
    assert_eq!(report.blobs.sent, 0, "its platform is there");
}

#[tokio::test(start_paused = true)]
async fn what_is_there_is_not_sent_again() {
    let world = World::plain();
    let (old, new) = (single(), ImageBuilder::new().layer([("base", "base")]).layer([("app", "2")]).build());
    world.sandbox.registry(DST).push(&old, "shop/web", "v0");
    world.push(&new);
    let report = world.copy().await.unwrap();
    world.assert_copied(&new);
    assert_eq!(report.blobs, counts(2, 0, 1), "the base layer was there");
}

#[tokio::test(start_paused = true)]
async fn within_a_registry_blobs_are_mounted_and_a_refused_mount_is_an_upload() {
    for mounts in [true, false] {
        let world = World::new(RegistryOptions::default().mounts(mounts), RegistryOptions::default());
        let image = single();
        world.push(&image);
        let to = format!("{SRC}/prod/web:v1");
        let report = world.copy_as(&format!("{SRC}/shop/web:v1"), &to).await.unwrap();
        let expected = if mounts { counts(0, 3, 0) } else { counts(3, 0, 0) };
        assert_eq!(report.blobs, expected);
        if mounts {
            assert_eq!(
                (report.source_requests, report.destination_requests),
                (1, 3 + 3 + 1),
                "one for each blob"
            );
        }
        assert_eq!(world.sandbox.ledger().count_of("POST mount"), 3);
        assert_eq!(world.sandbox.ledger().count_of("POST upload"), 0, "202 is continued, not started again");
        assert_eq!(world.sandbox.registry(SRC).tags("prod/web")["v1"], image.digest());
    }
}

#[tokio::test(start_paused = true)]
async fn by_digest_nothing_is_tagged() {
    let world = World::plain();
    let image = single();
    world.push(&image);
    let to = format!("{DST}/shop/web@{}", image.digest());
    world.copy_as(&format!("{SRC}/shop/web:v1"), &to).await.unwrap();
    assert_whole(&world.sandbox, DST, &image);
    assert!(world.sandbox.registry(DST).tags("shop/web").is_empty());

    let other = format!("{DST}/shop/web@{}", Digest::sha256("other"));
    let error = world.copy_as(&format!("{SRC}/shop/web:v1"), &other).await.unwrap_err();
    assert!(matches!(error, CopyError::OtherDigest { .. }), "{error}");
}

#[tokio::test(start_paused = true)]
async fn an_immutable_tag_with_the_same_digest_is_success_and_another_a_refusal() {
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

        // Two pushed at the same time: the other was faster, with the same image.
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
async fn no_clobber_refuses_before_anything_is_sent() {
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
async fn no_clobber_takes_a_tag_that_names_the_image_already() {
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
async fn a_mount_that_fails_is_an_upload_and_one_that_works_is_told() {
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
async fn the_tag_stays_when_the_destination_answers_with_another_digest() {
    let world = World::plain();
    let old = single();
    world.sandbox.registry(DST).push(&old, "shop/web", "v1");
    world.push(&multi());
    // A child is answered for, and not stored as it was sent.
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
async fn missing_images_and_repositories_are_named() {
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
async fn manifests_of_every_kind_are_carried_verbatim() {
    let world = World::plain();
    let source = world.sandbox.registry(SRC);
    let config = source.put_blob("shop/web", "{}");
    let foreign = Digest::sha256("somewhere else");
    // Docker's media types, odd spacing, an unknown field, no mediaType, a foreign layer that nobody has.
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
async fn events_tell_the_story() {
    let world = World::plain();
    let image = single();
    world.push(&image);
    let (from, to): (ImageRef, ImageRef) =
        (format!("{SRC}/shop/web:v1").parse().unwrap(), format!("{DST}/shop/web:v1").parse().unwrap());
    let mut work = copy(world.client.image(&from), world.client.image(&to), CopyOptions::default());
    let mut told = Vec::new();
    while let Some(event) = work.next_event().await {
        told.push(event);
    }
    assert!(matches!(&told[0], CopyEvent::Resolved { present: false, .. }));
    let blobs = told.iter().filter(|event| matches!(event, CopyEvent::Blob { .. })).count();
    assert_eq!(blobs, 3);
    let progress = told.iter().rev().find_map(|event| match event {
        CopyEvent::Progress(progress) => Some(*progress),
        _ => None,
    });
    let total = image.blobs().iter().map(|blob| blob.len() as u64).sum::<u64>();
    let progress = progress.unwrap();
    assert_eq!(
        (progress.blobs, progress.blobs_total, progress.bytes, progress.bytes_total),
        (3, 3, total, total)
    );
    assert!(matches!(told.last().unwrap(), CopyEvent::Tagged { .. }));
    work.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn tags_come_through_all_pages() {
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
    assert!(none.tags().await.unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn beside_other_images_each_child_and_blob_is_looked_for_once() {
    let world = World::plain();
    world.sandbox.registry(DST).push(&single(), "shop/web", "v0");
    let image = multi();
    world.push(&image);
    let report = world.copy().await.unwrap();
    world.assert_copied(&image);
    let missing = report.blobs.sent;
    assert_eq!(report.blobs.present, 5 - missing);
    assert_eq!(report.source_requests, 3 + missing);
    // Name, digest, list; two children; five blobs; what is missing; three manifests.
    assert_eq!(report.destination_requests, 3 + 2 + 5 + 2 * missing + 3);
}
