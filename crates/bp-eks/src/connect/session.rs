//! HTTP middleware for requests to a cluster: authenticate with a valid token, and retry transient failures.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use backon::{BackoffBuilder, ExponentialBuilder};
use http::{
    HeaderMap, HeaderValue, Method, Request, Response, StatusCode,
    header::{AUTHORIZATION, RETRY_AFTER},
};
use kube::client::Body;
use tower::{BoxError, Service, ServiceExt};

use super::{
    access::{self, Refusals},
    token::{Token, TokenError, Tokens},
};

/// The timeout of the response head. The watcher guards the body of a watch; the response to a followed log begins
/// only with the container's first line and has no timeout.
const ANSWER: Duration = Duration::from_secs(30);
/// The limit of `Retry-After`.
const LONGEST: Duration = Duration::from_secs(30);

/// The response head did not arrive in time.
#[derive(Debug, thiserror::Error)]
#[error("no answer within {} s", ANSWER.as_secs())]
struct NoAnswer;

/// The credentials of a client.
pub(super) struct Identity {
    pub(super) tokens: Tokens,
    /// Explains rejected requests, if the caller's ARN is known.
    pub(super) refusals: Option<Refusals>,
}

impl Identity {
    /// Why the cluster rejects a token that was just signed, as far as it is known.
    async fn explain(&self, token: &Token) -> Option<kube::Error> {
        let access = match &self.refusals {
            Some(refusals) => refusals.explain().await,
            None => None,
        };
        let reasons: Vec<String> =
            token.why_too_long().into_iter().chain(access.map(|access| access.to_string())).collect();
        (!reasons.is_empty()).then(|| access::unauthorized(reasons.join("; otherwise, ")))
    }
}

/// A service that authenticates and retries: on 401 once with a new token, then it looks up the access entry; on 429,
/// 503 and 504 after `Retry-After`; on connection errors, if the request is idempotent.
#[derive(Clone)]
pub(super) struct Session<S> {
    inner: S,
    identity: Option<Arc<Identity>>,
}

impl<S> Session<S> {
    pub(super) fn new(inner: S, identity: Option<Arc<Identity>>) -> Self {
        Session { inner, identity }
    }
}

impl<S, B> Service<Request<Body>> for Session<S>
where
    S: Service<Request<Body>, Response = Response<B>> + Clone + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Into<BoxError>,
    B: Send + 'static,
{
    type Response = Response<B>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Response<B>, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        // Each attempt waits for the inner service itself.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let session = self.clone();
        Box::pin(session.send(request))
    }
}

impl<S, B> Session<S>
where
    S: Service<Request<Body>, Response = Response<B>> + Clone + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Into<BoxError>,
    B: Send + 'static,
{
    async fn send(self, request: Request<Body>) -> Result<Response<B>, BoxError> {
        let (parts, body) = request.into_parts();
        let tokens = self.identity.as_deref().map(|identity| &identity.tokens);
        let mut pauses = pauses().build();
        let mut refused = false;
        // Why an earlier attempt was not answered.
        let mut lost: Option<BoxError> = None;
        loop {
            // A streaming body can be sent only once.
            let Some(copy) = body.try_clone() else {
                let once = try_once(self.inner, tokens, Request::from_parts(parts, body));
                return once.await.map(|(answer, _)| answer);
            };
            let copy = Request::from_parts(parts.clone(), copy);
            let result = try_once(self.inner.clone(), tokens, copy).await;
            if let (Ok((answer, Some(token))), Some(identity)) = (&result, &self.identity)
                && answer.status() == StatusCode::UNAUTHORIZED
            {
                if !refused {
                    refused = true;
                    identity.tokens.forget(token).await;
                    continue;
                }
                if lost.is_none()
                    && let Some(explained) = identity.explain(token).await
                {
                    return Err(explained.into());
                }
            }
            let asked = match &result {
                Ok((answer, _)) if is_passing(answer.status()) => retry_after(answer.headers()),
                Err(e) if may_repeat(&parts.method) && !e.is::<TokenError>() => None,
                _ => return answered(&parts.method, result, lost),
            };
            let Some(pause) = pauses.next() else { return answered(&parts.method, result, lost) };
            lost = result.err().or(lost);
            tokio::time::sleep(asked.map_or(pause, |asked| asked.max(pause))).await;
        }
    }
}

/// The response. If an earlier attempt of a change was not answered, a refusal of a later one does not concern the
/// first, which may have been applied: then that is the result.
fn answered<B>(
    method: &Method,
    result: Result<(Response<B>, Option<Arc<Token>>), BoxError>,
    lost: Option<BoxError>,
) -> Result<Response<B>, BoxError> {
    let is_change = *method == Method::PATCH || *method == Method::PUT;
    match (result, lost) {
        (Ok((answer, _)), _) if answer.status().is_success() => Ok(answer),
        (_, Some(lost)) if is_change => Err(lost),
        (result, _) => result.map(|(answer, _)| answer),
    }
}

/// One attempt; returns the response and the token that was sent.
async fn try_once<S, B>(
    mut inner: S,
    tokens: Option<&Tokens>,
    mut request: Request<Body>,
) -> Result<(Response<B>, Option<Arc<Token>>), BoxError>
where
    S: Service<Request<Body>, Response = Response<B>>,
    S::Error: Into<BoxError>,
{
    let token = match tokens {
        Some(tokens) => Some(tokens.get().await?),
        None => None,
    };
    if let Some(token) = &token {
        let mut value = HeaderValue::try_from(format!("Bearer {}", token.expose()))?;
        value.set_sensitive(true);
        request.headers_mut().insert(AUTHORIZATION, value);
    }
    let may_be_silent = is_followed_log(request.uri());
    let answer = async { inner.ready().await.map_err(Into::into)?.call(request).await.map_err(Into::into) };
    if may_be_silent {
        return Ok((answer.await?, token));
    }
    match tokio::time::timeout(ANSWER, answer).await {
        Ok(answer) => Ok((answer?, token)),
        Err(_) => Err(NoAnswer.into()),
    }
}

