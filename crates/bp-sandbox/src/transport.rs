//! The sandbox as a transport in memory.

use std::{
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures_core::future::BoxFuture;
use http::{Request, Response, header};

use crate::{body::Body, sandbox::Shared};

/// What a client sees when the network fails.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TransportError {
    /// A fault cut the connection.
    #[error("connection reset by the sandbox")]
    Reset,
    /// The client's body ended with an error.
    #[error("the request's body was cut")]
    RequestCut,
    /// No endpoint of the sandbox has this host name.
    #[error("the sandbox has no host {0:?}")]
    NoSuchHost(String),
    /// An injected answer is no valid HTTP response.
    #[error("the injected answer is no valid response")]
    BadFault,
}

/// The sandbox as a tower service: requests go to the endpoint that their host names, without a socket.
///
/// Any client takes it that takes a `tower::Service<http::Request<B>>`: `kube::Client::new` among them.
#[derive(Clone)]
pub struct Transport(pub(crate) Arc<Shared>);

impl std::fmt::Debug for Transport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Transport(in memory)")
    }
}

impl<B> tower::Service<Request<B>> for Transport
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    type Response = Response<Body>;
    type Error = TransportError;
    type Future = BoxFuture<'static, Result<Response<Body>, TransportError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), TransportError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let shared = Arc::clone(&self.0);
        let request = request.map(Body::new);
        let host = request
            .uri()
            .authority()
            .map(|authority| authority.as_str().to_owned())
            .or_else(|| Some(request.headers().get(header::HOST)?.to_str().ok()?.to_owned()))
            .unwrap_or_default();
        Box::pin(async move {
            let endpoint = shared.endpoint(&host).ok_or(TransportError::NoSuchHost(host))?;
            shared.pipeline.call(endpoint, request).await
        })
    }
}

#[cfg(feature = "aws")]
mod sdk {
    use aws_smithy_runtime_api::{
        client::{
            http::{
                HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
            },
            orchestrator::{HttpRequest, HttpResponse},
            result::ConnectorError,
            runtime_components::RuntimeComponents,
        },
        shared::IntoShared,
    };
    use aws_smithy_types::body::SdkBody;
    use tower::Service;

    use super::Transport;

    /// The AWS SDKs' view of the transport.
    impl HttpConnector for Transport {
        fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
            let mut transport = self.clone();
            HttpConnectorFuture::new(async move {
                let request = request.try_into_http1x().map_err(|e| ConnectorError::user(e.into()))?;
                let response =
                    Service::call(&mut transport, request).await.map_err(|e| ConnectorError::io(e.into()))?;
                let response = response.map(SdkBody::from_body_1_x);
                HttpResponse::try_from(response).map_err(|e| ConnectorError::other(e.into(), None))
            })
        }
    }

    impl HttpClient for Transport {
        fn http_connector(&self, _: &HttpConnectorSettings, _: &RuntimeComponents) -> SharedHttpConnector {
            self.clone().into_shared()
        }
    }
}
