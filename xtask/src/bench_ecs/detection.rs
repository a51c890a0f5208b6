//! How soon a failing deployment is told, in real time: from the update to the report.

use std::{fs, process::Command, time::Duration};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::bench::{Bench, credentials};
use crate::{
    clock, command,
    e2e::{server::Server, tools::AWS_CLI},
    report,
};

/// What both said, and when.
pub(super) struct Detections {
    /// Seconds from our update to our report of the failure.
    pub(super) reported: f64,
    /// Seconds to our verdict, the rollback done.
    pub(super) ended: f64,
    pub(super) cause: String,
    pub(super) verdict: String,
    /// Seconds from aws-cli's update to the end of its waiter.
    pub(super) waited: f64,
    /// The exit code of the waiter.
    pub(super) said: i32,
}

impl Detections {
    /// Ours is told before the waiter ends, as a failure.
    pub(super) fn met(&self) -> bool {
        self.reported < self.waited && self.verdict == "rolled-back"
    }
}

pub(super) fn run(bench: &Bench) -> Result<Detections> {
    let (endpoint, _server, image, broken) = serve(bench)?;
    bench.furnish(&endpoint, &image)?;
    steady(bench, &endpoint)?;

    report::line("     a failing deployment, watched by ours");
    let mut once = Command::new(&bench.once);
    once.args(["deploy", "bench", "web", "web", &broken]);
    credentials(&mut once, &endpoint, &bench.scratch);
    let told = command::output_within(Duration::from_secs(600), &mut once)?;
    let lines: Vec<Value> = told.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let at = |kind: &str| {
        let line = lines.iter().find(|line| line["event"]["event"] == kind);
        line.with_context(|| format!("no event {kind}:\n{told}"))
    };
    let seconds = |line: &Value| line["ms"].as_f64().unwrap_or_default() / 1000.0;
    let (applied, failing, finished) = (at("applied")?, at("failing")?, at("finished")?);
    steady(bench, &endpoint)?;

    report::line("     the same deployment, awaited by aws ecs wait services-stable");
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
    let (waited, said) = {
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
        said,
    })
}

/// A sandbox at the pace of the wall's clock: its endpoint, an image that runs and one that exits.
fn serve(bench: &Bench) -> Result<(String, Server, String, String)> {
    let log = bench.scratch.join("sandbox.log");
    let printed = || -> Option<Value> {
        let text = fs::read_to_string(&log).ok()?;
        serde_json::from_str(text.lines().next()?).ok()
    };
    let mut serve = Command::new(&bench.serve);
    let up = || printed().is_some();
    let server = Server::start("sandbox", "the addresses in its log", &bench.scratch, &mut serve, up)?;
    let world = printed().context("the sandbox printed no world")?;
    let address = world["endpoints"]["aws"].as_str().context("the sandbox serves no AWS")?;
    let image =
        |digest: &Value| format!("registry.example.com/shop/web@{}", digest.as_str().unwrap_or_default());
    Ok((format!("http://{address}"), server, image(&world["image"]["digest"]), image(&world["broken"])))
}

/// Waits until the service is at rest.
fn steady(bench: &Bench, endpoint: &str) -> Result<()> {
    let ask = ["describe-services", "--cluster", "bench", "--services", "web", "--query"];
    let ask =
        [&ask[..], &["services[0].[length(deployments),deployments[0].rolloutState,runningCount]"]].concat();
    let mut last = String::new();
    let rested = clock::poll(Duration::from_secs(180), || {
        last = bench.aws(endpoint, &ask).unwrap_or_else(|error| error.to_string());
        (last.split_whitespace().collect::<Vec<_>>() == ["1", "COMPLETED", "2"]).then_some(())
    });
    ensure!(rested.is_some(), "the service does not come to rest: {last}");
    Ok(())
}
