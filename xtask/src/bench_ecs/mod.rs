//! `bench-ecs`: compare `bp-ecs` with the script of aws-cli and jq that it replaces.
//!
//! [Registering and updating](script) without waiting, against moto: calls, processes, time. And the [time](detection)
//! to report a failure, on the sandbox in real time, compared with `aws ecs wait services-stable`.

mod bench;
mod detection;
mod page;
mod script;

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

use self::bench::Bench;
use crate::{
    command::{self, Builds},
    e2e::tools::{AWS_CLI, Cache, MOTO},
    report, results,
};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Runs of each tool; results are medians
    #[arg(long, default_value_t = 11)]
    runs: usize,
    /// Build bp-ecs without optimisation: faster to build, slower to run
    #[arg(long)]
    debug: bool,
    /// Skip the failing deployments, which take some minutes
    #[arg(long)]
    no_detection: bool,
    /// Write the results into docs/benchmarks.md
    #[arg(long)]
    write: bool,
    #[command(flatten)]
    cache: Cache,
    #[command(flatten)]
    builds: Builds,
}

/// Runs the benchmark; returns whether every target is met.
pub(crate) fn run(arguments: &Arguments) -> Result<bool> {
    crate::e2e::server::stop_all_on_signal()?;
    let target = command::root().join("target");
    let tools = arguments.cache.open()?;
    tools.require(&[MOTO, AWS_CLI])?;
    let build = |package: &str, features: &str, example: &str| {
        example_of(package, features, example, &arguments.builds.directory(), !arguments.debug)
    };
    report::line("     building the examples once (bp-ecs) and serve (bp-sandbox)");
    let scratch = target.join(format!("bench/ecs-{}", std::process::id()));
    fs::create_dir_all(&scratch).with_context(|| format!("cannot create {}", scratch.display()))?;
    let bench = Bench {
        tools,
        once: build("bp-ecs", "", "once")?,
        serve: build("bp-sandbox", "registry,aws,kube", "serve")?,
        scratch,
        optimised: !arguments.debug,
    };
    let measured = measure_all(&bench, arguments);
    let _ = fs::remove_dir_all(&bench.scratch);
    let (text, met) = measured?;
    report::line("");
    report::line(&text);
    if arguments.write {
        results::write("bench-ecs", &text)?;
    }
    Ok(met)
}

fn measure_all(bench: &Bench, arguments: &Arguments) -> Result<(String, bool)> {
    let scripts = script::run(bench, arguments.runs)?;
    let detections = if arguments.no_detection { None } else { Some(detection::run(bench)?) };
    let met = scripts.met() && detections.as_ref().is_none_or(detection::Detections::met);
    Ok((page::text(bench, &scripts, detections.as_ref()), met))
}

/// Builds an example; returns its path.
fn example_of(
    package: &str,
    features: &str,
    example: &str,
    target: &Path,
    optimised: bool,
) -> Result<PathBuf> {
    let mut cargo = command::cargo();
    cargo.args(["build", "--quiet", "--locked", "-p", package, "--features", features, "--example", example]);
    if optimised {
        cargo.arg("--release");
    }
    command::output(cargo.env("CARGO_TARGET_DIR", target))?;
    Ok(target.join(if optimised { "release" } else { "debug" }).join("examples").join(example))
}
