//! Tests of referrers: what is attached to an image is copied with it.

mod common;

use std::sync::Arc;

use bp_artifact::{Digest, ImageRef};
use bp_promote::{
    CopyError, CopyOptions, CopyReport, OciLayout, content::Reference, copy, copy::CopyOutcome,
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

/// Stores an artifact that refers to `subject`; returns its digest.
fn attach(registry: &Registry, subject: &str, kind: &str) -> String {
    let config = registry.put_blob("shop/web", "{}");
    let layer = format!("{kind} of {subject}");
    let manifest = json!({
        "schemaVersion": 2, "mediaType": MANIFEST, "artifactType": format!("application/{kind}"),
        "config": { "mediaType": "application/vnd.oci.empty.v1+json", "digest": config, "size": 2 },
        "layers": [{
            "mediaType": "text/plain", "size": layer.len(),
            "digest": registry.put_blob("shop/web", layer),
        }],
        "subject": { "mediaType": MANIFEST, "digest": subject, "size": 1 },
        "annotations": { "kind": kind },
    });
    registry.put_manifest("shop/web", MANIFEST, manifest.to_string())
}

/// Attaches an SBOM to the index, a signature to the SBOM, and an attestation to a platform.
fn attach_all(registry: &Registry, image: &Image) -> [String; 3] {
    let sbom = attach(registry, image.digest(), "sbom");
    let signature = attach(registry, &sbom, "signature");
    let attestation = attach(registry, image.platform("linux/arm64"), "attestation");
    [sbom, signature, attestation]
}

async fn copy_all(world: &World) -> Result<CopyReport, CopyError> {
    let (from, to): (ImageRef, ImageRef) =
        (format!("{SRC}/shop/web:v1").parse().unwrap(), format!("{DST}/shop/web:v1").parse().unwrap());
    let options = CopyOptions::default().referrers();
    copy(world.client.image(&from), world.client.image(&to), options).await
}

/// The digests in the list under a fallback tag.
fn fallback(registry: &Arc<Registry>, subject: &str) -> Vec<String> {
    let list = registry.manifest("shop/web", &subject.replace(':', "-")).expect("a fallback tag");
    let list: Value = serde_json::from_slice(&list.bytes).unwrap();
    let entries = list["manifests"].as_array().unwrap();
    entries.iter().map(|entry| entry["digest"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test(start_paused = true)]
async fn copies_referrers_of_the_index_its_platforms_and_other_referrers() {
    let world = World::plain();
    let image = multi();
    world.push(&image);
    let source = world.sandbox.registry(SRC);
    let attached = attach_all(&source, &image);
    let report = copy_all(&world).await.unwrap();
    assert_eq!((report.outcome, report.referrers.sent), (CopyOutcome::Copied, 3));
    world.assert_copied(&image);
    let destination = world.sandbox.registry(DST);
    for digest in &attached {
        let (original, copied) =
            (source.manifest("shop/web", digest), destination.manifest("shop/web", digest));
        assert_eq!(copied.unwrap().bytes, original.unwrap().bytes);
    }
    assert_eq!(destination.tags("shop/web").len(), 1, "the registry maintains the lists");

    let again = copy_all(&world).await.unwrap();
    assert_eq!(
        (again.outcome, again.referrers.present, again.referrers.sent),
        (CopyOutcome::Unchanged, 3, 0)
    );

    // A referrer that is attached later is copied by the next run.
    attach(&source, image.digest(), "scan");
    assert_eq!(copy_all(&world).await.unwrap().referrers.sent, 1);
}

#[tokio::test(start_paused = true)]
async fn merges_fallback_tags_without_the_referrers_api() {
    let world = World::new(RegistryOptions::default(), RegistryOptions::default().without_referrers());
    let image = multi();
    world.push(&image);
    let [sbom, signature, attestation] = attach_all(&world.sandbox.registry(SRC), &image);
    // The destination already lists another referrer, and the subject itself.
    let destination = world.sandbox.registry(DST);
    let other = attach(&destination, image.digest(), "other");
    let entry = |digest: &str| json!({ "mediaType": MANIFEST, "digest": digest, "size": 1, "x": 1 });
    destination.push(&image, "shop/web", "v0");
    let list = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [entry(&other), entry(image.digest())] });
    let list = destination.put_manifest("shop/web", INDEX, list.to_string());
    destination.tag("shop/web", &image.digest().replace(':', "-"), &list);

    copy_all(&world).await.unwrap();
    assert_eq!(fallback(&destination, image.digest()), [other, image.digest().to_owned(), sbom.clone()]);
    assert_eq!(fallback(&destination, &sbom), [signature]);
    assert_eq!(fallback(&destination, image.platform("linux/arm64")), [attestation]);
    let again = copy_all(&world).await.unwrap();
    assert_eq!((again.referrers.present, again.referrers.sent), (3, 0));

    // Copying back reads from the fallback tags.
    let (from, to): (ImageRef, ImageRef) =
        (format!("{DST}/shop/web:v1").parse().unwrap(), format!("{SRC}/again/web:v1").parse().unwrap());
    let options = CopyOptions::default().referrers();
    let report = copy(world.client.image(&from), world.client.image(&to), options).await.unwrap();
    assert_eq!(report.referrers.sent, 4);
}

#[tokio::test(start_paused = true)]
async fn does_not_overwrite_a_fallback_tag_that_is_not_an_index() {
    let world = World::new(RegistryOptions::default(), RegistryOptions::default().without_referrers());
    let image = multi();
    world.push(&image);
    attach(&world.sandbox.registry(SRC), image.digest(), "sbom");
    let destination = world.sandbox.registry(DST);
    let tag = image.digest().replace(':', "-");
    let taken = single();
    destination.push(&taken, "shop/web", &tag);
    let error = copy_all(&world).await.unwrap_err();
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert!(source.contains("is not an index"), "{source}");
    assert_eq!(destination.tags("shop/web")[&tag], taken.digest());
    assert!(!destination.tags("shop/web").contains_key("v1"), "the tag is pushed last");
}

#[tokio::test(start_paused = true)]
async fn reports_the_referrer_that_a_registry_rejects() {
    let world = World::new(RegistryOptions::default(), RegistryOptions::default().refusing_subjects());
    let image = multi();
    world.push(&image);
    let sbom = attach(&world.sandbox.registry(SRC), image.digest(), "sbom");
    let error = copy_all(&world).await.unwrap_err();
    let said = error.to_string();
    assert!(said.contains(&format!("referrer {sbom} of {}", image.digest())), "{said}");
}

#[tokio::test(start_paused = true)]
async fn finds_cosign_tags_with_one_list_request() {
    let world = World::plain();
    let image = multi();
    world.push(&image);
    let signature = single();
    let tag = format!("{}.sig", image.digest().replace(':', "-"));
    world.sandbox.registry(SRC).push(&signature, "shop/web", &tag);
    let report = copy_all(&world).await.unwrap();
    assert_eq!(report.referrers.sent, 1);
    assert_eq!(world.sandbox.registry(DST).tags("shop/web")[&tag], signature.digest());
    let lists = world.operations(SRC).iter().filter(|operation| *operation == "GET tags").count();
    assert_eq!(lists, 1);
    let lists = world.operations(SRC).iter().filter(|operation| *operation == "GET referrers").count();
    assert_eq!(lists, 4, "one each for the index, the platforms and the signature");
}

#[tokio::test]
async fn copies_referrers_through_a_layout() {
    let world = World::plain();
    let image = multi();
    world.push(&image);
    attach_all(&world.sandbox.registry(SRC), &image);
    let directory = tempfile::tempdir().unwrap();
    let layout = OciLayout::create(directory.path()).await.unwrap();
    let name = Reference::Tag("v1".parse().unwrap());
    let options = || CopyOptions::default().referrers();
    let from = world.client.image(&format!("{SRC}/shop/web:v1").parse().unwrap());
    let out = copy(from, ImageAt::new(layout.clone(), name.clone()), options()).await.unwrap();
    assert_eq!(out.referrers.sent, 3);
    let to = world.client.image(&format!("{DST}/shop/web:v1").parse().unwrap());
    let back = copy(ImageAt::new(layout, name), to, options()).await.unwrap();
    assert_eq!(back.referrers.sent, 3);
    world.assert_copied(&image);
    let digest: Digest = image.platform("linux/arm64").parse().unwrap();
    let repository = world.client.repository(&format!("{DST}/shop/web").parse().unwrap());
    assert_eq!(repository.referrers(&digest).await.unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn copies_referrers_of_cosign_tags_with_and_without_listing() {
    for lists in [true, false] {
        let world = World::plain();
        let image = multi();
        world.push(&image);
        let source = world.sandbox.registry(SRC);
        let name = |digest: &str, kind: &str| format!("{}.{kind}", digest.replace(':', "-"));
        let (sbom, signature) = (single(), large(100));
        source.push(&sbom, "shop/web", &name(image.digest(), "sbom"));
        source.push(&signature, "shop/web", &name(sbom.digest(), "sig"));
        if !lists {
            world.sandbox.faults().inject(bp_sandbox::Fault::status(403).at(SRC).on("GET tags").times(100));
        }
        let report = copy_all(&world).await.unwrap();
        assert_eq!(report.referrers.sent, 2, "{lists}");
        let tags = world.sandbox.registry(DST).tags("shop/web");
        assert_eq!(tags[&name(image.digest(), "sbom")], sbom.digest());
        assert_eq!(tags[&name(sbom.digest(), "sig")], signature.digest());
    }
}

#[tokio::test(start_paused = true)]
async fn plans_and_applies_referrers() {
    let world = World::plain();
    let image = multi();
    world.push(&image);
    let attached = attach_all(&world.sandbox.registry(SRC), &image);
    let (from, to): (ImageRef, ImageRef) =
        (format!("{SRC}/shop/web:v1").parse().unwrap(), format!("{DST}/shop/web:v1").parse().unwrap());
    let sides = || (world.client.image(&from), world.client.image(&to));
    let (source, destination) = sides();
    let plan = bp_promote::copy::plan(source, destination, CopyOptions::default().referrers()).await.unwrap();
    let referrers = plan.referrers.as_ref().unwrap();
    let mut planned: Vec<String> = referrers.iter().map(|referrer| referrer.digest.to_string()).collect();
    planned.sort();
    let mut expected = attached.to_vec();
    expected.sort();
    assert_eq!(planned, expected);
    assert!(plan.to_string().contains("referrers: 3 of 3 to send"), "{plan}");
    let (source, destination) = sides();
    // The plan includes the referrers option.
    let report = bp_promote::copy::apply(&plan, source, destination, CopyOptions::default()).await.unwrap();
    assert_eq!((report.referrers.sent, report.bytes), (3, plan.bytes()));
}

#[tokio::test(start_paused = true)]
async fn lists_referrers_of_each_manifest_once_per_side() {
    for api in [true, false] {
        let options =
            || if api { RegistryOptions::default() } else { RegistryOptions::default().without_referrers() };
        let world = World::new(options(), options());
        let image = multi();
        world.push(&image);
        let source = world.sandbox.registry(SRC);
        let attached = attach_all(&source, &image);
        if !api {
            // Lists under fallback tags, as a client would write them.
            let [sbom, signature, attestation] = &attached;
            for (subject, referrer) in [
                (image.digest(), sbom),
                (sbom.as_str(), signature),
                (image.platform("linux/arm64"), attestation),
            ] {
                let entry = json!({ "mediaType": MANIFEST, "digest": referrer, "size": 1 });
                let list =
                    json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [entry] }).to_string();
                let list = source.put_manifest("shop/web", INDEX, list);
                source.tag("shop/web", &subject.replace(':', "-"), &list);
            }
        }
        // The first copy stores everything at the destination too.
        assert_eq!(copy_all(&world).await.unwrap().referrers.sent, 3);
        world.sandbox.ledger().clear();
        let client = client(&world.sandbox, bp_promote::registry::Logins::new());
        let world = World { client, sandbox: world.sandbox };
        assert_eq!(copy_all(&world).await.unwrap().referrers.present, 3);

        let entries = world.sandbox.ledger().entries();
        for (host, subjects) in [(SRC, 3 + 3), (DST, 3)] {
            let lists = |operation| {
                let of =
                    entries.iter().filter(|entry| entry.endpoint == host && entry.operation == operation);
                of.map(|entry| entry.path.clone()).collect::<Vec<_>>()
            };
            let (mut asked, tags) = (lists("GET referrers"), lists("GET tags"));
            let all = asked.len();
            asked.sort();
            asked.dedup();
            assert_eq!(asked.len(), all, "{host}: each is listed once");
            // The index, its platforms and the referrers; at the destination only manifests with referrers.
            assert_eq!(all, if api { subjects } else { 1 }, "{host}, {api}: {asked:?}");
            assert!(tags.len() <= 1, "{host}: one list has cosign's tags and fallback tags");
        }
    }
}
