//! HTTP exchanges with registries: transport, redirects, timeouts, size limits, error responses.

use std::{
    error::Error as StdError,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use bp_artifact::{
    error::{Classified as _, chain},
    host::host_and_port,
    time::TimeSource,
};
use bytes::Bytes;
use futures_core::future::BoxFuture;
use http::{HeaderMap, HeaderName, Method, Request, Response, StatusCode, header};
use http_body::Body as _;
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use jiff::fmt::rfc2822;
use tower::{Service, ServiceExt as _, util::BoxCloneSyncService};
use tracing::Instrument as _;
use url::Url;

use super::{
    body::{Body, BoxError, IdleTimeoutBody, MonitoredBody, UploadActivity, stalled},
    endpoints::Endpoints,
    error::{ApiErrors, RegistryError, RequestLine},
    origin::{Origin, origin_of},
    spans,
    tls::TlsProblem,
};

/// The HTTP service that sends requests: reqwest in production, a sandbox in tests.
pub type Transport = BoxCloneSyncService<Request<Body>, Response<Body>, BoxError>;

/// The maximum size of a manifest or a list page in bytes.
pub(super) const MAX_ANSWER: usize = 16 << 20;

/// The maximum size of a token or error response in bytes.
pub(super) const MAX_SMALL_ANSWER: usize = 1 << 20;

/// Converts an HTTP service into a [`Transport`].
pub fn transport<S, B>(service: S) -> Transport
where
    S: Service<Request<Body>, Response = Response<B>> + Clone + Send + Sync + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send + 'static,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    let service = service
        .map_response(|response: Response<B>| response.map(|body| body.map_err(Into::into).boxed_unsync()))
        .map_err(Into::into);
    BoxCloneSyncService::new(service)
}

/// A [`Transport`] based on reqwest, which must be configured not to follow redirects.
pub(super) fn reqwest_transport(client: reqwest::Client) -> Transport {
    transport(tower::service_fn(move |request: Request<Body>| {
        let client = client.clone();
        async move {
            let mut request = request;
            let size = request.body().size_hint().exact();
            if let Some(size @ 1..) = size {
                // A stream has no length, and not every registry accepts chunked requests.
                request.headers_mut().insert(header::CONTENT_LENGTH, size.into());
            }
            let request = request.map(|body| match size {
                Some(0) => reqwest::Body::from(Bytes::new()),
                _ => reqwest::Body::wrap_stream(body.into_data_stream()),
            });
            // A URL may contain a signature in its query.
            let request = reqwest::Request::try_from(request).map_err(reqwest::Error::without_url)?;
            let response = client.execute(request).await.map_err(reqwest::Error::without_url)?;
            Ok::<_, reqwest::Error>(Response::<reqwest::Body>::from(response))
        }
    }))
}

pub(super) fn full(bytes: Bytes) -> Body {
    Full::new(bytes).map_err(|never| match never {}).boxed_unsync()
}

/// A request to be sent.
#[derive(Debug, Clone)]
pub(super) struct Call {
    pub(super) at: RequestLine,
    url: Url,
    headers: HeaderMap,
    /// The origin whose credentials it may have.
    origin: Origin,
    /// Whether a redirect has left that origin: credentials are never sent after that.
    left_origin: bool,
    /// How often it was sent. Clones share the count.
    attempts: Arc<AtomicU32>,
}

impl Call {
    /// A request to a server with this origin.
    pub(super) fn new(at: RequestLine, url: Url, origin: Origin) -> Self {
        Call { at, url, headers: HeaderMap::new(), origin, left_origin: false, attempts: Arc::default() }
    }

    pub(super) fn url(&self) -> &Url {
        &self.url
    }

    /// The same request to another URL, which the server returned.
    pub(super) fn moved_to(self, url: Url) -> Self {
        let left_origin = self.left_origin || !self.origin.admits(&url);
        Call { left_origin, url, attempts: Arc::default(), ..self }
    }

    /// Whether it may include the credentials of its origin.
    pub(super) fn is_same_origin(&self) -> bool {
        !self.left_origin && self.origin.admits(&self.url)
    }

