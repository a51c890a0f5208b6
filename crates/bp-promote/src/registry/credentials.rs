//! Sources of logins: docker's configuration, given logins, Amazon ECR, or a chain of them.

use std::{collections::HashMap, env, error::Error as StdError, fmt, path::PathBuf, sync::Arc};

use bp_artifact::{Registry, text::SingleLine};
use docker_credential::{CredentialRetrievalError, DockerCredential};
use futures_core::future::BoxFuture;
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Map, Value};

use super::{helper, login::Login};
use crate::content::object;

/// Why a login could not be fetched.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CredentialError {
    /// Docker's configuration or a credential helper failed.
    #[error("failed to get credentials from docker's configuration: {reason}")]
    Docker {
        /// The reason.
        reason: String,
    },
    /// A service returned no login.
    #[error("{service} returned no credentials")]
    Service {
        /// The service and operation, for example `ecr:GetAuthorizationToken`.
        service: &'static str,
        /// Whether a retry may succeed.
        retryable: bool,
        /// The cause.
        source: Box<dyn StdError + Send + Sync>,
    },
}

impl CredentialError {
    /// Whether a retry may succeed.
    pub fn is_retryable(&self) -> bool {
        matches!(self, CredentialError::Service { retryable: true, .. })
    }
}

/// A source of logins for registries. It is asked again when a login expires or is rejected.
pub trait CredentialSource: Send + Sync {
    /// The login for `registry`, or `None` for anonymous access.
    fn login<'a>(&'a self, registry: &'a Registry) -> BoxFuture<'a, Result<Option<Login>, CredentialError>>;
}

impl<T: CredentialSource + ?Sized> CredentialSource for Arc<T> {
    fn login<'a>(&'a self, registry: &'a Registry) -> BoxFuture<'a, Result<Option<Login>, CredentialError>> {
        (**self).login(registry)
    }
}

/// Anonymous access to all registries.
#[derive(Debug, Clone, Copy, Default)]
pub struct Anonymous;

impl CredentialSource for Anonymous {
    fn login<'a>(&'a self, _: &'a Registry) -> BoxFuture<'a, Result<Option<Login>, CredentialError>> {
        Box::pin(async { Ok(None) })
    }
}

/// The logins in docker's `config.json` (in `DOCKER_CONFIG` or `~/.docker`) and from its credential helpers, which must
/// respond within one minute.
#[derive(Debug, Clone, Copy, Default)]
pub struct DockerConfig;

impl CredentialSource for DockerConfig {
    fn login<'a>(&'a self, registry: &'a Registry) -> BoxFuture<'a, Result<Option<Login>, CredentialError>> {
        let server = match registry.as_str() {
            "docker.io" | "index.docker.io" => "https://index.docker.io/v1/",
            host => host,
        };
        Box::pin(async move {
            let Some(path) = config_file() else { return Ok(None) };
            let bytes = match tokio::fs::read(&path).await {
                Ok(bytes) => bytes,
                Err(error) => {
                    let error = SingleLine(&error);
                    tracing::debug!(%error, path = %path.display(), "failed to read docker's configuration");
                    return Ok(None);
                }
            };
            let found = login_of(&bytes, server).await;
            found
                .map_err(|reason| CredentialError::Docker { reason: format!("{}: {reason}", path.display()) })
        })
    }
}

fn config_file() -> Option<PathBuf> {
    let home = || Some(PathBuf::from(env::var_os("HOME")?).join(".docker"));
    Some(env::var_os("DOCKER_CONFIG").map(PathBuf::from).or_else(home)?.join("config.json"))
}

/// Looks up the login for `server`: in the registry's own helper, then in the configuration, then in the default
/// helper.
async fn login_of(config: &[u8], server: &str) -> Result<Option<Login>, String> {
    let mut config: Map<String, Value> =
        object(config).map_err(|error| format!("invalid configuration: {error}"))?;
    let [own, all] = ["credHelpers", "credsStore"].map(|key| config.remove(key).unwrap_or_default());
    let named = |helper: &Value| helper.as_str().filter(|name| !name.is_empty()).map(str::to_owned);
    if let Some(helper) = own.get(server).and_then(named) {
        return helper::ask(&helper, server).await;
    }
    let config = SecretString::from(Value::Object(config).to_string());
    match docker_credential::get_credential_from_reader(config.expose_secret().as_bytes(), server) {
        Ok(DockerCredential::UsernamePassword(user, password)) => Ok(Some(Login::password(user, password))),
        Ok(DockerCredential::IdentityToken(token)) => Ok(Some(Login::identity_token(token))),
        Err(CredentialRetrievalError::NoCredentialConfigured) => match named(&all) {
            Some(helper) => helper::ask(&helper, server).await,
            None => Ok(None),
        },
        Err(CredentialRetrievalError::ConfigReadError) => Err("invalid configuration".to_owned()),
        Err(other) => Err(other.to_string()),
    }
}

/// A fixed set of logins, one per registry.
#[derive(Debug, Clone, Default)]
pub struct Logins(HashMap<Registry, Login>);

impl Logins {
    /// An empty set.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a login.
    pub fn with(mut self, registry: Registry, login: Login) -> Self {
        self.0.insert(registry, login);
        self
    }
}

impl CredentialSource for Logins {
    fn login<'a>(&'a self, registry: &'a Registry) -> BoxFuture<'a, Result<Option<Login>, CredentialError>> {
        Box::pin(async { Ok(self.0.get(registry).cloned()) })
    }
}

/// Asks several sources in order, until one returns a login.
#[derive(Clone, Default)]
pub struct Chain(Vec<Arc<dyn CredentialSource>>);

impl Chain {
    /// An empty chain, which gives anonymous access.
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends a source.
    pub fn then(mut self, source: impl CredentialSource + 'static) -> Self {
        self.0.push(Arc::new(source));
        self
    }
}

impl fmt::Debug for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Chain({} sources)", self.0.len())
    }
}

impl CredentialSource for Chain {
    fn login<'a>(&'a self, registry: &'a Registry) -> BoxFuture<'a, Result<Option<Login>, CredentialError>> {
        Box::pin(async move {
            for source in &self.0 {
                if let Some(login) = source.login(registry).await? {
                    return Ok(Some(login));
                }
            }
            Ok(None)
        })
    }
}
