//! Registries as they are: properties that a real registry or the proxy in front of it may have, applied to the responses
//! of the sandbox. Counts how often each took effect, and records each request that sends a login to the wrong place.

use std::{
    collections::HashMap,
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use bp_artifact::Digest;
use bp_promote::registry::{Body, Transport, transport};
use bp_sandbox::Sandbox;
use bytes::Bytes;
use fastrand::Rng;
use futures_core::future::BoxFuture;
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Full};
use serde_json::{Value, json};
use tower::{BoxError, ServiceExt as _};

use crate::{
    Census,
    common::{DST, SRC},
};

/// The host of uploads that continue elsewhere, and of pages and redirects that lead there.
const ELSEWHERE: &str = "uploads.example.net";

/// This number of seeds is expected to cover all [`KINDS`].
pub(crate) const FULL_COVERAGE: u64 = 1_000;

/// The kinds that a long run must cover.
pub(crate) const KINDS: [&str; 24] = [
    "HEAD 404",
    "HEAD rejected",
    "referrers rejected",
    "referrers 406",
    "referrers as HTML",
    "referrers without a list",
    "referrers null",
    "unrelated referrers",
    "tags rejected",
    "tags as HTML",
    "tags null",
    "endless tags",
    "tags at another host",
    "wrong Content-Type",
    "409",
    "412",
    "an upload start redirected",
    "an upload redirected midway",
    "an upload at another host",
    "tags incomplete",
    "a part rejected",
    "an upload lost",
    "HEAD as a page",
    "a cached tag",
];

/// The password for a registry.
pub(crate) fn password(host: &str) -> String {
    format!("s3cret-{host}")
}

#[derive(Clone, Copy)]
enum Referrers {
    Status(u16),
    Html,
    NotAList,
    Null,
    Unrelated,
}

#[derive(Clone, Copy)]
enum Tags {
    Status(u16),
    Html,
    Null,
    Endless,
    Elsewhere,
    /// As of a pull-through cache.
    Incomplete,
}

/// The properties of one registry.
#[derive(Default)]
struct Properties {
    /// The status of HEAD requests for manifests that exist.
    head: Option<u16>,
    referrers: Option<Referrers>,
    tags: Option<Tags>,
    wrong_type: bool,
    /// The status of this push of a manifest.
    conflict: Option<(u16, u32)>,
    pushes: AtomicU32,
    redirects_start: bool,
    redirects_midway: bool,
    uploads_elsewhere: bool,
    rejects_parts: bool,
    /// The request of an upload that is answered with 404.
    lost_upload: Option<u32>,
    uploads: AtomicU32,
    pages: bool,
    caches_tags: bool,
    has_auth: bool,
}

struct State {
    inner: Transport,
    registries: HashMap<&'static str, Properties>,
    counts: Mutex<Census>,
    leaks: Mutex<Vec<String>>,
    calm: AtomicBool,
}

/// The properties of both registries. Clones share the counts.
#[derive(Clone)]
pub(crate) struct Quirks(Arc<State>);

fn one_of<T: Copy>(random: &mut Rng, all: &[T]) -> T {
    all[random.usize(..all.len())]
}

impl Properties {
    /// Each property is drawn in one world of twelve.
    fn random(random: &mut Rng, has_auth: bool) -> Self {
        let mut drawn = || random.u8(0..12) == 0;
        let [head, referrers, tags, wrong_type, conflict, start, midway, elsewhere] =
            std::array::from_fn(|_| drawn());
        let [rejects_parts, lost_upload, pages, caches_tags] = std::array::from_fn(|_| drawn());
        let (referrers, tags) = (referrers || drawn(), tags || drawn());
        Properties {
            head: head.then(|| one_of(random, &[404, 404, 400, 403, 405, 501])),
            referrers: referrers.then(|| {
                // Not 500: together with faults by chance it is an outage, which fails the copy.
                let status = one_of(random, &[400, 403, 405, 406, 406, 501]);
                let all = [
                    Referrers::Html,
                    Referrers::NotAList,
                    Referrers::Null,
                    Referrers::Null,
                    Referrers::Unrelated,
                ];
                if random.bool() { Referrers::Status(status) } else { one_of(random, &all) }
            }),
            tags: tags.then(|| {
                let status = Tags::Status(one_of(random, &[403, 404, 405, 500]));
                let incomplete = Tags::Incomplete;
                one_of(
                    random,
                    &[status, Tags::Html, Tags::Null, Tags::Endless, Tags::Elsewhere, incomplete, incomplete],
                )
            }),
            wrong_type,
            conflict: conflict.then(|| (one_of(random, &[409, 412]), random.u32(0..6))),
            redirects_start: start,
            redirects_midway: midway && random.bool(),
            uploads_elsewhere: elsewhere && !has_auth,
            rejects_parts,
            lost_upload: lost_upload.then(|| random.u32(0..8)),
            pages,
            caches_tags,
            has_auth,
            pushes: AtomicU32::new(0),
            uploads: AtomicU32::new(0),
        }
    }

