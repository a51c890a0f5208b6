//! The measured builds and programs.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result};
use clap::ValueEnum;
use serde_json::Value;

use super::page::{Amount, Measurement};
use crate::{bench_copy, clock, command, report};

/// A build may take hours on a busy machine; its budget is checked afterwards.
const LIMIT: Duration = Duration::from_secs(4 * 3600);

/// The features of bp.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Flavour {
    /// The default features
    Default,
    /// All features
    Full,
}

/// Where to build.
pub(super) struct Site<'a> {
    pub(super) clone: &'a Path,
    /// An empty target directory.
    pub(super) target: &'a Path,
}

impl Site<'_> {
    pub(super) fn quickstart(&self) -> Result<Vec<Measurement>> {
        let (built, crates) = self.build(&["build", "--locked", "--bin", "quickstart"])?;
        let run = self.run(Command::new(self.program("debug", "quickstart")).current_dir(self.clone))?;
        Ok(vec![
            Measurement::new("quickstart: build", Amount::Minutes(built), Some(5.0)),
            Measurement::new("quickstart: crates", Amount::Crates(crates), None),
            Measurement::new("quickstart: run", Amount::Minutes(run), Some(1.0)),
        ])
    }

    pub(super) fn tests(&self) -> Result<Vec<Measurement>> {
        let (built, crates) = self.build(&["test", "--locked", "--workspace", "--no-run"])?;
        // Includes the documentation tests, which are compiled when they run.
        let run = self.run(self.cargo().args(["test", "--quiet", "--locked", "--workspace"]))?;
        Ok(vec![
            Measurement::new("tests: build", Amount::Minutes(built), Some(15.0)),
            Measurement::new("tests: crates", Amount::Crates(crates), None),
            Measurement::new("tests: run", Amount::Minutes(run), Some(10.0)),
        ])
    }

    pub(super) fn release(&self, flavour: Flavour, optimised: bool, runs: u16) -> Result<Vec<Measurement>> {
        let (name, features, minutes, size): (_, &[&str], _, _) = match flavour {
            Flavour::Default => ("bp", &[], 10.0, 35.0),
            Flavour::Full => ("bp, full", &["--features", "full"], 12.0, 40.0),
        };
        let (profile, directory): (&[&str], _) =
            if optimised { (&["--release"], "release") } else { (&[], "debug") };
        let (built, crates) =
            self.build(&[&["build", "--locked", "-p", "bp-cli"], features, profile].concat())?;
        let program = self.program(directory, "bp");
        let bytes =
            fs::metadata(&program).with_context(|| format!("cannot read {}", program.display()))?.len();
        let version = start(&program, "--version", runs)?;
        let help = start(&program, "--help", runs)?;
        let name = if optimised { name.to_owned() } else { format!("{name}, debug") };
        let measurement = |what: &str, amount, budget: Option<f64>| {
            Measurement::new(format!("{name}: {what}"), amount, budget.filter(|_| optimised))
        };
        Ok(vec![
            measurement("build", Amount::Minutes(built), Some(minutes)),
            measurement("crates", Amount::Crates(crates), None),
            measurement("size", Amount::Bytes(bytes), Some(size)),
            measurement("`bp --version`", Amount::Milliseconds(version), Some(50.0)),
            measurement("`bp --help`", Amount::Milliseconds(help), Some(50.0)),
        ])
    }

    fn cargo(&self) -> Command {
        let mut cargo = command::cargo();
        cargo.current_dir(self.clone).env("CARGO_TARGET_DIR", self.target);
        cargo
    }

    fn program(&self, directory: &str, name: &str) -> PathBuf {
        self.target.join(directory).join(name)
    }

    /// Builds; returns the time and the number of compiled crates.
    fn build(&self, arguments: &[&str]) -> Result<(Duration, usize)> {
        let mut cargo = self.cargo();
        cargo.args(arguments).arg("--message-format=json");
        report::line(format_args!("     {}", command::show(&cargo)));
        let (output, took) = clock::timed(|| command::output_within(LIMIT, &mut cargo));
        Ok((took, compiled(&output?)?))
    }

    /// Runs a program; returns the time.
    fn run(&self, program: &mut Command) -> Result<Duration> {
        report::line(format_args!("     {}", command::show(program)));
        let (output, took) = clock::timed(|| command::output_within(LIMIT, program));
        output.map(|_| took)
    }
}

/// The number of packages that a build compiled, from cargo's JSON messages.
fn compiled(messages: &str) -> Result<usize> {
    let mut packages = BTreeSet::new();
    // Everything that is not a message was printed by a program.
    for line in messages.lines().filter(|line| line.starts_with('{')) {
        let message: Value = serde_json::from_str(line).context("cannot parse the messages of cargo")?;
        if message["reason"] == "compiler-artifact" && message["fresh"] == false {
            packages.insert(message["package_id"].as_str().unwrap_or_default().to_owned());
        }
    }
    Ok(packages.len())
}

/// The median time of `program argument`.
fn start(program: &Path, argument: &str, runs: u16) -> Result<Duration> {
    let times: Result<Vec<f64>> = (0..runs)
        .map(|_| Ok(bench_copy::measure::measure(Command::new(program).arg(argument))?.wall))
        .collect();
    Ok(Duration::from_secs_f64(median(times?)))
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len().is_multiple_of(2) {
        f64::midpoint(values[middle - 1], values[middle])
    } else {
        values[middle]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crate_is_counted_once_and_only_if_it_was_compiled() {
        let messages = r#"{"reason":"compiler-artifact","package_id":"a 1","fresh":false}
{"reason":"compiler-artifact","package_id":"a 1","fresh":false}
{"reason":"compiler-artifact","package_id":"b 1","fresh":true}
{"reason":"build-script-executed","package_id":"c 1"}
{"reason":"compiler-artifact","package_id":"d 1","fresh":false}
text of a program
{"reason":"build-finished","success":true}"#;
        assert_eq!(compiled(messages).unwrap(), 2);
    }

    #[test]
    fn the_median_of_an_even_number_is_the_mean_of_the_middle() {
        assert_eq!(median(vec![3.0, 1.0, 9.0]), 3.0);
        assert_eq!(median(vec![4.0, 1.0, 9.0, 2.0]), 3.0);
    }
}
