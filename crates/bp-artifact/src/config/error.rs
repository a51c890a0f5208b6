//! What can be wrong with `bp.toml`.

use std::fmt;

use super::{Environment, Origin, ServiceName};
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
    /// There is no such service.
    #[error("{file} has no service {asked:?}; {}", Known(known))]
    UnknownService {
        /// The file.
        file: String,
        /// The name that was asked for.
        asked: String,
        /// The services there are, in order; none in a file without `[[service]]`.
        known: Vec<ServiceName>,
    },
    /// There are several services, and none was chosen.
    #[error("{file} has the services {}: choose with --service NAME or --all", Names(known))]
    NoServiceChosen {
        /// The file.
        file: String,
        /// The services there are, in order.
        known: Vec<ServiceName>,
    },
    /// Several services were chosen for work on one.
    #[error("this works on one service, and {} were chosen", Names(chosen))]
    SeveralServices {
        /// The services that were chosen.
        chosen: Vec<ServiceName>,
    },
    /// An environment does not say where to deploy to.
    #[error("{at}: {}", Missing { environment, service, section })]
    MissingSection {
        /// Where the environment is.
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
}

/// Names with commas between them.
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
