//! One HTTP exchange: transport, redirects, stalls.

use std::{
    error::Error as StdError,
    future::Future as _,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll, ready},
    time::Duration,
};

use bp_artifact::{error::Classified as _, sync::lock, time::TimeSource};
use bytes::Bytes;
use futures_core::future::BoxFuture;
use http::{HeaderMap, HeaderName, Method, Request, Response, StatusCode, header};
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited, combinators::UnsyncBoxBody};
use jiff::fmt::rfc2822;
use tokio::time::{Instant, Sleep};
use tower::{Service, ServiceExt as _, util::BoxCloneSyncService};
use url::Url;

use super::{
    endpoints::Endpoints,
    error::{ApiErrors, RegistryError, RequestLine},
    origin::{Origin, origin_of},
};

type BoxError = Box<dyn StdError + Send + Sync>;

/// The body of a request or response.
pub type Body = UnsyncBoxBody<Bytes, BoxError>;

/// What carries requests: reqwest in production, a sandbox in tests.
pub type Transport = BoxCloneSyncService<Request<Body>, Response<Body>, BoxError>;

/// Manifests and pages of lists have at most this many bytes.
pub(super) const MAX_ANSWER: usize = 16 << 20;

/// Tokens and errors have at most this many.
pub(super) const MAX_NOTE: usize = 1 << 20;

/// Makes any HTTP service a [`Transport`].
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

/// A [`Transport`] of reqwest's, which must not follow redirects itself.
pub(super) fn reqwest_transport(client: reqwest::Client) -> Transport {
    transport(tower::service_fn(move |request: Request<Body>| {
        let client = client.clone();
        async move {
            let mut request = request;
            let size = request.body().size_hint().exact();
            if let Some(size @ 1..) = size {
                // A stream has no length of its own, and not every registry takes chunks.
                request.headers_mut().insert(header::CONTENT_LENGTH, size.into());
            }
            let request = request.map(|body| match size {
                Some(0) => reqwest::Body::from(Bytes::new()),
                _ => reqwest::Body::wrap_stream(body.into_data_stream()),
            });
            // A URL may hold a signature in its query.
            let request = reqwest::Request::try_from(request).map_err(reqwest::Error::without_url)?;
            let response = client.execute(request).await.map_err(reqwest::Error::without_url)?;
            Ok::<_, reqwest::Error>(Response::<reqwest::Body>::from(response))
        }
    }))
}

pub(super) fn full(bytes: Bytes) -> Body {
    Full::new(bytes).map_err(|never| match never {}).boxed_unsync()
}

/// A request before it is sent.
#[derive(Debug, Clone)]
pub(super) struct Call {
    pub(super) at: RequestLine,
    url: Url,
    headers: HeaderMap,
    /// Whose credentials it may carry.
    origin: Origin,
    /// Whether a redirect has left that origin: then it never carries them again.
    has_left: bool,
}

impl Call {
    /// A request to a server whose origin is `origin`.
    pub(super) fn new(at: RequestLine, url: Url, origin: Origin) -> Self {
        Call { at, url, headers: HeaderMap::new(), origin, has_left: false }
    }

    pub(super) fn url(&self) -> &Url {
        &self.url
    }

    /// The same request to another URL, which the server wrote.
    pub(super) fn moved_to(self, url: Url) -> Self {
        Call { has_left: self.has_left || !self.origin.admits(&url), url, ..self }
    }

    /// Whether it may carry the credentials of its origin.
    pub(super) fn is_at_home(&self) -> bool {
        !self.has_left && self.origin.admits(&self.url)
    }

    /// Reads a URL that the server wrote in an answer to this request.
    pub(super) fn read_url(&self, text: &str, endpoints: &Endpoints) -> Result<Url, &'static str> {
        self.origin.read(text, &self.url, endpoints)
    }

    /// Sets a header; what is no header value is left out.
    pub(super) fn header(mut self, name: HeaderName, value: &str) -> Self {
        if let Ok(value) = value.parse() {
            self.headers.insert(name, value);
        }
        self
    }

    fn request(&self, authorization: Option<&http::HeaderValue>, body: Body) -> Request<Body> {
        let mut request = Request::new(body);
        *request.method_mut() = self.at.method.clone();
        *request.uri_mut() = self.url.as_str().parse().unwrap_or_default();
        *request.headers_mut() = self.headers.clone();
        // The only place where this header is set.
        if let Some(value) = authorization.filter(|_| self.is_at_home()) {
            request.headers_mut().insert(header::AUTHORIZATION, value.clone());
        }
        request
    }
}

