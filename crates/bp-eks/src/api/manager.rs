//! Our names among the owners of fields.

/// They all begin so.
const FIELD_MANAGER: &str = "bp-eks";

/// Our name for one container. What a manager does not apply any more is removed, so two targets in one workload must
/// not share a name.
pub(crate) fn of_container(name: &str) -> String {
    format!("{FIELD_MANAGER}:{name}")
}

/// Whether this field manager is us, for whatever container.
pub(crate) fn is_ours(manager: &str) -> bool {
    manager.split(':').next() == Some(FIELD_MANAGER)
}
