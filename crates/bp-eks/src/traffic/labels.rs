//! Kubernetes labels and equality-based selectors.

use std::collections::BTreeMap;

/// Labels, as in selectors and metadata.
pub(super) type Labels = BTreeMap<String, String>;

/// Formats labels as a label selector: `app=web,slot=blue`.
pub(super) fn format_labels(labels: &Labels) -> String {
    labels.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(",")
}

/// Whether `selector` matches an object with these labels.
pub(super) fn selects(selector: &Labels, labels: &Labels) -> bool {
    selector.iter().all(|(key, value)| labels.get(key) == Some(value))
}