    /// Parses a URL in a response that `from` has sent.
    pub(super) fn read_url(
        &self,
        text: &str,
        from: &Url,
        endpoints: &Endpoints,
    ) -> Result<Url, &'static str> {
        self.origin.read(text, from, endpoints)
    }

    /// Sets a header; a value that is not valid in a header is ignored.
    pub(super) fn header(mut self, name: HeaderName, value: &str) -> Self {
        if let Ok(value) = value.parse() {
            self.headers.insert(name, value);
        }
        self
    }

    /// Counts an attempt, and returns its number, beginning with 1.
    fn next_attempt(&self) -> u32 {
        self.attempts.fetch_add(1, Ordering::Relaxed).saturating_add(1)
    }

    fn request(&self, authorization: Option<&http::HeaderValue>, body: Body) -> Request<Body> {
        let mut request = Request::new(body);
        *request.method_mut() = self.at.method.clone();
        *request.uri_mut() = self.url.as_str().parse().unwrap_or_default();
        *request.headers_mut() = self.headers.clone();
        // No other code sets this header.
        if let Some(value) = authorization.filter(|_| self.is_same_origin()) {
            request.headers_mut().insert(header::AUTHORIZATION, value.clone());
        }
        request
    }
}

/// The URL that responded, after redirects: a relative Location refers to it.
#[derive(Clone)]
struct AnsweredBy(Url);

/// A response, and where it came from.
pub(super) struct Answer {
    pub(super) response: Response<Body>,
    /// The origin that responded, if redirects have led to another one.
    pub(super) elsewhere: Option<String>,
}

impl Answer {
    fn new(call: &Call, response: Response<Body>) -> Self {
        Answer { response, elsewhere: (!call.is_same_origin()).then(|| origin_of(&call.url)) }
    }
}

/// Sends requests to all hosts.
#[derive(Clone)]
pub(super) struct Http {
    pub(super) transport: Transport,
    pub(super) endpoints: Arc<Endpoints>,
    pub(super) time: TimeSource,
    /// The maximum time without any data in a body, or until the response to a request without a large body.
    pub(super) idle: Duration,
    /// The maximum time until the response to an upload after its last byte: the registry stores the blob first.
    pub(super) answer: Duration,
    /// The maximum time for receiving a whole manifest, list, token or error.
    pub(super) total: Duration,
}

impl Http {
    const REDIRECTS: usize = 5;

    /// Sends a request and follows redirects.
    pub(super) async fn exchange(
        &self,
        call: &Call,
        authorization: Option<&http::HeaderValue>,
        body: Bytes,
    ) -> Result<Answer, RegistryError> {
        let attempt = call.next_attempt();
        let request = call.request(authorization, full(body.clone()));
        let mut response = self.dispatch(call, attempt, request, self.idle).await?;
        let mut call = call.clone();
        for _ in 0..Self::REDIRECTS {
            let follows = match response.status().as_u16() {
                301..=303 => matches!(call.at.method, Method::GET | Method::HEAD),
                // Also the start of an upload, and manifests. The body of a token request contains a login.
                307 | 308 => body.is_empty() || call.at.method == Method::PUT,
                _ => false,
            };
            if !follows {
                response.extensions_mut().insert(AnsweredBy(call.url.clone()));
                return Ok(Answer::new(&call, response));
            }
            let target = self.target(&call, &response)?;
            call = call.moved_to(target);
            let request = call.request(authorization, full(body.clone()));
            response = self.dispatch(&call, attempt, request, self.idle).await?;
        }
        Err(RegistryError::Protocol { at: call.at, reason: "it has too many redirects".to_owned() })
    }

    /// Sends a request with a large body.
    pub(super) async fn upload(
        &self,
        call: &Call,
        authorization: Option<&http::HeaderValue>,
        body: Body,
    ) -> Result<Answer, RegistryError> {
        let request = call.request(authorization, body);
        let response = self.dispatch(call, call.next_attempt(), request, self.answer).await?;
        if response.status().is_redirection() && response.headers().contains_key(header::LOCATION) {
            let to = origin_of(&self.target(call, &response)?);
            let reason = format!(
                "it redirects an upload in progress to {to}, which is possible only before the upload"
            );
            return Err(RegistryError::Protocol { at: call.at.clone(), reason });
        }
        Ok(Answer::new(call, response))
    }

