//! Read text fields that are optional in some versions of the Kubernetes API types and mandatory in others.

/// A text field that may be optional.
pub(crate) trait Text {
    /// The text; empty when absent.
    fn text(&self) -> &str;
}

impl Text for String {
    fn text(&self) -> &str {
        self
    }
}

impl Text for Option<String> {
    fn text(&self) -> &str {
        self.as_deref().unwrap_or_default()
    }
}
