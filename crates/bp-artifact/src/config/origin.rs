//! Where settings come from.

use std::fmt;

use serde::{Serialize, Serializer};

use crate::document::Location;

/// Where a setting comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Origin {
    /// A file.
    File(Location),
    /// A variable of the process's environment.
    Variable(String),
    /// A flag of the command line.
    Flag(String),
    /// Nobody said anything else.
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

/// As it is shown: `bp.toml:3:14`, `$BP_PROD_REGION`, `--set`, `default`.
impl Serialize for Origin {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
