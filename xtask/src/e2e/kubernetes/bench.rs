//! `bench-eks`: starts the servers and runs the measurements, which are tests of bp-eks.

use std::fs;

use anyhow::{Context, Result};

use super::{
    super::{Part, library::Library, server, test_run::TestRun, tools::Cache},
    cluster::Cluster,
};
use crate::{clock, report, results};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Write the results into docs/benchmarks.md
    #[arg(long)]
    write: bool,
    #[command(flatten)]
    cache: Cache,
}

const MEASURED: [&str; 3] = [
    "bench::api_requests_of_a_rollout",
    "bench::requests_and_memory_of_a_thousand_pods",
    "bench::time_to_report_a_failure",
];

/// Counts the API requests of a rollout, measures the memory of one with a thousand pods, and how soon a failing one is
/// reported. The tests assert that bp-eks reports it within a second and before the other tools.
pub(crate) fn run(arguments: &Arguments) -> Result<bool> {
    server::stop_all_on_signal()?;
    let mut test_run = TestRun::new(&arguments.cache, None)?;
    test_run.tools.require(&Part::Kubernetes.tools())?;
    let cluster = Cluster::start(&mut test_run)?;
    let mut environment = super::environment(&test_run, &cluster)?;
    let result = test_run.scratch.join("bench-eks.md");
    environment.push(("BP_BENCH_RESULT", result.clone().into()));
    let library = Library::build()?;
    let mut tables = Vec::new();
    for measured in MEASURED {
        let (ran, took) = clock::timed(|| library.run(measured, &environment));
        ran?;
        let table = fs::read_to_string(&result).context("the benchmark wrote no result")?;
        report::line(format_args!("{table}     {measured}: {} s\n", took.as_secs()));
        tables.push(table);
    }
    if arguments.write {
        results::write("bench-eks", &format!("\n{}", tables.join("\n")))?;
    }
    test_run.servers.clear();
    let _ = fs::remove_dir_all(&test_run.scratch);
    Ok(true)
}
