//! Untrusted text of registries and containers is escaped in lines and JSON: it contains no terminal control sequences
//! and no workflow commands of CI runners.
#![cfg(feature = "sandbox")]

mod common;
#[path = "../../crates/bp-artifact/tests/console/mod.rs"]
mod console;

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
