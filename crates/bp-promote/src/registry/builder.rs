//! Describing a client.

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
    client::{RegistryClient, Shared},
    credentials::{CredentialSource, DockerConfig},
    endpoints::Endpoints,
    http::{Http, Transport, reqwest_transport},
};
use crate::{journal::Journal, retry::RetryPolicy};

/// A client that cannot be built.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// An endpoint is no HTTP URL.
    #[error("the endpoint {endpoint:?} of {registry} is no URL that starts with http:// or https://")]
    Endpoint {
        /// The registry.
        registry: Registry,
        /// What was given for it.
        endpoint: String,
    },
    /// A proxy is no URL.
    #[error("a proxy is no URL of the form http://host:port")]
    Proxy {
        /// What is wrong with it.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A certificate cannot be read.
    #[error("a certificate is no PEM, or has no key where one is needed")]
    Certificate {
        /// What is wrong with it.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A time-out of zero lets nothing through.
    #[error("the time-out is zero: give registries some time")]
    NoTime,
    /// Certificates and proxies are of no use for a transport of the caller's.
    #[error("certificates or proxies and a transport exclude each other: the transport has its own")]
    TwoTransports,
    /// The HTTP client cannot be made.
    #[error("the HTTP client cannot be made")]
    Client {
        /// What happened.
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

/// Describes a [`RegistryClient`].
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
    /// Starts to describe a client.
    pub fn builder() -> RegistryClientBuilder {
        RegistryClientBuilder::default()
    }
}

impl RegistryClientBuilder {
    const CONNECT: Duration = Duration::from_secs(10);
    const IDLE: Duration = Duration::from_secs(30);
    const TOTAL: Duration = Duration::from_secs(120);
    /// The answer to a whole upload may take so many times longer: the registry stores it first.
    const ANSWER: u32 = 10;

    /// Reaches `registry` at this base URL instead of `https://<registry>`: a proxy, a sandbox, plain HTTP.
    pub fn endpoint(mut self, registry: Registry, base: impl Into<String>) -> Self {
        self.endpoints.push((registry, base.into()));
        self
    }

    /// Speaks plain HTTP with `registry`, as with those on loopback: nobody on the way is kept from reading or changing
    /// what is sent.
    pub fn plain_http(self, registry: Registry) -> Self {
        let base = format!("http://{registry}");
        self.endpoint(registry, base)
    }

    /// Asks Amazon ECR's own API, for these registries: for logins before [`credentials`](Self::credentials) are asked,
    /// and which layers are there.
    #[cfg(feature = "ecr")]
    pub fn ecr(mut self, clients: super::EcrClients) -> Self {
        self.ecr = clients;
        self
    }

    /// Uploads to the registries of [`ecr`](Self::ecr) in parts, by ECR's own API. It tells what it has, so that with a
    /// [`journal`](Self::journal) an upload goes on where it was.
    ///
    /// Not proven against AWS itself. Each upload holds one part in memory, usually of 10 MiB, and its base64.
    #[cfg(feature = "ecr")]
    pub fn ecr_parts(mut self) -> Self {
        self.ecr_parts = true;
        self
    }

    /// Notes what is begun, so that another process goes on with it.
    pub fn journal(mut self, journal: Journal) -> Self {
        self.journal = Some(journal);
        self
    }

    /// Takes logins from here. Without it, from docker's configuration.
    pub fn credentials(mut self, source: impl CredentialSource + 'static) -> Self {
        self.credentials = Some(Arc::new(source));
        self
    }

    /// Sends requests by this transport instead of reqwest. It must not follow redirects.
    pub fn transport(mut self, transport: Transport) -> Self {
        self.transport = Some(transport);
        self
    }

    /// Trusts these certificates (PEM) too.
    pub fn root_certificates(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.certificates.push(pem.into());
        self
    }

    /// Shows this certificate to registries that ask for one: PEM, with its private key and its chain.
    pub fn client_certificate(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.identity = Some(pem.into());
        self
    }

    /// Goes through this proxy, instead of those that `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY` name.
    pub fn proxy(mut self, url: impl Into<String>) -> Self {
        self.proxies.push(url.into());
        self
    }

    /// How failed requests are tried again.
    pub fn retry(mut self, policy: RetryPolicy) -> Self {
        self.retry = policy;
        self
    }

    /// For how long nothing may move on a connection; 30 seconds by default.
    pub fn idle_timeout(mut self, idle: Duration) -> Self {
        self.idle = Some(idle);
        self
    }

    /// How long a manifest, a page of a list, a token or an error may take to arrive in all, once it has begun; 2 minutes
    /// by default. Blobs may take longer, as long as they [move](Self::idle_timeout).
    pub fn answer_timeout(mut self, total: Duration) -> Self {
        self.total = Some(total);
        self
    }

    /// Says that `registry` rejects a manifest while a blob or manifest is missing that it refers to, as Amazon ECR is
    /// known to do. A new tag for content that exists then takes one request less: it is just pushed.
    ///
    /// The specification does not ask for this of registries. Of one that does not do it, a tag could point to an
    /// incomplete image.
    pub fn validates_references(mut self, registry: Registry) -> Self {
        self.validates_references.insert(registry);
        self
    }

    /// The clock that the expiry of logins and tokens is compared with.
    pub fn time_source(mut self, time: TimeSource) -> Self {
        self.time = time;
        self
    }

    /// Builds it. Opens no connection.
    ///
    /// # Errors
    /// When an endpoint, a certificate or a time-out is wrong, or options exclude each other.
    pub fn build(self) -> Result<RegistryClient, BuildError> {
        let idle = self.idle.unwrap_or(Self::IDLE);
        let total = self.total.unwrap_or(Self::TOTAL);
        if idle.is_zero() || total.is_zero() {
            return Err(BuildError::NoTime);
        }
        let mut endpoints = Endpoints::default();
        for (registry, endpoint) in &self.endpoints {
            match Url::parse(endpoint) {
                Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => {
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
            Some(_) if !bare => return Err(BuildError::TwoTransports),
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
            // Redirects are ours to follow: credentials must not go with them.
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
    fn contradictions_do_not_build() {
        let registry: Registry = "r.example.com".parse().unwrap();
        let build = |endpoint: &str| RegistryClient::builder().endpoint(registry.clone(), endpoint).build();
        assert!(build("http://127.0.0.1:5000").is_ok());
        for wrong in ["127.0.0.1:5000", "ftp://r.example.com", ""] {
            assert!(matches!(build(wrong), Err(BuildError::Endpoint { .. })), "{wrong}");
        }
        let both = RegistryClient::builder()
            .transport(crate::registry::transport(tower::service_fn(|_| async {
                Err::<http::Response<crate::registry::Body>, std::io::Error>(std::io::ErrorKind::Other.into())
            })))
            .proxy("http://proxy.example.com:3128");
        assert!(matches!(both.build(), Err(BuildError::TwoTransports)));
        let certificate = RegistryClient::builder().client_certificate("no pem").build();
        assert!(matches!(certificate, Err(BuildError::Certificate { .. })));
        let proxy = RegistryClient::builder().proxy("::").build();
        assert!(matches!(proxy, Err(BuildError::Proxy { .. })), "{proxy:?}");
        let builder = RegistryClient::builder;
        for zero in [builder().idle_timeout(Duration::ZERO), builder().answer_timeout(Duration::ZERO)] {
            assert!(matches!(zero.build(), Err(BuildError::NoTime)));
        }
        assert!(builder().idle_timeout(Duration::MAX).answer_timeout(Duration::MAX).build().is_ok());
    }
}
