//! What was proven where.

use std::{collections::BTreeSet, fmt};

use anyhow::{Error, Result};

use crate::{clock, report};

pub(super) struct Table {
    rows: Vec<Row>,
    /// Only scenarios that have this in their name are run.
    only: Option<String>,
}

struct Row {
    scenario: String,
    server: String,
    outcome: Outcome,
}

enum Outcome {
    /// What was seen.
    Passed(String),
    Failed,
    /// Where alone it is shown, and why this server cannot.
    Elsewhere(&'static str, &'static str),
}

impl Table {
    pub(super) fn only(only: Option<String>) -> Self {
        Table { rows: Vec::new(), only }
    }

    /// Runs a scenario and notes how it ended.
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

    /// Notes a failure.
    pub(super) fn failed(&mut self, server: &str, scenario: &str, error: &Error) {
        report::line(format_args!("FAIL [{server}] {scenario}: {error:#}"));
        self.push(server, scenario, Outcome::Failed);
    }

    /// Notes what this server cannot show.
    pub(super) fn sandbox_only(&mut self, server: &str, scenario: &str, why: &'static str) {
        self.elsewhere(server, scenario, "sandbox only", why);
    }

    /// Notes what the sandbox cannot show.
    pub(super) fn real_only(&mut self, server: &str, scenario: &str, why: &'static str) {
        self.elsewhere(server, scenario, "real server only", why);
    }

    fn elsewhere(&mut self, server: &str, scenario: &str, place: &'static str, why: &'static str) {
        report::line(format_args!("     [{server}] {scenario}: {place}: {why}"));
        self.push(server, scenario, Outcome::Elsewhere(place, why));
    }

    fn push(&mut self, server: &str, scenario: &str, outcome: Outcome) {
        self.rows.push(Row { scenario: scenario.to_owned(), server: server.to_owned(), outcome });
    }

    /// Scenarios that passed and that failed.
    pub(super) fn counts(&self) -> (usize, usize) {
        let count =
            |wanted: fn(&Outcome) -> bool| self.rows.iter().filter(|row| wanted(&row.outcome)).count();
        (count(|o| matches!(o, Outcome::Passed(_))), count(|o| matches!(o, Outcome::Failed)))
    }

    /// The whole table: a scenario a line, with what every server showed.
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
            Outcome::Elsewhere(place, why) => write!(f, "{place} ({why})"),
        }
    }
}
