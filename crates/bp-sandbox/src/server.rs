//! Serve the sandbox on loopback sockets, with TLS where needed.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc};

use hyper::service::service_fn;
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
    task::JoinSet,
};
use tokio_rustls::TlsAcceptor;

use crate::{body::Body, endpoint::Endpoint, shared::Shared};

/// A served sandbox. Dropping it closes all ports and connections.
#[derive(Debug)]
pub struct Served {
    addresses: BTreeMap<String, SocketAddr>,
    listeners: JoinSet<()>,
}

impl Served {
    /// The loopback address of an endpoint: a registry's host, a cluster's endpoint host, or `aws`.
    pub fn address(&self, endpoint: &str) -> Option<SocketAddr> {
        self.addresses.get(endpoint).copied()
    }

    /// All endpoints with their addresses.
    pub fn addresses(&self) -> &BTreeMap<String, SocketAddr> {
        &self.addresses
    }

    /// Serves until the process ends or this future is dropped.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn forever(&mut self) {
        while self.listeners.join_next().await.is_some() {}
    }
}

/// Binds a free loopback port for every endpoint.
pub(crate) async fn serve(shared: Arc<Shared>) -> std::io::Result<Served> {
    let mut served = Served { addresses: BTreeMap::new(), listeners: JoinSet::new() };
    for (host, endpoint, tls) in shared.endpoints() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        shared.sockets.set_address(&host, address);
        served.addresses.insert(host, address);
        let acceptor = tls.then(|| shared.sockets.authority().acceptor());
        served.listeners.spawn(accept(Arc::clone(&shared), listener, endpoint, acceptor));
    }
    Ok(served)
}

async fn accept(
    shared: Arc<Shared>,
    listener: TcpListener,
    endpoint: Arc<dyn Endpoint>,
    tls: Option<TlsAcceptor>,
) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                // An error affects one connection (or file descriptors ran out): the next accept may succeed.
                let Ok((socket, _)) = accepted else {
                    tokio::task::yield_now().await;
                    continue;
                };
                let _ = socket.set_nodelay(true);
                let (shared, endpoint, tls) = (Arc::clone(&shared), Arc::clone(&endpoint), tls.clone());
                connections.spawn(async move {
                    match tls {
                        None => serve_connection(shared, endpoint, socket).await,
                        Some(tls) => {
                            if let Ok(socket) = tls.accept(socket).await {
                                serve_connection(shared, endpoint, socket).await;
                            }
                        }
                    }
                });
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn serve_connection(
    shared: Arc<Shared>,
    endpoint: Arc<dyn Endpoint>,
    socket: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
) {
    let service = service_fn(move |request: http::Request<hyper::body::Incoming>| {
        let (shared, endpoint) = (Arc::clone(&shared), Arc::clone(&endpoint));
        // An error makes hyper close the connection, as faults require.
        async move { shared.pipeline.call(endpoint, request.map(Body::new)).await }
    });
    let _ = auto::Builder::new(TokioExecutor::new())
        .serve_connection_with_upgrades(TokioIo::new(socket), service)
        .await;
}
