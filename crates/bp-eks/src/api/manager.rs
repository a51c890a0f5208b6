//! Field managers of bp-eks for server-side apply.

use crate::workload::template::Slot;

/// The common prefix of all field managers.
const FIELD_MANAGER: &str = "bp-eks";
/// The limit of the API server.
const LONGEST: usize = 128;

/// The field manager for the containers of one target. Server-side apply removes fields that a manager no longer
/// applies, so two targets in one workload must not share a field manager.
pub(crate) fn of_slot(slot: &Slot) -> String {
    let names: Vec<&str> = slot.all().map(|slot| slot.name.as_str()).collect();
    format!("{FIELD_MANAGER}:{}", names.join("+")).chars().take(LONGEST).collect()
}

/// The beginning of the field managers of manifests; the name of a container cannot contain a colon.
const MANIFESTS: &str = "bp-eks::manifests:";

/// The field manager of the manifests `name`.
pub(crate) fn of_manifests(name: &str) -> String {
    format!("{MANIFESTS}{name}").chars().take(LONGEST).collect()
}

/// Whether this is the field manager of any manifests.
pub(crate) fn is_of_manifests(manager: &str) -> bool {
    manager.starts_with(MANIFESTS)
}

/// Whether this is a field manager of bp-eks.
pub(crate) fn is_ours(manager: &str) -> bool {
    manager.split(':').next() == Some(FIELD_MANAGER)
}
