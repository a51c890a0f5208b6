//! The rows of the table, and the report.

use std::{collections::BTreeMap, fmt};

use bp_artifact::{
    ExitCode,
    config::Environment,
    error::{Classified, chain},
    text::single_line,
};
use serde::Serialize;

use crate::Failure;

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

    pub(super) fn of(mut self, environment: &Environment) -> Self {
        self.environment = Some(environment.clone());
        self
    }
}

/// What to do about a check that could not be completed.
pub(super) const RETRY: &str =
    "check the network, proxy and endpoint, and run doctor again; --timeout allows more time";

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

#[cfg(test)]
mod tests {
    use bp_artifact::Registry;

    use super::*;

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

    #[test]
    fn an_error_that_may_pass_is_unknown() {
        let invalid = "256.256.256.256".parse::<Registry>().unwrap_err();
        assert_eq!(Row::of_error("x", &invalid, "correct it").state, State::Failed);
        let failed = Row::of_failure("x", &Failure::unavailable("no answer"), "correct it");
        assert_eq!((failed.state, failed.remedy.as_deref()), (State::Unknown, Some(RETRY)));
    }
}
