//! Exit codes of the binaries, mapped from verdicts and error classes.

use crate::{
    deploy::{Outcome, Verdict},
    error::ErrorClass,
};

/// The exit codes of all binaries, defined only here.
///
/// Programs that run a child process, or a one-off task, return its exit code; if they fail themselves, they exit with
/// 125.
///
/// ```
/// use bp_artifact::{ExitCode, Verdict, error::ErrorClass};
///
/// assert_eq!(ExitCode::from(Verdict::RolledBack).code(), 3);
/// assert_eq!(ExitCode::from(ErrorClass::BadInput).code(), 2);
/// assert_eq!(ExitCode::Child(42).code(), 42);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ExitCode {
    /// 0: success.
    Done,
    /// 1: unexpected error.
    Unexpected,
    /// 2: bad input.
    BadInput,
    /// 3: failed and rolled back: the previous revision runs again.
    RolledBack,
    /// 4: failed and not rolled back: the previous revision does not run.
    Failed,
    /// 5: refused by policy.
    Refused,
    /// 6: drift, digest mismatch or unproven.
    Drift,
    /// 7: unavailable, timed out, or the outcome could not be observed.
    Unavailable,
    /// 8: superseded, stopped or deleted.
    Superseded,
    /// 9: awaiting approval.
    AwaitingApproval,
    /// 125: a program that runs another one failed itself.
    RunFailed,
    /// 129: interrupted by SIGHUP.
    HungUp,
    /// 130: interrupted by SIGINT.
    Interrupted,
    /// 143: interrupted by SIGTERM.
    Terminated,
    /// The exit code of the program that was run.
    Child(u8),
}

impl ExitCode {
    /// The exit code of a program that ran a one-off task: that of its container, and 125 if the task did not end by
    /// itself, or did not succeed although its container exited with code 0.
    pub fn of_task(outcome: &Outcome) -> Self {
        if outcome.verdict().is_success() {
            return ExitCode::Done;
        }
        let failed = outcome.verdict() == Verdict::FailedInPlace;
        let code = outcome.exit_code.filter(|code| failed && *code != 0);
        code.and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::RunFailed, ExitCode::Child)
    }

    /// The code.
    pub fn code(self) -> u8 {
        match self {
            ExitCode::Done => 0,
            ExitCode::Unexpected => 1,
            ExitCode::BadInput => 2,
            ExitCode::RolledBack => 3,
            ExitCode::Failed => 4,
            ExitCode::Refused => 5,
            ExitCode::Drift => 6,
            ExitCode::Unavailable => 7,
            ExitCode::Superseded => 8,
            ExitCode::AwaitingApproval => 9,
            ExitCode::RunFailed => 125,
            ExitCode::HungUp => 129,
            ExitCode::Interrupted => 130,
            ExitCode::Terminated => 143,
            ExitCode::Child(code) => code,
        }
    }
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
        code.code().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passes_the_exit_code_of_a_task_through() {
        let ended = |verdict, exit_code| {
            let outcome = Outcome::unproven(crate::deploy::TargetId::new("t"));
            ExitCode::of_task(&Outcome { verdict, exit_code, ..outcome }).code()
        };
        for (verdict, exit_code, code) in [
            (Verdict::Deployed, Some(0), 0),
            (Verdict::FailedInPlace, Some(3), 3),
            (Verdict::FailedInPlace, Some(137), 137),
            (Verdict::FailedInPlace, Some(0), 125),
            (Verdict::FailedInPlace, Some(-1_073_741_510), 125),
            (Verdict::FailedInPlace, None, 125),
            (Verdict::DigestMismatch, Some(0), 125),
            (Verdict::DeadlineExceeded, Some(143), 125),
            (Verdict::Stopped, Some(143), 125),
            (Verdict::Unobserved, None, 125),
        ] {
            assert_eq!(ended(verdict, exit_code), code, "{verdict}, {exit_code:?}");
        }
    }

    #[test]
    fn only_deployed_is_success() {
        for &verdict in Verdict::ALL {
            assert_eq!(ExitCode::from(verdict) == ExitCode::Done, verdict == Verdict::Deployed, "{verdict}");
        }
    }
}
