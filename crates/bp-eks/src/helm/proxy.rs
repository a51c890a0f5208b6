//! Loopback HTTP proxy for helm: forwards its requests to the API server over the client of this process.

use std::{
    convert::Infallible,
    io,
    sync::{Arc, Mutex, MutexGuard},
};

use bp_artifact::sync::lock;
use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt, Either, Full, Limited};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use kube::client::Body;
use secrecy::{ExposeSecret, SecretString};
use tokio::{net::TcpListener, task::JoinSet};
use tracing::Instrument as _;

use super::{hooks::Hooks, lease::Validity};

/// The limit of request bodies; etcd limits an object to 1.5 MiB.
const LARGEST: usize = 8 << 20;
/// The pause after a connection could not be accepted.
const PAUSE: std::time::Duration = std::time::Duration::from_millis(100);
/// Headers that are not forwarded.
const HOP_BY_HOP: [header::HeaderName; 6] = [
    header::CONNECTION,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::TE,
    header::TRAILER,
    header::CONTENT_LENGTH,
];

/// The proxy server. On drop it stops, and open responses are cut off.
pub(super) struct Proxy {
    address: SecretString,
    forwarder: Arc<Forwarder>,
    _serving: JoinSet<()>,
}

impl Proxy {
    /// Serves clients that know its secret path; with `validity`, only while the Lease is held.
    pub(super) async fn start(client: kube::Client, validity: Option<Validity>) -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        // Helm sends tokens only over TLS; therefore the path is the secret.
        let mut random = [0; 16];
        getrandom::fill(&mut random).map_err(io::Error::other)?;
        let path = format!("/{:032x}", u128::from_ne_bytes(random));
        let address = format!("http://{}{path}", listener.local_addr()?).into();
        let (path, last_error, hooks) = (path.into(), Mutex::default(), Mutex::default());
        let forwarder = Arc::new(Forwarder { client, validity, path, last_error, hooks });
        let mut serving = JoinSet::new();
        serving.spawn(serve(listener, Arc::clone(&forwarder)).in_current_span());
        Ok(Proxy { address, forwarder, _serving: serving })
    }

    /// The error of the latest request, if it failed: then helm's error message is its consequence.
    pub(super) fn last_error(&self) -> Option<String> {
        self.forwarder.last_error().clone()
    }

    /// Holds back the deletion of a hook that failed until its evidence was collected.
    pub(super) fn watch_hooks(&self, hooks: Arc<Hooks>) {
        *lock(&self.forwarder.hooks) = Some(hooks);
    }

    /// The URL with the secret path, which grants access.
    pub(super) fn address(&self) -> &SecretString {
        &self.address
    }
}

struct Forwarder {
    client: kube::Client,
    validity: Option<Validity>,
    path: SecretString,
    last_error: Mutex<Option<String>>,
    hooks: Mutex<Option<Arc<Hooks>>>,
}

async fn serve(listener: TcpListener, forwarder: Arc<Forwarder>) {
    // Connections are closed with the server.
    let mut connections = JoinSet::new();
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            // As when no file can be opened: an immediate retry would fail too.
            Err(_) => {
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        let forwarder = Arc::clone(&forwarder);
        let connection = async move {
            let service = service_fn(move |request| {
                let forwarder = Arc::clone(&forwarder);
                async move { Ok::<_, Infallible>(forwarder.forward(request).await) }
            });
            // Helm reports a broken connection itself.
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        };
        connections.spawn(connection.in_current_span());
        while connections.try_join_next().is_some() {}
    }
}

type Answer = Response<Either<Full<Bytes>, Body>>;

impl Forwarder {
    fn last_error(&self) -> MutexGuard<'_, Option<String>> {
        lock(&self.last_error)
    }

    /// Records whether the API server handled the request: 401, 429 and 5xx count as not handled.
    fn note(&self, code: StatusCode, why: impl FnOnce() -> String) {
        let is_none = matches!(code, StatusCode::UNAUTHORIZED | StatusCode::TOO_MANY_REQUESTS)
            || code.is_server_error();
        *self.last_error() = is_none.then(why);
    }

    async fn forward(&self, request: Request<Incoming>) -> Answer {
        let asked = request.uri().path_and_query().map_or("", |asked| asked.as_str());
        let Some(Ok(uri)) = asked.strip_prefix(self.path.expose_secret()).map(str::parse::<Uri>) else {
            return refusal(StatusCode::NOT_FOUND, "unknown path: this proxy serves helm only");
        };
        let hooks = lock(&self.hooks).clone().filter(|_| request.method() == Method::DELETE);
        if let Some(hooks) = hooks {
            hooks.before_delete(uri.path()).await;
        }
        if self.validity.as_ref().is_some_and(|validity| !validity.holds()) {
            return refusal(StatusCode::SERVICE_UNAVAILABLE, "the lease of the release was lost");
        }
        let (mut parts, body) = request.into_parts();
        strip(&mut parts.headers);
        parts.uri = uri;
        parts.headers.remove(header::HOST);
        parts.version = http::Version::default();
        let Ok(body) = Limited::new(body, LARGEST).collect().await else {
            return refusal(StatusCode::PAYLOAD_TOO_LARGE, "the request is too large");
        };
        let request = Request::from_parts(parts, Body::from(body.to_bytes().to_vec()));
        match self.client.send(request).await {
            Ok(response) => {
                self.note(response.status(), || format!("the API server answered {}", response.status()));
                let (mut parts, body) = response.into_parts();
                strip(&mut parts.headers);
                parts.version = http::Version::default();
                Response::from_parts(parts, Either::Right(body))
            }
            // The error contains what EKS reports about the cluster; helm displays it.
            Err(kube::Error::Api(status)) => {
                let code = StatusCode::from_u16(status.code).unwrap_or(StatusCode::BAD_GATEWAY);
                self.note(code, || format!("the API server answered {code}"));
                refusal(code, &status.message)
            }
            Err(error) => {
                self.note(StatusCode::BAD_GATEWAY, || format!("failed to reach the API server: {error}"));
                refusal(StatusCode::BAD_GATEWAY, &error.to_string())
            }
        }
    }
}

fn strip(headers: &mut HeaderMap) {
    HOP_BY_HOP.iter().for_each(|name| drop(headers.remove(name)));
}

/// A Kubernetes `Status` response.
fn refusal(code: StatusCode, message: &str) -> Answer {
    let status = serde_json::json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code.as_u16(), "message": message,
    });
    let mut response = Response::new(Either::Left(Full::from(status.to_string())));
    *response.status_mut() = code;
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
    response
}