    /// The target of a redirect, or the Location of an upload.
    pub(super) fn target(&self, call: &Call, response: &Response<Body>) -> Result<Url, RegistryError> {
        let invalid = |reason: &str| RegistryError::Protocol {
            at: call.at.clone(),
            reason: format!("its Location {reason}"),
        };
        let location = response.headers().get(header::LOCATION).ok_or_else(|| invalid("is missing"))?;
        let location = location.to_str().map_err(|_| invalid("is not a valid URL"))?;
        let from = answered_by(response.extensions()).unwrap_or(&call.url);
        call.origin.read(location, from, &self.endpoints).map_err(invalid)
    }

    /// Sends one request and waits for the response's headers, in a span.
    async fn dispatch(
        &self,
        call: &Call,
        attempt: u32,
        request: Request<Body>,
        answer: Duration,
    ) -> Result<Response<Body>, RegistryError> {
        let span = spans::exchange(&call.at, &call.url, attempt);
        let response = self.transmit(call, request, answer).instrument(span.clone()).await?;
        spans::record(&span, &response);
        Ok(response)
    }

    async fn transmit(
        &self,
        call: &Call,
        request: Request<Body>,
        answer: Duration,
    ) -> Result<Response<Body>, RegistryError> {
        let length =
            call.headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
        let activity = UploadActivity::start(length.unwrap_or_default());
        let request = request.map(|body| MonitoredBody::new(body, activity.clone()).boxed_unsync());
        let at = || call.at.clone();
        let sent: BoxFuture<'static, _> = Box::pin(self.transport.clone().oneshot(request));
        let response = tokio::select! {
            response = sent => {
                response.map_err(|source| transport_error(call, source))?
            }
            idle = activity.wait_for_stall(self.idle, answer) => {
                return Err(RegistryError::Stalled { at: at(), idle });
            }
        };
        let idle = self.idle;
        Ok(response.map(|body| IdleTimeoutBody::new(body, idle).boxed_unsync()))
    }

    /// Reads a whole body of at most `most` bytes. The total time is limited too, since a slow sender never triggers
    /// the idle timeout.
    pub(super) async fn collect(
        &self,
        at: &RequestLine,
        body: Body,
        most: usize,
    ) -> Result<Bytes, RegistryError> {
        let collected: BoxFuture<'static, _> = Box::pin(Limited::new(body, most).collect());
        match tokio::time::timeout(self.total, collected).await {
            Ok(Ok(collected)) => Ok(collected.to_bytes()),
            Ok(Err(error)) if error.is::<LengthLimitError>() => {
                Err(RegistryError::Limit { at: at.clone(), limit: format!("more than {most} bytes") })
            }
            Ok(Err(error)) => Err(match stalled(error) {
                Ok(idle) => RegistryError::Stalled { at: at.clone(), idle },
                Err(source) => RegistryError::Transport { at: at.clone(), source },
            }),
            Err(_) => Err(RegistryError::Limit {
                at: at.clone(),
                limit: format!("it took more than {} s to receive", self.total.as_secs()),
            }),
        }
    }

    /// Reads a small JSON body. Truncated JSON is reported as a transport error.
    pub(super) async fn note(&self, at: &RequestLine, body: Body) -> Result<Bytes, RegistryError> {
        let bytes = self.collect(at, body, MAX_SMALL_ANSWER).await?;
        match serde_json::from_slice::<serde::de::IgnoredAny>(&bytes) {
            Err(error) if error.is_eof() && !bytes.is_empty() => {
                Err(RegistryError::Transport { at: at.clone(), source: error.into() })
            }
            _ => Ok(bytes),
        }
    }

