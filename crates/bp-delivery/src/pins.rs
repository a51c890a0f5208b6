//! Pin the secrets of `bp.toml` to their current versions.

use std::collections::BTreeMap;

use bp_secrets::{Reference, pin};

use crate::{Clients, Failure};

/// The references of `ecs.secrets`, pinned to the versions that they point to now.
///
/// # Errors
/// When a reference is invalid, or its version cannot be read.
///
/// # Permissions
/// Those of [`bp_secrets::pin`].
///
/// # Cancel safety
/// Cancel safe: reads only.
pub(crate) async fn pinned(
    secrets: &BTreeMap<String, String>,
    clients: &Clients,
) -> Result<BTreeMap<String, String>, Failure> {
    let parse = |(name, text): (&String, &String)| {
        Reference::from_value_from(text)
            .map_err(|error| Failure::bad_input(format!("ecs.secrets.{name}: {error}")))
    };
    let references = secrets.iter().map(parse).collect::<Result<Vec<_>, _>>()?;
    let pinned = pin(&clients.secrets(&references), &references).await;
    let named = secrets.keys().zip(pinned).map(|(name, pinned)| {
        let pinned =
            pinned.map_err(|error| Failure::from(error).context(format_args!("ecs.secrets.{name}")))?;
        Ok((name.clone(), pinned.to_string()))
    });
    named.collect()
}
