//! Rows of checks that take too long, or end with an error.

use std::time::Duration;

use bp_artifact::{
    ExitCode,
    check::{CheckKind, CheckResult, Verified},
};

use crate::Failure;

/// The time limit of one check, after which its result is unknown.
pub(super) const TIMEOUT: Duration = Duration::from_secs(30);

/// Runs a check within the time limit.
pub(super) async fn limited(
    target: &str,
    kind: CheckKind,
    check: impl Future<Output = Vec<Verified>>,
) -> Vec<Verified> {
    match tokio::time::timeout(TIMEOUT, check).await {
        Ok(rows) => rows,
        Err(_) => {
            vec![Verified::new(target, kind, CheckResult::Unknown, format!("no answer within {TIMEOUT:?}"))]
        }
    }
}

/// The row of a check that ended with an error: an object that does not exist, or is not as configured, is a failure;
/// what cannot be reached or read is unknown.
pub(super) fn failed(target: &str, kind: CheckKind, failure: &Failure) -> Verified {
    let result = match failure.exit_code() {
        ExitCode::BadInput
        | ExitCode::Refused
        | ExitCode::Drift
        | ExitCode::Failed
        | ExitCode::RolledBack => CheckResult::Fail,
        ExitCode::Done
        | ExitCode::Unexpected
        | ExitCode::Unavailable
        | ExitCode::Superseded
        | ExitCode::AwaitingApproval
        | ExitCode::RunFailed
        | ExitCode::HungUp
        | ExitCode::Interrupted
        | ExitCode::Terminated
        | ExitCode::Child(_) => CheckResult::Unknown,
    };
    Verified::new(target, kind, result, failure.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_reached_is_unknown_and_what_does_not_exist_is_a_failure() {
        let row = |failure| failed("ecs/a/b", CheckKind::Rollout, &failure).result;
        assert_eq!(row(Failure::unavailable("denied")), CheckResult::Unknown);
        assert_eq!(row(Failure::unexpected("not JSON")), CheckResult::Unknown);
        assert_eq!(row(Failure::bad_input("the service does not exist")), CheckResult::Fail);
    }

    #[tokio::test(start_paused = true)]
    async fn a_check_that_hangs_is_unknown() {
        let rows = limited("host", CheckKind::Dns, std::future::pending()).await;
        assert_eq!((rows.len(), rows[0].result), (1, CheckResult::Unknown));
    }
}