    /// Whether a copy may fail because of them.
    fn is_blocking(&self) -> bool {
        self.conflict.is_some() || self.redirects_midway
    }
}

impl Quirks {
    pub(crate) fn random(random: &mut Rng, sandbox: &Sandbox, auth: [bool; 2]) -> Self {
        let registries = [SRC, DST].into_iter().zip(auth);
        let registries = registries.map(|(host, auth)| (host, Properties::random(random, auth))).collect();
        Quirks(Arc::new(State {
            inner: transport(sandbox.transport()),
            registries,
            counts: Mutex::default(),
            leaks: Mutex::default(),
            calm: AtomicBool::new(false),
        }))
    }

    /// Whether a copy may fail because of the destination `host`.
    pub(crate) fn is_blocking(&self, host: &str) -> bool {
        self.0.registries[host].is_blocking()
    }

    /// Whether an existing tag of the destination `host` is found.
    pub(crate) fn finds_tags(&self, host: &str) -> bool {
        let own = &self.0.registries[host];
        own.head != Some(404) && !matches!(own.tags, Some(Tags::Incomplete))
    }

    /// Ends the properties because of which a copy may fail.
    pub(crate) fn calm(&self) {
        self.0.calm.store(true, Ordering::Relaxed);
    }

    pub(crate) fn counts(&self) -> Census {
        self.0.counts.lock().unwrap().clone()
    }

    /// No login was sent to another host than that of its registry.
    pub(crate) fn assert_no_leak(&self) {
        let leaks = self.0.leaks.lock().unwrap();
        assert!(leaks.is_empty(), "a login was sent elsewhere: {leaks:?}");
    }

    pub(crate) fn transport(&self) -> Transport {
        let state = Arc::clone(&self.0);
        transport(tower::service_fn(move |request: Request<Body>| -> BoxFuture<'static, _> {
            Box::pin(Arc::clone(&state).answer(request))
        }))
    }
}

/// The object of a request, by the end of its path.
fn kind(path: &str) -> &'static str {
    let parts: Vec<&str> = path.split('/').collect();
    match parts.as_slice() {
        [.., "blobs", "uploads", _] | [.., "blobs", "uploads"] => "upload",
        [.., "manifests", _] => "manifest",
        [.., "blobs", _] => "blob",
        [.., "referrers", _] => "referrers",
        [.., "tags", "list"] => "tags",
        _ => "other",
    }
}

/// Whether the path is that of a manifest by its tag.
fn is_tag(path: &str) -> bool {
    kind(path) == "manifest" && path.rsplit('/').next().is_some_and(|reference| !reference.contains(':'))
}

async fn collected(body: Body) -> io::Result<Bytes> {
    let body = body.collect().await.map_err(|error| io::Error::other(error.to_string()))?;
    Ok(body.to_bytes())
}

fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

fn respond(status: u16, headers: &[(&str, &str)], body: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(full(body));
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    for (name, value) in headers {
        response
            .headers_mut()
            .insert(name.parse::<header::HeaderName>().unwrap(), HeaderValue::from_str(value).unwrap());
    }
    response
}

impl State {
    fn count(&self, kind: &'static str) {
        *self.counts.lock().unwrap().entry(kind).or_default() += 1;
    }

