//! Cost of registering a revision and updating the service, against moto, without waiting.

use std::{fs, process::Command};

use anyhow::{Context, Result, ensure};

use super::bench::{Bench, credentials};
use crate::{
    bench_copy::measure::{Sample, measure},
    e2e::{
        http,
        server::{Server, free_port},
        tools::{AWS_CLI, MOTO},
    },
    report,
};

/// The script as commonly written, based on the service's current task definition. `$1` is the image.
const SCRIPT: &str = r#"set -euo pipefail
TD_ARN=$(aws ecs describe-services --cluster bench --services web --query 'services[0].taskDefinition' --output text)
aws ecs describe-task-definition --task-definition "$TD_ARN" --query taskDefinition --output json > td.json
jq --arg IMAGE "$1" '.containerDefinitions[0].image = $IMAGE | del(.taskDefinitionArn, .revision, .status,
  .requiresAttributes, .compatibilities, .registeredAt, .registeredBy)' td.json > new.json
NEW_TD=$(aws ecs register-task-definition --cli-input-json file://new.json \
  --query taskDefinition.taskDefinitionArn --output text)
aws ecs update-service --cluster bench --service web --task-definition "$NEW_TD" --force-new-deployment > /dev/null
"#;
/// bash, aws-cli four times, and jq.
const PROCESSES: usize = 6;

/// Median cost of one of the two.
#[derive(Clone, Copy, Default)]
pub(super) struct Cost {
    pub(super) wall: f64,
    pub(super) cpu: f64,
    pub(super) calls: usize,
    pub(super) processes: usize,
}

/// The medians of both.
pub(super) struct Costs {
    pub(super) script: Cost,
    pub(super) ours: Cost,
    pub(super) runs: usize,
}

impl Costs {
    /// Whether bp-ecs needs at most a tenth of the time and CPU.
    pub(super) fn met(&self) -> bool {
        self.ours.wall <= self.script.wall / 10.0 && self.ours.cpu <= self.script.cpu / 10.0
    }
}

pub(super) fn run(bench: &Bench, runs: usize) -> Result<Costs> {
    let port = free_port()?.to_string();
    let address = format!("127.0.0.1:{port}");
    let mut process = bench.tools.command(MOTO)?;
    process.args(["-H", "127.0.0.1", "-p", &port]);
    let moto = Server::start("moto", &address, &bench.scratch, &mut process, || {
        http::responds(&address, "/moto-api/")
    })?;
    let endpoint = format!("http://{address}");
    bench.create_service(&endpoint, &image(0))?;
    fs::write(bench.scratch.join("deploy.sh"), SCRIPT)?;
    let calls = || moto.output().matches("\"POST / ").count();
    let (mut script, mut ours) = (Vec::new(), Vec::new());
    for run in 0..runs {
        for (turn, samples) in [(0, &mut script), (1, &mut ours)] {
            let mut command = match turn {
                0 => by_script(bench)?,
                _ => Command::new(&bench.once),
            };
            match turn {
                0 => command.arg(image(2 * run + 1)),
                _ => command.args(["register", "bench", "web", "web", &image(2 * run + 2)]),
            };
            credentials(&mut command, &endpoint, &bench.scratch);
            let before = calls();
            let sample = measure(&command)?;
            samples.push((sample, calls() - before));
        }
        report::line(format_args!("     registering: round {} of {runs}", run + 1));
    }
    let revisions = bench.aws(
        &endpoint,
        &["list-task-definitions", "--family-prefix", "web", "--query", "length(taskDefinitionArns)"],
    )?;
    ensure!(
        revisions == (2 * runs + 1).to_string(),
        "expected {} revisions after {runs} rounds, found {revisions}",
        2 * runs + 1
    );
    Ok(Costs {
        script: median(&script, PROCESSES).context("no rounds")?,
        ours: median(&ours, 1).context("no rounds")?,
        runs,
    })
}

fn by_script(bench: &Bench) -> Result<Command> {
    let aws = bench.tools.command(AWS_CLI)?;
    let own = std::path::Path::new(aws.get_program()).parent().map(Into::into).into_iter();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let path = std::env::join_paths(own.chain(std::env::split_paths(&path)))?;
    let mut bash = Command::new("bash");
    let scratch = bench.scratch.display();
    bash.args(["-c", &format!("cd '{scratch}' && bash deploy.sh \"$0\"")]).env("PATH", path);
    Ok(bash)
}

/// A distinct image for each run.
fn image(run: usize) -> String {
    format!("registry.example.com/shop/web@sha256:{run:064x}")
}

fn median(samples: &[(Sample, usize)], processes: usize) -> Option<Cost> {
    let middle = |mut values: Vec<f64>| {
        values.sort_by(f64::total_cmp);
        values.get(values.len() / 2).copied()
    };
    Some(Cost {
        wall: middle(samples.iter().map(|(sample, _)| sample.wall).collect())?,
        cpu: middle(samples.iter().map(|(sample, _)| sample.cpu).collect())?,
        calls: samples.iter().map(|(_, calls)| *calls).max()?,
        processes,
    })
}
