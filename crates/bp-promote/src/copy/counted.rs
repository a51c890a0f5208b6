//! The source and the destination of a run, each with its request counter.

use std::ops::Deref;

use crate::store::{Destination, RequestCounter, RunContext, Source};

/// A source or destination in a run, with its request counter.
pub(super) struct Counted<T: ?Sized> {
    store: Box<T>,
    requests: RequestCounter,
}

impl Counted<dyn Source> {
    pub(super) fn source(mut store: impl Source, run: &RunContext) -> Self {
        store.begin(run);
        Counted { store: Box::new(store), requests: run.requests().clone() }
    }
}

impl Counted<dyn Destination> {
    pub(super) fn destination(mut store: impl Destination, run: &RunContext) -> Self {
        store.begin(run);
        Counted { store: Box::new(store), requests: run.requests().clone() }
    }
}

impl<T: ?Sized> Counted<T> {
    /// The number of requests sent in this run.
    pub(super) fn requests(&self) -> u64 {
        self.requests.get()
    }
}

impl<T: ?Sized> Deref for Counted<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.store
    }
}
