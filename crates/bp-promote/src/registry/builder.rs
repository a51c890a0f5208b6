//! The builder of a registry client.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex},
    time::Duration,
};

use bp_artifact::{
    Registry,
    error::{Classified, ErrorClass},
    time::TimeSource,
};
use url::Url;

use super::{
    auth_file::DockerConfig,
    client::{RegistryClient, Shared},
    credentials::CredentialSource,
    endpoints::Endpoints,
    http::{Http, Transport, reqwest_transport},
};
use crate::{journal::Journal, retry::RetryPolicy};

/// Why a client could not be built.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// An endpoint is not an HTTP URL.
    #[error("the endpoint {endpoint:?} of {registry} is not a valid http:// or https:// URL without a path")]
    Endpoint {
        /// The registry.
        registry: Registry,
        /// The given endpoint.
        endpoint: String,
    },
    /// A proxy is not a valid URL.
    #[error("a proxy is not a valid URL: use http://host:port")]
    Proxy {
        /// The cause.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A certificate is invalid.
    #[error("a certificate is not valid PEM, or a client certificate has no private key")]
    Certificate {
        /// The cause.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A timeout is zero.
    #[error("a timeout is zero: set it to at least some seconds")]
    ZeroTimeout,
    /// Certificates or proxies were combined with a custom transport.
    #[error(
        "certificates and proxies cannot be combined with a custom transport: configure them in the transport"
    )]
    TransportConflict,
    /// The HTTP client could not be created.
    #[error("cannot create the HTTP client")]
    Client {
        /// The cause.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl Classified for BuildError {
    fn class(&self) -> ErrorClass {
        match self {
            BuildError::Client { .. } => ErrorClass::Unexpected,
            _ => ErrorClass::BadInput,
        }
    }
}

/// Builds a [`RegistryClient`].
#[derive(Default)]
pub struct RegistryClientBuilder {
    endpoints: Vec<(Registry, String)>,
    credentials: Option<Arc<dyn CredentialSource>>,
    transport: Option<Transport>,
    certificates: Vec<Vec<u8>>,
    retry: RetryPolicy,
    idle: Option<Duration>,
    total: Option<Duration>,
    time: TimeSource,
    validates_references: HashSet<Registry>,
    journal: Option<Journal>,
    identity: Option<Vec<u8>>,
    proxies: Vec<String>,
    #[cfg(feature = "ecr")]
    ecr: super::EcrClients,
    #[cfg(feature = "ecr")]
    ecr_parts: bool,
}

impl RegistryClient {
    /// Starts a builder.
    pub fn builder() -> RegistryClientBuilder {
        RegistryClientBuilder::default()
    }
}

impl RegistryClientBuilder {
    const CONNECT: Duration = Duration::from_secs(10);
    const IDLE: Duration = Duration::from_secs(30);
    const TOTAL: Duration = Duration::from_secs(120);
    /// Factor by which the response to an upload may take longer: the registry stores the blob first.
    const ANSWER: u32 = 10;

    /// Connects to `registry` at this base URL instead of `https://<registry>`: a proxy, a sandbox, plain HTTP.
    pub fn endpoint(mut self, registry: Registry, base: impl Into<String>) -> Self {
        self.endpoints.push((registry, base.into()));
        self
    }

    /// Connects to `registry` over plain HTTP, as to registries on loopback addresses. The connection is neither
    /// encrypted nor authenticated.
    pub fn plain_http(self, registry: Registry) -> Self {
        let base = format!("http://{registry}");
        self.endpoint(registry, base)
    }

    /// Uses Amazon ECR's own API for these registries: for logins, before [`credentials`](Self::credentials) are asked,
    /// and for layer checks.
    #[cfg(feature = "ecr")]
    pub fn ecr(mut self, clients: super::EcrClients) -> Self {
        self.ecr = clients;
        self
    }

    /// Uploads blobs in parts through ECR's own API to the registries of [`ecr`](Self::ecr). With a
    /// [`journal`](Self::journal), an interrupted upload is resumed after the last completed part.
    ///
    /// Not tested against AWS itself. Each upload holds one part in memory, usually 10 MiB, and its base64 encoding.
    #[cfg(feature = "ecr")]
    pub fn ecr_parts(mut self) -> Self {
        self.ecr_parts = true;
        self
    }

    /// Records open uploads in a journal, so that another process can resume them.
    pub fn journal(mut self, journal: Journal) -> Self {
        self.journal = Some(journal);
        self
    }

    /// Sets the source of logins; defaults to docker's and podman's files ([`DockerConfig`]).
    pub fn credentials(mut self, source: impl CredentialSource + 'static) -> Self {
        self.credentials = Some(Arc::new(source));
        self
    }

    /// Sends requests through this transport instead of reqwest. It must not follow redirects.
    pub fn transport(mut self, transport: Transport) -> Self {
        self.transport = Some(transport);
        self
    }

    /// Trusts these root certificates (PEM) in addition to the system's.
    pub fn root_certificates(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.certificates.push(pem.into());
        self
    }

    /// Sets the client certificate for mutual TLS: PEM, with its private key and its chain.
    pub fn client_certificate(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.identity = Some(pem.into());
        self
    }

    /// Uses this proxy instead of those in `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY`.
    pub fn proxy(mut self, url: impl Into<String>) -> Self {
        self.proxies.push(url.into());
        self
    }

    /// How failed requests are retried.
    pub fn retry(mut self, policy: RetryPolicy) -> Self {
        self.retry = policy;
        self
    }

    /// The maximum time without any data on a connection; default 30 seconds.
    pub fn idle_timeout(mut self, idle: Duration) -> Self {
        self.idle = Some(idle);
        self
    }