fn is_followed_log(uri: &http::Uri) -> bool {
    uri.path().ends_with("/log") && uri.query().is_some_and(|query| query.contains("follow=true"))
}

/// Four retries within about three seconds, or longer if `Retry-After` asks for it.
fn pauses() -> ExponentialBuilder {
    ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(200))
        .with_max_delay(Duration::from_secs(2))
        .with_max_times(4)
        .with_jitter()
}

fn is_passing(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT
    )
}

/// Whether the request may be repeated when it is unknown whether it arrived.
fn may_repeat(method: &Method) -> bool {
    method != Method::POST
}

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(RETRY_AFTER)?.to_str().ok()?.parse().ok()?;
    Some(Duration::from_secs(seconds).min(LONGEST))
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use aws_credential_types::{Credentials, provider::SharedCredentialsProvider};
    use bp_artifact::time::TimeSource;
    use jiff::Timestamp;
    use tokio::time::Instant;

    use super::*;

    type Answer = Result<Response<Body>, &'static str>;

    /// Answers as scripted, and records the tokens.
    #[derive(Clone, Default)]
    struct Script {
        answers: Arc<Mutex<Vec<Answer>>>,
        tokens: Arc<Mutex<Vec<String>>>,
    }

    impl Script {
        fn new(mut answers: Vec<Answer>) -> Self {
            answers.reverse();
            Script { answers: Arc::new(Mutex::new(answers)), ..Script::default() }
        }

        fn calls(&self) -> usize {
            self.tokens.lock().unwrap().len()
        }
    }

    impl Service<Request<Body>> for Script {
        type Response = Response<Body>;
        type Error = BoxError;
        type Future = std::future::Ready<Result<Response<Body>, BoxError>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, request: Request<Body>) -> Self::Future {
            let token = request.headers().get(AUTHORIZATION).map(|v| v.to_str().unwrap().to_owned());
            self.tokens.lock().unwrap().push(token.unwrap_or_default());
            let answer = self.answers.lock().unwrap().pop().expect("no more calls than answers");
            std::future::ready(answer.map_err(Into::into))
        }
    }

    fn status(code: u16) -> Answer {
        Ok(Response::builder().status(code).body(Body::empty()).unwrap())
    }

    fn request(method: Method) -> Request<Body> {
        Request::builder().method(method).uri("/api").body(Body::empty()).unwrap()
    }

    fn identity() -> Arc<Identity> {
        let start = Timestamp::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        let begun = Instant::now();
        let time = TimeSource::from_fn(move || start + begun.elapsed());
        let credentials = Credentials::new("AKIDEXAMPLE", "secret", None, None, "test");
        let credentials = SharedCredentialsProvider::new(credentials);
        let tokens = Tokens::new("shop".into(), "eu-central-1".into(), credentials, time);
        Arc::new(Identity { tokens, refusals: None })
    }

    async fn send(script: &Script, method: Method) -> Result<u16, String> {
        let session = Session::new(script.clone(), Some(identity()));
        let answer = session.oneshot(request(method)).await;
        answer.map(|answer| answer.status().as_u16()).map_err(|e| e.to_string())
    }

    #[tokio::test(start_paused = true)]
    async fn sends_a_token_and_retries_401_once() {
        let script = Script::new(vec![status(401), status(200)]);
        assert_eq!(send(&script, Method::POST).await, Ok(200));
        assert!(script.tokens.lock().unwrap().iter().all(|token| token.starts_with("Bearer k8s-aws-v1.")));

        let script = Script::new(vec![status(401), status(401)]);
        assert_eq!(send(&script, Method::GET).await, Ok(401));
        assert_eq!(script.calls(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn waits_for_retry_after() {
        let busy = Response::builder().status(429).header(RETRY_AFTER, "7").body(Body::empty()).unwrap();
        let script = Script::new(vec![Ok(busy), status(503), status(200)]);
        let begun = Instant::now();
        assert_eq!(send(&script, Method::POST).await, Ok(200));
        assert!(begun.elapsed() >= Duration::from_secs(7));

        let script = Script::new((0..5).map(|_| status(503)).collect());
        assert_eq!(send(&script, Method::GET).await, Ok(503));
        assert_eq!(script.calls(), 5);
    }

    #[tokio::test(start_paused = true)]
    async fn repeats_a_lost_request_only_if_idempotent() {
        let script = Script::new(vec![Err("reset"), status(200)]);
        assert_eq!(send(&script, Method::PATCH).await, Ok(200));
        let script = Script::new(vec![Err("reset")]);
        assert_eq!(send(&script, Method::POST).await, Err("reset".into()));
    }

    #[tokio::test(start_paused = true)]
    async fn does_not_retry_client_errors() {
        for code in [400, 403, 404, 409, 422, 500] {
            let script = Script::new(vec![status(code)]);
            assert_eq!(send(&script, Method::GET).await, Ok(code));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn times_out_without_a_response() {
        let silent =
            tower::service_fn(|_: Request<Body>| std::future::pending::<Result<Response<Body>, BoxError>>());
        let error = Session::new(silent, None).oneshot(request(Method::POST)).await.unwrap_err();
        assert_eq!(error.to_string(), "no answer within 30 s");
    }
}
