//! Check what the commands need: tools, credentials and roles, the clock, registries, services and workloads, permissions.
//! Changes nothing.

mod access;
mod ecs;
mod eks;
mod registry;
mod tools;

use std::{collections::BTreeMap, fmt, future::Future, time::Duration};

use bp_artifact::{
    Config, ExitCode,
    config::{Environment, EnvironmentConfig},
    error::{Classified, chain},
    text::single_line,
};
use futures_util::future::join_all;
use serde::Serialize;
use tokio::time::{Instant, timeout_at};

use crate::{Delivery, Failure, Session};

/// The result of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum State {
    /// It is as the commands need it.
    Ok,
    /// It cannot be checked without a change: AWS has no dry run for it.
    NotTried,
    /// Commands work, with limitations.
    Warning,
    /// It could not be determined: unreachable, throttled, or out of time.
    Unknown,
    /// A command would fail with it.
    Failed,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            State::Ok => "ok",
            State::NotTried => "not tried",
            State::Warning => "warning",
            State::Unknown => "unknown",
            State::Failed => "FAILED",
        })
    }
}

/// One check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Row {
    /// The environment, if it concerns one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) environment: Option<Environment>,
    pub(crate) check: String,
    pub(crate) state: State,
    pub(crate) detail: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) remedy: Option<String>,
}

impl Row {
    pub(crate) fn new(check: impl Into<String>, state: State, detail: impl Into<String>) -> Self {
        let (check, detail) = (check.into(), single_line(&detail.into()));
        Row { environment: None, check, state, detail, remedy: None }
    }

    pub(crate) fn ok(check: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::new(check, State::Ok, detail)
    }

    /// The row of an error: failed, unless the same call may succeed later.
    pub(crate) fn of_error(check: impl Into<String>, error: &impl Classified, remedy: &str) -> Self {
        let state = if error.is_retryable() { State::Unknown } else { State::Failed };
        Row::new(check, state, chain(error)).remedy(if state == State::Unknown { RETRY } else { remedy })
    }

    /// As [`of_error`](Self::of_error).
    pub(crate) fn of_failure(check: impl Into<String>, failure: &Failure, remedy: &str) -> Self {
        let state = if failure.is_retryable() { State::Unknown } else { State::Failed };
        Row::new(check, state, failure.to_string()).remedy(if state == State::Unknown {
            RETRY
        } else {
            remedy
        })
    }

    pub(crate) fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(single_line(&remedy.into()));
        self
    }

    fn of(mut self, environment: &Environment) -> Self {
        self.environment = Some(environment.clone());
        self
    }
}

/// What to do about a check that could not be completed.
const RETRY: &str = "check the network, proxy and endpoint, and run doctor again; --timeout allows more time";

/// All checks of a run.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    /// Whether no check failed.
    pub(crate) ready: bool,
    counts: BTreeMap<State, usize>,
    pub(crate) rows: Vec<Row>,
}

impl Report {
    pub(crate) fn new(rows: Vec<Row>) -> Self {
        let mut counts = BTreeMap::new();
        for row in &rows {
            *counts.entry(row.state).or_default() += 1;
        }
        Report { ready: !counts.contains_key(&State::Failed), counts, rows }
    }

    /// The exit code: refused if a check failed, unavailable if one could not be completed.
    pub(crate) fn exit_code(&self) -> ExitCode {
        if !self.ready {
            ExitCode::Refused
        } else if self.counts.contains_key(&State::Unknown) {
            ExitCode::Unavailable
        } else {
            ExitCode::Done
        }
    }

    /// The table: an entry for each row, and a last one with the counts.
    pub(crate) fn entries(&self) -> Vec<String> {
        let name = |row: &Row| row.environment.as_ref().map_or("-", Environment::as_str).to_owned();
        let widest = |of: &dyn Fn(&Row) -> usize| self.rows.iter().map(of).max().unwrap_or(0);
        let environment = widest(&|row| name(row).chars().count());
        let check = widest(&|row| row.check.chars().count());
        let entry = |row: &Row| {
            let Row { state, check: subject, detail, remedy, .. } = row;
            let line = format!("{state:<9}  {:<environment$}  {subject:<check$}  {detail}", name(row));
            let line = line.trim_end().to_owned();
            remedy.as_ref().map_or(line.clone(), |remedy| format!("{line}\n    do: {remedy}"))
        };
        let mut entries: Vec<String> = self.rows.iter().map(entry).collect();
        let counts: Vec<String> =
            self.counts.iter().rev().map(|(state, count)| format!("{count} {state}")).collect();
        entries.push(format!("doctor: {}", counts.join(", ")));
        entries
    }
}

/// The checks of a run, with their common deadline.
pub(crate) struct Doctor {
    pub(crate) session: Session,
    deadline: Instant,
    timeout: Duration,
}

impl Doctor {
    pub(crate) fn new(session: Session, timeout: Duration) -> Self {
        Doctor { session, deadline: bp_artifact::time::deadline(timeout), timeout }
    }