    async fn answer(self: Arc<Self>, request: Request<Body>) -> io::Result<Response<Body>> {
        let host = request.uri().host().unwrap_or_default().to_owned();
        self.watch(&host, &request);
        if host == ELSEWHERE {
            return self.elsewhere(request).await;
        }
        let Some(own) = self.registries.get(host.as_str()) else { return self.forward(request).await };
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        let is_allowed = !own.has_auth || request.headers().contains_key(header::AUTHORIZATION);
        let is_calm = self.calm.load(Ordering::Relaxed);
        match (method.as_str(), kind(&path)) {
            ("PUT", "manifest") if is_allowed && !is_calm => {
                if let Some((status, at)) = own.conflict
                    && own.pushes.fetch_add(1, Ordering::Relaxed) == at
                {
                    self.count(if status == 409 { "409" } else { "412" });
                    let body =
                        json!({ "errors": [{ "code": "DENIED", "message": "the quota is exceeded" }] });
                    return Ok(respond(status, &[], body.to_string()));
                }
            }
            ("GET", "blob") if own.rejects_parts && request.headers().contains_key(header::RANGE) => {
                self.count("a part rejected");
                return Ok(respond(416, &[], ""));
            }
            ("HEAD", "blob") if is_allowed && own.pages => {
                self.count("HEAD as a page");
                return Ok(respond(200, &[("content-type", "text/html")], ""));
            }
            ("PUT" | "PATCH", "upload")
                if is_allowed
                    && own
                        .lost_upload
                        .is_some_and(|at| own.uploads.fetch_add(1, Ordering::Relaxed) == at) =>
            {
                self.count("an upload lost");
                return Ok(respond(404, &[("content-type", "text/html")], "<html>"));
            }
            ("PUT" | "PATCH", "upload") if is_allowed && !is_calm && own.redirects_midway => {
                self.count("an upload redirected midway");
                return Ok(respond(307, &[("location", &format!("https://{ELSEWHERE}/{host}{path}"))], ""));
            }
            ("POST", "upload") if is_allowed && own.redirects_start && !path.starts_with("/moved/") => {
                self.count("an upload start redirected");
                let query = request.uri().query().map_or(String::new(), |query| format!("?{query}"));
                return Ok(respond(307, &[("location", &format!("/moved{path}{query}"))], ""));
            }
            _ => {}
        }
        let is_fresh = request.headers().contains_key(header::CACHE_CONTROL);
        let request = match path.strip_prefix("/moved") {
            Some(_) => moved(request, |path| path.trim_start_matches("/moved").to_owned(), &host),
            None => request,
        };
        let response = self.forward(request).await?;
        if response.status().is_success() {
            let mut response = self.change(own, &host, &method, &path, response).await?;
            if own.caches_tags && !is_fresh && method == Method::GET && is_tag(&path) {
                self.count("a cached tag");
                response.headers_mut().insert(header::AGE, HeaderValue::from_static("60"));
            }
            Ok(response)
        } else {
            Ok(response)
        }
    }

    async fn forward(&self, request: Request<Body>) -> io::Result<Response<Body>> {
        let sent: BoxFuture<'static, _> = Box::pin(self.inner.clone().oneshot(request));
        sent.await.map_err(|error: BoxError| io::Error::other(error.to_string()))
    }

    /// An upload of a registry that continues at another host.
    async fn elsewhere(&self, request: Request<Body>) -> io::Result<Response<Body>> {
        let path = request.uri().path().to_owned();
        let host = path.trim_start_matches('/').split('/').next().unwrap_or_default().to_owned();
        if kind(&path) != "upload" || !self.registries.contains_key(host.as_str()) {
            return Ok(respond(404, &[], ""));
        }
        let prefix = format!("/{host}");
        let request = moved(request, |path| path.trim_start_matches(&prefix).to_owned(), &host);
        let response = self.forward(request).await?;
        Ok(to_elsewhere(&host, response))
    }

    /// Changes a successful response.
    async fn change(
        &self,
        own: &Properties,
        host: &str,
        method: &Method,
        path: &str,
        mut response: Response<Body>,
    ) -> io::Result<Response<Body>> {
        match (method.as_str(), kind(path)) {
            ("HEAD", "manifest") => {
                if let Some(status) = own.head {
                    self.count(if status == 404 { "HEAD 404" } else { "HEAD rejected" });
                    return Ok(respond(status, &[], ""));
                }
            }
            ("GET", "manifest") if own.wrong_type => {
                self.count("wrong Content-Type");
                let wrong = HeaderValue::from_static("application/octet-stream");
                response.headers_mut().insert(header::CONTENT_TYPE, wrong);
            }
            ("GET", "referrers") => {
                if let Some(referrers) = own.referrers {
                    return self.referrers(referrers, response).await;
                }
            }
            ("GET", "tags") => {
                if let Some(tags) = own.tags {
                    return self.tags(tags, host, path, response).await;
                }
            }
            ("POST", "upload") if own.uploads_elsewhere && response.status() == 202 => {
                self.count("an upload at another host");
                return Ok(to_elsewhere(host, response));
            }
            _ => {}
        }
        Ok(response)
    }

