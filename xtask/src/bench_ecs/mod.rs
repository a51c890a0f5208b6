//! `bench-ecs`: `bp-ecs` beside the script of aws-cli and jq that it replaces.
//!
//! [Registering](script) and updating without waiting, against moto: calls, processes, time. And [how soon](detection) a
//! failure is told, on the sandbox at the pace of the wall's clock, against `aws ecs wait services-stable`.

mod detection;
mod page;
mod script;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};

use crate::{
    command::{self, Builds},
    e2e::tools::{AWS_CLI, Cache, MOTO, Toolbox},
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

/// What both halves work with.
struct Bench {
    tools: Toolbox,
    /// The example `once` of bp-ecs.
    once: PathBuf,
    /// The example `serve` of bp-sandbox.
    serve: PathBuf,
    scratch: PathBuf,
    optimised: bool,
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

/// Credentials that moto and the sandbox take, and nothing of the machine's own.
fn credentials(command: &mut Command, endpoint: &str, home: &Path) {
    command
        .env("AWS_ENDPOINT_URL", endpoint)
        .env("AWS_ACCESS_KEY_ID", "AKIASANDBOX")
        .env("AWS_SECRET_ACCESS_KEY", "sandbox-secret")
        .env("AWS_DEFAULT_REGION", "eu-central-1")
        .env("AWS_PAGER", "")
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .env("HOME", home);
}

impl Bench {
    /// aws-cli at an endpoint.
    fn aws(&self, endpoint: &str, arguments: &[&str]) -> Result<String> {
        let mut aws = self.tools.command(AWS_CLI)?;
        aws.arg("ecs").args(arguments).args(["--output", "text"]).current_dir(&self.scratch);
        credentials(&mut aws, endpoint, &self.scratch);
        Ok(command::output(&mut aws)?.trim().to_owned())
    }

    /// A cluster `bench` with a service `web` that keeps two tasks of this image.
    fn furnish(&self, endpoint: &str, image: &str) -> Result<()> {
        let container = format!("name=web,image={image},memory=64,essential=true");
        self.aws(endpoint, &["create-cluster", "--cluster-name", "bench"])?;
        self.aws(
            endpoint,
            &["register-task-definition", "--family", "web", "--container-definitions", &container],
        )?;
        let create =
            ["create-service", "--cluster", "bench", "--service-name", "web", "--task-definition", "web:1"];
        let breaker = "deploymentCircuitBreaker={enable=true,rollback=true}";
        let more = ["--desired-count", "2", "--deployment-configuration", breaker];
        self.aws(endpoint, &[&create[..], &more[..]].concat()).map(drop)
    }
}
