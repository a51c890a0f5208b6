//! Measurements with their budgets, as a table.

use std::{fmt, fmt::Write as _, time::Duration};

/// A measured amount.
#[derive(Clone, Copy)]
pub(super) enum Amount {
    Minutes(Duration),
    Milliseconds(Duration),
    /// Shown in MiB.
    Bytes(u64),
    Crates(usize),
}

impl Amount {
    /// The number in the unit in which it is shown.
    fn value(self) -> f64 {
        match self {
            Amount::Minutes(time) => time.as_secs_f64() / 60.0,
            Amount::Milliseconds(time) => time.as_secs_f64() * 1000.0,
            Amount::Bytes(bytes) => bytes as f64 / 1_048_576.0,
            Amount::Crates(count) => count as f64,
        }
    }

    fn unit(self) -> &'static str {
        match self {
            Amount::Minutes(_) => "min",
            Amount::Milliseconds(_) => "ms",
            Amount::Bytes(_) => "MiB",
            Amount::Crates(_) => "crates",
        }
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Amount::Crates(count) => write!(f, "{count}"),
            Amount::Minutes(_) | Amount::Milliseconds(_) | Amount::Bytes(_) => {
                write!(f, "{:.1} {}", self.value(), self.unit())
            }
        }
    }
}

/// A measured amount and the most that it may be, in the unit in which it is shown.
pub(super) struct Measurement {
    name: String,
    amount: Amount,
    budget: Option<f64>,
}

impl Measurement {
    pub(super) fn new(name: impl Into<String>, amount: Amount, budget: Option<f64>) -> Self {
        Measurement { name: name.into(), amount, budget }
    }

    pub(super) fn is_met(&self) -> bool {
        self.budget.is_none_or(|budget| self.amount.value() <= budget)
    }
}

/// The table of the terminal and of docs/benchmarks.md.
pub(super) fn text(measured: &[Measurement]) -> String {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let mut text = format!("On {cores} cores.\n\n| | at most | measured | |\n|---|---|---|---|\n");
    for measurement in measured {
        let Measurement { name, amount, budget } = measurement;
        let (limit, verdict) = match budget {
            None => (String::new(), ""),
            Some(limit) => (
                format!("{limit} {}", amount.unit()),
                if measurement.is_met() { "met" } else { "**missed**" },
            ),
        };
        let _ = writeln!(text, "| {name} | {limit} | {amount} | {verdict} |");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_shows_the_budget_and_whether_it_is_met() {
        let measured = [
            Measurement::new("bp: build", Amount::Minutes(Duration::from_secs(630)), Some(10.0)),
            Measurement::new("bp: size", Amount::Bytes(35 << 20), Some(35.0)),
            Measurement::new("bp: crates", Amount::Crates(301), None),
        ];
        let text = text(&measured);
        assert!(text.contains("| bp: build | 10 min | 10.5 min | **missed** |"), "{text}");
        assert!(text.contains("| bp: size | 35 MiB | 35.0 MiB | met |"), "{text}");
        assert!(text.contains("| bp: crates |  | 301 |  |"), "{text}");
        assert_eq!(measured.map(|measurement| measurement.is_met()), [false, true, true]);
    }
}
