//! Labels and selectors.

use std::collections::BTreeMap;

/// Labels, as selectors and metadata carry them.
pub(super) type Labels = BTreeMap<String, String>;

/// `app=web,slot=blue`: as people write it, and as the API takes it in a query.
pub(super) fn shown(labels: &Labels) -> String {
    labels.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(",")
}

/// Whether an object with these labels is selected.
pub(super) fn selects(selector: &Labels, labels: &Labels) -> bool {
    selector.iter().all(|(key, value)| labels.get(key) == Some(value))
}
