//! What can be wrong with `bp.toml`.

use std::fmt;

use super::{Environment, Origin};
use crate::{
    document::DocumentError,
    error::{Classified, ErrorClass},
};

/// A `bp.toml` that cannot be used, or does not have what is asked for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file cannot be read.
    #[error(transparent)]
    Document(#[from] DocumentError),
    /// A key or value is wrong.
    #[error("{at}: {reason}")]
    Invalid {
        /// Where it comes from.
        at: Origin,
        /// What is wrong, and what was expected.
        reason: String,
    },
    /// There is no such environment.
    #[error("{file} has no environment {asked:?}; it has {}", Names(known))]
    UnknownEnvironment {
        /// The file.
        file: String,
        /// The name that was asked for.
        asked: String,
        /// The environments there are, in order.
        known: Vec<Environment>,
    },
    /// An environment does not say where to deploy to.
    #[error("{at}: the environment {environment} has no [environment.{section}]")]
    MissingSection {
        /// Where the environment is.
        at: Origin,
        /// The environment.
        environment: Environment,
        /// `ecs` or `eks`.
        section: &'static str,
    },
}

impl Classified for ConfigError {
    fn class(&self) -> ErrorClass {
        ErrorClass::BadInput
    }
}

/// Names with commas between them.
struct Names<'a>(&'a [Environment]);

impl fmt::Display for Names<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, name) in self.0.iter().enumerate() {
            let comma = if at == 0 { "" } else { ", " };
            write!(f, "{comma}{name}")?;
        }
        Ok(())
    }
}
