//! Helm's way to the cluster: a server on loopback that passes requests on over our own client.

use std::{
    convert::Infallible,
    io,
    sync::{Arc, Mutex, MutexGuard},
};

use bp_artifact::sync::lock;
use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt, Either, Full, Limited};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use kube::client::Body;
use secrecy::{ExposeSecret, SecretString};
use tokio::{net::TcpListener, task::JoinSet};

use super::lease::Validity;

/// No object of a chart is larger: etcd takes one and a half.
const LARGEST: usize = 8 << 20;
/// Between two hops only.
const HOP_BY_HOP: [header::HeaderName; 6] = [
    header::CONNECTION,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::TE,
    header::TRAILER,
    header::CONTENT_LENGTH,
];

/// The server. Dropped, it answers nobody any more, and open answers are cut.
pub(super) struct Proxy {
    address: SecretString,
    way: Arc<Way>,
    _serving: JoinSet<()>,
}

impl Proxy {
    /// Serves whoever knows its address; for work that changes things, as long as the Lease is ours.
    pub(super) async fn start(client: kube::Client, validity: Option<Validity>) -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        // Helm sends no token without TLS; so the path is the secret.
        let mut random = [0; 16];
        getrandom::fill(&mut random).map_err(io::Error::other)?;
        let path = format!("/{:032x}", u128::from_ne_bytes(random));
        let address = format!("http://{}{path}", listener.local_addr()?).into();
        let way = Arc::new(Way { client, validity, path: path.into(), trouble: Mutex::default() });
        let mut serving = JoinSet::new();
        serving.spawn(serve(listener, Arc::clone(&way)));
        Ok(Proxy { address, way, _serving: serving })
    }

    /// Why the cluster could not be asked the last time, if it could not: then what helm says is about that.
    pub(super) fn trouble(&self) -> Option<String> {
        self.way.trouble().clone()
    }

    /// Where it is. Who knows this may use it.
    pub(super) fn address(&self) -> &SecretString {
        &self.address
    }
}

struct Way {
    client: kube::Client,
    validity: Option<Validity>,
    path: SecretString,
    trouble: Mutex<Option<String>>,
}

async fn serve(listener: TcpListener, way: Arc<Way>) {
    // Connections end with the server.
    let mut connections = JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let way = Arc::clone(&way);
        connections.spawn(async move {
            let service = service_fn(move |request| {
                let way = Arc::clone(&way);
                async move { Ok::<_, Infallible>(way.pass(request).await) }
            });
            // Helm hears of a broken connection itself.
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
        while connections.try_join_next().is_some() {}
    }
}

type Answer = Response<Either<Full<Bytes>, Body>>;

impl Way {
    fn trouble(&self) -> MutexGuard<'_, Option<String>> {
        lock(&self.trouble)
    }

    /// Notes whether the cluster could be asked: an answer that refuses our credentials or all work is none.
    fn note(&self, code: StatusCode, why: impl FnOnce() -> String) {
        let is_none = matches!(code, StatusCode::UNAUTHORIZED | StatusCode::TOO_MANY_REQUESTS)
            || code.is_server_error();
        *self.trouble() = is_none.then(why);
    }

    async fn pass(&self, request: Request<Incoming>) -> Answer {
        let asked = request.uri().path_and_query().map_or("", |asked| asked.as_str());
        let Some(Ok(uri)) = asked.strip_prefix(self.path.expose_secret()).map(str::parse::<Uri>) else {
            return refusal(StatusCode::NOT_FOUND, "this is for helm alone");
        };
        if self.validity.as_ref().is_some_and(|validity| !validity.holds()) {
            return refusal(StatusCode::SERVICE_UNAVAILABLE, "the lease of the release is lost");
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
                self.note(response.status(), || format!("the API server answers {}", response.status()));
                let (mut parts, body) = response.into_parts();
                strip(&mut parts.headers);
                parts.version = http::Version::default();
                Response::from_parts(parts, Either::Right(body))
            }
            // EKS was asked why, and helm is to show it.
            Err(kube::Error::Api(status)) => {
                let code = StatusCode::from_u16(status.code).unwrap_or(StatusCode::BAD_GATEWAY);
                self.note(code, || format!("the API server answers {code}"));
                refusal(code, &status.message)
            }
            Err(error) => {
                self.note(StatusCode::BAD_GATEWAY, || format!("the API server cannot be reached: {error}"));
                refusal(StatusCode::BAD_GATEWAY, &error.to_string())
            }
        }
    }
}

fn strip(headers: &mut HeaderMap) {
    HOP_BY_HOP.iter().for_each(|name| drop(headers.remove(name)));
}

/// A `Status`, as the API answers.
fn refusal(code: StatusCode, message: &str) -> Answer {
    let status = serde_json::json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code.as_u16(), "message": message,
    });
    let mut response = Response::new(Either::Left(Full::from(status.to_string())));
    *response.status_mut() = code;
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
    response
}