    async fn referrers(&self, how: Referrers, response: Response<Body>) -> io::Result<Response<Body>> {
        const INDEX: &str = "application/vnd.oci.image.index.v1+json";
        let json = |list: Value| respond(200, &[("content-type", INDEX)], list.to_string());
        let empty = || json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": null });
        let (kind, response) = match how {
            Referrers::Status(406) => ("referrers 406", respond(406, &[], "")),
            Referrers::Status(status) => ("referrers rejected", respond(status, &[], "")),
            Referrers::Html => {
                ("referrers as HTML", respond(200, &[("content-type", "text/html")], "<html>"))
            }
            Referrers::NotAList => ("referrers without a list", json(json!({ "errors": [] }))),
            Referrers::Null | Referrers::Unrelated => {
                let (parts, body) = response.into_parts();
                let bytes = collected(body).await?;
                let mut list: Value = serde_json::from_slice(&bytes).unwrap_or_else(|_| empty());
                let entries = list["manifests"].as_array_mut().cloned().unwrap_or_default();
                if let Referrers::Null = how {
                    if !entries.is_empty() {
                        return Ok(Response::from_parts(parts, full(bytes)));
                    }
                    ("referrers null", json(empty()))
                } else {
                    let dangling = Digest::sha256(&bytes);
                    let unrelated = json!({ "mediaType": INDEX, "digest": dangling, "size": 7 });
                    list["manifests"] = entries.into_iter().chain([unrelated]).collect();
                    let mut changed = json(list);
                    if let Some(link) = parts.headers.get(header::LINK) {
                        changed.headers_mut().insert(header::LINK, link.clone());
                    }
                    ("unrelated referrers", changed)
                }
            }
        };
        self.count(kind);
        Ok(response)
    }

    async fn tags(
        &self,
        how: Tags,
        host: &str,
        path: &str,
        mut response: Response<Body>,
    ) -> io::Result<Response<Body>> {
        let kind = match how {
            Tags::Status(status) => {
                response = respond(status, &[], "");
                "tags rejected"
            }
            Tags::Html => {
                response = respond(200, &[("content-type", "text/html")], "<html>");
                "tags as HTML"
            }
            Tags::Null => {
                let (parts, body) = response.into_parts();
                let bytes = collected(body).await?;
                let list: Value = serde_json::from_slice(&bytes).unwrap_or_default();
                if list["tags"].as_array().is_none_or(|tags| !tags.is_empty()) {
                    return Ok(Response::from_parts(parts, full(bytes)));
                }
                response = respond(200, &[("content-type", "application/json")], r#"{"tags":null}"#);
                "tags null"
            }
            Tags::Endless => {
                let link = format!("<{path}?n=1>; rel=\"next\"");
                response.headers_mut().insert(header::LINK, HeaderValue::from_str(&link).unwrap());
                "endless tags"
            }
            Tags::Incomplete => {
                response = respond(200, &[("content-type", "application/json")], r#"{"tags":["cached"]}"#);
                "tags incomplete"
            }
            Tags::Elsewhere => {
                let link = format!("<https://{ELSEWHERE}/{host}{path}?n=1>; rel=\"next\"");
                response.headers_mut().insert(header::LINK, HeaderValue::from_str(&link).unwrap());
                "tags at another host"
            }
        };
        self.count(kind);
        Ok(response)
    }

    /// Records a request that sends a login to another host than that of its registry.
    fn watch(&self, host: &str, request: &Request<Body>) {
        let sent = request.headers().get(header::AUTHORIZATION).map(|value| {
            let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
            let basic = value.strip_prefix("Basic ").and_then(|text| BASE64_STANDARD.decode(text).ok());
            basic.map_or(value, |bytes| String::from_utf8_lossy(&bytes).into_owned())
        });
        let uri = request.uri().to_string();
        let is_secret = |other: &str| {
            let secret = password(other);
            uri.contains(&secret) || sent.as_ref().is_some_and(|sent| sent.contains(&secret))
        };
        let is_leak = match [SRC, DST].into_iter().find(|own| *own == host) {
            Some(own) => [SRC, DST].into_iter().any(|other| other != own && is_secret(other)),
            None => sent.is_some() || [SRC, DST].into_iter().any(is_secret),
        };
        if is_leak {
            self.leaks.lock().unwrap().push(format!("{} {host}{}", request.method(), request.uri().path()));
        }
    }
}

/// The request with another path, at `host`.
fn moved(request: Request<Body>, path: impl FnOnce(&str) -> String, host: &str) -> Request<Body> {
    let (mut parts, body) = request.into_parts();
    let query = parts.uri.query().map_or(String::new(), |query| format!("?{query}"));
    let uri = format!("https://{host}{}{query}", path(parts.uri.path()));
    parts.uri = uri.parse::<Uri>().unwrap();
    parts.headers.remove(header::HOST);
    Request::from_parts(parts, body)
}

/// The response with its Location at another host.
fn to_elsewhere(host: &str, mut response: Response<Body>) -> Response<Body> {
    let location = response.headers().get(header::LOCATION).and_then(|value| value.to_str().ok());
    if let Some(path) = location.and_then(|location| location.find("/v2/").map(|at| &location[at..]))
        && path.contains("/uploads/")
    {
        let location = format!("https://{ELSEWHERE}/{host}{path}");
        response.headers_mut().insert(header::LOCATION, HeaderValue::from_str(&location).unwrap());
    }
    response
}
