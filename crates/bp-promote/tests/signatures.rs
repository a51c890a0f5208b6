//! Tests of merging: signatures and lists of referrers at the destination are kept.

mod common;

use std::sync::Arc;

use bp_artifact::{
    Digest, ImageRef,
    error::{Classified as _, ErrorClass},
};
use bp_promote::{
    CopyError, CopyOptions, CopyReport, OciLayout,
    content::Reference,
    copy,
    copy::{CopyEvent, CopyOutcome, Transfer, plan},
    store::ImageAt,
};
use bp_sandbox::{
    Image,
    registry::{Registry, RegistryOptions},
};
use common::*;
use serde_json::{Value, json};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const SIGNATURE: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
const ATTESTATION: &str = "application/vnd.dsse.envelope.v1+json";

fn name(image: &Image, kind: &str) -> String {
    format!("{}.{kind}", image.digest().replace(':', "-"))
}

/// Writes these signatures under a tag, in cosign's format. Returns the manifest's digest.
fn write(registry: &Registry, image: &Image, kind: &str, signatures: &[(&str, &str)]) -> String {
    let media_type = if kind == "att" { ATTESTATION } else { SIGNATURE };
    let layers: Vec<Value> = signatures
        .iter()
        .map(|(payload, signature)| {
            let digest = registry.put_blob("shop/web", payload.to_string());
            json!({ "mediaType": media_type, "digest": digest, "size": payload.len(),
                "annotations": { "dev.cosignproject.cosign/signature": signature } })
        })
        .collect();
    let digests: Vec<&Value> = layers.iter().map(|layer| &layer["digest"]).collect();
    let config = json!({ "architecture": "", "os": "", "config": {},
        "rootfs": { "type": "layers", "diff_ids": digests } })
    .to_string();
    let size = config.len();
    let config = registry.put_blob("shop/web", config);
    let manifest = json!({ "schemaVersion": 2, "mediaType": MANIFEST, "layers": layers,
        "config": { "mediaType": CONFIG, "digest": config, "size": size } });
    let digest = registry.put_manifest("shop/web", MANIFEST, manifest.to_string());
    registry.tag("shop/web", &name(image, kind), &digest);
    digest
}

/// The signatures under a tag, by their annotations. Checks that all content exists and the configuration lists it.
fn read(registry: &Registry, image: &Image, kind: &str) -> Vec<String> {
    let stored = registry.manifest("shop/web", &name(image, kind)).expect("a manifest");
    assert_eq!(stored.media_type, MANIFEST);
    let manifest: Value = serde_json::from_slice(&stored.bytes).unwrap();
    assert_eq!(manifest["mediaType"], MANIFEST);
    assert_eq!(manifest["config"]["mediaType"], CONFIG);
    let blob = |descriptor: &Value| {
        let bytes = registry.blob("shop/web", descriptor["digest"].as_str().unwrap()).expect("its content");
        assert_eq!(descriptor["size"], bytes.len());
        bytes
    };
    let config: Value = serde_json::from_slice(&blob(&manifest["config"])).unwrap();
    let layers = manifest["layers"].as_array().unwrap();
    layers.iter().for_each(|layer| drop(blob(layer)));
    let digests: Vec<Value> = layers.iter().map(|layer| layer["digest"].clone()).collect();
    assert_eq!(config["rootfs"], json!({ "type": "layers", "diff_ids": digests }));
    let signature = |layer: &Value| layer["annotations"]["dev.cosignproject.cosign/signature"].clone();
    layers.iter().map(|layer| signature(layer).as_str().unwrap().to_owned()).collect()
}

fn options() -> CopyOptions {
    CopyOptions::default().referrers()
}

async fn promote(world: &World, options: CopyOptions) -> Result<CopyReport, CopyError> {
    let [from, to] = [SRC, DST].map(|host| format!("{host}/shop/web:v1").parse::<ImageRef>().unwrap());
    copy(world.client.image(&from), world.client.image(&to), options).await
}

/// The write requests to the destination.
fn writes(world: &World) -> Vec<String> {
    world
        .operations(DST)
        .into_iter()
        .filter(|name| !name.starts_with("GET") && !name.starts_with("HEAD"))
        .collect()
}

struct Fixture {
    world: World,
    image: Image,
    source: Arc<Registry>,
    destination: Arc<Registry>,
}

/// Promotes an image once, signed by `dev` at the source.
async fn promoted(kind: &str) -> Fixture {
    let world = World::plain();
    let image = multi();
    world.push(&image);
    let (source, destination) = (world.sandbox.registry(SRC), world.sandbox.registry(DST));
    write(&source, &image, kind, &[("payload of dev", "dev")]);
    promote(&world, options()).await.unwrap();
    assert_eq!(read(&destination, &image, kind), ["dev"]);
    world.sandbox.ledger().clear();
    Fixture { world, image, source, destination }
}

