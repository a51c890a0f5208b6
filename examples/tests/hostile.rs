//! Untrusted text of registries and containers is escaped in lines and JSON: it contains no terminal control sequences
//! and no workflow commands of CI runners.
#![cfg(feature = "sandbox")]

mod common;
#[path = "../../crates/bp-artifact/tests/console/mod.rs"]
mod console;
#[path = "hostile/deployments.rs"]
mod deployments;

use bp_examples::world::shop;
use bp_sandbox::{Effect, Fault};
use common::{Ended, Stage, ended};
use console::assert_inert;
use serde_json::{Value, json};

/// A word of the hostile text that survives escaping, which shows that the text was printed.
const MARK: &str = "hunter-of-logs";

/// Hostile text of a registry or a container.
const HOSTILE: &str = "\u{1b}]0;owned\u{7}\u{1b}[2K\r::add-mask::a\r\n::stop-commands::x\n  ::set-output name=digest::sha256:0\
    \u{b}::group::b\u{2028}::group::c\u{85}::group::d ##[add-path]/tmp #\u{200d}#[set-env name=A]b ##vso[task.complete]c \
    \u{9b}2J\u{9d}0;owned\u{9c}\u{202e}drawkcab\u{2066} \u{7f}\u{8} \u{1b}[31mhunter-of-logs\u{1b}[0m\nerror: nothing is wrong";

/// Asserts that the output contains the escaped text, and that the text forges no line.
#[track_caller]
fn assert_escaped(end: &Ended, codes: &[i32]) {
    assert!(codes.contains(&end.code), "{end:?}");
    for output in [&end.stdout, &end.stderr] {
        assert_inert(output);
        assert!(!output.lines().any(|line| line == "error: nothing is wrong"), "forged line: {output}");
    }
    assert!(format!("{}{}", end.stdout, end.stderr).contains(MARK), "{end:?}");
}

/// Asserts that JSON output preserves the text.
#[track_caller]
fn assert_preserved_in_json(end: &Ended) {
    let has = |line: &str| -> bool { contains(&serde_json::from_str(line).unwrap(), HOSTILE) };
    assert!(end.stdout.lines().any(has), "{}", end.stdout);
}

