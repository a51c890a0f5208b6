//! `soak`: copies, ECS deployments and EKS rollouts with random faults, and programs that are killed, repeated with many
//! seeds.
//!
//! The runs themselves are tests: of bp-promote, bp-ecs and bp-eks on the sandbox and a paused clock, and of the example binaries;
//! this task runs them with their seeds.

use std::time::Duration;

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
    #[arg(long, visible_alias = "schedules", default_value_t = 1000)]
    runs: u64,
    /// First seed; the others are consecutive
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Run a fixed sample of seeds, for CI: 200 of copies, 300 of ECS deployments, 100 of EKS rollouts, 6 kills
    #[arg(long, conflicts_with_all = ["runs", "seed"])]
    sample: bool,
    /// Only copies of images
    #[arg(long, conflicts_with_all = ["ecs", "eks", "kills"])]
    copy: bool,
    /// Only ECS deployments
    #[arg(long, conflicts_with_all = ["eks", "kills"])]
    ecs: bool,
    /// Only EKS rollouts
    #[arg(long, conflicts_with = "kills")]
    eks: bool,
    /// Only programs that are killed by a signal: 200 times, with --sample 6 times
    #[arg(long, conflicts_with = "runs")]
    kills: bool,
    /// Instead make 20 copies between real registries with faults in one request in ten, compared with crane
    #[arg(long, conflicts_with_all = ["runs", "seed", "sample", "copy", "ecs", "eks", "kills"])]
    registries: bool,
    #[command(flatten)]
    cache: Cache,
    #[command(flatten)]
    builds: Builds,
}

/// A test that runs random schedules.
struct Part {
    /// The name of the test target, and the number of its tests.
    test: (&'static str, usize),
    sample: u64,
    /// The number of runs, if it does not depend on `--runs`.
    whole: Option<u64>,
    /// What its schedules are.
    what: &'static str,
}

const COPY: Part = Part {
    test: ("random", 2),
    sample: 200,
    whole: None,
    what: "random schedules of copies, and 20 copies of an index with faults in one request in ten",
};
const ECS: Part =
    Part { test: ("schedules", 1), sample: 300, whole: None, what: "random schedules of ECS deployments" };
const EKS: Part =
    Part { test: ("rollouts", 1), sample: 100, whole: None, what: "random schedules of EKS rollouts" };
const KILLS: Part = Part {
    test: ("kills", 3),
    sample: 6,
    whole: Some(200),
    what: "kills of promote, dual-deploy, rollback and switch-traffic at random requests",
};
const CANCELLED: Part = Part {
    test: ("cancelled", 3),
    sample: 1,
    whole: Some(1),
    what: "round of operations that are dropped at each of their polls",
};

pub(crate) fn run(arguments: &Arguments) -> Result<bool> {
    if arguments.registries {
        return fault_runs::run(&arguments.cache, &arguments.builds);
    }
    let mut passed = true;
    let is_any = arguments.copy || arguments.ecs || arguments.eks || arguments.kills;
    let only = |chosen: bool| chosen || !is_any;
    let parts = [
        (COPY, only(arguments.copy)),
        (ECS, only(arguments.ecs)),
        (EKS, only(arguments.eks)),
        (KILLS, arguments.kills || (arguments.sample && only(false))),
        (CANCELLED, arguments.kills && !arguments.sample),
    ];
    for (part, is_chosen) in parts {
        if is_chosen {
            passed &= part.run(arguments)?;
        }
    }
    Ok(passed)
}

impl Part {
    fn run(&self, arguments: &Arguments) -> Result<bool> {
        let (runs, seed) = if arguments.sample {
            (self.sample, 0)
        } else {
            (self.whole.unwrap_or(arguments.runs), arguments.seed)
        };
        let (test, count) = self.test;
        let mut cargo = command::cargo();
        // The whole workspace, so that the build is that of `cargo test --workspace`.
        cargo.args(["test", "--locked", "--workspace", "--test", test, "--", "--show-output"]);
        cargo.env("BP_SOAK", runs.to_string()).env("BP_SEED", seed.to_string()).env("RUST_BACKTRACE", "0");
        let (ended, took) = clock::timed(|| command::ended_within(Duration::from_secs(6 * 3600), &mut cargo));
        let ended = ended?;
        let passed = ended.status.success();
        if !passed {
            report::line(command::tail(&format!("{}\n{}", ended.stdout, ended.stderr), 120));
        }
        ensure!(
            !passed || ended.stdout.contains(&format!("{count} passed")),
            "the tests of tests/{test} were not run"
        );
        // The counts of injected faults.
        ended.stdout.lines().filter(|line| line.starts_with("met: ")).for_each(report::line);
        report::line(format_args!(
            "soak: {runs} {} from seed {seed}: {} ({:.0} s)",
            self.what,
            if passed { "all passed" } else { "FAILED" },
            took.as_secs_f64()
        ));
        Ok(passed)
    }
}
