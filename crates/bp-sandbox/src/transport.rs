//! In-memory transport: the sandbox as a tower service and as HTTP client of the AWS SDKs.

use std::{
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures_core::future::BoxFuture;
use http::{Request, Response, header};

use crate::{body::Body, endpoint::TransportError, shared::Shared};

/// The sandbox as a tower service: routes requests to the endpoint of their host, without sockets.
///
/// Any client that accepts a `tower::Service<http::Request<B>>` can use it, such as `kube::Client::new`.
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

    /// For the AWS SDKs.
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
