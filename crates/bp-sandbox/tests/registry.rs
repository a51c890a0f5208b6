//! Conformance tests of the registry with the distribution specification, in memory.

#![cfg(feature = "registry")]

use std::time::Duration;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use bp_sandbox::{
    Image, ImageBuilder, Sandbox,
    registry::{Auth, RegistryOptions, TagMutability},
};
use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use serde_json::Value;
use sha2::Digest as _;
use tower::ServiceExt as _;

const HOST: &str = "registry.example.com";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

fn sandbox(options: RegistryOptions) -> Sandbox {
    Sandbox::builder().registry(HOST, options).build()
}

fn image() -> Image {
    ImageBuilder::new().layer([("app/server", "a program")]).build()
}

fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", hex::encode(sha2::Sha256::digest(bytes)))
}

/// Sends `method path` with headers and a body to the registry.
async fn send(
    sandbox: &Sandbox,
    line: &str,
    headers: &[(&str, &str)],
    body: impl Into<Bytes>,
) -> Response<Bytes> {
    let (method, path) = line.split_once(' ').unwrap();
    let host = if path.starts_with('/') { format!("https://{HOST}") } else { String::new() };
    let mut request = Request::builder().method(method).uri(format!("{host}{path}"));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response = sandbox.transport().oneshot(request.body(Full::new(body.into())).unwrap()).await.unwrap();
    let (parts, body) = response.into_parts();
    Response::from_parts(parts, body.collect().await.unwrap().to_bytes())
}

async fn get(sandbox: &Sandbox, path: &str) -> Response<Bytes> {
    send(sandbox, &format!("GET {path}"), &[], "").await
}

fn header<'a>(response: &'a Response<Bytes>, name: &str) -> &'a str {
    response.headers().get(name).map_or("", |value| value.to_str().unwrap())
}

fn code(response: &Response<Bytes>) -> String {
    let body: Value = serde_json::from_slice(response.body()).unwrap();
    body["errors"][0]["code"].as_str().unwrap().to_owned()
}

fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", BASE64_STANDARD.encode(format!("{user}:{password}")))
}

#[tokio::test(start_paused = true)]
async fn a_blob_is_uploaded_in_parts_and_read_in_ranges() {
    let sandbox = sandbox(RegistryOptions::default());
    let started = send(&sandbox, "POST /v2/shop/web/blobs/uploads/", &[], "").await;
    assert_eq!(started.status(), 202);
    let location = header(&started, "location").to_owned();
    let first = send(&sandbox, &format!("PATCH {location}"), &[("content-range", "0-4")], "hello").await;
    assert_eq!((first.status(), header(&first, "range")), (StatusCode::ACCEPTED, "0-4"));

    let again = send(&sandbox, &format!("PATCH {location}"), &[("content-range", "0-4")], "hello").await;
    assert_eq!((again.status(), header(&again, "range")), (StatusCode::RANGE_NOT_SATISFIABLE, "0-4"));
    let status = get(&sandbox, &location).await;
    assert_eq!((status.status(), header(&status, "range")), (StatusCode::NO_CONTENT, "0-4"));

    let digest = digest(b"hello, world");
    let done = send(&sandbox, &format!("PUT {location}&digest={digest}"), &[], ", world").await;
    assert_eq!((done.status(), header(&done, "docker-content-digest")), (StatusCode::CREATED, &*digest));
    let blob = header(&done, "location").to_owned();
    assert_eq!(get(&sandbox, &blob).await.body(), "hello, world");

    let range = send(&sandbox, &format!("GET {blob}"), &[("range", "bytes=3-8")], "").await;
    assert_eq!((range.status(), &range.body()[..]), (StatusCode::PARTIAL_CONTENT, &b"lo, wo"[..]));
    assert_eq!(header(&range, "content-range"), "bytes 3-8/12");
    let beyond = send(&sandbox, &format!("GET {blob}"), &[("range", "bytes=12-")], "").await;
    assert_eq!(beyond.status(), StatusCode::RANGE_NOT_SATISFIABLE);
    let head = send(&sandbox, &format!("HEAD {blob}"), &[], "").await;
    assert_eq!((header(&head, "content-length"), head.body().len()), ("12", 0));

    assert_eq!(send(&sandbox, &format!("DELETE {blob}"), &[], "").await.status(), 202);
    assert_eq!(code(&get(&sandbox, &blob).await), "BLOB_UNKNOWN");
}