    /// The error for a response with an unexpected status.
    pub(super) async fn refusal(&self, at: &RequestLine, answer: Answer) -> RegistryError {
        let (parts, body) = answer.response.into_parts();
        if let (Some(host), 401 | 403) = (answer.elsewhere, parts.status.as_u16()) {
            return RegistryError::RedirectRefused { at: at.clone(), host, status: parts.status.as_u16() };
        }
        let body = match at.method {
            Method::HEAD => Bytes::new(),
            _ => match self.note(at, body).await {
                Ok(body) => body,
                // Only the lost error code would have said whether the error is permanent.
                Err(error) if parts.status == StatusCode::BAD_REQUEST && error.is_retryable() => {
                    return error;
                }
                // The status is sufficient.
                Err(_) => Bytes::new(),
            },
        };
        let (at, errors, status) = (at.clone(), ApiErrors::read(&body), parts.status);
        let retry_after = self.retry_after(&parts.headers);
        match status {
            StatusCode::NOT_FOUND => RegistryError::NotFound { at, errors },
            StatusCode::UNAUTHORIZED => RegistryError::Unauthorized { at, errors, renewed: false },
            StatusCode::FORBIDDEN => RegistryError::Denied { at, errors, renewed: false },
            StatusCode::TOO_MANY_REQUESTS => RegistryError::RateLimited { at, errors, retry_after },
            _ if errors.has("TOOMANYREQUESTS") => RegistryError::RateLimited { at, errors, retry_after },
            StatusCode::REQUEST_TIMEOUT => {
                RegistryError::Unavailable { at, status: status.as_u16(), errors, retry_after }
            }
            _ if status.is_server_error() => {
                RegistryError::Unavailable { at, status: status.as_u16(), errors, retry_after }
            }
            _ if status.is_client_error() => RegistryError::Refused { at, status: status.as_u16(), errors },
            _ => RegistryError::Protocol { at, reason: unexpected(status, &parts.headers) },
        }
    }

    /// Parses Retry-After: seconds or a date.
    fn retry_after(&self, headers: &HeaderMap) -> Option<Duration> {
        let value = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
        match value.parse() {
            Ok(seconds) => Some(Duration::from_secs(seconds)),
            Err(_) => {
                let at = rfc2822::parse(value).ok()?.timestamp();
                Some(Duration::try_from(at.duration_since(self.time.now())).unwrap_or(Duration::ZERO))
            }
        }
    }
}

/// The reason for a response that is neither a success nor an error.
fn unexpected(status: StatusCode, headers: &HeaderMap) -> String {
    let location = headers.get(header::LOCATION).and_then(|location| location.to_str().ok());
    match location.and_then(|location| Url::parse(location).ok()).filter(|_| status.is_redirection()) {
        Some(url) => format!(
            "status {status} redirects to {}, which is not followed for such a request: use that address",
            origin_of(&url)
        ),
        None => format!("unexpected status {status}"),
    }
}

/// Whether the response is a web page, as from a login page or a server that is not a registry.
pub(super) fn is_page(headers: &HeaderMap) -> bool {
    let media_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    media_type.is_some_and(|text| text.trim_start().to_ascii_lowercase().starts_with("text/html"))
}

/// The URL that sent a response, after redirects.
pub(super) fn answered_by(extensions: &http::Extensions) -> Option<&Url> {
    extensions.get::<AnsweredBy>().map(|AnsweredBy(url)| url)
}

/// Whether the connection could not be established.
pub(super) fn cannot_connect(error: &(dyn StdError + Send + Sync + 'static)) -> bool {
    if error.downcast_ref::<reqwest::Error>().is_some_and(reqwest::Error::is_connect) {
        return true;
    }
    let mut cause: Option<&(dyn StdError + 'static)> = Some(error);
    while let Some(error) = cause {
        let refused = |error: &std::io::Error| error.kind() == std::io::ErrorKind::ConnectionRefused;
        if error.downcast_ref().is_some_and(refused) {
            return true;
        }
        cause = error.source();
    }
    false
}

/// The error of a request without a response.
fn transport_error(call: &Call, source: BoxError) -> RegistryError {
    let (at, url) = (call.at.clone(), &call.url);
    match TlsProblem::of(url, &chain(&*source)) {
        Some(problem) => {
            let host = host_and_port(url.as_str()).unwrap_or_default();
            RegistryError::Tls { at, host, problem, source }
        }
        None if call.is_same_origin() => RegistryError::Transport { at, source },
        None => {
            let host = origin_of(url);
            RegistryError::Transport { at, source: Elsewhere { host, source }.into() }
        }
    }
}

/// The failure of a request to a host that the registry has returned, such as one that only its own network knows.
#[derive(Debug, thiserror::Error)]
#[error(
    "the registry continues the request at {host}; if that is not its address, a proxy in front of it changes its Host header"
)]
struct Elsewhere {
    host: String,
    source: BoxError,
}
