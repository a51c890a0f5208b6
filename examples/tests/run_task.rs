//! `run-task`, and one-off tasks of bp.toml before and after a deployment.
#![cfg(feature = "sandbox")]

mod common;

use std::{process::Stdio, time::Duration};

use bp_examples::world::shop;
use bp_sandbox::{Behaviour, aws::ecs::EcsHandle};
use common::Stage;
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::Child,
};

const MIGRATE: [&str; 2] = ["./manage", "migrate"];

/// A stage with version 2.0.0 built, whose migration behaves like this.
async fn stage(after: u64, code: i32) -> Stage {
    let stage = Stage::new().await;
    let image = shop("2.0.0").build();
    stage.built(&image, "2.0.0");
    let behaviour = Behaviour::Exits { after: Duration::from_secs(after), code, log: Vec::new() };
    stage.world.sandbox.script_command(image.digest(), &MIGRATE, behaviour);
    stage
}

fn ecs(stage: &Stage) -> EcsHandle {
    stage.world.sandbox.aws().ecs("222222222222", "eu-central-1")
}

fn tasks(stage: &Stage) -> Vec<Value> {
    ecs(stage).standalone_tasks("staging")
}

fn migrate<'a>(flags: &[&'a str]) -> Vec<&'a str> {
    [&["--env", "staging"], flags, &["--command"], &MIGRATE].concat()
}

/// Adds lines to the ECS service of staging in bp.toml.
fn configure(stage: &Stage, lines: &str) {
    let service = "cluster = \"staging\"\nservice = \"shop-web\"\n";
    stage.edit_config(service, &format!("{service}{lines}\n"));
}

/// Starts `run-task`, and reads its lines until the task was started.
async fn started(stage: &Stage) -> (Child, String, tokio::io::Lines<BufReader<tokio::process::ChildStderr>>) {
    let mut command = stage.command("run-task", &migrate(&[]));
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let mut all = String::new();
    while let Some(line) = lines.next_line().await.unwrap() {
        all.push_str(&line);
        all.push('\n');
        if line.contains("started task") {
            break;
        }
    }
    (child, all, lines)
}

#[tokio::test]
async fn the_exit_code_of_the_container_is_passed_through() {
    let stage = stage(5, 0).await;
    let end = stage.run("run-task", &migrate(&["--set-env", "STEP=1"])).await;
    assert_eq!(end.code, 0, "{}", end.stderr);
    assert!(end.stdout.starts_with("ecs/staging/shop-web/task: exit code 0 (task "), "{}", end.stdout);
    assert_eq!(ecs(&stage).service("staging", "shop-web").running()[0].image.matches("sha256").count(), 1);
    assert_eq!(tasks(&stage)[0]["overrides"]["containerOverrides"][0]["environment"][0]["name"], "STEP");

    let failing = Behaviour::Exits { after: Duration::from_secs(5), code: 42, log: Vec::new() };
    let digest = shop("2.0.0").build().digest().to_owned();
    stage.world.sandbox.script_command(&digest, &["./fail", "--fast"], failing);
    let flags = ["--env", "staging", "--output", "json", "--command", "./fail", "--fast"];
    let end = stage.run("run-task", &flags).await;
    assert_eq!(end.code, 42, "{}", end.stderr);
    let last: Value = serde_json::from_str(end.stdout.lines().last().unwrap()).unwrap();
    assert_eq!((&last["type"], &last["data"]["exitCode"]), (&"result".into(), &42.into()));
    assert_eq!(last["data"]["failure"]["cause"], "container-exited");
}

#[tokio::test]
async fn failures_of_its_own_are_125() {
    let stage = stage(3600, 0).await;
    let end = stage.run("run-task", &migrate(&["--timeout", "4s"])).await;
    assert_eq!(end.code, 125, "{}", end.stderr);
    assert!(end.stdout.contains("not completed by the deadline"), "{}", end.stdout);
    assert_eq!(tasks(&stage)[0]["stopCode"], "UserInitiated");
    let end = stage.run("run-task", &migrate(&["--container", "proxy"])).await;
    assert_eq!(end.code, 125, "{}", end.stderr);
    assert!(end.stderr.contains("specify one of: web"), "{}", end.stderr);
    let end = stage.run("run-task", &["--env", "staging", "--command"]).await;
    assert_eq!(end.code, 2, "{}", end.stderr);
}

