//! Registry profiles: provider-specific settings that are known in advance.

use http::Method;

use super::challenge::Challenge;

/// What is known of the registries of a provider. By default nothing.
#[derive(Default)]
pub(super) struct RegistryProfile {
    /// The challenge, so that no request is needed to discover it.
    pub(super) challenge: Option<Challenge>,
    /// The rate limits.
    pub(super) quotas: Option<Quotas>,
    /// Whether the registries reject a manifest while content that it refers to is missing.
    pub(super) validates_references: bool,
}

/// The quota that a request counts against, by its method and path.
pub(super) type Quotas = fn(&Method, &str) -> Option<Quota>;

/// A rate limit for a kind of request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Quota {
    pub(super) name: &'static str,
    /// The number of requests per second.
    pub(super) rate: u32,
}
