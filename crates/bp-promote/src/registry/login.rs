//! A login to a registry.

use std::fmt;

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
