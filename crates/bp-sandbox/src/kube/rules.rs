//! Access rules of a cluster: denied verbs, admission webhooks, and the EKS access configuration.

use std::collections::BTreeSet;

/// Access rules of a cluster.
#[derive(Debug, Default)]
pub(super) struct Rules {
    /// Denied pairs of verb and plural.
    pub(super) denied: BTreeSet<(String, String)>,
    /// Admission webhooks that deny changes: plural, webhook, reason.
    pub(super) webhooks: Vec<(String, String, String)>,
    pub(super) access: Access,
}

/// The access configuration of a cluster.
#[derive(Debug, Default)]
pub(super) struct Access {
    /// `API`, `API_AND_CONFIG_MAP` (the default) or `CONFIG_MAP`.
    pub(super) mode: Option<String>,
    /// The principals with an access entry; defaults to all principals of the account.
    pub(super) entries: Option<BTreeSet<String>>,
    pub(super) pod_identities: Vec<PodIdentity>,
}

/// An association of EKS Pod Identity.
#[derive(Debug, Clone)]
#[cfg_attr(not(feature = "aws"), allow(dead_code))]
pub(crate) struct PodIdentity {
    pub(crate) id: String,
    pub(crate) namespace: String,
    pub(crate) service_account: String,
    pub(crate) role: String,
}
