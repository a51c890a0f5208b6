//! `cargo xtask bench-eks`: the servers are started here, the measuring is a test of bp-eks.

use std::fs;

use anyhow::{Context, Result};

use super::{
    super::{Part, library::Library, server, stage::Stage, tools::Cache},
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

const MEASURED: [&str; 2] = ["bench::api_requests_of_a_rollout", "bench::time_to_report_a_failure"];

/// Counts what a roll-out asks of the API, and times how soon a failing one is told; whether we told it within a second
/// and before the others.
pub(crate) fn run(arguments: &Arguments) -> Result<bool> {
    server::end_all_on_signal()?;
    let mut stage = Stage::new(&arguments.cache, None)?;
    stage.tools.require(&Part::Kubernetes.tools())?;
    let cluster = Cluster::start(&mut stage)?;
    let mut environment = super::environment(&stage, &cluster)?;
    let result = stage.scratch.join("bench-eks.md");
    environment.push(("BP_BENCH_RESULT", result.clone().into()));
    let library = Library::build()?;
    let mut tables = Vec::new();
    for measured in MEASURED {
        let (ran, took) = clock::timed(|| library.run(measured, &environment));
        ran?;
        let table = fs::read_to_string(&result).context("the benchmark left no result")?;
        report::line(format_args!("{table}     {measured}: {} s\n", took.as_secs()));
        tables.push(table);
    }
    if arguments.write {
        results::write("bench-eks", &format!("\n{}", tables.join("\n")))?;
    }
    stage.servers.clear();
    let _ = fs::remove_dir_all(&stage.scratch);
    Ok(true)
}
