//! Whether an image that exists can be pulled, now and after the registry's retention rules were applied.

/// Whether an image that exists can be pulled, now and after the registry's retention rules were applied.
///
/// The default is that of a registry without storage classes, whose retention rules are not checked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Availability {
    /// Whether it can be pulled now.
    pub storage: Storage,
    /// Whether a retention rule selects it.
    pub retention: Retention,
}

impl Availability {
    /// An image in `storage` with `retention`.
    pub fn new(storage: Storage, retention: Retention) -> Self {
        Availability { storage, retention }
    }
}

/// Whether an image that exists can be pulled now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Storage {
    /// It can be pulled.
    #[default]
    Active,
    /// It is archived: it cannot be pulled until it is restored.
    Archived,
    /// It is being restored from the archive, and cannot be pulled yet.
    Activating,
    /// It exists, and whether it can be pulled is unknown.
    Unknown {
        /// Why.
        reason: String,
    },
}

/// What the registry's retention rules do with an image.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Retention {
    /// The rules are not checked, or the registry has none that can be read.
    #[default]
    NotChecked,
    /// No rule selects it.
    Kept,
    /// A rule selects it for deletion.
    Expires {
        /// The priority of the rule, if reported.
        rule: Option<i32>,
    },
    /// A rule selects it for the archive.
    Archives {
        /// The priority of the rule, if reported.
        rule: Option<i32>,
    },
    /// The rules could not be evaluated.
    Unknown {
        /// Why.
        reason: String,
    },
}
