//! Emit the events of one target.

use jiff::Timestamp;

use super::{DeployEvent, Progress, TargetId, failure::without_credentials};
use crate::operation::Emitter;

/// Emits the events of one target, all under its id. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Reporter {
    target: TargetId,
    events: Emitter<DeployEvent>,
}

impl Reporter {
    /// Creates a reporter that emits the events of `target` to `events`.
    pub fn new(events: &Emitter<DeployEvent>, target: TargetId) -> Self {
        Reporter { target, events: events.clone() }
    }

    /// The target.
    pub fn target(&self) -> &TargetId {
        &self.target
    }

    /// Emits progress.
    pub fn progress(&self, progress: Progress) {
        self.emit(|target| DeployEvent::Progress { target, progress });
    }

    /// Emits a message of the platform, without the [credentials of URLs](crate::text::without_credentials).
    pub fn notice(&self, message: impl Into<String>) {
        let message = without_credentials(message);
        self.emit(|target| DeployEvent::Notice { target, message });
    }

    /// Emits a log line of a container, with the number of lines omitted before it.
    pub fn log(
        &self,
        source: impl Into<String>,
        line: impl Into<String>,
        at: Option<Timestamp>,
        left_out: u32,
    ) {
        let (source, line) = (source.into(), line.into());
        self.emit(|target| DeployEvent::Log { target, source, line, at, left_out });
    }

    /// Whether the caller cancelled the operation.
    pub fn is_cancelled(&self) -> bool {
        self.events.is_cancelled()
    }

    /// Completes when the caller cancels the operation.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn cancelled(&self) {
        self.events.cancelled().await;
    }

    pub(super) fn emit(&self, event: impl FnOnce(TargetId) -> DeployEvent) {
        self.events.emit(event(self.target.clone()));
    }
}
