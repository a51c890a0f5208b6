//! ECS deployments on the sandbox with aws-cli.

use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::{super::test_run::TestRun, client::expect_success, server::SandboxServer};
use crate::clock;

const SERVER: &str = "sandbox ECS";
/// A digest that was never pushed.
const MISSING: &str = "sha256:4040404040404040404040404040404040404040404040404040404040404040";
const SERVICE: [&str; 4] = ["--cluster", "shop", "--service", "web"];

pub(super) fn run(test_run: &mut TestRun, sandbox: &SandboxServer) {
    test_run.table.scenario(SERVER, "aws-cli deploys, and reads the running digest", || deploys(sandbox));
    test_run
        .table
        .scenario(SERVER, "aws-cli reports a failed deployment as rolled back", || rolls_back(sandbox));
}

fn aws(sandbox: &SandboxServer, arguments: &[&str]) -> Result<String> {
    let mut aws = sandbox.aws(&["ecs"])?;
    aws.args(arguments).args(["--output", "text"]);
    Ok(expect_success(&mut aws)?.trim().to_owned())
}

fn register(sandbox: &SandboxServer, digest: &str) -> Result<()> {
    let container = format!("name=web,image=registry.example.com/shop/web@{digest},memory=64,essential=true");
    aws(sandbox, &["register-task-definition", "--family", "web", "--container-definitions", &container])
        .map(drop)
}

/// Waits until the latest service deployment has this status.
fn wait_for_status(sandbox: &SandboxServer, expected: &str) -> Result<()> {
    let mut query = vec!["list-service-deployments"];
    query.extend(SERVICE);
    query.extend(["--query", "serviceDeployments[0].status"]);
    let mut last = String::new();
    clock::poll(Duration::from_secs(240), || {
        last = aws(sandbox, &query).unwrap_or_else(|error| error.to_string());
        (last == expected).then_some(())
    })
    .with_context(|| format!("the service deployment is {last} after 240 s, expected {expected}"))
}

fn deploys(sandbox: &SandboxServer) -> Result<String> {
    let digest = &sandbox.image().digest;
    aws(sandbox, &["create-cluster", "--cluster-name", "shop"])?;
    register(sandbox, digest)?;
    let breaker = "deploymentCircuitBreaker={enable=true,rollback=true}";
    aws(
        sandbox,
        &[
            "create-service",
            "--cluster",
            "shop",
            "--service-name",
            "web",
            "--task-definition",
            "web:1",
            "--desired-count",
            "2",
            "--deployment-configuration",
            breaker,
        ],
    )?;
    wait_for_status(sandbox, "SUCCESSFUL")?;
    let tasks =
        aws(sandbox, &["list-tasks", "--cluster", "shop", "--service-name", "web", "--query", "taskArns"])?;
    let mut query = vec!["describe-tasks", "--cluster", "shop", "--tasks"];
    query.extend(tasks.split_whitespace());
    query.extend(["--query", "tasks[].containers[].imageDigest"]);
    let running = aws(sandbox, &query)?;
    let running: Vec<&str> = running.split_whitespace().collect();
    ensure!(
        running.len() == 2 && running[0] == running[1],
        "expected two tasks with the same digest, found {running:?}"
    );
    // The agent reports the digest in the task definition, or that of its platform in the index.
    let source = format!("{}/{}", sandbox.plain_registry()?, sandbox.image().repository);
    let known = expect_success(&mut sandbox.crane(&["manifest", &format!("{source}@{}", running[0])]))?;
    ensure!(!known.is_empty(), "{} is not in the registry", running[0]);
    Ok(String::new())
}

fn rolls_back(sandbox: &SandboxServer) -> Result<String> {
    register(sandbox, MISSING)?;
    let mut update = vec!["update-service"];
    update.extend(SERVICE);
    update.extend(["--task-definition", "web:2"]);
    aws(sandbox, &update)?;
    wait_for_status(sandbox, "ROLLBACK_SUCCESSFUL")?;
    let query = ["describe-services", "--cluster", "shop", "--services", "web", "--query"];
    let definition = aws(sandbox, &[&query[..], &["services[0].taskDefinition"]].concat())?;
    ensure!(definition.ends_with(":task-definition/web:1"), "the service still has {definition}");
    let stopped = aws(
        sandbox,
        &[
            "list-tasks",
            "--cluster",
            "shop",
            "--service-name",
            "web",
            "--desired-status",
            "STOPPED",
            "--query",
            "taskArns[0]",
        ],
    )?;
    let why = [
        "describe-tasks",
        "--cluster",
        "shop",
        "--tasks",
        &stopped,
        "--query",
        "tasks[0].[stopCode,stoppedReason]",
    ];
    let why = aws(sandbox, &why)?;
    ensure!(why.contains("CannotPullContainer"), "unexpected stop reason {why:?}");
    Ok(why)
}
