//! The callers of the AWS APIs: account and ARN of each access key.

use std::{collections::BTreeMap, sync::Mutex};

use crate::sync::lock;

/// The account of requests with an unknown access key.
pub const DEFAULT_ACCOUNT: &str = "111111111111";

/// The caller identity of an access key.
#[derive(Debug, Clone)]
pub(crate) struct Identity {
    pub(crate) account: String,
    pub(crate) arn: String,
}

/// The identities by access key id.
#[derive(Debug, Default)]
pub(crate) struct Identities(Mutex<BTreeMap<String, Identity>>);

impl Identities {
    pub(super) fn assign(&self, access_key_id: &str, identity: Identity) {
        lock(&self.0).insert(access_key_id.to_owned(), identity);
    }

    /// The identity of an access key; an unknown one belongs to [`DEFAULT_ACCOUNT`].
    pub(crate) fn of(&self, access_key_id: &str) -> Identity {
        lock(&self.0).get(access_key_id).cloned().unwrap_or_else(|| Identity {
            account: DEFAULT_ACCOUNT.to_owned(),
            arn: format!("arn:aws:iam::{DEFAULT_ACCOUNT}:user/sandbox"),
        })
    }
}