#[tokio::test(start_paused = true)]
async fn keeps_signatures_added_at_the_destination() {
    for kind in ["sig", "att"] {
        let Fixture { world, image, destination, .. } = promoted(kind).await;
        // As `cosign sign` does after a promotion.
        write(&destination, &image, kind, &[("payload of dev", "dev"), ("payload of prod", "prod")]);
        let before = destination.tags("shop/web");
        for options in [options(), options().no_clobber(), options()] {
            let report = promote(&world, options).await.unwrap();
            assert_eq!(report.outcome, CopyOutcome::Unchanged);
            assert_eq!((report.referrers.present, report.referrers.sent), (1, 0));
            assert_eq!(destination.tags("shop/web"), before);
            assert!(writes(&world).is_empty(), "{:?}", writes(&world));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn merges_signatures_of_both_sides_once() {
    for kind in ["sig", "att"] {
        let Fixture { world, image, source, destination } = promoted(kind).await;
        write(&destination, &image, kind, &[("payload of dev", "dev"), ("payload of prod", "prod")]);
        // The same payload signed with another key, and another payload.
        let more = [("payload of dev", "dev"), ("payload of dev", "qa"), ("more", "more")];
        write(&source, &image, kind, &more);
        let report = promote(&world, options()).await.unwrap();
        assert_eq!((report.referrers.present, report.referrers.sent), (0, 1));
        assert_eq!(read(&destination, &image, kind), ["dev", "prod", "qa", "more"]);
        assert_eq!(report.kept, []);

        world.sandbox.ledger().clear();
        let before = destination.tags("shop/web");
        for options in [options(), options().no_clobber()] {
            let report = promote(&world, options).await.unwrap();
            assert_eq!((report.referrers.present, report.referrers.sent), (1, 0));
        }
        assert_eq!(destination.tags("shop/web"), before);
        assert!(writes(&world).is_empty(), "{:?}", writes(&world));
    }
}

#[tokio::test(start_paused = true)]
async fn copies_the_source_manifest_if_it_has_all_signatures() {
    let Fixture { world, image, source, destination } = promoted("sig").await;
    let digest = write(&source, &image, "sig", &[("more", "more"), ("payload of dev", "dev")]);
    promote(&world, options()).await.unwrap();
    assert_eq!(destination.tags("shop/web")[&name(&image, "sig")], digest);
    assert_eq!(read(&destination, &image, "sig"), ["more", "dev"]);
}

#[tokio::test(start_paused = true)]
async fn no_clobber_refuses_to_move_signatures() {
    for theirs in [&[("payload of prod", "prod")][..], &[("payload of dev", "dev")]] {
        let Fixture { world, image, source, destination } = promoted("sig").await;
        write(&destination, &image, "sig", theirs);
        write(&source, &image, "sig", &[("payload of dev", "dev"), ("more", "more")]);
        let before = destination.tags("shop/web");
        let error = promote(&world, options().no_clobber()).await.unwrap_err();
        assert!(
            matches!(&error, CopyError::TagTaken { tag, .. } if *tag == name(&image, "sig")),
            "{error:?}"
        );
        assert_eq!(error.class(), ErrorClass::Refused);
        assert_eq!(destination.tags("shop/web"), before);
        assert!(writes(&world).is_empty(), "{:?}", writes(&world));
    }
}

#[tokio::test(start_paused = true)]
async fn keeps_and_reports_tags_that_cannot_be_merged() {
    for kind in ["sig", "sbom"] {
        let world = World::plain();
        let image = multi();
        world.push(&image);
        let (ours, theirs) = (large(100), single());
        world.sandbox.registry(SRC).push(&ours, "shop/web", &name(&image, kind));
        let destination = world.sandbox.registry(DST);
        destination.push(&theirs, "shop/web", &name(&image, kind));
        let [from, to] = [SRC, DST].map(|host| format!("{host}/shop/web:v1").parse::<ImageRef>().unwrap());
        for outcome in [CopyOutcome::Copied, CopyOutcome::Unchanged] {
            let mut work = copy(world.client.image(&from), world.client.image(&to), options());
            let mut events = 0;
            while let Some(event) = work.next_event().await {
                if let CopyEvent::Kept(kept) = event {
                    assert_eq!(
                        (kept.tag.as_str(), kept.digest.as_str()),
                        (&*name(&image, kind), theirs.digest())
                    );
                    events += 1;
                }
            }
            let report = work.await.unwrap();
            assert_eq!((report.outcome, report.kept.len(), events), (outcome, 1, 1));
            assert_eq!(report.kept[0].wanted.as_str(), ours.digest());
            assert_eq!(destination.tags("shop/web")[&name(&image, kind)], theirs.digest());
            world.assert_copied(&image);
        }
        let error = promote(&world, options().no_clobber()).await.unwrap_err();
        assert!(matches!(error, CopyError::TagTaken { .. }), "{error:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn fails_to_move_immutable_signature_tags() {
    let world = World::new(RegistryOptions::default(), RegistryOptions::default().immutable_tags());
    let image = multi();
    world.push(&image);
    let (source, destination) = (world.sandbox.registry(SRC), world.sandbox.registry(DST));
    write(&source, &image, "sig", &[("payload of dev", "dev")]);
    let theirs = write(&destination, &image, "sig", &[("payload of prod", "prod")]);
    let error = promote(&world, options()).await.unwrap_err();
    assert!(matches!(error, CopyError::TagTaken { .. }), "{error:?}");
    assert_eq!(destination.tags("shop/web")[&name(&image, "sig")], theirs);
}

#[tokio::test(start_paused = true)]
async fn a_plan_shows_whether_signatures_are_sent() {
    let Fixture { world, image, source, destination } = promoted("sig").await;
    let [from, to] = [SRC, DST].map(|host| format!("{host}/shop/web:v1").parse::<ImageRef>().unwrap());
    write(&destination, &image, "sig", &[("payload of dev", "dev"), ("payload of prod", "prod")]);
    for (ours, how) in [("dev", Transfer::Present), ("other", Transfer::Sent)] {
        write(&source, &image, "sig", &[(&format!("payload of {ours}"), ours)]);
        let planned = plan(world.client.image(&from), world.client.image(&to), options()).await.unwrap();
        let referrers = planned.referrers.unwrap();
        assert_eq!(referrers.iter().map(|one| one.how).collect::<Vec<_>>(), [how], "{ours}");
    }
    assert!(writes(&world).is_empty());
}

#[tokio::test]
async fn merges_signatures_into_a_layout() {
    let Fixture { world, image, source, .. } = promoted("sig").await;
    let directory = tempfile::tempdir().unwrap();
    let layout = OciLayout::create(directory.path()).await.unwrap();
    let tag = Reference::Tag("v1".parse().unwrap());
    let from = format!("{SRC}/shop/web:v1").parse::<ImageRef>().unwrap();
    for (signature, sent) in [("one", 1), ("two", 1), ("one", 0)] {
        write(&source, &image, "sig", &[(&format!("payload of {signature}"), signature)]);
        let to = ImageAt::new(layout.clone(), tag.clone());
        let report = copy(world.client.image(&from), to, options()).await.unwrap();
        assert_eq!(report.referrers.sent, sent, "{signature}");
    }
    let back = world.client.image(&format!("{DST}/shop/web:v1").parse().unwrap());
    world.sandbox.registry(DST).tag("shop/web", &name(&image, "sig"), image.digest());
    let report = copy(ImageAt::new(layout, tag), back, options()).await.unwrap();
    assert_eq!(report.kept.len(), 1, "an image is not a signature manifest");
}

/// Stores an artifact that refers to the image; returns its digest.
fn attach(registry: &Registry, image: &Image, kind: &str) -> String {
    let config = registry.put_blob("shop/web", "{}");
    let manifest = json!({
        "schemaVersion": 2, "mediaType": MANIFEST, "artifactType": format!("application/{kind}"), "layers": [],
        "config": { "mediaType": "application/vnd.oci.empty.v1+json", "digest": config, "size": 2 },
        "subject": { "mediaType": INDEX, "digest": image.digest(), "size": 1 },
    });
    registry.put_manifest("shop/web", MANIFEST, manifest.to_string())
}

#[tokio::test(start_paused = true)]
async fn no_clobber_creates_referrer_lists_but_does_not_move_existing_ones() {
    for exists in [false, true] {
        let world = World::new(RegistryOptions::default(), RegistryOptions::default().without_referrers());
        let image = multi();
        world.push(&image);
        let (source, destination) = (world.sandbox.registry(SRC), world.sandbox.registry(DST));
        attach(&source, &image, "sbom");
        attach(&source, &image, "scan");
        let tag = image.digest().replace(':', "-");
        if exists {
            let other = attach(&destination, &image, "other");
            let list = json!({ "schemaVersion": 2, "mediaType": INDEX,
                "manifests": [{ "mediaType": MANIFEST, "digest": other, "size": 1 }] });
            let list = destination.put_manifest("shop/web", INDEX, list.to_string());
            destination.tag("shop/web", &tag, &list);
        }
        let before = destination.tags("shop/web");
        let done = promote(&world, options().no_clobber()).await;
        if exists {
            let error = done.unwrap_err();
            assert_eq!(error.class(), ErrorClass::Refused, "{error:?}");
            let source = std::error::Error::source(&error).unwrap().to_string();
            assert!(source.contains(&tag), "{source}");
            assert_eq!(destination.tags("shop/web"), before);
            // Without the option the list is merged.
            promote(&world, options()).await.unwrap();
        } else {
            assert_eq!(done.unwrap().referrers.sent, 2);
            let again = promote(&world, options().no_clobber()).await.unwrap();
            assert_eq!((again.referrers.present, again.referrers.sent), (2, 0));
        }
        let list = destination.manifest("shop/web", &tag).unwrap();
        let list: Value = serde_json::from_slice(&list.bytes).unwrap();
        assert_eq!(list["manifests"].as_array().unwrap().len(), if exists { 3 } else { 2 });
        let _: Digest = destination.tags("shop/web")[&tag].parse().unwrap();
    }
}