#[tokio::test]
async fn ctrl_c_stops_the_task_and_a_killed_run_is_resumed() {
    let stage = stage(3600, 0).await;
    let (mut child, mut all, mut lines) = started(&stage).await;
    let id = child.id().unwrap().to_string();
    assert!(std::process::Command::new("kill").args(["-INT", &id]).status().unwrap().success());
    while let Some(line) = lines.next_line().await.unwrap() {
        all.push_str(&line);
    }
    let end = tokio::time::timeout(Duration::from_secs(60), child.wait()).await.unwrap().unwrap();
    assert_eq!(end.code(), Some(130), "{all}");
    assert!(all.contains("is being stopped"), "{all}");
    assert_eq!(tasks(&stage)[0]["stoppedReason"], "interrupted by the caller");

    let soon = Behaviour::Exits { after: Duration::from_secs(300), code: 0, log: Vec::new() };
    stage.world.sandbox.script_command(shop("2.0.0").build().digest(), &MIGRATE, soon);
    let (mut child, ..) = started(&stage).await;
    child.kill().await.unwrap();
    let end = stage.run("run-task", &migrate(&[])).await;
    assert_eq!(end.code, 0, "{}", end.stderr);
    assert!(end.stderr.contains("following task"), "{}", end.stderr);
    assert_eq!(tasks(&stage).len(), 2);
}

#[tokio::test]
async fn a_task_before_the_deployment_is_shown_and_stops_it_when_it_fails() {
    let stage = stage(5, 3).await;
    configure(&stage, "before.migrate = [\"./manage\", \"migrate\"]\ntask-timeout = \"20m\"");
    let before = ecs(&stage).service("staging", "shop-web").definition();
    let end = stage.run("deploy-ecs", &["--env", "staging", "--check"]).await;
    assert_eq!(end.code, 0, "{} {}", end.stdout, end.stderr);
    let line = "ok: task migrate before the deployment: ./manage migrate (container web, at most 1200 s)";
    assert!(end.stdout.contains(line), "{}", end.stdout);
    assert!(tasks(&stage).is_empty());

    let end = stage.run("deploy-ecs", &["--env", "staging"]).await;
    assert_eq!(end.code, 3, "{}", end.stderr);
    assert!(end.stdout.contains("the service was not changed"), "{}", end.stdout);
    assert_eq!(ecs(&stage).service("staging", "shop-web").definition(), before);

    let succeeds = Behaviour::Exits { after: Duration::from_secs(5), code: 0, log: Vec::new() };
    stage.world.sandbox.script_command(shop("2.0.0").build().digest(), &MIGRATE, succeeds);
    let end = stage.run("dual-deploy", &["--env", "staging", "--take-over"]).await;
    assert_eq!(end.code, 0, "{}", end.stderr);
    let receipt: Value = serde_json::from_str(&stage.read("receipt.json")).unwrap();
    let targets = receipt["targets"].as_array().unwrap();
    let ecs = targets.iter().find(|target| target["target"] == "ecs/staging/shop-web").unwrap();
    let task = &ecs["outcome"]["tasks"][0];
    assert_eq!(task["target"], "ecs/staging/shop-web/before/migrate");
    assert_eq!((&task["verdict"], &task["exitCode"]), (&"deployed".into(), &0.into()));
}

#[tokio::test]
async fn no_wait_waits_for_the_task_before_the_deployment_and_is_refused_with_one_after_it() {
    let stage = stage(5, 0).await;
    configure(&stage, "before.migrate = [\"./manage\", \"migrate\"]");
    let no_wait = ["--env", "staging", "--no-wait"];
    let end = stage.run("deploy-ecs", &no_wait).await;
    assert_eq!(end.code, 0, "{} {}", end.stdout, end.stderr);
    assert!(end.stdout.contains("is not watched"), "{}", end.stdout);
    assert_eq!(tasks(&stage)[0]["stopCode"], "EssentialContainerExited");

    configure(&stage, "after.clean-up = [\"./clean-up\"]");
    let end = stage.run("deploy-ecs", &no_wait).await;
    assert_eq!(end.code, 2, "{} {}", end.stdout, end.stderr);
    assert!(end.stderr.contains("task clean-up after the deployment"), "{}", end.stderr);
}
