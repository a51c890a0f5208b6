//! Secrets of a task definition, which must be readable before a task starts.

use serde_json::Value;

use super::{definition::Definition, platform::Platform, world::World};
use crate::aws::wire::text;

/// The platform's message when a secret or parameter of the definition cannot be read.
pub(super) fn failure(world: &World<'_>, definition: &Definition, platform: Platform) -> Option<String> {
    let needed = definition.containers().iter().flat_map(|container| {
        let lists = [&container["secrets"], &container["logConfiguration"]["secretOptions"]];
        lists.into_iter().filter_map(Value::as_array).flatten()
    });
    needed
        .map(|secret| text(secret, "valueFrom"))
        .find_map(|reference| world.secret_exists(reference).err())
        .map(|failure| platform.missing_secret(&world.place.region, &failure))
}
