//! Deployments whose outcome cannot be observed: exit code 7, nothing is rolled back, and the same command resumes.
#![cfg(feature = "sandbox")]

mod common;

use std::process::Stdio;

use bp_examples::world::shop;
use bp_sandbox::{Effect, Fault};
use common::{Ended, Stage};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};

const STAGING: (&str, &str) = ("222222222222", "staging");

fn aws_error(code: &str, message: &str) -> Fault {
    let body = json!({ "__type": code, "message": message }).to_string();
    let headers = vec![("content-type".to_owned(), "application/x-amz-json-1.1".to_owned())];
    Fault::new(Effect::Answer { status: 400, headers, body }).at("aws").times(u32::MAX)
}

fn denied(action: &str) -> Fault {
    let message =
        format!("User: arn:aws:sts::222222222222:assumed-role/ci is not authorized to perform: {action}");
    aws_error("AccessDeniedException", &message).on(action)
}

fn observation_faults() -> [(&'static str, Fault); 4] {
    let expired = "The security token included in the request is expired";
    [
        ("no valid AWS credentials", aws_error("ExpiredTokenException", expired)),
        ("Rate exceeded", aws_error("ThrottlingException", "Rate exceeded")),
        ("the permission ecs:DescribeServiceDeployments", denied("ecs:DescribeServiceDeployments")),
        ("cannot be reached", Fault::new(Effect::Reset).at("aws").times(u32::MAX)),
    ]
}

/// Runs a binary, and injects the fault once it has started its ECS deployment. Also returns the id of that deployment.
async fn run_with_fault(stage: &Stage, binary: &str, fault: Fault) -> (Ended, String) {
    let mut command = stage.command(binary, &["--env", "staging", "--timeout", "3s"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let (mut stderr, mut started) = (String::new(), String::new());
    while let Some(line) = lines.next_line().await.unwrap() {
        if let Some((_, rest)) = line.split_once("started ecs-svc/").filter(|_| started.is_empty()) {
            started = format!("ecs-svc/{}", rest.split_whitespace().next().unwrap());
            stage.world.sandbox.faults().inject(fault.clone());
        }
        stderr.push_str(&line);
        stderr.push('\n');
    }
    let output = child.wait_with_output().await.unwrap();
    let stdout = String::from_utf8(output.stdout).unwrap();
    (Ended { code: output.status.code().unwrap_or(-1), stdout, stderr }, started)
}

fn assert_unobserved(end: &Ended, started: &str, why: &str) {
    for part in
        [&format!("started {started} (shop-web:2)"), "continues", why, "the same command again to resume"]
    {
        assert!(end.stdout.contains(part), "{part}: {} {}", end.stdout, end.stderr);
    }
    assert!(end.stdout.contains("the outcome could not be observed"), "{}", end.stdout);
    for part in ["FAILING", "rolling back", "rolled back"] {
        assert!(!end.stderr.contains(part) && !end.stdout.contains(part), "{part}: {}", end.stderr);
    }
}

fn calls(stage: &Stage) -> [usize; 2] {
    ["ecs:UpdateService", "ecs:StopServiceDeployment"].map(|name| stage.world.sandbox.ledger().count_of(name))
}

#[tokio::test]
async fn deploy_ecs_reports_the_started_deployment_and_resumes() {
    for (why, fault) in observation_faults() {
        let stage = Stage::new().await;
        let (end, started) = run_with_fault(&stage, "deploy-ecs", fault).await;
        assert_eq!(end.code, 7, "{why}: {}", end.stderr);
        assert_unobserved(&end, &started, why);
        stage.world.sandbox.faults().clear();
        let end = stage.run("deploy-ecs", &["--env", "staging"]).await;
        assert_eq!(end.code, 0, "{why}: {}", end.stderr);
        assert_eq!(calls(&stage), [1, 0], "{why}");
    }
}

#[tokio::test]
async fn dual_deploy_rolls_back_no_target_and_resumes() {
    for (why, fault) in observation_faults() {
        let stage = Stage::new().await;
        let before = stage.running(STAGING.0, STAGING.1);
        let (end, started) = run_with_fault(&stage, "dual-deploy", fault).await;
        assert_eq!(end.code, 7, "{why}: {}", end.stderr);
        assert_unobserved(&end, &started, why);
        let receipt = || serde_json::from_str::<Value>(&stage.read("receipt.json")).unwrap();
        assert_eq!(
            (&receipt()["state"], &receipt()["verdict"]),
            (&json!("started"), &json!("unobserved")),
            "{why}"
        );

        stage.world.sandbox.faults().clear();
        let end = stage.run("dual-deploy", &["--env", "staging"]).await;
        assert_eq!(end.code, 0, "{why}: {}", end.stderr);
        assert_eq!(
            (&receipt()["state"], &receipt()["verdict"]),
            (&json!("finished"), &json!("deployed")),
            "{why}"
        );
        assert_eq!(calls(&stage), [1, 0], "{why}");
        let running = stage.running(STAGING.0, STAGING.1);
        let images = |digests: &[String]| digests.iter().cloned().collect::<std::collections::BTreeSet<_>>();
        assert_eq!(images(&running.0), images(&running.1), "{why}");
        assert_ne!(running, before, "{why}");
        // The rollback revision is still that from before the first run.
        let end = stage.run("rollback", &["--env", "staging"]).await;
        assert_eq!(end.code, 0, "{why}: {}", end.stderr);
        assert_eq!(stage.running(STAGING.0, STAGING.1), before, "{why}");
    }
}

#[tokio::test]
async fn resumes_an_unobserved_rollback() {
    let stage = Stage::new().await;
    let before = stage.running(STAGING.0, STAGING.1);
    let end = stage.run("dual-deploy", &["--env", "staging"]).await;
    assert_eq!(end.code, 0, "{}", end.stderr);
    let (end, started) = run_with_fault(&stage, "rollback", observation_faults()[0].1.clone()).await;
    assert_eq!(end.code, 7, "{}", end.stderr);
    assert!(end.stdout.contains(&format!("started {started} (shop-web:1)")), "{}", end.stdout);
    let receipt: Value = serde_json::from_str(&stage.read("receipt.json")).unwrap();
    assert_eq!(receipt["state"], "rolling-back");
    stage.world.sandbox.faults().clear();
    let end = stage.run("rollback", &["--env", "staging"]).await;
    assert_eq!(end.code, 0, "{}", end.stderr);
    assert_eq!(stage.running(STAGING.0, STAGING.1), before);
    assert_eq!(calls(&stage), [2, 0]);
}

#[tokio::test]
async fn a_success_with_unreadable_tasks_is_unproven_and_reports_the_reason() {
    let stage = Stage::new().await;
    stage.world.sandbox.faults().inject(denied("ecs:ListTasks"));
    let end = stage.run("deploy-ecs", &["--env", "staging", "--timeout", "3s"]).await;
    assert_eq!(end.code, 6, "{}", end.stderr);
    assert!(end.stdout.contains("unproven") && end.stdout.contains("ecs:ListTasks"), "{}", end.stdout);
}

#[tokio::test]
async fn rollback_reads_a_receipt_of_a_later_minor_version_and_keeps_unknown_fields() {
    let stage = Stage::new().await;
    let before = stage.running(STAGING.0, STAGING.1);
    stage.built(&shop("2.0.0").build(), "2.0.0");
    let end = stage.run("dual-deploy", &["--env", "staging"]).await;
    assert_eq!(end.code, 0, "{}", end.stderr);
    let mut receipt: Value = serde_json::from_str(&stage.read("receipt.json")).unwrap();
    receipt["schema"] = json!("bp.receipt/1.1");
    receipt["approvedBy"] = json!("ops");
    let failure = json!({ "cause": "quota-of-gpus", "message": "no GPUs left", "severity": 3 });
    receipt["targets"][0]["outcome"]["failure"] = failure.clone();
    stage.write("receipt.json", &receipt.to_string());
    let end = stage.run("rollback", &["--env", "staging"]).await;
    assert_eq!(end.code, 0, "{}", end.stderr);
    assert_eq!(stage.running(STAGING.0, STAGING.1), before);
    let written: Value = serde_json::from_str(&stage.read("receipt.json")).unwrap();
    assert_eq!((&written["schema"], &written["approvedBy"]), (&receipt["schema"], &receipt["approvedBy"]));
    assert_eq!(written["targets"][0]["outcome"]["failure"], failure);
}
