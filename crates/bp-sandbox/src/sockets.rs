//! Loopback sockets of a sandbox: the addresses of served endpoints, and the certificate authority of TLS.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Mutex, OnceLock},
};

use crate::{sync::lock, tls::Authority};

/// The sockets of one sandbox.
#[derive(Default)]
pub(crate) struct Sockets {
    authority: OnceLock<Authority>,
    /// The socket addresses of the endpoints that are served, by host.
    addresses: Mutex<HashMap<String, SocketAddr>>,
}

impl Sockets {
    pub(crate) fn authority(&self) -> &Authority {
        self.authority.get_or_init(Authority::new)
    }

    /// Records the socket address of an endpoint.
    pub(crate) fn set_address(&self, host: &str, address: SocketAddr) {
        lock(&self.addresses).insert(host.to_owned(), address);
    }

    /// The socket address of an endpoint, if it is served.
    #[cfg_attr(not(all(feature = "aws", feature = "kube")), allow(dead_code))]
    pub(crate) fn address_of(&self, host: &str) -> Option<SocketAddr> {
        lock(&self.addresses).get(host).copied()
    }
}
