//! Results of the scenarios per server.

use std::{collections::BTreeSet, fmt};

use anyhow::{Error, Result};

use crate::{clock, report};

pub(super) struct Table {
    rows: Vec<Row>,
    /// Run only scenarios whose name contains this text.
    only: Option<String>,
}

struct Row {
    scenario: String,
    server: String,
    outcome: Outcome,
}

enum Outcome {
    /// With a detail to show.
    Passed(String),
    Failed,
    /// Not possible on this server: the reason.
    SandboxOnly(&'static str),
}

impl Table {
    pub(super) fn only(only: Option<String>) -> Self {
        Table { rows: Vec::new(), only }
    }

    /// Runs a scenario and records its result.
    pub(super) fn scenario(&mut self, server: &str, scenario: &str, body: impl FnOnce() -> Result<String>) {
        if self.only.as_ref().is_some_and(|only| !scenario.contains(only)) {
            return;
        }
        let (ended, took) = clock::timed(body);
        match ended {
            Ok(seen) => {
                report::line(format_args!("ok   [{server}] {scenario} ({:.1} s) {seen}", took.as_secs_f64()));
                self.push(server, scenario, Outcome::Passed(seen));
            }
            Err(error) => self.failed(server, scenario, &error),
        }
    }

    /// Records a failure.
    pub(super) fn failed(&mut self, server: &str, scenario: &str, error: &Error) {
        report::line(format_args!("FAIL [{server}] {scenario}: {error:#}"));
        self.push(server, scenario, Outcome::Failed);
    }

    /// Records a scenario that this server does not support.
    pub(super) fn sandbox_only(&mut self, server: &str, scenario: &str, why: &'static str) {
        report::line(format_args!("     [{server}] {scenario}: sandbox only: {why}"));
        self.push(server, scenario, Outcome::SandboxOnly(why));
    }

    fn push(&mut self, server: &str, scenario: &str, outcome: Outcome) {
        self.rows.push(Row { scenario: scenario.to_owned(), server: server.to_owned(), outcome });
    }

    /// The number of scenarios that passed and that failed.
    pub(super) fn counts(&self) -> (usize, usize) {
        let count =
            |wanted: fn(&Outcome) -> bool| self.rows.iter().filter(|row| wanted(&row.outcome)).count();
        (count(|o| matches!(o, Outcome::Passed(_))), count(|o| matches!(o, Outcome::Failed)))
    }

    /// Prints one line per scenario, with its result on each server.
    pub(super) fn print(&self) {
        let mut scenarios: Vec<&str> = self.rows.iter().map(|row| row.scenario.as_str()).collect();
        let mut seen = BTreeSet::new();
        scenarios.retain(|scenario| seen.insert(*scenario));
        let width = scenarios.iter().map(|scenario| scenario.len()).max().unwrap_or(0);
        for scenario in scenarios {
            let rows = self.rows.iter().filter(|row| row.scenario == scenario);
            let cells: Vec<String> = rows.map(|row| format!("{} {}", row.server, row.outcome)).collect();
            report::line(format_args!("{scenario:<width$} | {}", cells.join(", ")));
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Outcome::Passed(seen) if seen.is_empty() => f.write_str("ok"),
            Outcome::Passed(seen) => write!(f, "ok ({seen})"),
            Outcome::Failed => f.write_str("FAILED"),
            Outcome::SandboxOnly(why) => write!(f, "sandbox only ({why})"),
        }
    }
}
