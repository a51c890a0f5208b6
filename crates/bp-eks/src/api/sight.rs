//! Which watches work, and how long those that do not are waited for.

use std::{collections::BTreeMap, time::Duration};

use tokio::time::Instant;

use super::watch::News;
use crate::{error::Error, object::ObjectRef};

/// What the watches have to say.
pub(crate) enum Told {
    /// Something changed.
    Changed,
    /// A watch does not work now; it is tried again. With what people are told.
    Lost(String),
    /// Warnings may not be read; the rollout is followed without them.
    NoEvents(Error),
    /// Logs may not be read; the rollout is followed without them.
    NoLogs(Error),
}

/// The watches that do not work at the moment, each since when and why.
#[derive(Debug, Default)]
pub(crate) struct Sight {
    lost: BTreeMap<&'static str, (Instant, Error)>,
}

impl Sight {
    /// Reads the news of a watch of what belongs to `object`.
    pub(crate) fn read(&mut self, news: Option<News>, object: &ObjectRef) -> Told {
        let failed = match news {
            Some(Ok(operation)) => {
                self.lost.remove(operation);
                return Told::Changed;
            }
            Some(Err(failed)) => failed,
            None => return Told::Changed,
        };
        let error = object.error(failed.operation, *failed.error);
        if failed.optional && matches!(error, Error::Forbidden { .. }) {
            return Told::NoEvents(error);
        }
        let told = Told::Lost(format!("trying again: {}", error.without_advice()));
        if !failed.optional {
            let since = self.lost.get(failed.operation).map_or_else(Instant::now, |(since, _)| *since);
            self.lost.insert(failed.operation, (since, error));
        }
        told
    }

    /// Whether what the watches show is how things are.
    pub(crate) fn is_clear(&self) -> bool {
        self.lost.is_empty()
    }

    /// When a watch that is refused has been waited for long enough, for `grace`.
    pub(crate) fn ends(&self, grace: Duration) -> Option<Instant> {
        let refused = self.lost.values().filter(|(_, error)| error.is_refusal());
        refused.map(|(since, _)| bp_artifact::time::after(*since, grace)).min()
    }

    /// Why nothing can be seen: what was refused first of all.
    pub(crate) fn take(&mut self) -> Option<Error> {
        let lost = std::mem::take(&mut self.lost);
        lost.into_values().max_by_key(|(_, error)| error.is_refusal()).map(|(_, error)| error)
    }
}
