//! What an event changes in the output, and the words that several events share.

use std::time::Duration;

use bp_artifact::Verdict;

use crate::look::{Bar, Tone};

/// How much of the events is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Detail {
    /// Everything but progress that has not changed: in a log, nothing is shown in place.
    Log,
    /// What is not shown in place.
    Terminal,
    /// Results and failures.
    Tour,
}

/// What an event changes in the output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Action {
    /// Prints an entry.
    Line(Tone, String),
    /// Shows progress in place. If it is `logged`, a log contains it from time to time.
    Bar { key: String, bar: Bar, logged: bool },
    /// Removes progress.
    Gone(String),
}

impl Action {
    pub(super) fn line(tone: Tone, name: &str, text: &str) -> Action {
        Action::Line(tone, format!("{name}: {text}"))
    }
}

/// The tone of a verdict.
pub(super) fn tone(verdict: Verdict) -> Tone {
    match verdict {
        Verdict::Deployed => Tone::Good,
        Verdict::Unproven
        | Verdict::AwaitingApproval
        | Verdict::DeadlineExceeded
        | Verdict::Unobserved
        | Verdict::Stopped
        | Verdict::Superseded => Tone::Warning,
        Verdict::DigestMismatch
        | Verdict::RolledBack
        | Verdict::RollbackFailed
        | Verdict::FailedInPlace
        | Verdict::Gone => Tone::Bad,
    }
}

/// A duration as people read it: `3.1 s`, `42 s`, `5 min 3 s`.
pub(super) fn duration(time: Duration) -> String {
    match time.as_secs() {
        0..10 => format!("{:.1} s", time.as_secs_f64()),
        seconds @ 10..60 => format!("{seconds} s"),
        seconds => format!("{} min {} s", seconds / 60, seconds % 60),
    }
}
