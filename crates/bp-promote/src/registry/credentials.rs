//! Where logins come from: docker's configuration, given ones, Amazon ECR.

use std::{collections::HashMap, env, error::Error as StdError, fmt, path::PathBuf, sync::Arc};

use bp_artifact::Registry;
use docker_credential::{CredentialRetrievalError, DockerCredential};
use futures_core::future::BoxFuture;
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Map, Value};

use super::{helper, login::Login};
use crate::content::object;

/// Credentials that could not be fetched.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CredentialError {
    /// Docker's configuration or one of its helpers is at fault.
    #[error("docker's configuration gives none: {reason}")]
    Docker {
        /// What is wrong.
        reason: String,
    },
    /// A service did not give them.
    #[error("{service} gave none")]
    Service {
        /// The service and operation, as in `ecr:GetAuthorizationToken`.
        service: &'static str,
        /// Whether it may do so later.
        retryable: bool,
        /// What happened.
        source: Box<dyn StdError + Send + Sync>,
    },
}

impl CredentialError {
    /// Whether the same call may go well later.
    pub fn is_retryable(&self) -> bool {
        matches!(self, CredentialError::Service { retryable: true, .. })
    }
}

/// Gives the login for a registry. Asked again when a login expires or is no longer taken.
pub trait CredentialSource: Send + Sync {
    /// The login for `registry`, or `None` to go without.
    fn login<'a>(&'a self, registry: &'a Registry) -> BoxFuture<'a, Result<Option<Login>, CredentialError>>;
}

impl<T: CredentialSource + ?Sized> CredentialSource for Arc<T> {
    fn login<'a>(&'a self, registry: &'a Registry) -> BoxFuture<'a, Result<Option<Login>, CredentialError>> {
        (**self).login(registry)
    }
}

/// No credentials for anybody.
#[derive(Debug, Clone, Copy, Default)]
pub struct Anonymous;

impl CredentialSource for Anonymous {
    fn login<'a>(&'a self, _: &'a Registry) -> BoxFuture<'a, Result<Option<Login>, CredentialError>> {
        Box::pin(async { Ok(None) })
    }
}

/// The logins of docker's `config.json` (in `DOCKER_CONFIG` or `~/.docker`) and its credential helpers, which have a minute
/// to answer.
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
                    tracing::debug!(%error, path = %path.display(), "docker's configuration cannot be read");
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

/// The login for `server` by a configuration: of its own helper, of the configuration itself, of the helper for all.
async fn login_of(config: &[u8], server: &str) -> Result<Option<Login>, String> {
    let mut config: Map<String, Value> =
        object(config).map_err(|error| format!("it is not valid: {error}"))?;
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
        Err(CredentialRetrievalError::ConfigReadError) => Err("it is not valid".to_owned()),
        Err(other) => Err(other.to_string()),
    }
}

/// Logins that the caller has, each for one registry.
#[derive(Debug, Clone, Default)]
pub struct Logins(HashMap<Registry, Login>);

impl Logins {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds one.
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

/// Asks one source after the other, until one has a login.
#[derive(Clone, Default)]
pub struct Chain(Vec<Arc<dyn CredentialSource>>);

impl Chain {
    /// An empty chain: nobody has credentials.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a source that is asked after the others.
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
