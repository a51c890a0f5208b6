//! `soak`: copies of random images with random faults, repeated with many seeds.
//!
//! The runs themselves are tests of bp-promote, on the sandbox and a paused clock; this task runs them with their
//! seeds.

use std::{fmt::Write as _, time::Duration};

use anyhow::{Result, ensure};

use crate::{
    bench_copy::fault_runs,
    clock,
    command::{self, Builds},
    e2e::tools::Cache,
    report,
};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Number of random schedules
    #[arg(long, default_value_t = 1000)]
    runs: u64,
    /// First seed; the others are consecutive
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Run a fixed sample of 200 seeds, for CI
    #[arg(long, conflicts_with_all = ["runs", "seed"])]
    sample: bool,
    /// Instead make 20 copies between real registries with faults in one request in ten, compared with crane
    #[arg(long, conflicts_with_all = ["runs", "seed", "sample"])]
    registries: bool,
    #[command(flatten)]
    cache: Cache,
    #[command(flatten)]
    builds: Builds,
}

const SAMPLE: u64 = 200;

pub(crate) fn run(arguments: &Arguments) -> Result<bool> {
    if arguments.registries {
        return fault_runs::run(&arguments.cache, &arguments.builds);
    }
    let (runs, seed) = if arguments.sample { (SAMPLE, 0) } else { (arguments.runs, arguments.seed) };
    let mut cargo = command::cargo();
    // The whole workspace, so that the build is that of `cargo test --workspace`.
    cargo.args(["test", "--locked", "--workspace", "--test", "random", "--", "--show-output"]);
    cargo.env("BP_SOAK", runs.to_string()).env("BP_SEED", seed.to_string()).env("RUST_BACKTRACE", "0");
    let (ended, took) = clock::timed(|| command::ended_within(Duration::from_secs(6 * 3600), &mut cargo));
    let ended = ended?;
    let passed = ended.status.success();
    if !passed {
        report::line(command::tail(&format!("{}\n{}", ended.stdout, ended.stderr), 60));
    }
    ensure!(!passed || ended.stdout.contains("2 passed"), "the tests of tests/random were not run");
    // The counts of injected faults.
    ended.stdout.lines().filter(|line| line.starts_with("met: ")).for_each(report::line);
    let mut line = format!("soak: {runs} random schedules from seed {seed}, and 20 copies of an index");
    let _ = write!(line, " with faults in one request in ten: ");
    let _ = write!(line, "{} ({:.0} s)", if passed { "all passed" } else { "FAILED" }, took.as_secs_f64());
    report::line(line);
    Ok(passed)
}
