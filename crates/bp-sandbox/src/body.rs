//! HTTP body of requests and responses, for sockets and the in-memory transport.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures_core::Stream;
use http_body::{Frame, SizeHint};
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use sync_wrapper::SyncWrapper;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A streamed body of bytes.
///
/// It is `Sync`, which the AWS SDKs require, even if the wrapped body is not: polling takes `&mut self`.
pub struct Body {
    inner: SyncWrapper<UnsyncBoxBody<Bytes, BoxError>>,
    size: SizeHint,
}

impl std::fmt::Debug for Body {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Body").field("left", &self.size).finish_non_exhaustive()
    }
}

impl Body {
    /// An empty body.
    pub fn empty() -> Self {
        Self::from(Bytes::new())
    }

    /// Wraps any body.
    pub fn new<B>(body: B) -> Self
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let size = body.size_hint();
        Body { inner: SyncWrapper::new(body.map_err(Into::into).boxed_unsync()), size }
    }

    /// A body of a stream of chunks.
    pub fn stream<S, E>(pieces: S) -> Self
    where
        S: Stream<Item = Result<Bytes, E>> + Send + 'static,
        E: Into<BoxError> + 'static,
    {
        use futures_util::TryStreamExt;
        Self::new(StreamBody::new(pieces.map_ok(Frame::data)))
    }

    /// All bytes of the body.
    pub(crate) async fn bytes(self) -> Result<Bytes, BoxError> {
        Ok(self.collect().await?.to_bytes())
    }
}

impl<T: Into<Bytes>> From<T> for Body {
    fn from(bytes: T) -> Self {
        Self::new(Full::new(bytes.into()))
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let inner = self.inner.get_mut();
        let frame = Pin::new(&mut *inner).poll_frame(cx);
        self.size = self.inner.get_mut().size_hint();
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.size.exact() == Some(0)
    }

    fn size_hint(&self) -> SizeHint {
        self.size
    }
}
