//! `bench-build`: measure what a new user waits for, and the released program, from a fresh clone.
//!
//! The clone contains the last commit. Each part builds into a target directory of its own, which is deleted afterwards.

mod page;
mod parts;

use std::{fs, path::Path, process::Command};

use anyhow::{Context, Result};
use clap::ValueEnum;

use self::{page::Measurement, parts::Flavour};
use crate::{command, report, results};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Parts to measure [default: all]
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Part>,
    /// Features of bp to measure
    #[arg(long, value_enum, default_value_t = Flavour::Default)]
    flavour: Flavour,
    /// Build bp without optimisation, to try the benchmark: no budget applies
    #[arg(long)]
    debug: bool,
    /// Starts of bp; the result is the median
    #[arg(long, default_value_t = 21, value_parser = clap::value_parser!(u16).range(1..))]
    runs: u16,
    /// Write the results into docs/benchmarks.md
    #[arg(long)]
    write: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Build and run the quickstart
    Quickstart,
    /// Build and run all tests
    Tests,
    /// Build bp as it is released; its size and start
    Release,
}

/// Runs the benchmark; returns whether every budget is met.
pub(crate) fn run(arguments: &Arguments) -> Result<bool> {
    let scratch = command::root().join(format!("target/bench/build-{}", std::process::id()));
    fs::create_dir_all(&scratch).with_context(|| format!("cannot create {}", scratch.display()))?;
    let measured = measure(arguments, &scratch);
    let _ = fs::remove_dir_all(&scratch);
    let measured = measured?;
    let text = page::text(&measured);
    report::line("");
    report::line(&text);
    if arguments.write {
        results::write("bench-build", &text)?;
    }
    Ok(measured.iter().all(Measurement::is_met))
}

fn measure(arguments: &Arguments, scratch: &Path) -> Result<Vec<Measurement>> {
    let clone = scratch.join("clone");
    command::output(Command::new("git").args(["clone", "--quiet"]).arg(command::root()).arg(&clone))?;
    // Downloads are not measured.
    command::output(command::cargo().current_dir(&clone).args(["fetch", "--quiet", "--locked"]))?;
    let mut measured = Vec::new();
    for part in Part::value_variants() {
        if !arguments.only.is_empty() && !arguments.only.contains(part) {
            continue;
        }
        let target = scratch.join("target");
        let site = parts::Site { clone: &clone, target: &target };
        measured.extend(match part {
            Part::Quickstart => site.quickstart()?,
            Part::Tests => site.tests()?,
            Part::Release => site.release(arguments.flavour, !arguments.debug, arguments.runs)?,
        });
        fs::remove_dir_all(&target).with_context(|| format!("cannot delete {}", target.display()))?;
    }
    Ok(measured)
}
