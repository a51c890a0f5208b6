//! Health checks with a deadline and retries: an HTTP endpoint, a command, or a custom check; and the table of the results
//! of all checks of an environment.
//!
//! A check is read-only, and distinguishes a failure from a result that could not be observed: a deployment is rolled
//! back for the former only. `bp_eks::check::JobCheck` runs a Kubernetes Job, `bp_ecs::check::AlarmCheck` reads CloudWatch
//! alarms.

#[cfg(feature = "command")]
mod command;
pub(crate) mod http;
mod verification;

use std::{fmt, time::Duration};

use futures_core::future::BoxFuture;
use serde::Serialize;
use tokio::time::{Instant, sleep_until, timeout_at};

#[cfg(feature = "command")]
pub use self::command::CommandCheck;
pub use self::http::{HttpAnswer, HttpCheck, HttpTransport, TransportError};
#[cfg(feature = "schema")]
pub use self::verification::verification_schema;
pub use self::verification::{CheckKind, CheckResult, Verification, Verified};
use crate::time::{self, Wait};

/// A check that can be repeated.
pub trait Check: Send + Sync {
    /// The name for display, without secrets: `GET https://shop.example.com/readyz`.
    fn name(&self) -> String;

    /// Runs the check once. It must not change what it checks.
    ///
    /// # Cancel safety
    /// Cancel safe.
    fn attempt(&self) -> BoxFuture<'_, CheckVerdict>;

    /// Whether [`check_until`] repeats the check after it failed, which is the default. `false` for a check that itself
    /// waits and retries. A check that could not be observed is always repeated.
    fn retries_failures(&self) -> bool {
        true
    }
}

/// The result of a check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "verdict", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum CheckVerdict {
    /// The check passed.
    Passed,
    /// The check failed.
    Failed {
        /// What was found.
        reason: String,
    },
    /// The check could not be observed: whether the service works is unknown.
    Unobserved {
        /// The reason.
        reason: String,
    },
}

impl CheckVerdict {
    /// Creates a failure.
    pub fn failed(reason: impl Into<String>) -> Self {
        CheckVerdict::Failed { reason: reason.into() }
    }

    /// Creates an unobserved result.
    pub fn unobserved(reason: impl Into<String>) -> Self {
        CheckVerdict::Unobserved { reason: reason.into() }
    }
}

impl fmt::Display for CheckVerdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CheckVerdict::Passed => f.write_str("passed"),
            CheckVerdict::Failed { reason } => write!(f, "failed: {reason}"),
            CheckVerdict::Unobserved { reason } => write!(f, "could not be observed: {reason}"),
        }
    }
}

/// The final result of a repeated check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct CheckReport {
    /// The name of the check.
    pub name: String,
    /// The result of the last attempt.
    #[serde(flatten)]
    pub verdict: CheckVerdict,
    /// The number of attempts.
    pub attempts: u32,
    /// How long it took.
    #[serde(rename = "waitedMs", serialize_with = "milliseconds")]
    pub waited: Duration,
}

impl fmt::Display for CheckReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, verdict, attempts, waited } = self;
        let word = if *attempts == 1 { "attempt" } else { "attempts" };
        write!(f, "{name}: {verdict} ({attempts} {word}, {:.1} s)", waited.as_secs_f64())
    }
}

