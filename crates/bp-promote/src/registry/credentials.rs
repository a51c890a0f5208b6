//! Where logins come from: docker's configuration, given ones, Amazon ECR.

use std::{collections::HashMap, error::Error as StdError, fmt, sync::Arc};

use bp_artifact::Registry;
use docker_credential::{CredentialRetrievalError, DockerCredential};
use futures_core::future::BoxFuture;
use jiff::Timestamp;
use secrecy::SecretString;

/// What a registry is told about who asks.
#[derive(Clone)]
#[non_exhaustive]
pub struct Login {
    pub(crate) secret: LoginSecret,
    /// When it must be fetched again, if it expires.
    pub(crate) expires_at: Option<Timestamp>,
}

#[derive(Clone)]
pub(crate) enum LoginSecret {
    Password {
        user: String,
        password: SecretString,
    },
    /// A refresh token of OAuth 2, which some credential helpers give.
    IdentityToken(SecretString),
}

impl Login {
    /// A user and a password.
    pub fn password(user: impl Into<String>, password: impl Into<SecretString>) -> Self {
        Login {
            secret: LoginSecret::Password { user: user.into(), password: password.into() },
            expires_at: None,
        }
    }

    /// An identity token, to be exchanged for access tokens.
    pub fn identity_token(token: impl Into<SecretString>) -> Self {
        Login { secret: LoginSecret::IdentityToken(token.into()), expires_at: None }
    }

    /// The same login, to be fetched again before this time.
    pub fn until(mut self, expires_at: Timestamp) -> Self {
        self.expires_at = Some(expires_at);
        self
    }
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let user = match &self.secret {
            LoginSecret::Password { user, .. } => user.as_str(),
            LoginSecret::IdentityToken(_) => "(identity token)",
        };
        f.debug_struct("Login")
            .field("user", &user)
            .field("expires_at", &self.expires_at)
            .finish_non_exhaustive()
    }
}

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

/// The logins of docker's `config.json` (in `DOCKER_CONFIG` or `~/.docker`) and its credential helpers.
#[derive(Debug, Clone, Copy, Default)]
pub struct DockerConfig;

impl CredentialSource for DockerConfig {
    fn login<'a>(&'a self, registry: &'a Registry) -> BoxFuture<'a, Result<Option<Login>, CredentialError>> {
        let server = match registry.as_str() {
            "docker.io" | "index.docker.io" => "https://index.docker.io/v1/".to_owned(),
            host => host.to_owned(),
        };
        Box::pin(async move {
            // A helper is a program that may take its time.
            let read = tokio::task::spawn_blocking(move || docker_credential::get_credential(&server)).await;
            let reason = match read {
                Ok(Ok(DockerCredential::UsernamePassword(user, password))) => {
                    return Ok(Some(Login::password(user, password)));
                }
                Ok(Ok(DockerCredential::IdentityToken(token))) => {
                    return Ok(Some(Login::identity_token(token)));
                }
                Ok(Err(
                    CredentialRetrievalError::ConfigNotFound
                    | CredentialRetrievalError::ConfigReadError
                    | CredentialRetrievalError::NoCredentialConfigured,
                )) => return Ok(None),
                // What the helper printed may hold a secret.
                Ok(Err(CredentialRetrievalError::HelperFailure { helper, stdout, .. })) => {
                    // The words of every helper for "I know nothing of this registry".
                    if stdout.contains("credentials not found") {
                        return Ok(None);
                    }
                    format!("the credential helper {helper} failed")
                }
                Ok(Err(other)) => other.to_string(),
                Err(_) => "the credential helper was interrupted".to_owned(),
            };
            Err(CredentialError::Docker { reason })
        })
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
