//! The result of a classification, and the kinds of names that messages mention.

use bp_artifact::deploy::Cause;

/// The cause of a message, and the object that it mentions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reading {
    pub(crate) cause: Cause,
    pub(crate) object: Option<String>,
}

impl Reading {
    pub(super) fn new(cause: Cause) -> Self {
        Reading { cause, object: None }
    }

    pub(super) fn about(self, object: Option<impl Into<String>>) -> Self {
        Reading { object: object.map(Into::into), ..self }
    }
}

/// Classifies the rest of a text with a known beginning.
pub(super) type Rule = fn(&str) -> Option<Reading>;

pub(super) fn is_target_group(name: &str) -> bool {
    name.contains(":targetgroup/")
}

pub(super) fn is_role(name: &str) -> bool {
    name.starts_with("arn:") && (name.contains(":role/") || name.contains(":assumed-role/"))
}

pub(super) fn is_arn(name: &str) -> bool {
    name.starts_with("arn:")
}
