//! Tests of registries as they are: what they conceal, reject, and answer wrongly.

mod common;

use std::time::Duration;

use bp_artifact::{
    Digest, ImageRef,
    error::{Classified as _, ErrorClass},
};
use bp_promote::{
    CopyError, CopyOptions, CopyReport, copy,
    copy::{CopyEvent, CopyOutcome},
    registry::{Logins, RegistryError},
    store::StoreError,
};
use bp_sandbox::{
    Effect, Fault, Image,
    registry::{Auth, Registry, RegistryOptions},
};
use common::*;
use serde_json::{Value, json};
use tokio::time::Instant;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

fn answer(status: u16, body: &str) -> Effect {
    Effect::Answer { status, headers: Vec::new(), body: body.to_owned() }
}

/// A fault of all requests of this kind.
fn always(world: &World, effect: Effect, host: &str, operation: &str) {
    world.sandbox.faults().inject(Fault::new(effect).at(host).on(operation).times(100_000));
}

fn sides() -> [ImageRef; 2] {
    [SRC, DST].map(|host| format!("{host}/shop/web:v1").parse().unwrap())
}

/// Copies `v1`, and returns the result with the warnings.
async fn copied(world: &World, options: CopyOptions) -> (Result<CopyReport, CopyError>, Vec<String>) {
    let [from, to] = sides();
    let mut work = copy(world.client.image(&from), world.client.image(&to), options);
    let mut warnings = Vec::new();
    while let Some(event) = work.next_event().await {
        if matches!(event, CopyEvent::Warning { .. } | CopyEvent::Skipped(_)) {
            warnings.push(event.to_string());
        }
    }
    (work.await, warnings)
}

fn with_referrers() -> CopyOptions {
    CopyOptions::default().referrers()
}

/// Stores an artifact that refers to `subject`; returns its digest.
fn attach(registry: &Registry, subject: &str, kind: &str) -> String {
    let config = registry.put_blob("shop/web", "{}");
    let manifest = json!({
        "schemaVersion": 2, "mediaType": MANIFEST, "artifactType": format!("application/{kind}"),
        "config": { "mediaType": "application/vnd.oci.empty.v1+json", "digest": config, "size": 2 },
        "layers": [], "subject": { "mediaType": MANIFEST, "digest": subject, "size": 1 },
    });
    registry.put_manifest("shop/web", MANIFEST, manifest.to_string())
}

/// Lists manifests under the fallback tag of `subject`.
fn list(registry: &Registry, subject: &str, listed: &[&str]) {
    let entry = |digest: &&str| json!({ "mediaType": MANIFEST, "digest": digest, "size": 1 });
    let list = json!({ "schemaVersion": 2, "mediaType": INDEX,
        "manifests": listed.iter().map(entry).collect::<Vec<_>>() });
    let list = registry.put_manifest("shop/web", INDEX, list.to_string());
    registry.tag("shop/web", &subject.replace(':', "-"), &list);
}

/// A world whose source lists an SBOM of the image under the fallback tag, and its signature.
fn with_fallback_list(destination: RegistryOptions) -> (World, Image, [String; 2]) {
    let world = World::new(RegistryOptions::default(), destination);
    let image = multi();
    world.push(&image);
    let source = world.sandbox.registry(SRC);
    let sbom = attach(&source, image.digest(), "sbom");
    let signature = attach(&source, &sbom, "signature");
    list(&source, image.digest(), &[&sbom]);
    list(&source, &sbom, &[&signature]);
    (world, image, [sbom, signature])
}

fn has(world: &World, digest: &str) -> bool {
    world.sandbox.registry(DST).manifest("shop/web", digest).is_some()
}

