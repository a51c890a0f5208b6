//! Bodies of requests and responses that detect a stalled transfer.

use std::{
    error::Error as StdError,
    future::Future as _,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll, ready},
    time::Duration,
};

use bp_artifact::sync::lock;
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use http_body_util::combinators::UnsyncBoxBody;
use tokio::time::{Instant, Sleep};

pub(super) type BoxError = Box<dyn StdError + Send + Sync>;

/// The body of a request or response.
pub type Body = UnsyncBoxBody<Bytes, BoxError>;

/// No data was received for this long.
#[derive(Debug, thiserror::Error)]
#[error("no data for {} s", .0.as_secs())]
struct StallError(Duration);

/// The time without data, if the error is a stall.
pub(super) fn stalled(error: BoxError) -> Result<Duration, BoxError> {
    error.downcast::<StallError>().map(|stall| stall.0)
}

/// Monitors the sending of a request's body.
#[derive(Clone)]
pub(super) struct UploadActivity(Arc<Mutex<ActivityState>>);

#[derive(Clone, Copy)]
struct ActivityState {
    /// When the last frame was sent.
    last: Instant,
    /// The number of bytes still to be sent.
    left: u64,
    /// Whether the body has no data ready: that is not the registry's fault, and the source has its own timeout.
    starved: bool,
}

impl UploadActivity {
    pub(super) fn start(left: u64) -> Self {
        UploadActivity(Arc::new(Mutex::new(ActivityState { last: Instant::now(), left, starved: false })))
    }

    fn note(&self, change: impl FnOnce(&mut ActivityState)) {
        let mut state = lock(&self.0);
        state.last = Instant::now();
        change(&mut state);
    }

    /// Completes when nothing was sent for `idle`, or there was no response for `answer` after the last byte; returns
    /// which of the two.
    pub(super) async fn wait_for_stall(&self, idle: Duration, answer: Duration) -> Duration {
        loop {
            let state = *lock(&self.0);
            let now = Instant::now();
            let (since, limit) = match state {
                ActivityState { starved: true, .. } => (now, idle),
                ActivityState { left: 0, last, .. } => (last, answer),
                ActivityState { last, .. } => (last, idle),
            };
            let end = bp_artifact::time::after(since, limit);
            if end <= now {
                return limit;
            }
            tokio::time::sleep_until(end).await;
        }
    }
}

/// A request body that reports its activity.
pub(super) struct MonitoredBody {
    body: Body,
    activity: UploadActivity,
}

impl MonitoredBody {
    pub(super) fn new(body: Body, activity: UploadActivity) -> Self {
        MonitoredBody { body, activity }
    }
}

impl http_body::Body for MonitoredBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        self.activity.note(|state| {
            state.starved = polled.is_pending();
            match &polled {
                Poll::Ready(Some(Ok(frame))) => {
                    let consumed = frame.data_ref().map_or(0, |data| data.len() as u64);
                    state.left = state.left.saturating_sub(consumed);
                }
                Poll::Ready(None) => state.left = 0,
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

/// A response body that fails when no data is received for too long. Time counts only while it is polled.
pub(super) struct IdleTimeoutBody {
    body: Body,
    idle: Duration,
    timer: Option<Pin<Box<Sleep>>>,
}

impl IdleTimeoutBody {
    pub(super) fn new(body: Body, idle: Duration) -> Self {
        IdleTimeoutBody { body, idle, timer: None }
    }
}

impl http_body::Body for IdleTimeoutBody {
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
