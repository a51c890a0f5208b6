//! What a follower has already reported.

/// The state that was already reported.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Reported {
    pub(super) newest_event: Option<String>,
    pub(super) failures: (i32, i32),
    /// Whether a task ran in the last poll.
    pub(super) ran: bool,
    /// Whether a task ran in two polls in a row.
    pub(super) running: bool,
}

impl Reported {
    /// Events up to `newest_event` belong to earlier deployments.
    pub(super) fn after(newest_event: Option<String>) -> Self {
        Reported { newest_event, ..Reported::default() }
    }
}