#[tokio::test(start_paused = true)]
async fn rejects_an_upload_with_the_wrong_digest_or_without_its_state() {
    let sandbox = sandbox(RegistryOptions::default());
    let started = send(&sandbox, "POST /v2/web/blobs/uploads/", &[], "").await;
    let location = header(&started, "location").to_owned();
    let stateless = location.split('?').next().unwrap();
    let rebuilt = send(&sandbox, &format!("PUT {stateless}?digest={}", digest(b"x")), &[], "x").await;
    assert_eq!(code(&rebuilt), "BLOB_UPLOAD_UNKNOWN");
    let wrong = send(&sandbox, &format!("PUT {location}&digest={}", digest(b"x")), &[], "y").await;
    assert_eq!((wrong.status(), code(&wrong)), (StatusCode::BAD_REQUEST, "DIGEST_INVALID".into()));
    assert_eq!(sandbox.registry(HOST).blobs("web").len(), 0);

    let single = format!("POST /v2/web/blobs/uploads/?digest={}", digest(b"x"));
    assert_eq!(send(&sandbox, &single, &[], "x").await.status(), 201);
}

#[tokio::test(start_paused = true)]
async fn rejects_a_manifest_with_missing_blobs_or_the_wrong_digest() {
    let sandbox = sandbox(RegistryOptions::default());
    let image = image();
    let bytes = image.manifests()[0].1.clone();
    let typed = [("content-type", MANIFEST)];
    let missing = send(&sandbox, "PUT /v2/web/manifests/v1", &typed, bytes.clone()).await;
    assert_eq!(code(&missing), "MANIFEST_BLOB_UNKNOWN");
    let registry = sandbox.registry(HOST);
    image.blobs().iter().for_each(|blob| {
        registry.put_blob("web", blob.clone());
    });

    let other = format!("PUT /v2/web/manifests/{}", digest(b"other"));
    assert_eq!(code(&send(&sandbox, &other, &typed, bytes.clone()).await), "DIGEST_INVALID");
    let as_index = [("content-type", "application/vnd.oci.image.index.v1+json")];
    let mistyped = send(&sandbox, "PUT /v2/web/manifests/v1", &as_index, bytes.clone()).await;
    assert_eq!(code(&mistyped), "MANIFEST_INVALID");

    let done = send(&sandbox, "PUT /v2/web/manifests/v1", &typed, bytes.clone()).await;
    assert_eq!(done.status(), 201);
    assert_eq!(header(&done, "docker-content-digest"), image.digest());
    for reference in ["v1", image.digest()] {
        let read = get(&sandbox, &format!("/v2/web/manifests/{reference}")).await;
        assert_eq!((read.body(), header(&read, "content-type")), (&bytes, MANIFEST));
    }
    assert_eq!(send(&sandbox, "DELETE /v2/web/manifests/v1", &[], "").await.status(), 202);
    assert_eq!(code(&get(&sandbox, "/v2/web/manifests/v1").await), "MANIFEST_UNKNOWN");
    assert!(registry.manifest("web", image.digest()).is_some(), "only the tag is deleted");
}

#[tokio::test(start_paused = true)]
async fn rejects_an_index_with_missing_children() {
    let sandbox = sandbox(RegistryOptions::default());
    let image = ImageBuilder::new().platform("linux/amd64").platform("linux/arm64").build();
    let (media_type, index) = &image.manifests()[2];
    let typed = [("content-type", media_type.as_str())];
    let missing = send(&sandbox, "PUT /v2/web/manifests/v1", &typed, index.clone()).await;
    assert_eq!(code(&missing), "MANIFEST_BLOB_UNKNOWN");
    sandbox.registry(HOST).push(&image, "web", "v0");
    assert_eq!(send(&sandbox, "PUT /v2/web/manifests/v1", &typed, index.clone()).await.status(), 201);
}

