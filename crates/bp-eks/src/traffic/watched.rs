//! What every follower of traffic keeps: the health of its watches, and what it has reported.

use std::collections::HashSet;

use bp_artifact::deploy::{Progress, Reporter};

use crate::{
    api::{
        watch::WatchUpdate,
        watch_health::{WatchHealth, WatchNotice},
    },
    object::ObjectRef,
};

/// The watches of a follower. Each change of the progress and each failure is reported once.
pub(super) struct Watched<'f> {
    pub(super) reporter: &'f Reporter,
    pub(super) health: WatchHealth,
    pub(super) object: ObjectRef,
    last: Option<Progress>,
    reported: HashSet<String>,
}

impl<'f> Watched<'f> {
    /// The watches about `object`.
    pub(super) fn new(object: ObjectRef, reporter: &'f Reporter) -> Self {
        Watched { reporter, health: WatchHealth::default(), object, last: None, reported: HashSet::new() }
    }

    /// Reads an update of a watch.
    pub(super) fn handle(&mut self, news: Option<WatchUpdate>) {
        if let WatchNotice::Lost(message) = self.health.read(news, &self.object)
            && self.reported.insert(message.clone())
        {
            self.reporter.notice(message);
        }
    }

    pub(super) fn report(&mut self, progress: Progress) {
        if self.last.as_ref() != Some(&progress) {
            self.last = Some(progress.clone());
            self.reporter.progress(progress);
        }
    }
}
