//! Logins to registries: a password or an identity token.

use std::fmt;

use jiff::Timestamp;
use secrecy::SecretString;

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
    /// An OAuth 2 refresh token, as some credential helpers return it.
    IdentityToken(SecretString),
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
        Login { secret: LoginSecret::IdentityToken(token.into()), expires_at: None }
    }

    /// Sets the time when the login expires.
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
