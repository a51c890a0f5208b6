//! A request to stop: how the operations of a program learn of a signal.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use tokio::sync::watch;

/// Shared by all clones of a [`Ui`](crate::Ui).
#[derive(Clone, Default)]
pub(crate) struct Stop(Arc<State>);

#[derive(Default)]
struct State {
    requested: watch::Sender<bool>,
    /// The number of operations that are being followed.
    followed: AtomicUsize,
    /// The number of rollbacks that a request does not stop.
    rollbacks: AtomicUsize,
}

/// Counts until it is dropped.
pub(crate) struct Counted<'s>(&'s AtomicUsize);

impl<'s> Counted<'s> {
    fn new(count: &'s AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Counted(count)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Stop {
    /// Asks the followed operations to stop at their next safe point.
    pub(crate) fn request(&self) {
        self.0.requested.send_replace(true);
    }

    /// Completes when a stop was requested.
    pub(crate) async fn requested(&self) {
        // The sender lives as long as `self`.
        let _ = self.0.requested.subscribe().wait_for(|requested| *requested).await;
    }

    /// Marks an operation as followed.
    pub(crate) fn following(&self) -> Counted<'_> {
        Counted::new(&self.0.followed)
    }

    /// Marks a rollback that was started because of the request.
    pub(crate) fn rolling_back(&self) -> Counted<'_> {
        Counted::new(&self.0.rollbacks)
    }

    /// Whether an operation is followed, which stops at its next safe point and reports how far it got.
    #[cfg(feature = "cli")]
    pub(crate) fn is_following(&self) -> bool {
        self.0.followed.load(Ordering::SeqCst) > 0
    }

    /// Whether a rollback is in progress.
    #[cfg(feature = "cli")]
    pub(crate) fn is_rolling_back(&self) -> bool {
        self.0.rollbacks.load(Ordering::SeqCst) > 0
    }
}
