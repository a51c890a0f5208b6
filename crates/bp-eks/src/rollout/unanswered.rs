//! Changes that were sent and not answered.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::Error;

/// Whether any attempt of a change was sent and not answered: it may be applied, whatever a later attempt is answered.
#[derive(Debug, Default)]
pub(super) struct Unanswered(AtomicBool);

impl Unanswered {
    /// Sends the change.
    pub(super) async fn send<T>(&self, change: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        let answer = change.await;
        if matches!(answer, Err(Error::Unreachable { .. })) {
            self.0.store(true, Ordering::Relaxed);
        }
        answer
    }

    pub(super) fn is_any(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}