#[tokio::test(start_paused = true)]
async fn mounts_blobs_or_starts_an_upload() {
    for (yes, status) in [(true, 201), (false, 202)] {
        let sandbox = sandbox(RegistryOptions::default().mounts(yes));
        let digest = sandbox.registry(HOST).put_blob("base", "layer");
        let mount = format!("POST /v2/web/blobs/uploads/?mount={digest}&from=base");
        assert_eq!(send(&sandbox, &mount, &[], "").await.status(), status);
        assert_eq!(sandbox.registry(HOST).blob("web", &digest).is_some(), yes);
        assert_eq!(sandbox.ledger().count_of("POST mount"), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn tags_are_paginated_with_link_headers() {
    let sandbox = sandbox(RegistryOptions::default());
    let registry = sandbox.registry(HOST);
    for tag in ["c", "a", "d", "b", "e"] {
        registry.tag("web", tag, "sha256:0");
    }
    let mut path = "/v2/web/tags/list?n=2".to_owned();
    let mut pages = Vec::new();
    loop {
        let page = get(&sandbox, &path).await;
        let body: Value = serde_json::from_slice(page.body()).unwrap();
        pages.push(body["tags"].to_string());
        let Some((next, rel)) = header(&page, "link").split_once('>') else { break };
        assert_eq!(rel, "; rel=\"next\"");
        path = next.trim_start_matches('<').to_owned();
    }
    assert_eq!(pages, [r#"["a","b"]"#, r#"["c","d"]"#, r#"["e"]"#]);
    assert_eq!(code(&get(&sandbox, "/v2/none/tags/list").await), "NAME_UNKNOWN");
}

#[tokio::test(start_paused = true)]
async fn referrers_are_listed_filtered_and_paginated() {
    let sandbox = sandbox(RegistryOptions::default().page_size(1));
    let config = sandbox.registry(HOST).put_blob("web", "{}");
    let subject = digest(b"not there yet");
    for (n, kind) in ["sbom", "signature", "sbom"].iter().enumerate() {
        let manifest = serde_json::json!({
            "schemaVersion": 2, "mediaType": MANIFEST, "artifactType": format!("application/{kind}"),
            "config": { "mediaType": "application/vnd.oci.empty.v1+json", "digest": config, "size": 2 },
            "layers": [], "annotations": { "n": n.to_string() },
            "subject": { "mediaType": MANIFEST, "digest": subject, "size": 3 },
        })
        .to_string();
        let path = format!("PUT /v2/web/manifests/{}", digest(manifest.as_bytes()));
        let done = send(&sandbox, &path, &[("content-type", MANIFEST)], manifest).await;
        assert_eq!((done.status(), header(&done, "oci-subject")), (StatusCode::CREATED, &*subject));
    }
    let mut path = format!("/v2/web/referrers/{subject}?artifactType=application%2Fsbom");
    let mut seen = Vec::new();
    loop {
        let page = get(&sandbox, &path).await;
        assert_eq!(header(&page, "oci-filters-applied"), "artifactType");
        assert_eq!(header(&page, "content-type"), "application/vnd.oci.image.index.v1+json");
        let body: Value = serde_json::from_slice(page.body()).unwrap();
        for referrer in body["manifests"].as_array().unwrap() {
            assert_eq!(referrer["artifactType"], "application/sbom");
            seen.push(referrer["annotations"]["n"].as_str().unwrap().to_owned());
        }
        let Some((next, _)) = header(&page, "link").split_once('>') else { break };
        path = next.trim_start_matches('<').to_owned();
    }
    seen.sort();
    assert_eq!(seen, ["0", "2"]);
    let none = get(&sandbox, &format!("/v2/none/referrers/{subject}")).await;
    assert_eq!(none.status(), 200, "an unknown subject has no referrers");
}

#[tokio::test(start_paused = true)]
async fn immutable_tags_cannot_be_overwritten() {
    let sandbox = sandbox(RegistryOptions::default().immutable_tags());
    let registry = sandbox.registry(HOST);
    let (old, new) = (image(), ImageBuilder::new().layer([("app/server", "another")]).build());
    registry.push(&old, "web", "v1");
    registry.push(&new, "web", "v2");
    let push = async |tag: &str, image: &Image| {
        let path = format!("PUT /v2/web/manifests/{tag}");
        send(&sandbox, &path, &[("content-type", MANIFEST)], image.manifests()[0].1.clone()).await
    };
    assert_eq!(push("v1", &new).await.status(), StatusCode::PRECONDITION_FAILED);
    assert_eq!(registry.tags("web")["v1"], old.digest());
    assert_eq!(push("v1", &old).await.status(), 201, "the same digest changes nothing");
    registry.set_mutability("web", TagMutability::ImmutableWithExclusion(vec!["v*".into()]));
    assert_eq!(push("v1", &new).await.status(), 201);
}

#[tokio::test]
async fn a_push_by_digest_sets_the_tags_of_its_query() {
    let sandbox = sandbox(
        RegistryOptions::default()
            .mutability(TagMutability::ImmutableWithExclusion(vec!["dev-*".to_owned()])),
    );
    let (one, two) = (image(), ImageBuilder::new().layer([("app/server", "another program")]).build());
    let registry = sandbox.registry(HOST);
    let push = async |image: &Image, query: &str| {
        for blob in image.blobs() {
            registry.put_blob("shop/web", blob.clone());
        }
        let (media_type, bytes) = &image.manifests()[0];
        let line = format!("PUT /v2/shop/web/manifests/{}{query}", image.digest());
        send(&sandbox, &line, &[("content-type", media_type)], bytes.clone()).await
    };
    let response = push(&one, "?tag=v1&tag=dev-1").await;
    assert_eq!(response.status(), StatusCode::CREATED);
    let set: Vec<_> = response.headers().get_all("oci-tag").iter().collect();
    assert_eq!(set, ["v1", "dev-1"]);
    for tag in ["v1", "dev-1"] {
        assert_eq!(registry.tags("shop/web")[tag], one.digest());
    }
    assert_eq!(push(&two, "?tag=dev-1&tag=v1").await.status(), StatusCode::PRECONDITION_FAILED);
    assert_eq!(registry.tags("shop/web")["dev-1"], one.digest(), "all or none");
    assert_eq!(push(&two, "?tag=dev-1").await.status(), StatusCode::CREATED);
    assert_eq!(registry.tags("shop/web")["dev-1"], two.digest());
    assert_eq!(code(&push(&two, "?tag=not%20a%20tag").await), "TAG_INVALID");
}

#[tokio::test(start_paused = true)]
async fn tokens_are_bound_to_scope_and_time() {
    let lifetime = Duration::from_secs(60);
    let sandbox = sandbox(RegistryOptions::default().auth(Auth::token("ci", "pw", lifetime)));
    let refused = get(&sandbox, "/v2/web/manifests/v1").await;
    let challenge =
        format!("Bearer realm=\"https://{HOST}/token\",service=\"{HOST}\",scope=\"repository:web:pull\"");
    assert_eq!(
        (refused.status(), header(&refused, "www-authenticate")),
        (StatusCode::UNAUTHORIZED, &*challenge)
    );

    let token = async |password: &str| {
        let path = format!("GET /token?service={HOST}&scope=repository%3Aweb%3Apull");
        send(&sandbox, &path, &[("authorization", &basic("ci", password))], "").await
    };
    assert_eq!(token("wrong").await.status(), 401);
    let answer: Value = serde_json::from_slice(token("pw").await.body()).unwrap();
    let bearer = format!("Bearer {}", answer["token"].as_str().unwrap());
    let authorized = [("authorization", bearer.as_str())];

    sandbox.registry(HOST).push(&image(), "web", "v1");
    assert_eq!(send(&sandbox, "GET /v2/web/manifests/v1", &authorized, "").await.status(), 200);
    let push = send(&sandbox, "POST /v2/web/blobs/uploads/", &authorized, "").await;
    assert!(header(&push, "www-authenticate").ends_with("error=\"insufficient_scope\""));
    tokio::time::sleep(lifetime).await;
    let late = send(&sandbox, "GET /v2/web/manifests/v1", &authorized, "").await;
    assert!(header(&late, "www-authenticate").ends_with("error=\"invalid_token\""));
}

#[tokio::test(start_paused = true)]
async fn ecr_deviates_from_the_specification() {
    let sandbox = sandbox(RegistryOptions::ecr().validator_lag(Duration::from_millis(300)));
    let registry = sandbox.registry(HOST);
    assert_eq!(get(&sandbox, "/v2/").await.status(), 401);
    let password = basic("AWS", &registry.log_in(Duration::from_secs(12 * 3600)));
    let authorized = [("authorization", password.as_str())];
    let start = "POST /v2/web/blobs/uploads/";
    assert_eq!(code(&send(&sandbox, start, &authorized, "").await), "NAME_UNKNOWN");
    registry.create_repository("web");

    let image = image();
    for blob in image.blobs() {
        let started = send(&sandbox, start, &authorized, "").await;
        let location = header(&started, "location").to_owned();
        assert!(location.starts_with("https://"), "absolute: {location}");
        let part = send(&sandbox, &format!("PATCH {location}"), &authorized, blob.clone()).await;
        assert_eq!(part.status(), 201);
        let small = send(&sandbox, &format!("PATCH {location}"), &authorized, "more").await;
        assert_eq!(code(&small), "BLOB_UPLOAD_INVALID", "the first part was too small");
        let end = [authorized[0], ("content-length", "0")];
        let done = send(&sandbox, &format!("PUT {location}&digest={}", digest(blob)), &end, "").await;
        assert_eq!(done.status(), 201);
    }
    let typed = [authorized[0], ("content-type", MANIFEST)];
    let bytes = &image.manifests()[0].1;
    let early = send(&sandbox, "PUT /v2/web/manifests/v1", &typed, bytes.clone()).await;
    assert_eq!(code(&early), "BLOB_UNKNOWN", "the blob is not yet visible to validation");
    tokio::time::sleep(Duration::from_millis(300)).await;
    let done = send(&sandbox, "PUT /v2/web/manifests/v1", &typed, bytes.clone()).await;
    assert_eq!((done.status(), header(&done, "location")), (StatusCode::CREATED, ""));
    registry.set_mutability("web", TagMutability::Immutable);
    let again = send(&sandbox, "PUT /v2/web/manifests/v1", &typed, bytes.clone()).await;
    assert_eq!(code(&again), "TAG_INVALID");

    tokio::time::sleep(Duration::from_secs(12 * 3600)).await;
    let late = send(&sandbox, "GET /v2/web/manifests/v1", &authorized, "").await;
    assert_eq!((late.status(), code(&late)), (StatusCode::FORBIDDEN, "DENIED".into()));
}

#[tokio::test(start_paused = true)]
async fn redirected_blob_reads_reject_an_authorization_header() {
    let options = RegistryOptions::default().redirect_blobs_to("storage.example.com");
    let sandbox = sandbox(options.auth(Auth::basic("ci", "pw")));
    let blob = sandbox.registry(HOST).put_blob("web", "layer");
    let password = basic("ci", "pw");
    let authorized = [("authorization", password.as_str())];
    let redirect = send(&sandbox, &format!("GET /v2/web/blobs/{blob}"), &authorized, "").await;
    assert_eq!(redirect.status(), StatusCode::TEMPORARY_REDIRECT);
    let location = header(&redirect, header::LOCATION.as_str()).to_owned();
    assert_eq!(get(&sandbox, &location).await.body(), "layer");
    assert_eq!(send(&sandbox, &format!("GET {location}"), &authorized, "").await.status(), 400);
}
