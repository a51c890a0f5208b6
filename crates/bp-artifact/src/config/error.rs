//! Errors of `bp.toml`.

use std::fmt;

use super::{Environment, Origin, ServiceName};
use crate::{
    document::{DocumentError, Location},
    error::{Classified, ErrorClass},
};

/// Why a `bp.toml` is invalid, or lacks what was requested.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file cannot be read.
    #[error(transparent)]
    Document(#[from] DocumentError),
    /// A key or value is invalid.
    #[error("{at}: {reason}")]
    Invalid {
        /// The origin of the setting.
        at: Origin,
        /// What is wrong, and what was expected.
        reason: String,
    },
    /// There is no such environment.
    #[error("{file} has no environment {asked:?}; it has {}", Names(known))]
    UnknownEnvironment {
        /// The file.
        file: String,
        /// The requested name.
        asked: String,
        /// The existing environments, in order.
        known: Vec<Environment>,
    },
    /// There is no such service.
    #[error("{file} has no service {asked:?}; {}", Known(known))]
    UnknownService {
        /// The file.
        file: String,
        /// The requested name.
        asked: String,
        /// The existing services, in order; none in a file without `[[service]]`.
        known: Vec<ServiceName>,
    },
    /// There are several services, and none was selected.
    #[error("{file} has the services {}: choose with --service NAME or --all", Names(known))]
    NoServiceChosen {
        /// The file.
        file: String,
        /// The existing services, in order.
        known: Vec<ServiceName>,
    },
    /// Several services were selected for an operation on one.
    #[error("this command works on one service, but {} were selected", Names(chosen))]
    SeveralServices {
        /// The selected services.
        chosen: Vec<ServiceName>,
    },
    /// An environment has no target on this platform.
    #[error("{at}: {}", Missing { environment, service, section })]
    MissingSection {
        /// Where the environment is defined.
        at: Origin,
        /// The environment.
        environment: Environment,
        /// The service, if it has a name.
        service: Option<ServiceName>,
        /// `ecs` or `eks`.
        section: &'static str,
    },
}

impl Classified for ConfigError {
    fn class(&self) -> ErrorClass {
        ErrorClass::BadInput
    }

    fn location(&self) -> Option<&Location> {
        match self {
            ConfigError::Document(error) => error.location(),
            ConfigError::Invalid { at, .. } | ConfigError::MissingSection { at, .. } => match at {
                Origin::File(location) => Some(location),
                Origin::Variable(_) | Origin::Flag(_) | Origin::Default => None,
            },
            ConfigError::UnknownEnvironment { .. }
            | ConfigError::UnknownService { .. }
            | ConfigError::NoServiceChosen { .. }
            | ConfigError::SeveralServices { .. } => None,
        }
    }
}

/// Comma-separated names.
struct Names<'a, N>(&'a [N]);

impl<N: fmt::Display> fmt::Display for Names<'_, N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, name) in self.0.iter().enumerate() {
            let comma = if at == 0 { "" } else { ", " };
            write!(f, "{comma}{name}")?;
        }
        Ok(())
    }
}

struct Known<'a>(&'a [ServiceName]);

impl fmt::Display for Known<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            f.write_str("it has no [[service]]")
        } else {
            write!(f, "it has {}", Names(self.0))
        }
    }
}

struct Missing<'a> {
    environment: &'a Environment,
    service: &'a Option<ServiceName>,
    section: &'static str,
}

impl fmt::Display for Missing<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Missing { environment, service, section } = self;
        match service {
            None => write!(f, "the environment {environment} has no [environment.{section}]"),
            Some(service) => write!(f, "the service {service} has no {section} target in {environment}"),
        }
    }
}
