//! The origin of settings: a file with line and column, a variable, a flag or a default.

use std::fmt;

use serde::{Serialize, Serializer};

use crate::document::Location;

/// The origin of a setting.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Origin {
    /// A file.
    File(Location),
    /// An environment variable of the process.
    Variable(String),
    /// A command-line flag.
    Flag(String),
    /// The default.
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::File(location) => location.fmt(f),
            Origin::Variable(name) => write!(f, "${name}"),
            Origin::Flag(name) => f.write_str(name),
            Origin::Default => f.write_str("default"),
        }
    }
}

/// As displayed: `bp.toml:3:14`, `$BP_PROD_REGION`, `--set`, `default`.
impl Serialize for Origin {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
