//! Track which watches fail, and how long failing watches are retried.

use std::{collections::BTreeMap, time::Duration};

use tokio::time::Instant;

use super::watch::WatchUpdate;
use crate::{error::Error, object::ObjectRef};

/// An event of the watches.
pub(crate) enum WatchNotice {
    /// An object changed.
    Changed,
    /// A watch failed and is retried; with the message to report.
    Lost(String),
    /// Events cannot be read; the rollout is followed without them.
    NoEvents(Error),
    /// Logs cannot be read; the rollout is followed without them.
    NoLogs(Error),
}

/// The failing watches, each with the time of its first failure and the last error.
#[derive(Debug, Default)]
pub(crate) struct WatchHealth {
    lost: BTreeMap<&'static str, (Instant, Error)>,
}

impl WatchHealth {
    /// Records an event of a watch; errors refer to `object`.
    pub(crate) fn read(&mut self, news: Option<WatchUpdate>, object: &ObjectRef) -> WatchNotice {
        let failed = match news {
            Some(Ok(operation)) => {
                self.lost.remove(operation);
                return WatchNotice::Changed;
            }
            Some(Err(failed)) => failed,
            None => return WatchNotice::Changed,
        };
        let error = object.error(failed.operation, *failed.error);
        if failed.optional && matches!(error, Error::Forbidden { .. }) {
            return WatchNotice::NoEvents(error);
        }
        let notice = WatchNotice::Lost(format!("retrying: {}", error.without_advice()));
        if !failed.optional {
            let since = self.lost.get(failed.operation).map_or_else(Instant::now, |(since, _)| *since);
            self.lost.insert(failed.operation, (since, error));
        }
        notice
    }

    /// Whether all watches work, so that their state is current.
    pub(crate) fn is_healthy(&self) -> bool {
        self.lost.is_empty()
    }

    /// The time when the first refused watch has failed for `grace`.
    pub(crate) fn gives_up_at(&self, grace: Duration) -> Option<Instant> {
        let refused = self.lost.values().filter(|(_, error)| error.is_refusal());
        refused.map(|(since, _)| bp_artifact::time::after(*since, grace)).min()
    }

    /// The error to report when the state cannot be observed; refusals take precedence.
    pub(crate) fn take(&mut self) -> Option<Error> {
        let lost = std::mem::take(&mut self.lost);
        lost.into_values().max_by_key(|(_, error)| error.is_refusal()).map(|(_, error)| error)
    }
}
