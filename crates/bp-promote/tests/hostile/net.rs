//! An in-memory network with servers defined by the test, which records each request.

use std::{
    collections::HashMap,
    io,
    sync::{Arc, Mutex},
    time::Duration,
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use bp_artifact::Digest;
use bp_promote::{
    RegistryClient,
    registry::{Body, RegistryClientBuilder, Transport, transport},
    retry::RetryPolicy,
};
use bytes::Bytes;
use futures_core::Stream;
use futures_util::TryStreamExt as _;
use http::{Request, Response, header};
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody};

/// A request as the server receives it.
#[derive(Debug, Clone)]
pub(crate) struct RecordedRequest {
    pub(crate) method: String,
    pub(crate) scheme: String,
    /// Host in lower case, with its port written out.
    pub(crate) authority: String,
    pub(crate) path: String,
    pub(crate) query: String,
    pub(crate) authorization: Option<String>,
    pub(crate) headers: http::HeaderMap,
    pub(crate) body: Bytes,
}

impl RecordedRequest {
    /// `https://host:443`.
    pub(crate) fn origin(&self) -> String {
        format!("{}://{}", self.scheme, self.authority)
    }

    /// Whether the request contains `secret`, plain or encoded.
    pub(crate) fn contains_secret(&self, secret: &str) -> bool {
        let encoded = percent_encoding::percent_decode_str(&self.query).decode_utf8_lossy().into_owned();
        let body = percent_encoding::percent_decode(&self.body).decode_utf8_lossy().into_owned();
        let mut texts = vec![self.path.clone(), self.query.clone(), encoded, body];
        for (_, value) in &self.headers {
            let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
            let decoded = value.split(' ').filter_map(|part| BASE64_STANDARD.decode(part).ok());
            texts.extend(decoded.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()));
            texts.push(value);
        }
        texts.iter().any(|text| text.contains(secret))
    }
}

/// The requests so far, in order.
#[derive(Debug, Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<RecordedRequest>>>);

impl Log {
    pub(crate) fn all(&self) -> Vec<RecordedRequest> {
        self.0.lock().unwrap().clone()
    }

    /// The requests to this host.
    pub(crate) fn to(&self, host: &str) -> Vec<RecordedRequest> {
        let host = host.to_owned();
        self.all().into_iter().filter(|seen| seen.authority.starts_with(&host)).collect()
    }

    pub(crate) fn count(&self) -> usize {
        self.0.lock().unwrap().len()
    }
}

/// A transport whose requests are answered by `servers`.
pub(crate) fn network(
    servers: impl Fn(&RecordedRequest) -> Response<Body> + Send + Sync + 'static,
) -> (Transport, Log) {
    let (log, servers) = (Log::default(), Arc::new(servers));
    let noted = log.clone();
    let transport = transport(tower::service_fn(move |request: Request<Body>| {
        let (log, servers) = (noted.clone(), Arc::clone(&servers));
        async move {
            let (parts, body) = request.into_parts();
            let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
            let scheme = parts.uri.scheme_str().unwrap_or_default().to_ascii_lowercase();
            let authority = parts.uri.authority().map(ToString::to_string).unwrap_or_default();
            let host = authority.rsplit_once('@').map_or(authority.as_str(), |(_, host)| host).to_lowercase();
            let has_port = host.rsplit_once(':').is_some_and(|(_, port)| !port.contains(']'));
            let port = if scheme == "https" { 443 } else { 80 };
            let seen = RecordedRequest {
                method: parts.method.to_string(),
                authority: if has_port { host } else { format!("{host}:{port}") },
                scheme,
                path: parts.uri.path().to_owned(),
                query: parts.uri.query().unwrap_or_default().to_owned(),
                authorization: parts
                    .headers
                    .get(header::AUTHORIZATION)
                    .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned()),
                headers: parts.headers,
                body,
            };
            log.0.lock().unwrap().push(seen.clone());
            Ok::<_, std::io::Error>(servers(&seen))
        }
    }));
    (transport, log)
}

/// A client over `transport` with few and short retries.
pub(crate) fn builder(transport: Transport) -> RegistryClientBuilder {
    let retry = RetryPolicy::new(2).pauses(Duration::from_millis(10), Duration::from_millis(20));
    RegistryClient::builder().transport(transport).retry(retry)
}

pub(crate) fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

/// A body sent in pieces, which may end with an error.
pub(crate) fn pieces(pieces: impl Stream<Item = io::Result<Bytes>> + Send + 'static) -> Body {
    BodyExt::map_err(StreamBody::new(pieces.map_ok(Frame::data)), Into::into).boxed_unsync()
}

pub(crate) fn answer(status: u16, headers: &[(&str, &str)], body: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(full(body));
    *response.status_mut() = status.try_into().unwrap();
    for (name, value) in headers {
        response.headers_mut().append(name.parse::<http::HeaderName>().unwrap(), value.parse().unwrap());
    }
    response
}

pub(crate) fn redirect(to: &str) -> Response<Body> {
    answer(307, &[("location", to)], "")
}

pub(crate) fn missing() -> Response<Body> {
    answer(404, &[], "")
}

/// Manifests and blobs that a source serves, by digest, and tags that point to them.
#[derive(Debug, Clone, Default)]
pub(crate) struct ContentStore {
    pub(crate) documents: HashMap<String, (String, Bytes)>,
    pub(crate) tags: HashMap<String, String>,
}

impl ContentStore {
    pub(crate) fn put(&mut self, media_type: &str, text: impl Into<Bytes>) -> Digest {
        let bytes = text.into();
        let digest = Digest::sha256(&bytes);
        self.documents.insert(digest.to_string(), (media_type.to_owned(), bytes));
        digest
    }

    pub(crate) fn tag(&mut self, name: &str, digest: &Digest) {
        self.tags.insert(name.to_owned(), digest.to_string());
    }

    /// The response to a request for a manifest or blob.
    pub(crate) fn serve(&self, seen: &RecordedRequest) -> Response<Body> {
        let name = seen.path.rsplit('/').next().unwrap_or_default();
        let digest = self.tags.get(name).map_or(name, String::as_str);
        match self.documents.get(digest) {
            Some((media_type, bytes)) => {
                let headers = [("content-type", media_type.as_str()), ("docker-content-digest", digest)];
                answer(200, &headers, bytes.clone())
            }
            None => missing(),
        }
    }
}
