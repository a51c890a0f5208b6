//! The providers that are known.

use bp_artifact::Registry;

use super::{ecr, profile::RegistryProfile};

/// Each has the profile of its own registries, which it knows by their names.
const PROVIDERS: &[fn(&Registry) -> Option<RegistryProfile>] = &[ecr::profile];

/// The profile of a registry.
pub(super) fn profile_of(registry: &Registry) -> RegistryProfile {
    PROVIDERS.iter().find_map(|profile| profile(registry)).unwrap_or_default()
}
