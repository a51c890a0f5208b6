//! Credentials that a registry has issued: ECR passwords and bearer tokens.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard},
};

use jiff::Timestamp;

use crate::sync::lock;

/// The issued ECR passwords and bearer tokens.
#[derive(Default)]
pub(super) struct Credentials {
    passwords: Mutex<HashMap<String, Timestamp>>,
    tokens: Mutex<HashMap<String, Token>>,
}

/// A bearer token.
pub(super) struct Token {
    pub(super) until: Timestamp,
    /// Repository -> actions.
    pub(super) grants: HashMap<String, Vec<String>>,
}

impl Credentials {
    pub(super) fn accept(&self, password: &str, until: Timestamp) {
        lock(&self.passwords).insert(password.to_owned(), until);
    }

    pub(super) fn password_until(&self, password: &str) -> Option<Timestamp> {
        lock(&self.passwords).get(password).copied()
    }

    pub(super) fn tokens(&self) -> MutexGuard<'_, HashMap<String, Token>> {
        lock(&self.tokens)
    }
}

/// A random secret with a prefix that identifies the sandbox.
pub(super) fn secret() -> String {
    format!("sandbox-{:032x}", fastrand::u128(..))
}
