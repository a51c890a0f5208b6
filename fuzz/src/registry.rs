//! Whole conversations with a registry, and OCI layouts and archives.

use std::{
    collections::VecDeque,
    convert::Infallible,
    sync::{Arc, Mutex},
    time::Duration,
};

use bp_artifact::ImageRef;
use bp_promote::{
    CopyOptions, OciLayout, RegistryClient, copy,
    registry::{Anonymous, Body, transport},
};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;

use super::replay::Target;

/// The targets of this file.
pub const TARGETS: &[Target] = &[("conversation", conversation), ("layout", layout), ("archive", archive)];

/// Runs to the end on a paused clock, so that pauses between attempts take no time.
fn run<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("a runtime").block_on(work)
}

/// The responses in the input, separated by lines of two percent signs: a status, headers, an empty line, the body.
fn responses(bytes: &[u8]) -> VecDeque<Response<Full<Bytes>>> {
    let mut rest = bytes;
    let mut all = VecDeque::new();
    while !rest.is_empty() && all.len() < 64 {
        let end = rest.windows(4).position(|window| window == b"\n%%\n").unwrap_or(rest.len());
        let (one, behind) = rest.split_at(end);
        rest = behind.get(4..).unwrap_or_default();
        let head = one.windows(2).position(|window| window == b"\n\n").unwrap_or(one.len());
        let (head, body) = one.split_at(head);
        let head = String::from_utf8_lossy(head);
        let mut lines = head.lines();
        let status = lines.next().and_then(|line| line.trim().parse().ok()).unwrap_or(200u16);
        let mut response =
            Response::builder().status(if (200..600).contains(&status) { status } else { 200 });
        for (name, value) in lines.filter_map(|line| line.split_once(':')) {
            let named = http::HeaderName::try_from(name.trim());
            if let (Ok(name), Ok(value)) = (named, http::HeaderValue::try_from(value.trim())) {
                response = response.header(name, value);
            }
        }
        let body = Bytes::copy_from_slice(body.get(2..).unwrap_or_default());
        all.extend(response.body(Full::new(body)));
    }
    all
}

/// A registry that gives the responses of the input in their order, and then 404.
pub fn conversation(bytes: &[u8]) {
    let responses = Arc::new(Mutex::new(responses(bytes)));
    let service = tower::service_fn(move |_: Request<Body>| {
        let next = responses.lock().expect("not poisoned").pop_front();
        let missing = || Response::builder().status(404).body(Full::default()).expect("a response");
        std::future::ready(Ok::<_, Infallible>(next.unwrap_or_else(missing)))
    });
    let client = RegistryClient::builder().transport(transport(service)).credentials(Anonymous).build();
    let client = client.expect("a client");
    let from: ImageRef = "registry.example.com/shop/web:1".parse().expect("an image");
    let to: ImageRef = "other.example.com/shop/web:1".parse().expect("an image");
    run(async {
        let work = async {
            let repository = client.repository(from.repository());
            let _ = repository.tags().await;
            let _ = repository.referrers(&bp_artifact::Digest::sha256("x")).await;
            let _ = copy(client.image(&from), client.image(&to), CopyOptions::default()).await;
        };
        let hour = Duration::from_secs(3600);
        tokio::time::timeout(10 * hour, work).await.expect("a conversation of few responses ends");
    });
}

/// `index.json` of an OCI layout.
pub fn layout(bytes: &[u8]) {
    let directory = tempfile::tempdir().expect("a directory");
    std::fs::write(directory.path().join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#)
        .expect("written");
    std::fs::write(directory.path().join("index.json"), bytes).expect("written");
    read(directory.path());
}

/// A tar archive of an OCI layout, read in place and as a stream.
pub fn archive(bytes: &[u8]) {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("image.tar");
    std::fs::write(&file, bytes).expect("written");
    read(&file);
    let stream = std::io::Cursor::new(bytes.to_vec());
    let target = directory.path().join("unpacked");
    std::fs::create_dir(&target).expect("a directory");
    let unpacked = target.clone();
    let _ = run(async move { OciLayout::unpack(stream, unpacked).await });
    let mut names: Vec<_> = std::fs::read_dir(directory.path()).expect("a directory").flatten().collect();
    names.sort_by_key(std::fs::DirEntry::file_name);
    assert_eq!(names.len(), 2, "nothing is written outside of the directory: {names:?}");
}

fn read(path: &std::path::Path) {
    run(async {
        let Ok(layout) = OciLayout::open(path).await else { return };
        let _ = layout.images().await;
        let _ = layout.only_image().await;
        let _ = layout.named("1").await;
    });
}
