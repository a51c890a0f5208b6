//! The tour that `sandbox` prints: its commands, run in a shell exactly as printed, with the variables as printed.

use std::{fs, path::Path, process::Command, time::Duration};

use anyhow::{Context, Result, ensure};

use super::super::{
    server::Server,
    test_run::TestRun,
    tools::{AWS_CLI, CRANE, HELM, KUBECTL, SKOPEO},
};
use crate::command;

const SERVER: &str = "sandbox tour";
/// Timeout of a command, long enough for a busy machine.
const LIMIT: Duration = Duration::from_secs(300);
/// How the commands of this project are printed.
const CARGO: &str = "cargo run -q --bin ";
/// The last command of the tour that is printed.
const LAST: &str = "skopeo list-tags";

pub(super) fn run(test_run: &mut TestRun) {
    let log = test_run.scratch.join("tour.log");
    let path = start(test_run, &log).and_then(|()| path(test_run));
    test_run.table.scenario(SERVER, "every command that the sandbox prints works as printed", || {
        let path = path?;
        let text = fs::read_to_string(&log)?;
        let variables = printed(&text).find(|line| line.starts_with(". ")).context("no file of variables")?;
        let mut codes = Vec::new();
        for line in printed(&text).filter(|line| is_command(line)) {
            let code = execute(&path, variables, line)?;
            // The deployment of the version that fails.
            let expected = if line.contains("dual-deploy") && codes.len() > 3 { 3 } else { 0 };
            ensure!(code == expected, "`{line}` ended with {code}, expected {expected}");
            codes.push(code);
        }
        ensure!(codes.len() == 13, "{} commands were printed", codes.len());
        Ok(format!("{} commands", codes.len()))
    });
}

/// Builds the programs, and starts the sandbox.
fn start(test_run: &mut TestRun, log: &Path) -> Result<()> {
    let programs = ["sandbox", "promote", "dual-deploy", "status"];
    // The whole workspace, so that features and build artefacts are those of `cargo test --workspace`.
    let mut build = command::cargo();
    build.args(["build", "--quiet", "--workspace"]);
    command::output(programs.iter().fold(&mut build, |build, program| build.args(["--bin", program])))?;
    let mut sandbox = Command::new(command::root().join("target/debug/sandbox"));
    let is_ready = || fs::read_to_string(log).is_ok_and(|text| text.contains(LAST));
    let server =
        Server::start("tour", "the addresses in its log", &test_run.scratch, &mut sandbox, is_ready)?;
    test_run.servers.push(server);
    Ok(())
}

/// The search path with the clients.
fn path(test_run: &mut TestRun) -> Result<String> {
    let mut directories = Vec::new();
    for tool in [AWS_CLI, KUBECTL, HELM, CRANE, SKOPEO] {
        let program = test_run.tools.command(tool)?.get_program().to_owned();
        directories.extend(Path::new(&program).parent().map(|parent| parent.display().to_string()));
    }
    directories.push(std::env::var("PATH").unwrap_or_default());
    Ok(directories.join(":"))
}

/// The printed lines without their margin.
fn printed(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter_map(|line| line.strip_prefix("  ")).map(str::trim_start)
}

fn is_command(line: &str) -> bool {
    let programs = [CARGO, "aws ", "kubectl ", "helm ", "crane ", "skopeo "];
    programs.iter().any(|program| line.starts_with(program))
}

/// Runs one line and returns its exit code. The programs of this project are built already.
fn execute(path: &str, variables: &str, line: &str) -> Result<i32> {
    let built = format!("{}/target/debug/", command::root().display());
    let script = match line.strip_prefix(CARGO) {
        Some(rest) => format!("{built}{}", rest.replacen(" --", "", 1)),
        None => line.to_owned(),
    };
    let mut shell = Command::new("sh");
    shell.arg("-c").arg(format!("{variables}\n{script}")).env("PATH", path).env("CI", "true");
    for name in ["AWS_PROFILE", "AWS_SESSION_TOKEN", "HTTP_PROXY", "http_proxy"] {
        shell.env_remove(name);
    }
    let ended = command::ended_within(LIMIT, &mut shell)?;
    let code = ended.status.code().unwrap_or(-1);
    ensure!(code == 0 || code == 3, "`{line}` ended with {code}:\n{}", ended.stderr);
    Ok(code)
}
