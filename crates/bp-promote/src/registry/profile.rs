//! What is known of a registry before it answers.

use http::Method;

use super::challenge::Challenge;

/// What is known of the registries of one provider. By default, nothing.
#[derive(Default)]
pub(super) struct RegistryProfile {
    /// Which login they ask for: no request is sent to find out.
    pub(super) challenge: Option<Challenge>,
    /// How fast they may be asked.
    pub(super) quotas: Option<Quotas>,
    /// Whether they reject a manifest while something is missing that it refers to.
    pub(super) validates_references: bool,
}

/// The quota that a request counts against, by its method and path.
pub(super) type Quotas = fn(&Method, &str) -> Option<Quota>;

/// Requests that a provider counts together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Quota {
    pub(super) name: &'static str,
    /// How many of them it takes a second.
    pub(super) rate: u32,
}
