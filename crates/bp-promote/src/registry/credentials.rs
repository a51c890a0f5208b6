//! Sources of logins: anonymous access, given logins, or a chain of sources.

use std::{collections::HashMap, error::Error as StdError, fmt, sync::Arc};

use bp_artifact::{
    Registry,
    error::{Classified, ErrorClass},
};
use futures_core::future::BoxFuture;

use super::login::{Login, RegistryLogins};

/// Why a login could not be fetched.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CredentialError {
    /// A file of logins, docker's or podman's, or a credential helper failed.
    #[error("failed to get credentials: {reason}")]
    Docker {
        /// The reason.
        reason: String,
    },
    /// A login could not be stored or removed.
    #[error("failed to change a login: {reason}")]
    Store {
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

impl Classified for CredentialError {
    fn class(&self) -> ErrorClass {
        ErrorClass::Unavailable
    }

    fn is_retryable(&self) -> bool {
        CredentialError::is_retryable(self)
    }
}

/// A source of logins for registries. It is asked again when a login expires or is rejected.
pub trait CredentialSource: Send + Sync {
    /// The login for `registry`, or `None` for anonymous access.
    fn login<'a>(&'a self, registry: &'a Registry) -> BoxFuture<'a, Result<Option<Login>, CredentialError>>;

    /// The logins for `registry` and for paths in it. By default only the one for the registry.
    fn logins<'a>(
        &'a self,
        registry: &'a Registry,
    ) -> BoxFuture<'a, Result<RegistryLogins, CredentialError>> {
        Box::pin(async move { Ok(RegistryLogins::of_registry(self.login(registry).await?)) })
    }
}

impl<T: CredentialSource + ?Sized> CredentialSource for Arc<T> {
    fn login<'a>(&'a self, registry: &'a Registry) -> BoxFuture<'a, Result<Option<Login>, CredentialError>> {
        (**self).login(registry)
    }

    fn logins<'a>(
        &'a self,
        registry: &'a Registry,
    ) -> BoxFuture<'a, Result<RegistryLogins, CredentialError>> {
        (**self).logins(registry)
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
            let logins = self.logins(registry).await?;
            registry_login(logins)
        })
    }

    /// The first login for the registry, and the logins for paths of all sources up to that one.
    fn logins<'a>(
        &'a self,
        registry: &'a Registry,
    ) -> BoxFuture<'a, Result<RegistryLogins, CredentialError>> {
        Box::pin(async move {
            let mut all = RegistryLogins::default();
            for source in &self.0 {
                let found = source.logins(registry).await?;
                all.paths.extend(found.paths);
                all.failure = all.failure.or(found.failure);
                if found.registry.is_some() {
                    all.registry = found.registry;
                    break;
                }
            }
            Ok(all)
        })
    }
}

/// The login for the registry, or the failure of a source that might have one.
pub(super) fn registry_login(logins: RegistryLogins) -> Result<Option<Login>, CredentialError> {
    match (logins.registry, logins.failure) {
        (None, Some(reason)) => Err(CredentialError::Docker { reason }),
        (login, _) => Ok(login),
    }
}