    /// Runs all checks.
    pub(crate) async fn run(&self, config: &Config, environments: &[&EnvironmentConfig]) -> Report {
        let mut rows = vec![tools::build(environments)];
        rows.extend(self.tools(environments).await);
        let caller = match environments.first() {
            Some(first) => self.caller(first).await,
            None => Vec::new(),
        };
        let caller_is_unknown =
            caller.iter().any(|row| row.check == access::CALLER && row.state != State::Ok);
        rows.extend(caller);
        let all = environments.iter().map(|environment| self.environment(environment, caller_is_unknown));
        for (environment, checked) in environments.iter().zip(join_all(all).await) {
            rows.extend(checked.into_iter().map(|row| row.of(&environment.name)));
        }
        let names: Vec<&str> = config.environments().iter().map(|e| e.name.as_str()).collect();
        rows.insert(0, Row::ok("bp.toml", format!("{}: {}", config.project.name, names.join(" -> "))));
        Report::new(rows)
    }

    async fn environment(&self, environment: &EnvironmentConfig, caller_is_unknown: bool) -> Vec<Row> {
        let role = if environment.role.is_some() { "role" } else { "sign-in" };
        if caller_is_unknown {
            let detail = "not checked, because there is no identity of the caller";
            return vec![Row::new(role, State::Unknown, detail).remedy("see the row of the caller")];
        }
        let opened = self.within(role, async { Ok(self.session.open(environment).await) }).await;
        let clients = match opened {
            Ok(Ok(clients)) => clients,
            Ok(Err(failure)) => return vec![access::refused(role, environment, &failure)],
            Err(row) => return vec![row],
        };
        let mut rows = self.signed_in(role, &clients).await;
        rows.extend(self.registry(environment, &clients).await);
        let services = environment.services().iter().map(async |service| {
            let delivery = Delivery::new(environment.clone(), service.clone(), clients.clone());
            let mut rows = self.ecs(&delivery).await;
            rows.extend(self.eks(&delivery).await);
            rows
        });
        rows.extend(join_all(services).await.into_iter().flatten());
        rows
    }

    /// Runs one check until the deadline; past it, its row is unknown.
    async fn within<T>(&self, check: &str, work: impl Future<Output = Result<T, Row>>) -> Result<T, Row> {
        timeout_at(self.deadline, work).await.unwrap_or_else(|_| {
            let detail = format!("not completed within {} s", self.timeout.as_secs_f64());
            Err(Row::new(check, State::Unknown, detail).remedy(RETRY))
        })
    }

    /// As [`within`](Self::within), for a check with one row.
    async fn row(&self, check: &str, work: impl Future<Output = Row>) -> Row {
        self.within(check, async { Ok(work.await) }).await.unwrap_or_else(|row| row)
    }
}

#[cfg(test)]
mod tests {
    use bp_artifact::Registry;

    use super::*;

    fn doctor() -> Doctor {
        Doctor::new(Session::new(crate::Endpoints::default()), Duration::from_secs(3))
    }

    #[test]
    fn unknown_and_not_tried_are_states_of_their_own() {
        let code = |states: &[State]| {
            Report::new(states.iter().map(|state| Row::new("x", *state, "")).collect()).exit_code()
        };
        assert_eq!(code(&[]), ExitCode::Done);
        assert_eq!(code(&[State::Ok, State::Warning, State::NotTried]), ExitCode::Done);
        assert_eq!(code(&[State::Ok, State::Unknown]), ExitCode::Unavailable);
        assert_eq!(code(&[State::Unknown, State::Failed]), ExitCode::Refused);
    }

    #[test]
    fn rows_are_columns_and_remedies_follow_them() {
        let prod: Environment = "prod".parse().unwrap();
        let report = Report::new(vec![
            Row::ok("bp.toml", "shop"),
            Row::new("ecs service web", State::Failed, "no\nsuch \u{1b}[2Jservice")
                .remedy("create it")
                .of(&prod),
        ]);
        assert_eq!(
            report.entries(),
            [
                "ok         -     bp.toml          shop",
                "FAILED     prod  ecs service web  no such service\n    do: create it",
                "doctor: 1 FAILED, 1 ok",
            ]
        );
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!(json["rows"][1]["state"], "failed");
        assert_eq!((json["ready"].as_bool(), json["counts"]["ok"].as_u64()), (Some(false), Some(1)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_check_past_the_deadline_is_unknown() {
        let start = Instant::now();
        let row = doctor().row("registry", std::future::pending()).await;
        assert_eq!((row.state, start.elapsed().as_secs()), (State::Unknown, 3));
        assert!(row.detail.contains("3 s") && row.remedy.unwrap().contains("--timeout"), "{}", row.detail);
    }

    #[test]
    fn an_error_that_may_pass_is_unknown() {
        let invalid = "256.256.256.256".parse::<Registry>().unwrap_err();
        assert_eq!(Row::of_error("x", &invalid, "correct it").state, State::Failed);
        let failed = Row::of_failure("x", &Failure::unavailable("no answer"), "correct it");
        assert_eq!((failed.state, failed.remedy.as_deref()), (State::Unknown, Some(RETRY)));
    }
}
