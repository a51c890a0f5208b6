//! The secrets that a task needs before it starts.

use serde_json::Value;

use super::{World, definition::Definition, text};

/// The words of the platform when a secret or parameter of the definition cannot be had.
pub(super) fn failure(world: &World<'_>, definition: &Definition) -> Option<String> {
    let needed = definition.containers().iter().flat_map(|container| {
        let lists = [&container["secrets"], &container["logConfiguration"]["secretOptions"]];
        lists.into_iter().filter_map(Value::as_array).flatten()
    });
    needed.filter_map(|secret| missing(world, text(secret, "valueFrom"))).next()
}

fn missing(world: &World<'_>, reference: &str) -> Option<String> {
    if world.has_secret(reference) {
        return None;
    }
    let prefix = "ResourceInitializationError: unable to pull secrets or registry auth: execution resource retrieval failed:";
    Some(match reference.contains(":secretsmanager:") {
        true => format!(
            "{prefix} unable to retrieve secret from asm: service call has been retried 1 time(s): failed to fetch \
             secret {reference} from secrets manager: ResourceNotFoundException: Secrets Manager can't find the \
             specified secret."
        ),
        false => format!(
            "{prefix} unable to retrieve secrets from ssm: service call has been retried 1 time(s): failed to fetch \
             secrets: invalid ssm parameters: {reference}"
        ),
    })
}