fn contains(value: &Value, text: &str) -> bool {
    match value {
        Value::String(found) => found.contains(text),
        Value::Array(values) => values.iter().any(|value| contains(value, text)),
        Value::Object(map) => map.values().any(|value| contains(value, text)),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

fn answer(status: u16) -> Fault {
    let body = json!({ "errors": [{ "code": "DENIED", "message": HOSTILE }] }).to_string();
    let headers = vec![("content-type".to_owned(), "application/json".to_owned())];
    Fault::new(Effect::Answer { status, headers, body })
}

#[tokio::test]
async fn escapes_the_error_of_a_registry() {
    let stage = Stage::new().await;
    let environments = stage.world.config.environments();
    let url = &stage.world.registries()[environments[0].registry().as_str()];
    for output in ["lines", "json"] {
        stage.world.sandbox.faults().clear();
        stage.world.sandbox.faults().inject(answer(403).on("GET manifest").times(u32::MAX));
        let image = ["--image", "evil.example.com/shop/web:1", "--image-timeout", "2s", "--output", output];
        let mut emit = stage.command("emit-artifact", &image);
        emit.env("BP_REGISTRY_ENDPOINTS", format!("evil.example.com={url}"));
        assert_escaped(&ended(emit).await, &[7]);
        let copy = ["--to", "staging", "--tag", "1.0.0", "--output", output];
        assert_escaped(&stage.run("promote", &copy).await, &[7]);
    }
}

#[tokio::test]
async fn escapes_the_reason_of_a_retry() {
    let stage = Stage::new().await;
    for output in ["lines", "json"] {
        stage.world.sandbox.faults().inject(answer(503).on("GET manifest").times(2));
        let copy = ["--to", "staging", "--tag", "1.0.0", "--output", output];
        assert_escaped(&stage.run("promote", &copy).await, &[0]);
    }
}

#[tokio::test]
async fn escapes_the_log_of_a_container() {
    let stage = Stage::new().await;
    let image =
        shop("6.6.6").label("dev.bp-sandbox.behaviour", "exit:3").label("dev.bp-sandbox.log", HOSTILE);
    stage.built(&image.build(), "6.6.6");
    for output in ["lines", "json"] {
        let joint = stage.run("dual-deploy", &["--env", "staging", "--output", output]).await;
        assert_escaped(&joint, &[3]);
        let logs = ["--env", "prod", "--logs", "--events", "--output", output];
        let deployed = stage.run("deploy-eks", &logs).await;
        assert_escaped(&deployed, &[3]);
        if output == "json" {
            assert_preserved_in_json(&deployed);
        }
        for name in ["status", "verify", "wait", "rollback"] {
            let end = stage.run(name, &["--env", "staging", "--output", output]).await;
            assert_inert(&end.stdout);
            assert_inert(&end.stderr);
        }
    }
}

#[tokio::test]
async fn escapes_the_log_of_an_unhealthy_container() {
    let stage = Stage::new().await;
    let image =
        shop("6.6.7").label("dev.bp-sandbox.behaviour", "unhealthy").label("dev.bp-sandbox.log", HOSTILE);
    stage.built(&image.build(), "6.6.7");
    for output in ["lines", "json"] {
        let deployed =
            stage.run("deploy-eks", &["--env", "staging", "--timeout", "4s", "--output", output]).await;
        assert_escaped(&deployed, &[3]);
    }
}

/// The message of an AWS or Kubernetes error, in the output of every binary that calls the operation.
#[tokio::test]
async fn escapes_the_errors_of_aws_and_of_a_cluster() {
    let stage = Stage::new().await;
    let env = ["--env", "staging"];
    assert_eq!(stage.run("dual-deploy", &env).await.code, 0);
    let task = [&env[..], &["--command", "./manage", "migrate"]].concat();
    let runs: [(&str, &[&str], &str); 13] = [
        ("status", &env, "ecs:DescribeServices"),
        ("status", &env, "get deployments"),
        ("verify", &env, "ecs:DescribeServices"),
        ("verify", &env, "get deployments"),
        ("deploy-ecs", &env, "ecs:DescribeServices"),
        ("deploy-eks", &env, "get deployments"),
        ("dual-deploy", &env, "ecs:DescribeServices"),
        ("rollback", &env, "ecs:DescribeServices"),
        ("wait", &env, "ecs:DescribeServices"),
        ("run-task", &task, "ecs:RunTask"),
        ("record", &["--env", "staging", "--platform", "ecs"], "ecs:DescribeServices"),
        ("secrets", &["check", "--env", "staging"], "ecs:DescribeServices"),
        ("refresh-pull-secret", &env, "ecr:GetAuthorizationToken"),
    ];
    let answers = |operation: &str| {
        let aws = json!({ "__type": "InvalidParameterException", "message": HOSTILE });
        let status = json!({ "kind": "Status", "apiVersion": "v1", "status": "Failure", "message": HOSTILE,
            "reason": "Invalid", "code": 422 });
        let body = if operation.contains(':') { aws } else { status };
        let media_type =
            if operation.contains(':') { "application/x-amz-json-1.1" } else { "application/json" };
        let headers = vec![("content-type".to_owned(), media_type.to_owned())];
        let status = if operation.contains(':') { 400 } else { 422 };
        Fault::new(Effect::Answer { status, headers, body: body.to_string() }).on(operation).times(u32::MAX)
    };
    for (name, arguments, operation) in runs {
        for output in ["lines", "json"] {
            stage.world.sandbox.faults().clear();
            stage.world.sandbox.faults().inject(answers(operation));
            let end = stage.run(name, &[arguments, &["--output", output]].concat()).await;
            assert_ne!(end.code, 0, "{name}, {operation}: {end:?}");
            assert_escaped(&end, &[end.code]);
        }
    }
}

/// What a build and its artifact contain: reference, version and repository.
#[tokio::test]
async fn escapes_the_data_of_a_commit() {
    let stage = Stage::new().await;
    let registry = stage.world.config.environments()[0].registry().to_string();
    let image = format!("{registry}/shop/web:1.0.0");
    let commit = "1a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c4d";
    let flags =
        ["--image", &image, "--commit", commit, "--ref", HOSTILE, "--app-version", HOSTILE, "--output"];
    let lines = stage.run("emit-artifact", &[&flags[..], &["lines"]].concat()).await;
    assert_eq!(lines.code, 0, "{lines:?}");
    let emitted = stage.run("emit-artifact", &[&flags[..], &["json"]].concat()).await;
    assert_escaped(&emitted, &[0]);
    assert_preserved_in_json(&emitted);
    assert_eq!(stage.run("promote", &["--to", "staging"]).await.code, 0);
    for output in ["lines", "json"] {
        for (name, more) in [("dual-deploy", &["--check"][..]), ("dual-deploy", &[]), ("status", &[])] {
            let end = stage.run(name, &[&["--env", "staging", "--output", output], more].concat()).await;
            assert_inert(&end.stdout);
            assert_inert(&end.stderr);
        }
    }
    // As variables of the build system, and as an artifact that another tool wrote.
    let mut emit = stage.command("emit-artifact", &["--image", &image, "--output", "json"]);
    emit.env("GITLAB_CI", "true")
        .env("CI_COMMIT_SHA", commit)
        .env("CI_COMMIT_BRANCH", HOSTILE)
        .env("CI_PROJECT_URL", HOSTILE)
        .env("GITLAB_USER_LOGIN", HOSTILE);
    assert_escaped(&ended(emit).await, &[0]);
    let broken = json!({ "commit_sha": HOSTILE, "image": HOSTILE }).to_string();
    stage.write("artifact.json", &broken);
    let end = stage.run("dual-deploy", &["--env", "staging"]).await;
    assert_inert(&end.stderr);
    assert!(end.code == 2 && end.stderr.contains("is not a commit id"), "{end:?}");
}

/// Why a one-off task was not placed, and the arguments of its command.
#[tokio::test]
async fn escapes_a_one_off_task() {
    let stage = Stage::new().await;
    assert_eq!(stage.run("dual-deploy", &["--env", "staging"]).await.code, 0);
    let failure = json!({ "arn": HOSTILE, "reason": HOSTILE, "detail": HOSTILE });
    let body = json!({ "tasks": [], "failures": [failure] }).to_string();
    let headers = vec![("content-type".to_owned(), "application/x-amz-json-1.1".to_owned())];
    let answer = Fault::new(Effect::Answer { status: 200, headers, body }).on("ecs:RunTask").times(u32::MAX);
    stage.world.sandbox.faults().inject(answer);
    for output in ["lines", "json"] {
        let task =
            ["--env", "staging", "--timeout", "20s", "--output", output, "--command", "./manage", HOSTILE];
        let end = stage.run("run-task", &task).await;
        assert_ne!(end.code, 0, "{end:?}");
        assert_escaped(&end, &[end.code]);
    }
}

#[tokio::test]
async fn escapes_arguments_and_variables() {
    let stage = Stage::new().await;
    for arguments in [
        &["--env", HOSTILE][..],
        &["--env", "staging", "--config", HOSTILE],
        &["--env", "staging", "--set", HOSTILE],
        &["--env", "staging", "--timeout", HOSTILE],
        &["--env", "staging", "--image", HOSTILE],
        &["--env", "staging", HOSTILE],
        &["--env", "staging", &format!("--{HOSTILE}")],
        &["--env", "staging", "--output", HOSTILE],
    ] {
        let end = stage.run("dual-deploy", arguments).await;
        assert_eq!(end.code, 2, "{end:?}");
        assert_inert(&end.stderr);
        assert!(!end.stderr.lines().any(|line| line == "error: nothing is wrong"), "{}", end.stderr);
    }
    let mut help = stage.command("dual-deploy", &["--help"]);
    help.env("BP_ENV", HOSTILE).env("BP_ARTIFACT", HOSTILE).env("BP_CONFIG", HOSTILE);
    let help = ended(help).await;
    assert_eq!(help.code, 0, "{help:?}");
    assert_inert(&help.stdout);
    assert!(help.stdout.contains("BP_ENV") && !help.stdout.contains(MARK), "{}", help.stdout);
}

#[tokio::test]
async fn escapes_trace_logs() {
    let stage = Stage::new().await;
    stage.world.sandbox.faults().inject(answer(503).on("GET manifest").times(2));
    let mut copy = stage.command("promote", &["--to", "staging", "--tag", "1.0.0"]);
    copy.env("RUST_LOG", "trace");
    assert_escaped(&ended(copy).await, &[0]);
}

#[tokio::test]
async fn truncates_a_log_of_megabytes_with_a_notice() {
    let stage = Stage::new().await;
    let log = "x".repeat(3_000_000);
    let image = shop("6.6.8").label("dev.bp-sandbox.behaviour", "exit:3").label("dev.bp-sandbox.log", &log);
    stage.built(&image.build(), "6.6.8");
    let end = stage.run("deploy-eks", &["--env", "staging"]).await;
    let longest = end.stderr.lines().map(str::len).max().unwrap();
    assert!(end.code == 3 && longest < 10_000 && end.stderr.contains(" more characters)"), "{longest}");
}

/// What helm prints, as the reason of a failed upgrade and as the history of a release.
#[cfg(feature = "helm")]
#[tokio::test]
async fn escapes_the_output_of_helm() {
    use std::os::unix::fs::PermissionsExt as _;

    let stage = Stage::new().await;
    // The error is one line of helm's output, which may contain carriage returns.
    stage.write("words", &format!("Error: no {}\n", HOSTILE.replace('\n', "\r")));
    let history = json!([{ "revision": 1, "updated": "2026-01-01T00:00:00Z", "status": "deployed", "chart": HOSTILE,
        "app_version": HOSTILE, "description": HOSTILE }]);
    stage.write("history", &history.to_string());
    stage.write(
        "helm",
        "#!/bin/sh\ncase \"$1\" in version) echo v4.0.0;; history) cat history;; *) cat words >&2; exit 1;; esac\n",
    );
    std::fs::set_permissions(stage.path("helm"), std::fs::Permissions::from_mode(0o755)).unwrap();
    for output in ["lines", "json"] {
        let release = ["--env", "staging", "--release", "web", "--output", output];
        let upgrade = [&release[..], &["--chart", "charts/web"]].concat();
        let run = |arguments: Vec<&str>| {
            let mut helm = stage.command("deploy-helm", &arguments);
            helm.env("BP_HELM", stage.path("helm"));
            ended(helm)
        };
        let end = run(upgrade).await;
        assert_ne!(end.code, 0, "{end:?}");
        assert_escaped(&end, &[end.code]);
        assert_escaped(&run([&release[..], &["history"]].concat()).await, &[0]);
    }
}