    /// The maximum time for receiving the whole body of a manifest, a list page, a token or an error; default 2
    /// minutes. Blobs are limited only by the [idle timeout](Self::idle_timeout).
    pub fn answer_timeout(mut self, total: Duration) -> Self {
        self.total = Some(total);
        self
    }

    /// States that `registry` rejects a manifest while a blob or manifest that it refers to is missing, as Amazon ECR
    /// is known to do. Tagging existing content then takes one request less: the manifest is pushed without a check.
    ///
    /// The specification does not require this of registries. If the registry does not do it, a tag could point to an
    /// incomplete image.
    pub fn validates_references(mut self, registry: Registry) -> Self {
        self.validates_references.insert(registry);
        self
    }

    /// The clock for the expiry of logins and tokens.
    pub fn time_source(mut self, time: TimeSource) -> Self {
        self.time = time;
        self
    }

    /// Builds the client. Opens no connection.
    ///
    /// # Errors
    /// When an endpoint, a certificate or a timeout is invalid, or options conflict.
    pub fn build(self) -> Result<RegistryClient, BuildError> {
        let idle = self.idle.unwrap_or(Self::IDLE);
        let total = self.total.unwrap_or(Self::TOTAL);
        if idle.is_zero() || total.is_zero() {
            return Err(BuildError::ZeroTimeout);
        }
        let mut endpoints = Endpoints::default();
        for (registry, endpoint) in &self.endpoints {
            match Url::parse(endpoint) {
                Ok(url)
                    if matches!(url.scheme(), "http" | "https") && url.has_host() && url.path() == "/" =>
                {
                    endpoints.insert(registry, url);
                }
                _ => {
                    let (registry, endpoint) = (registry.clone(), endpoint.clone());
                    return Err(BuildError::Endpoint { registry, endpoint });
                }
            }
        }
        let bare = self.certificates.is_empty() && self.identity.is_none() && self.proxies.is_empty();
        let transport = match &self.transport {
            Some(_) if !bare => return Err(BuildError::TransportConflict),
            Some(transport) => transport.clone(),
            None => reqwest_transport(self.reqwest()?),
        };
        let credentials = self.credentials.unwrap_or_else(|| Arc::new(DockerConfig));
        #[cfg(feature = "ecr")]
        let credentials: Arc<dyn CredentialSource> =
            Arc::new(super::Chain::new().then(self.ecr.clone()).then(credentials));
        Ok(RegistryClient(Arc::new(Shared {
            http: Http {
                transport,
                endpoints: Arc::new(endpoints),
                time: self.time,
                idle,
                answer: idle.saturating_mul(Self::ANSWER),
                total,
            },
            credentials,
            journal: self.journal,
            #[cfg(feature = "ecr")]
            ecr: self.ecr,
            #[cfg(feature = "ecr")]
            ecr_parts: self.ecr_parts,
            retry: self.retry,
            hosts: Mutex::new(HashMap::new()),
            validates_references: self.validates_references,
        })))
    }

    fn reqwest(&self) -> Result<reqwest::Client, BuildError> {
        let mut builder = reqwest::Client::builder()
            .user_agent(concat!("bp-promote/", env!("CARGO_PKG_VERSION")))
            // Redirects are followed by this crate, so that credentials are not sent along.
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(Self::CONNECT);
        let unreadable = |source: reqwest::Error| BuildError::Certificate { source: source.into() };
        for pem in &self.certificates {
            let parsed = reqwest::Certificate::from_pem_bundle(pem).map_err(unreadable)?;
            builder = parsed.into_iter().fold(builder, reqwest::ClientBuilder::add_root_certificate);
        }
        if let Some(pem) = &self.identity {
            builder = builder.identity(reqwest::Identity::from_pem(pem).map_err(unreadable)?);
        }
        for url in &self.proxies {
            let proxy = reqwest::Proxy::all(url.as_str());
            builder = builder.proxy(proxy.map_err(|source| BuildError::Proxy { source: source.into() })?);
        }
        builder.build().map_err(|source| BuildError::Client { source: source.into() })
    }
}

impl std::fmt::Debug for RegistryClientBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RegistryClientBuilder")
            .field("endpoints", &self.endpoints)
            .field("retry", &self.retry)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rejects_invalid_and_conflicting_options() {
        let registry: Registry = "r.example.com".parse().unwrap();
        let build = |endpoint: &str| RegistryClient::builder().endpoint(registry.clone(), endpoint).build();
        assert!(build("http://127.0.0.1:5000").is_ok());
        for invalid in ["127.0.0.1:5000", "ftp://r.example.com", "http://127.0.0.1:5000/mirror", ""] {
            assert!(matches!(build(invalid), Err(BuildError::Endpoint { .. })), "{invalid}");
        }
        let both = RegistryClient::builder()
            .transport(crate::registry::transport(tower::service_fn(|_| async {
                Err::<http::Response<crate::registry::Body>, std::io::Error>(std::io::ErrorKind::Other.into())
            })))
            .proxy("http://proxy.example.com:3128");
        assert!(matches!(both.build(), Err(BuildError::TransportConflict)));
        let certificate = RegistryClient::builder().client_certificate("no pem").build();
        assert!(matches!(certificate, Err(BuildError::Certificate { .. })));
        let proxy = RegistryClient::builder().proxy("::").build();
        assert!(matches!(proxy, Err(BuildError::Proxy { .. })), "{proxy:?}");
        let builder = RegistryClient::builder;
        for zero in [builder().idle_timeout(Duration::ZERO), builder().answer_timeout(Duration::ZERO)] {
            assert!(matches!(zero.build(), Err(BuildError::ZeroTimeout)));
        }
        assert!(builder().idle_timeout(Duration::MAX).answer_timeout(Duration::MAX).build().is_ok());
    }
}
