//! Field managers of bp-eks for server-side apply.

/// The common prefix of all field managers.
const FIELD_MANAGER: &str = "bp-eks";

/// The field manager for one container. Server-side apply removes fields that a manager no longer applies, so two
/// targets in one workload must not share a field manager.
pub(crate) fn of_container(name: &str) -> String {
    format!("{FIELD_MANAGER}:{name}")
}

/// Whether this is a field manager of bp-eks.
pub(crate) fn is_ours(manager: &str) -> bool {
    manager.split(':').next() == Some(FIELD_MANAGER)
}
