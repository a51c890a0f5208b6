//! aws-cli deploys to the sandbox's ECS.

use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::{super::stage::Stage, client::done, world::World};
use crate::clock;

const SERVER: &str = "sandbox ECS";
/// Nobody has pushed it.
const MISSING: &str = "sha256:4040404040404040404040404040404040404040404040404040404040404040";
const SERVICE: [&str; 4] = ["--cluster", "shop", "--service", "web"];

pub(super) fn run(stage: &mut Stage, world: &World) {
    stage.table.scenario(SERVER, "aws-cli deploys, and reads the running digest", || deploys(world));
    stage.table.scenario(SERVER, "aws-cli sees a bad deployment rolled back", || rolls_back(world));
}

fn aws(world: &World, arguments: &[&str]) -> Result<String> {
    let mut aws = world.aws(&["ecs"])?;
    aws.args(arguments).args(["--output", "text"]);
    Ok(done(&mut aws)?.trim().to_owned())
}

fn register(world: &World, digest: &str) -> Result<()> {
    let container = format!("name=web,image=registry.example.com/shop/web@{digest},memory=64,essential=true");
    aws(world, &["register-task-definition", "--family", "web", "--container-definitions", &container])
        .map(drop)
}

/// Waits until the latest service deployment has ended so.
fn ends(world: &World, expected: &str) -> Result<()> {
    let mut ask = vec!["list-service-deployments"];
    ask.extend(SERVICE);
    ask.extend(["--query", "serviceDeployments[0].status"]);
    let mut last = String::new();
    clock::poll(Duration::from_secs(240), || {
        last = aws(world, &ask).unwrap_or_else(|error| error.to_string());
        (last == expected).then_some(())
    })
    .with_context(|| format!("the service deployment is {last}, not {expected}"))
}

fn deploys(world: &World) -> Result<String> {
    let digest = &world.image().digest;
    aws(world, &["create-cluster", "--cluster-name", "shop"])?;
    register(world, digest)?;
    let breaker = "deploymentCircuitBreaker={enable=true,rollback=true}";
    aws(
        world,
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
    ends(world, "SUCCESSFUL")?;
    let tasks =
        aws(world, &["list-tasks", "--cluster", "shop", "--service-name", "web", "--query", "taskArns"])?;
    let mut ask = vec!["describe-tasks", "--cluster", "shop", "--tasks"];
    ask.extend(tasks.split_whitespace());
    ask.extend(["--query", "tasks[].containers[].imageDigest"]);
    let running = aws(world, &ask)?;
    let running: Vec<&str> = running.split_whitespace().collect();
    ensure!(running.len() == 2 && running[0] == running[1], "two tasks run {running:?}");
    // The agent reports the digest that the task definition names, or the one of its platform below that index.
    let source = format!("{}/{}", world.plain_registry()?, world.image().repository);
    let known = done(&mut world.crane(&["manifest", &format!("{source}@{}", running[0])]))?;
    ensure!(!known.is_empty(), "{} is not in the registry", running[0]);
    Ok(String::new())
}

fn rolls_back(world: &World) -> Result<String> {
    register(world, MISSING)?;
    let mut update = vec!["update-service"];
    update.extend(SERVICE);
    update.extend(["--task-definition", "web:2"]);
    aws(world, &update)?;
    ends(world, "ROLLBACK_SUCCESSFUL")?;
    let ask = ["describe-services", "--cluster", "shop", "--services", "web", "--query"];
    let definition = aws(world, &[&ask[..], &["services[0].taskDefinition"]].concat())?;
    ensure!(definition.ends_with(":task-definition/web:1"), "the service has {definition}");
    let stopped = aws(
        world,
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
    let why = aws(world, &why)?;
    ensure!(why.contains("CannotPullContainer"), "the stopped task says {why:?}");
    Ok(why)
}
