//! Reading fields that are optional in one version of the Kubernetes API and mandatory in another.

/// Text that may not be there.
pub(crate) trait Text {
    /// The text, or an empty one.
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
