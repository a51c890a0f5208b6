//! Credentials, roles and the clock.

use bp_artifact::{
    ExitCode,
    aws::{AwsError, AwsErrorKind},
    config::EnvironmentConfig,
    time::TimeSource,
};
use jiff::Timestamp;

use super::{
    checks::Doctor,
    row::{RETRY, Row, State},
};
use crate::{Clients, Failure};

/// The row of the caller's own credentials.
pub(super) const CALLER: &str = "caller";

/// The difference at which AWS rejects signatures, in seconds.
const REJECTED: i64 = 300;
/// The difference that is worth a warning: a clock that is synchronised is within a second.
const LARGE: i64 = 30;

impl Doctor {
    /// The caller's own credentials, in the region of an environment, and the clock.
    pub(super) async fn caller(&self, environment: &EnvironmentConfig) -> Vec<Row> {
        let asked = async {
            let clients = self.session.unverified(Some(&environment.region), None).await;
            let start = TimeSource::system().now();
            let (identity, server) = clients.identity().await;
            Ok((identity, server, start, TimeSource::system().now()))
        };
        let (identity, server, start, end) = match self.within(CALLER, asked).await {
            Ok(answer) => answer,
            Err(row) => return vec![row],
        };
        let mut rows = vec![match identity {
            Ok(arn) => Row::ok(CALLER, arn),
            Err(error) => {
                of_aws(CALLER, &error, "set AWS_PROFILE, sign in again, or run where a role is attached")
            }
        }];
        rows.push(clock(server, start, end));
        rows
    }

    /// The identity in an environment, for which it has been signed in.
    pub(super) async fn signed_in(&self, role: &str, clients: &Clients) -> Vec<Row> {
        let asked = async { Ok(clients.identity().await.0) };
        vec![match self.within(role, asked).await {
            Ok(Ok(arn)) => Row::ok(role, arn),
            Ok(Err(error)) => of_aws(role, &error, "sign in again"),
            Err(row) => row,
        }]
    }
}

/// The row of an AWS error.
pub(super) fn of_aws(check: &str, error: &AwsError, remedy: &str) -> Row {
    let state = if error.kind().is_retryable() { State::Unknown } else { State::Failed };
    let detail = match error.kind() {
        AwsErrorKind::Credentials => format!("no valid AWS credentials: {error}"),
        _ => error.to_string(),
    };
    Row::new(check, state, detail).remedy(if state == State::Unknown { RETRY } else { remedy })
}

/// The row of an environment that cannot be signed in to, although the caller has credentials.
pub(super) fn refused(check: &str, environment: &EnvironmentConfig, failure: &Failure) -> Row {
    let row = Row::new(check, State::Failed, failure.to_string());
    match (failure.exit_code(), &environment.role) {
        (ExitCode::Refused, _) => {
            row.remedy("correct account or role of the environment, or use other credentials")
        }
        (_, Some(role)) => row.remedy(format!(
            "allow the caller sts:AssumeRole on {role}, and trust the caller in that role's trust policy \
             (docs/iam/README.md)"
        )),
        (_, None) => row.remedy("set AWS_PROFILE, sign in again, or run where a role is attached"),
    }
}

/// The difference between this machine's clock and AWS's, of a request between `start` and `end`.
fn clock(server: Option<Timestamp>, start: Timestamp, end: Timestamp) -> Row {
    const CHECK: &str = "clock";
    let Some(server) = server else {
        return Row::new(CHECK, State::Unknown, "AWS did not report its time").remedy(RETRY);
    };
    // The response was sent in between; its time has whole seconds.
    let ahead = start.as_second().saturating_sub(server.as_second()).saturating_sub(1);
    let behind = server.as_second().saturating_sub(end.as_second()).saturating_sub(1);
    let (seconds, word) = if ahead > behind { (ahead, "ahead of") } else { (behind, "behind") };
    let remedy = "synchronise the clock of this machine (chrony, timedatectl set-ntp true)";
    match seconds {
        ..=1 => Row::ok(CHECK, "as AWS's"),
        seconds if seconds >= REJECTED => {
            let detail = format!("{seconds} s {word} AWS, which rejects requests from 300 s on");
            Row::new(CHECK, State::Failed, detail).remedy(remedy)
        }
        seconds if seconds >= LARGE => {
            Row::new(CHECK, State::Warning, format!("{seconds} s {word} AWS")).remedy(remedy)
        }
        seconds => Row::ok(CHECK, format!("{seconds} s {word} AWS")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_aws_rejects_fails() {
        let at = |second| Timestamp::from_second(1_800_000_000 + second).unwrap();
        let row = |server: i64, start: i64, end: i64| clock(Some(at(server)), at(start), at(end));
        assert_eq!(row(0, 0, 0).detail, "as AWS's");
        // A slow response makes no difference.
        assert_eq!(row(10, 0, 20).state, State::Ok);
        assert_eq!(row(0, 5, 6).state, State::Ok);
        for (server, word) in [(400, "behind AWS"), (-400, "ahead of AWS")] {
            let failed = row(server, 0, 1);
            assert!(failed.state == State::Failed && failed.detail.contains(word), "{failed:?}");
        }
        assert_eq!(row(60, 0, 1).state, State::Warning);
        assert_eq!(clock(None, at(0), at(1)).state, State::Unknown);
    }

    #[test]
    fn an_error_of_a_failing_service_is_unknown() {
        let of =
            |code, status| of_aws("caller", &AwsError::of_code(code, "m", Some(status), None), "sign in");
        assert_eq!(of("ExpiredToken", 403).state, State::Failed);
        assert_eq!(of("AccessDenied", 403).state, State::Failed);
        assert_eq!(of("ServiceUnavailable", 503).state, State::Unknown);
        assert_eq!(of("Throttling", 400).state, State::Unknown);
    }
}
