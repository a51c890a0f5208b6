//! Exit codes of the binaries, mapped from verdicts and error classes.

use crate::{deploy::Verdict, error::ErrorClass};

/// The exit codes of all binaries, defined only here.
///
/// Programs that run a child process return its exit code; if they fail themselves, they exit with 125.
///
/// ```
/// use bp_artifact::{ExitCode, Verdict, error::ErrorClass};
///
/// assert_eq!(ExitCode::from(Verdict::RolledBack) as u8, 3);
/// assert_eq!(ExitCode::from(ErrorClass::BadInput) as u8, 2);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum ExitCode {
    /// 0: success.
    Done = 0,
    /// 1: unexpected error.
    Unexpected = 1,
    /// 2: bad input.
    BadInput = 2,
    /// 3: failed and rolled back: the previous revision runs again.
    RolledBack = 3,
    /// 4: failed and not rolled back: the previous revision does not run.
    Failed = 4,
    /// 5: refused by policy.
    Refused = 5,
    /// 6: drift, digest mismatch or unproven.
    Drift = 6,
    /// 7: unavailable, timed out, or the outcome could not be observed.
    Unavailable = 7,
    /// 8: superseded, stopped or deleted.
    Superseded = 8,
    /// 9: awaiting approval.
    AwaitingApproval = 9,
    /// 130: interrupted by SIGINT.
    Interrupted = 130,
    /// 143: interrupted by SIGTERM.
    Terminated = 143,
}

impl From<Verdict> for ExitCode {
    fn from(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Deployed => ExitCode::Done,
            Verdict::RolledBack => ExitCode::RolledBack,
            Verdict::RollbackFailed | Verdict::FailedInPlace => ExitCode::Failed,
            Verdict::Unproven | Verdict::DigestMismatch => ExitCode::Drift,
            Verdict::DeadlineExceeded | Verdict::Unobserved => ExitCode::Unavailable,
            Verdict::Superseded | Verdict::Stopped | Verdict::Gone => ExitCode::Superseded,
            Verdict::AwaitingApproval => ExitCode::AwaitingApproval,
        }
    }
}

impl From<ErrorClass> for ExitCode {
    fn from(class: ErrorClass) -> Self {
        match class {
            ErrorClass::BadInput => ExitCode::BadInput,
            ErrorClass::Refused => ExitCode::Refused,
            ErrorClass::Unavailable => ExitCode::Unavailable,
            ErrorClass::Superseded => ExitCode::Superseded,
            ErrorClass::DigestMismatch => ExitCode::Drift,
            ErrorClass::Interrupted => ExitCode::Interrupted,
            ErrorClass::Unexpected => ExitCode::Unexpected,
        }
    }
}

impl From<ExitCode> for std::process::ExitCode {
    fn from(code: ExitCode) -> Self {
        (code as u8).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_deployed_is_success() {
        for &verdict in Verdict::ALL {
            assert_eq!(ExitCode::from(verdict) == ExitCode::Done, verdict == Verdict::Deployed, "{verdict}");
        }
    }
}
