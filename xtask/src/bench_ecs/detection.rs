//! Time from the update to the report of a failing deployment, in real time.

use std::{fs, process::Command, time::Duration};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::bench::{Bench, credentials};
use crate::{
    clock, command,
    e2e::{server::Server, tools::AWS_CLI},
    report,
};

/// The reports of both tools and their times.
pub(super) struct Detections {
    /// Seconds from our update to our report of the failure.
    pub(super) reported: f64,
    /// Seconds to our verdict, after the rollback.
    pub(super) ended: f64,
    pub(super) cause: String,
    pub(super) verdict: String,
    /// Seconds from aws-cli's update to the end of its waiter.
    pub(super) waited: f64,
    /// The exit code of the waiter.
    pub(super) exit_code: i32,
}

impl Detections {
    /// Whether our failure report is earlier than the end of the waiter.
    pub(super) fn met(&self) -> bool {
        self.reported < self.waited && self.verdict == "rolled-back"
    }
}

pub(super) fn run(bench: &Bench) -> Result<Detections> {
    let (endpoint, _server, image, broken) = serve(bench)?;
    bench.create_service(&endpoint, &image)?;
    wait_until_stable(bench, &endpoint)?;

    report::line("     a failing deployment with bp-ecs");
    let mut once = Command::new(&bench.once);
    once.args(["deploy", "bench", "web", "web", &broken]);
    credentials(&mut once, &endpoint, &bench.scratch);
    let output = command::output_within(Duration::from_secs(600), &mut once)?;
    let lines: Vec<Value> = output.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let at = |kind: &str| {
        let line = lines.iter().find(|line| line["event"]["event"] == kind);
        line.with_context(|| format!("no event {kind}:\n{output}"))
    };
    let seconds = |line: &Value| line["ms"].as_f64().unwrap_or_default() / 1000.0;
    let (applied, failing, finished) = (at("applied")?, at("failing")?, at("finished")?);
    wait_until_stable(bench, &endpoint)?;

    report::line("     the same deployment with aws ecs wait services-stable");
    let revision = bench.aws(
        &endpoint,
        &[
            "list-task-definitions",
            "--family-prefix",
            "web",
            "--sort",
            "DESC",
            "--query",
            "taskDefinitionArns[0]",
        ],
    )?;
    let (waited, exit_code) = {
        let update =
            ["update-service", "--cluster", "bench", "--service", "web", "--task-definition", &revision];
        bench.aws(&endpoint, &update)?;
        let mut wait = bench.tools.command(AWS_CLI)?;
        wait.args(["ecs", "wait", "services-stable", "--cluster", "bench", "--services", "web"]);
        credentials(&mut wait, &endpoint, &bench.scratch);
        let (ended, took) = clock::timed(|| command::ended_within(Duration::from_secs(700), &mut wait));
        (took.as_secs_f64(), ended?.status.code().unwrap_or(-1))
    };
    Ok(Detections {
        reported: seconds(failing) - seconds(applied),
        ended: seconds(finished) - seconds(applied),
        cause: failing["event"]["failure"]["cause"].as_str().unwrap_or("?").to_owned(),
        verdict: finished["event"]["outcome"]["verdict"].as_str().unwrap_or("?").to_owned(),
        waited,
        exit_code,
    })
}

/// Starts a sandbox in real time; returns its endpoint, an image that runs and one that exits.
fn serve(bench: &Bench) -> Result<(String, Server, String, String)> {
    let log = bench.scratch.join("sandbox.log");
    let printed = || -> Option<Value> {
        let text = fs::read_to_string(&log).ok()?;
        serde_json::from_str(text.lines().next()?).ok()
    };
    let mut serve = Command::new(&bench.serve);
    let up = || printed().is_some();
    let server = Server::start("sandbox", "the addresses in its log", &bench.scratch, &mut serve, up)?;
    let served = printed().context("the sandbox did not print its addresses")?;
    let address = served["endpoints"]["aws"].as_str().context("the sandbox did not print an AWS address")?;
    let image =
        |digest: &Value| format!("registry.example.com/shop/web@{}", digest.as_str().unwrap_or_default());
    Ok((format!("http://{address}"), server, image(&served["image"]["digest"]), image(&served["broken"])))
}

/// Waits until the service is stable.
fn wait_until_stable(bench: &Bench, endpoint: &str) -> Result<()> {
    let query = ["describe-services", "--cluster", "bench", "--services", "web", "--query"];
    let query = [&query[..], &["services[0].[length(deployments),deployments[0].rolloutState,runningCount]"]]
        .concat();
    let mut last = String::new();
    let stable = clock::poll(Duration::from_secs(180), || {
        last = bench.aws(endpoint, &query).unwrap_or_else(|error| error.to_string());
        (last.split_whitespace().collect::<Vec<_>>() == ["1", "COMPLETED", "2"]).then_some(())
    });
    ensure!(stable.is_some(), "the service did not become stable within 180 s: {last}");
    Ok(())
}