/// What a server answered, and who it was.
pub(super) struct Answer {
    pub(super) response: Response<Body>,
    /// The origin that answered, when redirects have led away from the server that was asked.
    pub(super) elsewhere: Option<String>,
}

impl Answer {
    fn new(call: &Call, response: Response<Body>) -> Self {
        Answer { response, elsewhere: (!call.is_at_home()).then(|| origin_of(&call.url)) }
    }
}

/// The way to all hosts.
#[derive(Clone)]
pub(super) struct Http {
    pub(super) transport: Transport,
    pub(super) endpoints: Arc<Endpoints>,
    pub(super) time: TimeSource,
    /// For how long a body, or an answer without a large request, may stand still.
    pub(super) idle: Duration,
    /// How long the answer to an upload may take, once all of it was sent: the registry stores it first.
    pub(super) answer: Duration,
    /// How long a manifest, list, token or error may take to arrive in all.
    pub(super) total: Duration,
}

impl Http {
    const REDIRECTS: usize = 5;

    /// Sends one request and follows its redirects.
    pub(super) async fn exchange(
        &self,
        call: &Call,
        authorization: Option<&http::HeaderValue>,
        body: Body,
    ) -> Result<Answer, RegistryError> {
        let mut response = self.dispatch(call, call.request(authorization, body), self.idle).await?;
        let mut call = call.clone();
        for _ in 0..Self::REDIRECTS {
            if !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308)
                || !matches!(call.at.method, Method::GET | Method::HEAD)
            {
                return Ok(Answer::new(&call, response));
            }
            let target = self.target(&call, &response)?;
            call = call.moved_to(target);
            let request = call.request(authorization, full(Bytes::new()));
            response = self.dispatch(&call, request, self.idle).await?;
        }
        Err(RegistryError::Protocol { at: call.at, reason: "it redirects in circles".to_owned() })
    }

    /// Sends one request with a large body.
    pub(super) async fn upload(
        &self,
        call: &Call,
        authorization: Option<&http::HeaderValue>,
        body: Body,
    ) -> Result<Answer, RegistryError> {
        let response = self.dispatch(call, call.request(authorization, body), self.answer).await?;
        Ok(Answer::new(call, response))
    }

    /// Where a redirect or an upload's Location leads.
    pub(super) fn target(&self, call: &Call, response: &Response<Body>) -> Result<Url, RegistryError> {
        let wrong = |reason: &str| RegistryError::Protocol {
            at: call.at.clone(),
            reason: format!("its Location {reason}"),
        };
        let location = response.headers().get(header::LOCATION).ok_or_else(|| wrong("is missing"))?;
        let location = location.to_str().map_err(|_| wrong("is not a valid URL"))?;
        call.read_url(location, &self.endpoints).map_err(wrong)
    }

    async fn dispatch(
        &self,
        call: &Call,
        request: Request<Body>,
        answer: Duration,
    ) -> Result<Response<Body>, RegistryError> {
        let length =
            call.headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
        let pulse = Pulse::start(length.unwrap_or_default());
        let request = request.map(|body| Watched { body, pulse: pulse.clone() }.boxed_unsync());
        let at = || call.at.clone();
        let sent: BoxFuture<'static, _> = Box::pin(self.transport.clone().oneshot(request));
        let response = tokio::select! {
            response = sent => {
                response.map_err(|source| RegistryError::Transport { at: at(), source })?
            }
            idle = pulse.stands_still(self.idle, answer) => {
                return Err(RegistryError::Stalled { at: at(), idle });
            }
        };
        let idle = self.idle;
        Ok(response.map(|body| Guarded { body, idle, timer: None }.boxed_unsync()))
    }

    /// All bytes of an answer, of which there are at most `most`. They may take a bounded time in all: what trickles
    /// never stands still.
    pub(super) async fn collect(
        &self,
        at: &RequestLine,
        body: Body,
        most: usize,
    ) -> Result<Bytes, RegistryError> {
        let collected: BoxFuture<'static, _> = Box::pin(Limited::new(body, most).collect());
        match tokio::time::timeout(self.total, collected).await {
            Ok(Ok(whole)) => Ok(whole.to_bytes()),
            Ok(Err(error)) if error.is::<LengthLimitError>() => {
                Err(RegistryError::Limit { at: at.clone(), limit: format!("more than {most} bytes") })
            }
            Ok(Err(error)) => Err(match stalled(error) {
                Ok(idle) => RegistryError::Stalled { at: at.clone(), idle },
                Err(source) => RegistryError::Transport { at: at.clone(), source },
            }),
            Err(_) => Err(RegistryError::Limit {
                at: at.clone(),
                limit: format!("it took more than {} s to arrive", self.total.as_secs()),
            }),
        }
    }

    /// All bytes of a small answer, whose JSON must not break off.
    pub(super) async fn note(&self, at: &RequestLine, body: Body) -> Result<Bytes, RegistryError> {
        let bytes = self.collect(at, body, MAX_NOTE).await?;
        match serde_json::from_slice::<serde::de::IgnoredAny>(&bytes) {
            Err(error) if error.is_eof() && !bytes.is_empty() => {
                Err(RegistryError::Transport { at: at.clone(), source: error.into() })
            }
            _ => Ok(bytes),
        }
    }

    /// The error that an answer with another status than the expected ones is.
    pub(super) async fn refusal(&self, at: &RequestLine, answer: Answer) -> RegistryError {
        let (parts, body) = answer.response.into_parts();
        if let (Some(host), 401 | 403) = (answer.elsewhere, parts.status.as_u16()) {
            return RegistryError::RedirectRefused { at: at.clone(), host, status: parts.status.as_u16() };
        }
        let body = match at.method {
            Method::HEAD => Bytes::new(),
            _ => match self.note(at, body).await {
                Ok(body) => body,
                // Only the lost code would have told whether it is for good.
                Err(error) if parts.status == StatusCode::BAD_REQUEST && error.is_retryable() => {
                    return error;
                }
                // The status tells enough.
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
            _ => RegistryError::Protocol { at, reason: format!("unexpected status {status}") },
        }
    }

    /// Seconds or a date.
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

/// Nothing came for this long.
#[derive(Debug, thiserror::Error)]
#[error("nothing moved for {} s", .0.as_secs())]
struct StallError(Duration);

/// Whether the connection could not even be made.
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

/// The time of the stall, if that is what the error is.
pub(super) fn stalled(error: BoxError) -> Result<Duration, BoxError> {
    error.downcast::<StallError>().map(|stall| stall.0)
}

/// How a request's body moves.
#[derive(Clone)]
struct Pulse(Arc<Mutex<Movement>>);

#[derive(Clone, Copy)]
struct Movement {
    /// When it moved last.
    last: Instant,
    /// Bytes that are still to be taken.
    left: u64,
    /// Whether the body itself is waited for: that is not the registry's fault, and who gives it has a guard of its own.
    starved: bool,
}

impl Pulse {
    fn start(left: u64) -> Self {
        Pulse(Arc::new(Mutex::new(Movement { last: Instant::now(), left, starved: false })))
    }

    fn note(&self, change: impl FnOnce(&mut Movement)) {
        let mut movement = lock(&self.0);
        movement.last = Instant::now();
        change(&mut movement);
    }

    /// Completes when the registry took nothing for `idle`, or did not answer for `answer` after it took all; tells
    /// which.
    async fn stands_still(&self, idle: Duration, answer: Duration) -> Duration {
        loop {
            let movement = *lock(&self.0);
            let now = Instant::now();
            let (since, patience) = match movement {
                Movement { starved: true, .. } => (now, idle),
                Movement { left: 0, last, .. } => (last, answer),
                Movement { last, .. } => (last, idle),
            };
            let end = bp_artifact::time::after(since, patience);
            if end <= now {
                return patience;
            }
            tokio::time::sleep_until(end).await;
        }
    }
}

/// A request's body that tells how it moves.
struct Watched {
    body: Body,
    pulse: Pulse,
}

impl http_body::Body for Watched {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        self.pulse.note(|movement| {
            movement.starved = polled.is_pending();
            match &polled {
                Poll::Ready(Some(Ok(frame))) => {
                    let taken = frame.data_ref().map_or(0, |data| data.len() as u64);
                    movement.left = movement.left.saturating_sub(taken);
                }
                Poll::Ready(None) => movement.left = 0,
                _ => {}
            }
        });
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// An answer's body that ends with an error when nothing comes for too long. Time counts only while somebody waits.
struct Guarded {
    body: Body,
    idle: Duration,
    timer: Option<Pin<Box<Sleep>>>,
}

impl http_body::Body for Guarded {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) {
            self.timer = None;
            return Poll::Ready(frame);
        }
        let idle = self.idle;
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(idle)));
        ready!(timer.as_mut().poll(cx));
        Poll::Ready(Some(Err(StallError(idle).into())))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
