//! `nightly`: what takes too long for CI, one chore after the other, with a table of times.

use std::process::{Command, Stdio};

use anyhow::{Context, Result};
use clap::ValueEnum;

use crate::{clock, command, report};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Chores to run [default: all]
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Chore>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Chore {
    /// Compile each package as it would be published
    Package,
    /// Build every library on its own, with each feature and with all of them
    Features,
    /// Break guarantees on purpose, and check that a test of every tier fails
    Mutants,
    /// 20,000 random schedules
    Soak,
    /// 200 programs killed by a signal, and operations dropped at every poll
    Kills,
    /// Ten minutes of each fuzz target
    Fuzz,
    /// 20 copies between real registries with faults
    Registries,
    /// Compare image copies with other tools
    Copy,
    /// Compare ECS deployments with a script
    Ecs,
    /// Measure how soon a failing rollout on Kubernetes is reported
    Eks,
    /// Measure the builds of a fresh clone
    Build,
    /// Build a release twice, and compare the bytes
    Dist,
}

impl Chore {
    fn command(self) -> Command {
        let task: &[&str] = match self {
            Self::Package => return package(),
            Self::Features => &["check", "each-feature"],
            Self::Mutants => &["mutants"],
            Self::Soak => &["soak", "--runs", "20000"],
            Self::Kills => &["soak", "--kills"],
            Self::Fuzz => &["fuzz"],
            Self::Registries => &["soak", "--registries"],
            Self::Copy => &["bench-copy"],
            Self::Ecs => &["bench-ecs"],
            Self::Eks => &["bench-eks"],
            Self::Build => &["bench-build"],
            Self::Dist => &["dist", "--twice"],
        };
        let mut cargo = command::cargo();
        cargo.args(["run", "--quiet", "--package", "xtask", "--"]).args(task);
        cargo
    }
}

/// `cargo package` with verification: each package is built from its archive, against the archives of the others.
fn package() -> Command {
    let mut cargo = command::cargo();
    cargo.args(["package", "--locked", "--workspace", "--exclude", "bp-examples", "--exclude", "xtask"]);
    cargo
}

/// Runs the chores, also after one that failed; returns whether all passed.
pub(crate) fn run(arguments: &Arguments) -> Result<bool> {
    let chosen = |chore: &&Chore| arguments.only.is_empty() || arguments.only.contains(chore);
    let mut rows = Vec::new();
    for chore in Chore::value_variants().iter().filter(chosen) {
        let mut command = chore.command();
        let shown = command::show(&command);
        report::line(format!("::: {shown}"));
        let (ended, took) = clock::timed(|| command.stdin(Stdio::null()).status());
        let passed = ended.with_context(|| format!("cannot run `{shown}`"))?.success();
        rows.push((shown, passed, took));
    }
    report::line("\nTimes:");
    for (shown, passed, took) in &rows {
        let verdict = if *passed { "ok" } else { "FAILED" };
        report::line(format!("  {:>6.0} s  {verdict:<6}  {shown}", took.as_secs_f64()));
    }
    Ok(rows.iter().all(|(_, passed, _)| *passed))
}
