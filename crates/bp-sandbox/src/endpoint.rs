//! Request pipeline: every request is recorded in the ledger, may meet a fault, and reaches its handler.

use std::{
    future::Future as _,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures_core::future::BoxFuture;
use http::{Request, Response, request};
use http_body::{Frame, SizeHint};

use crate::{
    body::Body,
    clock::Clock,
    fault::{Effect, Faults},
    ledger::{Entry, Ledger, Line, Permission},
};

/// A network failure, as seen by a client.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TransportError {
    /// A fault closed the connection.
    #[error("connection reset by the sandbox")]
    Reset,
    /// The request body ended with an error.
    #[error("the request body ended before it was complete")]
    RequestCut,
    /// No endpoint of the sandbox has this host name.
    #[error("the sandbox has no host {0:?}")]
    NoSuchHost(String),
    /// An injected response is not a valid HTTP response.
    #[error("the injected response is not a valid HTTP response")]
    BadFault,
}

/// One host of the sandbox: a registry, the AWS APIs, a cluster.
pub(crate) trait Endpoint: Send + Sync + 'static {
    /// The name in the ledger.
    fn name(&self) -> String;

    /// Whether the body is buffered before [`operation`](Self::operation) is called.
    fn buffers(&self) -> bool {
        true
    }

    /// The operation of the request, for the ledger and the faults. `body` is empty unless [`buffers`](Self::buffers).
    fn operation(&self, parts: &request::Parts, body: &[u8]) -> String;

    /// The caller, and the IAM permissions that the request requires, for the ledger.
    fn authorization(&self, _parts: &request::Parts, _body: &[u8]) -> (Option<String>, Vec<Permission>) {
        (None, Vec::new())
    }

    /// Handles the request.
    fn handle(self: Arc<Self>, request: Request<Body>) -> BoxFuture<'static, Response<Body>>;
}

/// The clock, ledger and faults that all endpoints share.
#[derive(Clone)]
pub(crate) struct Pipeline {
    pub(crate) clock: Clock,
    pub(crate) ledger: Ledger,
    pub(crate) faults: Faults,
}

impl Pipeline {
    /// Records one request, applies faults to it and passes it to `endpoint`.
    pub(crate) async fn call(
        &self,
        endpoint: Arc<dyn Endpoint>,
        request: Request<Body>,
    ) -> Result<Response<Body>, TransportError> {
        let (parts, body) = request.into_parts();
        let (body, seen) = if endpoint.buffers() {
            let bytes = body.bytes().await.map_err(|_| TransportError::RequestCut)?;
            (Body::from(bytes.clone()), bytes)
        } else {
            (body, Bytes::new())
        };
        let name = endpoint.name();
        let operation = endpoint.operation(&parts, &seen);
        let effect = self.faults.take(&name, &operation);
        let (caller, permissions) = endpoint.authorization(&parts, &seen);
        let line = self.ledger.open(Entry {
            at: self.clock.now(),
            endpoint: name,
            operation,
            method: parts.method.to_string(),
            path: parts.uri.path().to_owned(),
            status: None,
            request_bytes: 0,
            response_bytes: 0,
            fault: effect.clone(),
            caller,
            permissions,
        });
        let request =
            Request::from_parts(parts, Body::new(CountedBody::request(body, line.clone(), effect.clone())));
        match &effect {
            Some(Effect::Answer { status, headers, body }) => {
                line.update(|entry| entry.status = Some(*status));
                let mut answer = Response::builder().status(*status);
                for (name, value) in headers {
                    answer = answer.header(name, value);
                }
                return answer.body(Body::from(body.clone())).map_err(|_| TransportError::BadFault);
            }
            Some(Effect::Reset) => return Err(TransportError::Reset),
            Some(Effect::Delay(time)) => tokio::time::sleep(*time).await,
            _ => {}
        }
        let response = endpoint.handle(request).await;
        if matches!(effect, Some(Effect::LoseAnswer | Effect::CutRequest(_))) {
            return Err(TransportError::Reset);
        }
        line.update(|entry| entry.status = Some(response.status().as_u16()));
        Ok(response.map(|body| Body::new(CountedBody::response(body, line, effect))))
    }
}

/// A body whose bytes are counted in the ledger, and that may be cut, corrupted or stalled.
struct CountedBody {
    body: Body,
    line: Line,
    request: bool,
    sent: u64,
    fault: Option<BodyFault>,
    stall: Option<Pin<Box<tokio::time::Sleep>>>,
}

/// A fault of a body, and its byte offset.
#[derive(Clone, Copy)]
enum BodyFault {
    Cut(u64),
    Corrupt(u64),
    Stall(u64, Duration),
}

impl CountedBody {
    fn request(body: Body, line: Line, effect: Option<Effect>) -> Self {
        let fault = match effect {
            Some(Effect::CutRequest(after)) => Some(BodyFault::Cut(after)),
            Some(Effect::CorruptRequest(at)) => Some(BodyFault::Corrupt(at)),
            _ => None,
        };
        CountedBody { body, line, request: true, sent: 0, fault, stall: None }
    }

    fn response(body: Body, line: Line, effect: Option<Effect>) -> Self {
        let fault = match effect {
            Some(Effect::CutBody(after)) => Some(BodyFault::Cut(after)),
            Some(Effect::Corrupt(at)) => Some(BodyFault::Corrupt(at)),
            Some(Effect::Stall(after, time)) => Some(BodyFault::Stall(after, time)),
            _ => None,
        };
        CountedBody { body, line, request: false, sent: 0, fault, stall: None }
    }

    fn stall_for(&mut self, time: Duration) {
        self.stall = Some(Box::pin(tokio::time::sleep(time)));
    }
}

impl http_body::Body for CountedBody {
    type Data = Bytes;
    type Error = TransportError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, TransportError>>> {
        if let Some(stall) = &mut self.stall {
            std::task::ready!(stall.as_mut().poll(cx));
            self.stall = None;
        }
        let frame = match std::task::ready!(Pin::new(&mut self.body).poll_frame(cx)) {
            None => return Poll::Ready(None),
            Some(Err(_)) => return Poll::Ready(Some(Err(TransportError::Reset))),
            Some(Ok(frame)) => frame,
        };
        let mut data = match frame.into_data() {
            Ok(data) => data,
            Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
        };
        let (start, end) = (self.sent, self.sent + data.len() as u64);
        match self.fault {
            Some(BodyFault::Cut(after)) if after < end => {
                if after <= start {
                    return Poll::Ready(Some(Err(TransportError::Reset)));
                }
                data.truncate((after - start) as usize);
            }
            Some(BodyFault::Corrupt(at)) if (start..end).contains(&at) => {
                let mut bytes = data.to_vec();
                bytes[(at - start) as usize] ^= 0x55;
                data = bytes.into();
                self.fault = None;
            }
            Some(BodyFault::Stall(after, time)) if after < end => {
                self.stall_for(time);
                self.fault = None;
            }
            _ => {}
        }
        self.sent += data.len() as u64;
        let (sent, request) = (self.sent, self.request);
        self.line
            .update(|entry| if request { entry.request_bytes = sent } else { entry.response_bytes = sent });
        Poll::Ready(Some(Ok(Frame::data(data))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
