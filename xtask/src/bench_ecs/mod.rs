//! `bench-ecs`: `bp-ecs` beside the script of aws-cli and jq that it replaces.
//!
//! [Registering](script) and updating without waiting, against moto: calls, processes, time. And [how soon](detection) a
//! failure is told, on the sandbox at the pace of the wall's clock, against `aws ecs wait services-stable`.

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
    /// How often each of the two registers and updates; medians are told
    #[arg(long, default_value_t = 11)]
    runs: usize,
    /// Build our program without optimisation: quicker to build, slower to run
    #[arg(long)]
    debug: bool,
    /// Leave the minutes out that the failing deployments take
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

/// Runs the benchmark; whether every target is met.
pub(crate) fn run(arguments: &Arguments) -> Result<bool> {
    crate::e2e::server::end_all_on_signal()?;
    let target = command::root().join("target");
    let tools = arguments.cache.open()?;
    tools.require(&[MOTO, AWS_CLI])?;
    let build = |package: &str, features: &str, example: &str| {
        example_of(package, features, example, &arguments.builds.directory(), !arguments.debug)
    };
    report::line("     building the examples once (bp-ecs) and serve (bp-sandbox)");
    let scratch = target.join(format!("bench/ecs-{}", std::process::id()));
    fs::create_dir_all(&scratch).with_context(|| format!("cannot make {}", scratch.display()))?;
    let bench = Bench {
        tools,
        once: build("bp-ecs", "", "once")?,
        serve: build("bp-sandbox", "registry,aws,kube", "serve")?,
        scratch,
        optimised: !arguments.debug,
    };
    let raced = race(&bench, arguments);
    let _ = fs::remove_dir_all(&bench.scratch);
    let (text, met) = raced?;
    report::line("");
    report::line(&text);
    if arguments.write {
        results::write("bench-ecs", &text)?;
    }
    Ok(met)
}

fn race(bench: &Bench, arguments: &Arguments) -> Result<(String, bool)> {
    let scripts = script::run(bench, arguments.runs)?;
    let detections = match arguments.no_detection {
        true => None,
        false => Some(detection::run(bench)?),
    };
    let met = scripts.met() && detections.as_ref().is_none_or(detection::Detections::met);
    Ok((page::text(bench, &scripts, detections.as_ref()), met))
}

/// Builds an example; returns its file.
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