#[tokio::test(start_paused = true)]
async fn asks_for_the_challenge_before_it_accepts_404_or_403() {
    for status in [404, 403] {
        for auth in [Auth::basic("ci", "pw"), Auth::token("ci", "pw", Duration::from_secs(60))] {
            let options = || RegistryOptions::default().auth(auth.clone()).concealing(status);
            let logins = || {
                [SRC, DST].into_iter().fold(Logins::new(), |logins, host| {
                    let login = bp_promote::registry::Login::password("ci", "pw");
                    logins.with(host.parse().unwrap(), login)
                })
            };
            let world = World::with(options(), options(), logins());
            let image = multi();
            world.push(&image);
            world.copy().await.unwrap_or_else(|error| panic!("{status} {auth:?}: {error:?}"));
            world.assert_copied(&image);
            for host in [SRC, DST] {
                let asked = world.operations(host).iter().filter(|asked| *asked == "GET base").count();
                assert_eq!(asked, 1, "{status} {auth:?}: once");
            }
            // Without a login nothing is asked.
            let world = World::with(options(), options(), Logins::new());
            world.push(&image);
            world.copy().await.unwrap_err();
            assert_eq!(world.operations(SRC), ["GET manifest"]);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn accepts_404_of_an_open_registry_with_a_login_at_hand() {
    let world = World::with(RegistryOptions::default(), RegistryOptions::default(), login(SRC, "ci", "pw"));
    for _ in 0..2 {
        let error = world.copy().await.unwrap_err();
        assert!(matches!(error, CopyError::NoImage { .. }), "{error:?}");
    }
    assert_eq!(world.operations(SRC), ["GET manifest", "GET base", "GET manifest"]);
}

#[tokio::test(start_paused = true)]
async fn reads_fallback_tags_if_the_referrers_api_returns_no_index() {
    for (status, body) in [
        (400, ""),
        (401, ""),
        (403, ""),
        (404, "404 page not found"),
        (405, ""),
        (406, ""),
        (500, ""),
        (501, ""),
        (200, "<html>"),
        (200, "{}"),
        (200, r#"{"errors":[]}"#),
        (200, ""),
        (204, ""),
        (302, ""),
        (410, ""),
    ] {
        for host in [SRC, DST] {
            let destination = RegistryOptions::default().without_referrers();
            let (world, image, attached) = with_fallback_list(destination);
            always(&world, answer(status, body), host, "GET referrers");
            // A new repository is not asked.
            world.sandbox.registry(DST).push(&single(), "shop/web", "v0");
            let start = Instant::now();
            let (done, warnings) = copied(&world, with_referrers()).await;
            let report = done.unwrap_or_else(|error| panic!("{host} {status} {body}: {error:?}"));
            assert_eq!(report.referrers.sent, 2, "{host} {status} {body}");
            assert!(attached.iter().all(|digest| has(&world, digest)), "{host} {status} {body}");
            world.assert_copied(&image);
            assert!(start.elapsed() < Duration::from_secs(10), "{status}: {:?}", start.elapsed());
            let says_so = warnings.iter().any(|line| line.contains("fallback tags"));
            assert_eq!(says_so, status != 404, "{host} {status} {body}: {warnings:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn remembers_the_referrers_api_per_repository_and_despite_a_single_404() {
    let world = World::plain();
    let image = multi();
    world.push(&image);
    let source = world.sandbox.registry(SRC);
    let sbom = attach(&source, image.digest(), "sbom");
    let signature = attach(&source, &sbom, "signature");
    // A platform of the index is answered with 404.
    let unknown = answer(404, r#"{"errors":[{"code":"MANIFEST_UNKNOWN"}]}"#);
    world.sandbox.faults().inject(Fault::new(unknown).at(SRC).on("GET referrers").after(1));
    let (done, _) = copied(&world, with_referrers()).await;
    assert_eq!(done.unwrap().referrers.sent, 2);
    assert!(has(&world, &sbom) && has(&world, &signature));

    // Another repository of the same registry has no API.
    let other: bp_artifact::Repository = format!("{SRC}/proxy/web").parse().unwrap();
    let digest: Digest = image.digest().parse().unwrap();
    world.sandbox.faults().inject(Fault::status(404).at(SRC).on("GET referrers"));
    world.client.repository(&other).referrers(&digest).await.unwrap();
    let own = world.client.repository(&format!("{SRC}/shop/web").parse().unwrap());
    assert_eq!(own.referrers(&digest).await.unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn skips_and_reports_listed_manifests_that_are_not_referrers() {
    let (world, image, [sbom, signature]) = with_fallback_list(RegistryOptions::default());
    let source = world.sandbox.registry(SRC);
    let dangling = Digest::sha256("collected").to_string();
    list(&source, image.digest(), &[&dangling, &sbom, image.platform("linux/amd64")]);
    always(&world, answer(404, ""), SRC, "GET referrers");
    for planned in [true, false] {
        if planned {
            let [from, to] = sides();
            let (from, to) = (world.client.image(&from), world.client.image(&to));
            let plan = bp_promote::copy::plan(from, to, with_referrers()).await.unwrap();
            assert_eq!(plan.referrers.unwrap().len(), 2);
            continue;
        }
        let (done, warnings) = copied(&world, with_referrers()).await;
        let report = done.unwrap();
        assert_eq!((report.referrers.sent, report.skipped.len()), (2, 2));
        assert!(has(&world, &sbom) && has(&world, &signature));
        assert!(warnings.iter().any(|line| line.contains("does not exist")), "{warnings:?}");
        assert!(warnings.iter().any(|line| line.contains("does not refer")), "{warnings:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_fallback_tag_that_is_the_subject_itself_lists_nothing() {
    let world = World::plain();
    let image = multi();
    world.push(&image);
    let tag = image.digest().replace(':', "-");
    world.sandbox.registry(SRC).tag("shop/web", &tag, image.digest());
    always(&world, answer(404, ""), SRC, "GET referrers");
    always(&world, answer(403, ""), SRC, "GET tags");
    let report = copied(&world, with_referrers()).await.0.unwrap();
    assert_eq!((report.referrers.sent, report.skipped.len()), (0, 0));
    assert_eq!(world.sandbox.registry(DST).tags("shop/web").len(), 1);
}

#[tokio::test(start_paused = true)]
async fn lists_a_promoted_image_under_the_fallback_tag_of_its_subject() {
    for api in [true, false] {
        let options = RegistryOptions::default();
        let world =
            World::new(RegistryOptions::default(), if api { options } else { options.without_referrers() });
        let source = world.sandbox.registry(SRC);
        let subject = single();
        source.push(&subject, "shop/web", "base");
        let image = attach(&source, subject.digest(), "image");
        let child = attach(&source, subject.digest(), "child");
        let index = json!({ "schemaVersion": 2, "mediaType": INDEX,
            "subject": { "mediaType": MANIFEST, "digest": image, "size": 1 },
            "manifests": [{ "mediaType": MANIFEST, "digest": child, "size": 1 }] });
        let index = source.put_manifest("shop/web", INDEX, index.to_string());
        source.tag("shop/web", "v1", &index);
        world.copy().await.unwrap();
        let destination = world.sandbox.registry(DST);
        assert_eq!(destination.tags("shop/web")["v1"], index);
        let listed = |subject: &str| {
            let list = destination.manifest("shop/web", &subject.replace(':', "-"))?;
            let list: Value = serde_json::from_slice(&list.bytes).unwrap();
            Some(list["manifests"][0]["digest"].as_str().unwrap().to_owned())
        };
        let expected = |digest: &String| (!api).then(|| digest.clone());
        assert_eq!(listed(&image), expected(&index), "{api}: of the image");
        assert_eq!(listed(subject.digest()), expected(&child), "{api}: of its child");
    }
}

#[tokio::test(start_paused = true)]
async fn copies_nothing_attached_without_referrers() {
    let (world, image, attached) = with_fallback_list(RegistryOptions::default());
    copied(&world, with_referrers().without_referrers()).await.0.unwrap();
    world.assert_copied(&image);
    assert!(!attached.iter().any(|digest| has(&world, digest)));
    assert_eq!(world.sandbox.ledger().count_of("GET referrers"), 0);
}

#[tokio::test(start_paused = true)]
async fn an_unreadable_tag_list_costs_requests_but_not_the_promotion() {
    for (status, body) in [(500, ""), (503, ""), (404, ""), (200, "<html>"), (200, "[]")] {
        let world = World::plain();
        let image = multi();
        world.push(&image);
        let signature = single();
        let tag = format!("{}.sig", image.digest().replace(':', "-"));
        world.sandbox.registry(SRC).push(&signature, "shop/web", &tag);
        for host in [SRC, DST] {
            always(&world, answer(status, body), host, "GET tags");
        }
        let start = Instant::now();
        let (done, warnings) = copied(&world, with_referrers()).await;
        done.unwrap_or_else(|error| panic!("{status} {body}: {error:?}"));
        world.assert_copied(&image);
        assert_eq!(world.sandbox.registry(DST).tags("shop/web")[&tag], signature.digest());
        assert!(start.elapsed() < Duration::from_secs(30), "{status}: {:?}", start.elapsed());
        let says_so = warnings.iter().any(|line| line.contains("cannot be listed"));
        assert_eq!(says_so, status != 404, "{status} {body}: {warnings:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_list_without_a_repository_keeps_the_destinations_signatures() {
    // The destination has no list of tags: that does not mean that it is empty.
    let world = World::plain();
    let image = multi();
    world.push(&image);
    let (ours, theirs) = (single(), large(10));
    let tag = format!("{}.sbom", image.digest().replace(':', "-"));
    world.sandbox.registry(SRC).push(&ours, "shop/web", &tag);
    world.sandbox.registry(DST).push(&theirs, "shop/web", &tag);
    always(&world, answer(404, "404 page not found"), DST, "GET tags");
    let report = copied(&world, with_referrers()).await.0.unwrap();
    assert_eq!(report.kept.len(), 1);
    assert_eq!(world.sandbox.registry(DST).tags("shop/web")[&tag], theirs.digest());
}

#[tokio::test(start_paused = true)]
async fn confirms_with_get_that_a_tag_does_not_exist() {
    let world = World::plain();
    let old = single();
    world.push(&multi());
    world.sandbox.registry(DST).push(&old, "shop/web", "v1");
    always(&world, answer(404, ""), DST, "HEAD manifest");
    let error = copied(&world, CopyOptions::default().no_clobber()).await.0.unwrap_err();
    assert!(matches!(&error, CopyError::TagTaken { .. }), "{error:?}");
    assert_eq!(world.sandbox.registry(DST).tags("shop/web")["v1"], old.digest());
    let report = copied(&world, CopyOptions::default().confirm_absence()).await.0.unwrap();
    assert_eq!(report.previous.unwrap().as_str(), old.digest());
}

#[tokio::test(start_paused = true)]
async fn reads_the_manifest_if_head_is_rejected() {
    for status in [400, 403, 405, 406, 501] {
        let world = World::plain();
        let (old, image) = (single(), multi());
        world.push(&image);
        world.sandbox.registry(DST).push(&old, "shop/web", "v1");
        for operation in ["HEAD manifest", "HEAD blob"] {
            always(&world, answer(status, ""), DST, operation);
        }
        let report = world.copy().await.unwrap_or_else(|error| panic!("{status}: {error:?}"));
        assert_eq!(report.previous.unwrap().as_str(), old.digest(), "{status}");
        world.assert_copied(&image);
        assert_eq!(world.sandbox.ledger().count_of("HEAD manifest"), 1, "{status}: remembered");
        // Existing blobs are found with GET.
        let sent = world.sandbox.ledger().count_of("PUT upload");
        assert_eq!(sent as u64, report.blobs.sent, "{status}");
        assert!(report.blobs.present > 0, "{status}: {:?}", report.blobs);
    }
}

#[tokio::test(start_paused = true)]
async fn copies_layers_with_urls_that_registries_store() {
    let world = World::plain();
    let source = world.sandbox.registry(SRC);
    let (config, layer) = (source.put_blob("shop/web", "{}"), source.put_blob("shop/web", "layer"));
    let foreign = source.put_blob("shop/web", "foreign");
    let urls = json!(["https://example.com/layer"]);
    let manifest = json!({ "schemaVersion": 2, "mediaType": MANIFEST,
        "config": { "mediaType": "application/vnd.oci.image.config.v1+json", "digest": config, "size": 2 },
        "layers": [
            { "mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": layer, "size": 5, "urls": urls },
            { "mediaType": "application/vnd.oci.image.layer.nondistributable.v1.tar", "digest": foreign,
              "size": 7, "urls": urls },
        ] });
    let digest = source.put_manifest("shop/web", MANIFEST, manifest.to_string());
    source.tag("shop/web", "v1", &digest);
    world.copy().await.unwrap();
    let destination = world.sandbox.registry(DST);
    assert!(destination.blob("shop/web", &layer).is_some());
    assert!(destination.blob("shop/web", &foreign).is_none(), "it stays behind");
    let [from, _] = sides();
    let to: ImageRef = format!("{DST}/windows/web:v1").parse().unwrap();
    let options = CopyOptions::default().nondistributable_layers();
    copy(world.client.image(&from), world.client.image(&to), options).await.unwrap();
    assert!(destination.blob("windows/web", &foreign).is_some());
}

#[tokio::test(start_paused = true)]
async fn copies_build_caches_whose_index_lists_layers() {
    for media_type in ["application/vnd.oci.image.layer.v1.tar+gzip", "application/vnd.acme.layer"] {
        let world = World::plain();
        let source = world.sandbox.registry(SRC);
        let (layer, config) = (source.put_blob("shop/web", "layer"), source.put_blob("shop/web", "{}"));
        let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [
            { "mediaType": media_type, "digest": layer, "size": 5 },
            { "mediaType": "application/vnd.buildkit.cacheconfig.v0", "digest": config, "size": 2 },
        ] });
        let index = source.put_manifest("shop/web", INDEX, index.to_string());
        source.tag("shop/web", "v1", &index);
        let [from, to] = sides();
        let (from, to) = (world.client.image(&from), world.client.image(&to));
        let plan = bp_promote::copy::plan(from, to, CopyOptions::default()).await.unwrap();
        assert_eq!(plan.bytes(), 7, "{media_type}");
        let report = world.copy().await.unwrap_or_else(|error| panic!("{media_type}: {error:?}"));
        assert_eq!(report.blobs.sent, 2, "{media_type}");
        let destination = world.sandbox.registry(DST);
        assert!(destination.blob("shop/web", &layer).is_some());
        assert_eq!(destination.tags("shop/web")["v1"], index);
    }
}

#[tokio::test(start_paused = true)]
async fn finds_the_size_of_a_blob_whose_descriptor_has_none() {
    let world = World::plain();
    let source = world.sandbox.registry(SRC);
    let (config, layer) = (source.put_blob("shop/web", "{}"), source.put_blob("shop/web", "layer"));
    let manifest = json!({ "schemaVersion": 2, "mediaType": MANIFEST,
        "config": { "mediaType": "application/vnd.oci.image.config.v1+json", "digest": config, "data": "e30=" },
        "layers": [{ "mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": layer, "size": null }] });
    let manifest = manifest.to_string().replace(r#","size":null"#, "").replace(r#""size":null,"#, "");
    let digest = source.put_manifest("shop/web", MANIFEST, manifest);
    source.tag("shop/web", "v1", &digest);
    let report = world.copy().await.unwrap();
    assert_eq!((report.blobs.sent, report.bytes), (2, 7));
    let destination = world.sandbox.registry(DST);
    assert_eq!(destination.blob("shop/web", &layer).as_deref(), Some(&b"layer"[..]));
}

#[tokio::test(start_paused = true)]
async fn refuses_docker_schema_1_with_the_reason() {
    let world = World::plain();
    let source = world.sandbox.registry(SRC);
    let text = r#"{"schemaVersion":1,"name":"shop/web","tag":"v1","fsLayers":[],"signatures":[]}"#;
    for media_type in ["application/vnd.docker.distribution.manifest.v1+prettyjws", "application/json"] {
        let digest = source.put_manifest("shop/web", media_type, text);
        source.tag("shop/web", "v1", &digest);
        let error = world.copy().await.unwrap_err();
        assert_eq!(error.class(), ErrorClass::BadInput);
        let said = bp_artifact::error::chain(&error);
        assert!(said.contains("not supported: rebuild the image"), "{said}");
    }
    assert!(world.sandbox.registry(DST).tags("shop/web").is_empty());
}

#[tokio::test(start_paused = true)]
async fn pushes_a_manifest_with_its_own_media_type() {
    for sent in
        [INDEX, "application/vnd.docker.distribution.manifest.v2+json", "binary/octet-stream", "text/html"]
    {
        for has_own in [true, false] {
            let world = World::plain();
            let source = world.sandbox.registry(SRC);
            let config = source.put_blob("shop/web", "{}");
            let config = json!({ "mediaType": "application/vnd.oci.image.config.v1+json", "digest": config, "size": 2 });
            let mut manifest = json!({ "schemaVersion": 2, "config": config, "layers": [] });
            if has_own {
                manifest["mediaType"] = MANIFEST.into();
            } else if sent.contains("docker") {
                // Without a type of its own, that of the registry is kept.
                continue;
            }
            let digest = source.put_manifest("shop/web", sent, manifest.to_string());
            source.tag("shop/web", "v1", &digest);
            world.copy().await.unwrap_or_else(|error| panic!("{sent} {has_own}: {error:?}"));
            let stored = world.sandbox.registry(DST).manifest("shop/web", "v1").unwrap();
            assert_eq!(stored.media_type, MANIFEST, "{sent} {has_own}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_timeout_ends_the_whole_run() {
    let world = World::plain();
    let (old, image) = (single(), multi());
    world.push(&image);
    world.sandbox.registry(DST).push(&old, "shop/web", "v1");
    for (host, operation) in
        [(SRC, "GET manifest"), (SRC, "GET blob"), (DST, "PUT upload"), (DST, "PUT manifest")]
    {
        world.sandbox.faults().clear();
        always(&world, Effect::Delay(Duration::from_secs(86_400)), host, operation);
        let start = Instant::now();
        let options = with_referrers().timeout(Duration::from_secs(100));
        let error = copied(&world, options).await.0.unwrap_err();
        assert!(matches!(error, CopyError::TimedOut { .. }), "{operation}: {error:?}");
        assert_eq!(error.class(), ErrorClass::Unavailable);
        assert_eq!(start.elapsed().as_secs(), 100, "{operation}");
        assert_eq!(world.sandbox.registry(DST).tags("shop/web")["v1"], old.digest());
    }
}

/// The number of requests of this kind, and the error.
async fn failed(
    effect: Effect,
    host: &str,
    operation: &str,
    destination: RegistryOptions,
) -> (usize, CopyError) {
    let logins = login(DST, "ci", "pw");
    let world = World::with(RegistryOptions::default(), destination, logins);
    world.push(&large(10_000));
    always(&world, effect, host, operation);
    let error = world.copy().await.unwrap_err();
    let of_one_blob = |entry: &bp_sandbox::Entry| entry.operation == operation && entry.endpoint == host;
    (world.sandbox.ledger().count(of_one_blob), error)
}

#[tokio::test(start_paused = true)]
async fn hopeless_errors_are_retried_rarely_or_never() {
    let token = || RegistryOptions::default().auth(Auth::token("ci", "pw", Duration::from_secs(600)));
    // The permission is missing for good: once more with another token.
    for (operation, most) in [("PUT upload", 2 * 3), ("PUT manifest", 2)] {
        let (count, error) = failed(answer(403, ""), DST, operation, token()).await;
        assert!(count <= most, "{operation}: {count}");
        assert_eq!(error.class(), ErrorClass::Unavailable);
    }
    // The size is rejected: the blob is sent three times at most.
    let invalid = r#"{"errors":[{"code":"SIZE_INVALID"}]}"#;
    let (count, _) = failed(answer(400, invalid), DST, "PUT upload", RegistryOptions::default()).await;
    assert!(count <= 3 * 3, "{count}");
    // Not implemented.
    let (count, _) = failed(answer(501, ""), SRC, "GET manifest", RegistryOptions::default()).await;
    assert_eq!(count, 1);
}

#[tokio::test(start_paused = true)]
async fn a_digest_mismatch_is_retried_twice_and_ends_with_its_code() {
    for operation in ["GET manifest", "GET blob"] {
        let (count, error) = failed(Effect::Corrupt(5), SRC, operation, RegistryOptions::default()).await;
        assert!(count <= 3 * 3, "{operation}: {count}");
        assert_eq!(error.class(), ErrorClass::DigestMismatch, "{operation}: {error:?}");
        assert_eq!(bp_artifact::ExitCode::from(error.class()).code(), 6);
    }
}

#[tokio::test(start_paused = true)]
async fn retries_show_their_cause() {
    let world = World::plain();
    world.push(&single());
    world.sandbox.faults().inject(Fault::new(Effect::Reset).at(SRC).on("GET manifest"));
    let [from, to] = sides();
    let mut work = copy(world.client.image(&from), world.client.image(&to), CopyOptions::default());
    let mut lines = Vec::new();
    while let Some(event) = work.next_event().await {
        if matches!(event, CopyEvent::Retrying { .. }) {
            lines.push(event.to_string());
        }
    }
    work.await.unwrap();
    let [line] = &lines[..] else { panic!("{lines:?}") };
    assert!(line.contains("connection error: "), "{line}");
    let pause = line.rsplit(' ').next().unwrap();
    assert!(pause.len() <= "123.4ms".len(), "{line}");
}

#[tokio::test(start_paused = true)]
async fn sends_smaller_requests_if_a_whole_blob_is_rejected() {
    const LIMIT: u64 = 1 << 20;
    let plain = RegistryOptions::default;
    for (options, most) in [
        (plain().max_upload_request(LIMIT), 6),
        (plain().max_upload_request(5 << 20).min_chunk_length(5 << 20), 6),
        (plain().without_whole_uploads(), 4),
    ] {
        let world = World::new(RegistryOptions::default(), options);
        let image = large(12 << 20);
        world.push(&image);
        let report = world.copy().await.unwrap();
        world.assert_copied(&image);
        assert_eq!(report.blobs.sent, 2);
        let refused = world.sandbox.ledger().count(|entry| matches!(entry.status, Some(405 | 413)));
        assert!((1..=most).contains(&refused), "{refused}");
        assert!(world.sandbox.ledger().count_of("PATCH upload") > 0);
    }
    // No request is small enough.
    let world = World::new(RegistryOptions::default(), plain().max_upload_request(1_000));
    world.push(&large(1 << 20));
    let error = world.copy().await.unwrap_err();
    let CopyError::Destination { source, .. } = &error else { panic!("{error:?}") };
    assert!(
        matches!(&**source, StoreError::Registry(RegistryError::TooLarge { chunk: None, .. })),
        "{error:?}"
    );
    assert_eq!(error.class(), ErrorClass::Refused);
}

#[tokio::test(start_paused = true)]
async fn a_push_is_verified_unless_it_was_answered_with_201() {
    // The response is lost, or another status than 201.
    for status in [200, 202, 204] {
        for operation in ["PUT upload", "PUT manifest"] {
            let world = World::plain();
            world.push(&single());
            // Nothing was stored.
            world.sandbox.faults().inject(Fault::status(status).at(DST).on(operation));
            let error = world.copy().await.unwrap_err();
            let said = bp_artifact::error::chain(&error);
            assert!(said.contains("does not exist afterwards"), "{operation} {status}: {said}");
            assert!(world.sandbox.registry(DST).tags("shop/web").is_empty());
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_quota_is_not_an_immutable_tag() {
    for (status, code, message, is_tag) in [
        (412, "DENIED", "adding 2.1 MiB of storage resource will exceed the configured upper limit", false),
        (409, "CONFLICT", "quota exceeded", false),
        (412, "PRECONDITION", "Failed to process request due to 'v1' configured as immutable.", true),
    ] {
        let world = World::plain();
        world.push(&multi());
        world.sandbox.registry(DST).push(&single(), "shop/web", "v1");
        let body = json!({ "errors": [{ "code": code, "message": message }] }).to_string();
        // The children are pushed by digest; the last push is that of the tag.
        let refused = Fault::new(answer(status, &body)).at(DST).on("PUT manifest").after(2).times(100);
        world.sandbox.faults().inject(refused);
        let error = world.copy().await.unwrap_err();
        assert_eq!(matches!(&error, CopyError::TagTaken { .. }), is_tag, "{message}: {error:?}");
        assert_eq!(error.class(), ErrorClass::Refused);
        assert!(bp_artifact::error::chain(&error).contains(message), "{error:?}");
    }
    // Another writer pushes at the same time.
    let world = World::plain();
    let image = multi();
    world.push(&image);
    let body = r#"{"errors":[{"code":"CONFLICT","message":"concurrent modification"}]}"#;
    world.sandbox.faults().inject(Fault::new(answer(409, body)).at(DST).on("PUT manifest").after(2).times(3));
    let error = world.copy().await.unwrap_err();
    assert!(matches!(&error, CopyError::Destination { .. }), "{error:?}");
    assert_eq!(world.copy().await.unwrap().outcome, CopyOutcome::Copied);
}

#[tokio::test(start_paused = true)]
async fn hashes_the_manifest_if_its_digest_is_not_reported() {
    let world = World::plain();
    let (old, image) = (single(), multi());
    world.push(&image);
    world.sandbox.registry(DST).push(&old, "shop/web", "v1");
    let manifest = &old.manifests()[0];
    let headers = vec![("content-type".into(), manifest.0.clone())];
    let body = String::from_utf8(manifest.1.to_vec()).unwrap();
    // HEAD without the digest, and GET of the same manifest.
    let head = Effect::Answer { status: 200, headers: headers.clone(), body: String::new() };
    world.sandbox.faults().inject(Fault::new(head).at(DST).on("HEAD manifest"));
    world
        .sandbox
        .faults()
        .inject(Fault::new(Effect::Answer { status: 200, headers, body }).at(DST).on("GET manifest"));
    let report = world.copy().await.unwrap();
    assert_eq!(report.previous.unwrap().as_str(), old.digest());
    world.assert_copied(&image);
}

#[tokio::test(start_paused = true)]
async fn a_tag_answered_by_a_cache_is_refused() {
    let world = World::plain();
    let image = multi();
    world.push(&image);
    let (media_type, bytes) = image.manifests().last().unwrap();
    let aged = Effect::Answer {
        status: 200,
        headers: vec![("content-type".into(), media_type.clone()), ("age".into(), "12".into())],
        body: String::from_utf8(bytes.to_vec()).unwrap(),
    };
    // The cache does not ask the registry, although that is requested.
    world.sandbox.faults().inject(Fault::new(aged.clone()).at(SRC).on("GET manifest").times(2));
    let error = world.copy().await.unwrap_err();
    assert_eq!(error.class(), ErrorClass::Refused);
    assert!(bp_artifact::error::chain(&error).contains("12 s old"), "{error:?}");
    // A digest cannot be outdated.
    world.sandbox.faults().inject(Fault::new(aged).at(SRC).on("GET manifest"));
    let [from, to] = [format!("{SRC}/shop/web@{}", image.digest()), format!("{DST}/shop/web:v1")];
    world.copy_as(&from, &to).await.unwrap();
    world.assert_copied(&image);
}

#[tokio::test(start_paused = true)]
async fn a_compressed_manifest_is_an_error_without_many_retries() {
    let world = World::plain();
    world.push(&multi());
    let body = "\u{1f}\u{8b}\u{8}".to_owned();
    let headers = vec![("content-encoding".into(), "gzip".into()), ("content-type".into(), INDEX.into())];
    always(&world, Effect::Answer { status: 200, headers, body }, SRC, "GET manifest");
    let start = Instant::now();
    world.copy().await.unwrap_err();
    assert!(world.sandbox.ledger().count_of("GET manifest") <= 3);
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_conflict_is_resolved_although_head_does_not_find_the_tag() {
    // A registry that rejects the push of an unchanged immutable tag, and answers HEAD with 404.
    for is_same in [true, false] {
        let world = World::plain();
        let image = multi();
        world.push(&image);
        let existing = if is_same { image.clone() } else { single() };
        world.sandbox.registry(DST).push(&existing, "shop/web", "v1");
        always(&world, answer(404, ""), DST, "HEAD manifest");
        let body = json!({ "errors": [{ "code": "TAG_INVALID", "message": "the tag v1 is immutable" }] })
            .to_string();
        // The last push is that of the tag.
        world.sandbox.faults().inject(Fault::new(answer(400, &body)).at(DST).on("PUT manifest").after(2));
        let copied = world.copy().await;
        assert_eq!(copied.is_ok(), is_same, "{copied:?}");
        if let Err(error) = copied {
            assert!(
                matches!(&error, CopyError::TagTaken { found, .. } if found.as_str() == existing.digest()),
                "{error:?}"
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_failure_at_v2_does_not_mean_that_there_is_no_challenge() {
    for status in [500, 503, 429] {
        let options = || RegistryOptions::default().auth(Auth::basic("ci", "pw")).concealing(404);
        let world = World::with(options(), RegistryOptions::default(), login(SRC, "ci", "pw"));
        let image = multi();
        world.push(&image);
        world.sandbox.faults().inject(Fault::status(status).at(SRC).on("GET base"));
        world.copy().await.unwrap_or_else(|error| panic!("{status}: {error:?}"));
        world.assert_copied(&image);
        // A registry that fails for good is unavailable; the image is not missing.
        let world = World::with(options(), RegistryOptions::default(), login(SRC, "ci", "pw"));
        world.push(&image);
        always(&world, answer(status, ""), SRC, "GET base");
        let error = world.copy().await.unwrap_err();
        assert_eq!(error.class(), ErrorClass::Unavailable, "{status}: {error:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn finds_signatures_although_tags_cannot_be_listed_and_head_is_wrong() {
    for status in [404, 405] {
        let world = World::plain();
        let image = multi();
        world.push(&image);
        let signature = single();
        let tag = format!("{}.sig", image.digest().replace(':', "-"));
        world.sandbox.registry(SRC).push(&signature, "shop/web", &tag);
        always(&world, answer(500, ""), SRC, "GET tags");
        always(&world, answer(status, ""), SRC, "HEAD manifest");
        copied(&world, with_referrers()).await.0.unwrap();
        assert_eq!(world.sandbox.registry(DST).tags("shop/web")[&tag], signature.digest(), "{status}");
    }
}
