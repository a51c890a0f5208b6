//! Describing a client.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex},
    time::Duration,
};

use bp_artifact::{Classified, ErrorClass, Registry, TimeSource};
use url::Url;

use super::{
    RegistryClient, Shared,
    credentials::{CredentialSource, DockerConfig},
    endpoints::Endpoints,
    http::{Http, Transport, reqwest_transport},
};
use crate::retry::RetryPolicy;

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
    /// A certificate cannot be read.
    #[error("a root certificate is no PEM certificate")]
    Certificate {
        /// What is wrong with it.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A time-out of zero lets nothing through.
    #[error("the time-out is zero: give registries some time")]
    NoTime,
    /// Certificates are of no use for a transport of the caller's.
    #[error("root certificates and a transport exclude each other: the transport has its own")]
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
    time: TimeSource,
    refuse_gaps: HashSet<Registry>,
}

impl RegistryClientBuilder {
    const CONNECT: Duration = Duration::from_secs(10);
    const IDLE: Duration = Duration::from_secs(30);
    /// The answer to a whole upload may take so many times longer: the registry stores it first.
    const ANSWER: u32 = 10;

    /// Reaches `registry` at this base URL instead of `https://<registry>`: a proxy, a sandbox, plain HTTP.
    pub fn endpoint(mut self, registry: Registry, base: impl Into<String>) -> Self {
        self.endpoints.push((registry, base.into()));
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

    /// Says that `registry` refuses a manifest when it misses a blob or manifest that this refers to, as Amazon ECR is
    /// known to do. A new tag for content that is there then takes one request less: it is just pushed.
    ///
    /// The specification does not ask for this of registries. Of one that does not do it, a tag could name an image
    /// that is not whole.
    pub fn refuses_gaps(mut self, registry: Registry) -> Self {
        self.refuse_gaps.insert(registry);
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
        if idle.is_zero() {
            return Err(BuildError::NoTime);
        }
        let mut endpoints = Endpoints::default();
        for (registry, endpoint) in self.endpoints {
            match Url::parse(&endpoint) {
                Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => {
                    endpoints.insert(&registry, url);
                }
                _ => return Err(BuildError::Endpoint { registry, endpoint }),
            }
        }
        let transport = match self.transport {
            Some(_) if !self.certificates.is_empty() => return Err(BuildError::TwoTransports),
            Some(transport) => transport,
            None => reqwest_transport(reqwest_client(&self.certificates)?),
        };
        Ok(RegistryClient(Arc::new(Shared {
            http: Http {
                transport,
                endpoints: Arc::new(endpoints),
                time: self.time,
                idle,
                answer: idle * Self::ANSWER,
            },
            credentials: self.credentials.unwrap_or_else(|| Arc::new(DockerConfig)),
            retry: self.retry,
            hosts: Mutex::new(HashMap::new()),
            refuse_gaps: self.refuse_gaps,
        })))
    }
}

fn reqwest_client(certificates: &[Vec<u8>]) -> Result<reqwest::Client, BuildError> {
    let mut builder = reqwest::Client::builder()
        .user_agent(concat!("bp-promote/", env!("CARGO_PKG_VERSION")))
        // Redirects are ours to follow: credentials must not go with them.
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(RegistryClientBuilder::CONNECT);
    for pem in certificates {
        let parsed = reqwest::Certificate::from_pem_bundle(pem)
            .map_err(|source| BuildError::Certificate { source: source.into() })?;
        builder = parsed.into_iter().fold(builder, reqwest::ClientBuilder::add_root_certificate);
    }
    builder.build().map_err(|source| BuildError::Client { source: source.into() })
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
        let zero = RegistryClient::builder().idle_timeout(Duration::ZERO).build();
        assert!(matches!(zero, Err(BuildError::NoTime)));
    }
}
