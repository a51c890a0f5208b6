//! The secrets that a task needs before it starts.

use serde_json::Value;

use super::{World, definition::Definition, text};

/// The words of the platform when a secret or parameter of the definition cannot be had.
pub(super) fn failure(world: &World<'_>, definition: &Definition) -> Option<String> {
    let needed = definition.containers().iter().flat_map(|container| {
        let lists = [&container["secrets"], &container["logConfiguration"]["secretOptions"]];
        lists.into_iter().filter_map(Value::as_array).flatten()
    });
    let (account, region) = (world.place.account.as_str(), world.place.region.as_str());
    needed
        .map(|secret| text(secret, "valueFrom"))
        .find_map(|reference| world.aws.secret_exists(account, region, reference).err())
        .map(|reason| {
            format!(
                "ResourceInitializationError: unable to pull secrets or registry auth: execution resource retrieval \
                 failed: {reason}"
            )
        })
}