/// Repeats `check` until it passes or the deadline of `wait` passes; a check that does not
/// [retry failures](Check::retries_failures) also ends when it fails.
///
/// ```
/// use std::time::Duration;
/// use bp_artifact::{check::{Check, CheckVerdict, check_until}, time::Wait};
///
/// struct Works;
///
/// impl Check for Works {
///     fn name(&self) -> String {
///         "works".into()
///     }
///
///     fn attempt(&self) -> futures_util::future::BoxFuture<'_, CheckVerdict> {
///         Box::pin(async { CheckVerdict::Passed })
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let report = check_until(&Works, Wait::new(Duration::from_secs(60), Duration::from_secs(2))?).await;
/// assert_eq!((report.verdict, report.attempts), (CheckVerdict::Passed, 1));
/// # Ok(()) }
/// ```
///
/// # Permissions
/// Those of the check.
///
/// # Cancel safety
/// Cancel safe: changes nothing.
pub async fn check_until(check: &dyn Check, wait: Wait) -> CheckReport {
    let start = Instant::now();
    let deadline = time::deadline(wait.deadline());
    let report =
        |verdict, attempts| CheckReport { name: check.name(), verdict, attempts, waited: start.elapsed() };
    let mut attempts = 0_u32;
    let mut last = None;
    loop {
        attempts = attempts.saturating_add(1);
        match timeout_at(deadline, check.attempt()).await {
            Ok(CheckVerdict::Passed) => return report(CheckVerdict::Passed, attempts),
            Ok(verdict @ CheckVerdict::Failed { .. }) if !check.retries_failures() => {
                return report(verdict, attempts);
            }
            Ok(verdict) => last = Some(verdict),
            // An attempt that hangs has no result: use that of the previous one.
            Err(_) => {
                let silent = || CheckVerdict::unobserved(format!("no answer within {:?}", wait.deadline()));
                return report(last.unwrap_or_else(silent), attempts);
            }
        }
        let next = time::deadline(wait.pause());
        if next >= deadline {
            sleep_until(deadline).await;
            let verdict = last.unwrap_or_else(|| CheckVerdict::unobserved("there was no attempt"));
            return report(verdict, attempts);
        }
        sleep_until(next).await;
    }
}

fn milliseconds<S: serde::Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    /// Returns these results in order, and repeats the last one. `None` hangs.
    struct Script {
        left: Mutex<Vec<Option<CheckVerdict>>>,
        retries_failures: bool,
    }

    impl Check for Script {
        fn name(&self) -> String {
            "script".into()
        }

        fn attempt(&self) -> BoxFuture<'_, CheckVerdict> {
            let mut left = self.left.lock().unwrap();
            let next = if left.len() > 1 { left.remove(0) } else { left[0].clone() };
            Box::pin(async move {
                match next {
                    Some(verdict) => verdict,
                    None => std::future::pending().await,
                }
            })
        }

        fn retries_failures(&self) -> bool {
            self.retries_failures
        }
    }

    async fn run(found: &[Option<CheckVerdict>]) -> CheckReport {
        run_with(found, true).await
    }

    async fn run_with(found: &[Option<CheckVerdict>], retries_failures: bool) -> CheckReport {
        let wait = Wait::new(Duration::from_secs(20), Duration::from_secs(2)).unwrap();
        check_until(&Script { left: Mutex::new(found.to_vec()), retries_failures }, wait).await
    }

    #[tokio::test(start_paused = true)]
    async fn a_check_that_does_not_retry_failures_ends_with_its_first_failure() {
        let found =
            [CheckVerdict::unobserved("refused"), CheckVerdict::failed("exit code 3"), CheckVerdict::Passed];
        let report = run_with(&found.map(Some), false).await;
        assert_eq!((report.verdict, report.attempts), (CheckVerdict::failed("exit code 3"), 2));
        assert!(report.waited < Duration::from_secs(3), "{:?}", report.waited);
    }

    #[tokio::test(start_paused = true)]
    async fn repeats_until_it_passes() {
        let found = [CheckVerdict::failed("503"), CheckVerdict::unobserved("refused"), CheckVerdict::Passed];
        let report = run(&found.map(Some)).await;
        assert_eq!((report.verdict, report.attempts), (CheckVerdict::Passed, 3));
        assert!((3200..=4900).contains(&report.waited.as_millis()), "{:?}", report.waited);
    }

    #[tokio::test(start_paused = true)]
    async fn ends_at_the_deadline_with_the_last_result() {
        let report =
            run(&[Some(CheckVerdict::unobserved("refused")), Some(CheckVerdict::failed("503"))]).await;
        assert_eq!(
            (report.verdict.clone(), report.waited),
            (CheckVerdict::failed("503"), Duration::from_secs(20))
        );
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!((json["verdict"].as_str(), json["reason"].as_str()), (Some("failed"), Some("503")));
        assert!(report.to_string().starts_with("script: failed: 503 ("), "{report}");
    }

    #[tokio::test(start_paused = true)]
    async fn an_attempt_that_hangs_is_not_a_failure() {
        let report = run(&[None]).await;
        assert_eq!((report.verdict, report.attempts), (CheckVerdict::unobserved("no answer within 20s"), 1));
        let report = run(&[Some(CheckVerdict::failed("503")), None]).await;
        assert_eq!((report.verdict, report.attempts), (CheckVerdict::failed("503"), 2));
    }
}
