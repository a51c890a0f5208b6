//! Logins to registries: a password, an identity token, or an access token.

use std::fmt;

use jiff::Timestamp;
use secrecy::{ExposeSecret as _, SecretString};

/// A login to a registry.
#[derive(Clone)]
#[non_exhaustive]
pub struct Login {
    pub(crate) secret: LoginSecret,
    /// When it must be renewed, if it expires.
    pub(crate) expires_at: Option<Timestamp>,
}

#[derive(Clone)]
pub(crate) enum LoginSecret {
    Password {
        user: String,
        password: SecretString,
    },
    /// An OAuth 2 refresh token, as some credential helpers return it, and the password for token services that accept
    /// no refresh token.
    IdentityToken {
        token: SecretString,
        password: Option<(String, SecretString)>,
    },
    /// An access token, which is sent to the registry itself.
    RegistryToken(SecretString),
}

impl Login {
    /// A login with a user name and a password.
    pub fn password(user: impl Into<String>, password: impl Into<SecretString>) -> Self {
        Login {
            secret: LoginSecret::Password { user: user.into(), password: password.into() },
            expires_at: None,
        }
    }

    /// A login with an identity token, which is exchanged for access tokens.
    pub fn identity_token(token: impl Into<SecretString>) -> Self {
        Login { secret: LoginSecret::IdentityToken { token: token.into(), password: None }, expires_at: None }
    }

    /// Adds the password for a token service that does not accept identity tokens, if this is an identity token.
    pub fn or_password(mut self, user: impl Into<String>, secret: impl Into<SecretString>) -> Self {
        if let LoginSecret::IdentityToken { password, .. } = &mut self.secret {
            *password = Some((user.into(), secret.into()));
        }
        self
    }

    /// A login with an access token of the registry, which is sent as it is.
    pub fn registry_token(token: impl Into<SecretString>) -> Self {
        Login { secret: LoginSecret::RegistryToken(token.into()), expires_at: None }
    }

    /// Sets the time when the login expires.
    pub fn until(mut self, expires_at: Timestamp) -> Self {
        self.expires_at = Some(expires_at);
        self
    }
}

/// Compares the secrets, to detect that a login was not replaced.
impl PartialEq for LoginSecret {
    fn eq(&self, other: &Self) -> bool {
        let same = |a: &SecretString, b: &SecretString| a.expose_secret() == b.expose_secret();
        match (self, other) {
            (
                LoginSecret::Password { user: a, password: p },
                LoginSecret::Password { user: b, password: q },
            ) => a == b && same(p, q),
            (
                LoginSecret::IdentityToken { token: a, password: p },
                LoginSecret::IdentityToken { token: b, password: q },
            ) => {
                let password = match (p, q) {
                    (Some((a, p)), Some((b, q))) => a == b && same(p, q),
                    (None, None) => true,
                    (Some(_), None) | (None, Some(_)) => false,
                };
                same(a, b) && password
            }
            (LoginSecret::RegistryToken(a), LoginSecret::RegistryToken(b)) => same(a, b),
            (
                LoginSecret::Password { .. }
                | LoginSecret::IdentityToken { .. }
                | LoginSecret::RegistryToken(_),
                _,
            ) => false,
        }
    }
}

/// The logins for one registry: for the registry, and for namespaces and repositories in it.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct RegistryLogins {
    /// The login for the registry.
    pub registry: Option<Login>,
    /// The logins for paths in it, such as `shop` or `shop/web`. The longest path that contains a repository wins.
    pub paths: Vec<(String, Login)>,
    /// Why a source that might have a login could not be read: reported if the registry refuses anonymous access.
    pub failure: Option<String>,
}

impl RegistryLogins {
    /// The login for the registry alone.
    pub fn of_registry(registry: Option<Login>) -> Self {
        RegistryLogins { registry, ..Self::default() }
    }

    /// The login for the repository with this path: that of the longest path that contains it, or else the registry's.
    pub(super) fn of(&self, repository: &str) -> Option<&Login> {
        let contains = |path: &str| {
            repository.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        // Of equal paths, the first one.
        let paths = self.paths.iter().rev().filter(|(path, _)| contains(path));
        let longest = paths.max_by_key(|(path, _)| path.len());
        longest.map(|(_, login)| login).or(self.registry.as_ref())
    }

    /// Whether there is no login at all.
    pub(super) fn is_empty(&self) -> bool {
        self.registry.is_none() && self.paths.is_empty()
    }

    /// Whether all logins are the same.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        let secret = |login: &Option<Login>| login.as_ref().map(|login| login.secret.clone());
        let paths = |(a, b): (&(String, Login), &(String, Login))| a.0 == b.0 && a.1.secret == b.1.secret;
        secret(&self.registry) == secret(&other.registry)
            && self.paths.len() == other.paths.len()
            && self.paths.iter().zip(&other.paths).all(paths)
    }
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let user = match &self.secret {
            LoginSecret::Password { user, .. } => user.as_str(),
            LoginSecret::IdentityToken { .. } => "(identity token)",
            LoginSecret::RegistryToken(_) => "(registry token)",
        };
        f.debug_struct("Login")
            .field("user", &user)
            .field("expires_at", &self.expires_at)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_path_wins() {
        let login = |user: &str| Login::password(user, "p");
        let paths = ["shop", "shop/web", "shop/web", "sho"].map(|path| path.to_owned());
        let users = ["namespace", "repository", "later", "other"];
        let logins = RegistryLogins {
            registry: Some(login("registry")),
            paths: paths.into_iter().zip(users.map(login)).collect(),
            failure: None,
        };
        let user = |path: &str| match &logins.of(path).unwrap().secret {
            LoginSecret::Password { user, .. } => user.clone(),
            LoginSecret::IdentityToken { .. } | LoginSecret::RegistryToken(_) => unreachable!(),
        };
        for (path, expected) in [
            ("shop/web", "repository"),
            ("shop/web/cache", "repository"),
            ("shop/webs", "namespace"),
            ("shop", "namespace"),
            ("shopping", "registry"),
            ("sho/p", "other"),
        ] {
            assert_eq!(user(path), expected, "{path}");
        }
    }
}
