//! The list of providers with a registry profile.

use bp_artifact::Registry;

use super::{ecr, profile::RegistryProfile};

/// Each function returns the profile for the provider's own registries, recognised by host name.
const PROVIDERS: &[fn(&Registry) -> Option<RegistryProfile>] = &[ecr::profile];

/// The profile of a registry.
pub(super) fn profile_of(registry: &Registry) -> RegistryProfile {
    PROVIDERS.iter().find_map(|profile| profile(registry)).unwrap_or_default()
}
