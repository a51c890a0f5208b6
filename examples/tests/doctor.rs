//! `doctor` succeeds where the commands work, and lists what they would fail with where they do not.
#![cfg(feature = "sandbox")]

mod common;

use std::time::Duration;

use bp_sandbox::{Effect, Fault};
use common::{Ended, Stage, ended};
use serde_json::Value;

/// The rows of a run in the environment `staging`, with their states.
struct Rows {
    end: Ended,
    rows: Vec<Value>,
}

impl Rows {
    fn of(end: Ended) -> Self {
        let line: Value =
            serde_json::from_str(end.stdout.lines().next().unwrap_or_default()).unwrap_or_default();
        let rows = line["data"]["rows"].as_array().cloned().unwrap_or_default();
        Rows { end, rows }
    }

    /// The rows in a state, as `check: detail`.
    fn in_state(&self, state: &str) -> Vec<String> {
        let rows = self.rows.iter().filter(|row| row["state"] == state);
        rows.map(|row| format!("{}: {}", row["check"].as_str().unwrap(), row["detail"].as_str().unwrap()))
            .collect()
    }

    /// Asserts the exit code, and that exactly one check is not ok, with these words and a remedy.
    #[track_caller]
    fn assert_only(&self, code: i32, state: &str, words: &[&str]) {
        let found = self.in_state(state);
        let other = if state == "failed" { "unknown" } else { "failed" };
        assert!(self.end.code == code && self.in_state(other).is_empty(), "{:?}", self.end);
        assert!(found.iter().any(|row| words.iter().all(|word| row.contains(word))), "{words:?}: {found:?}");
        for row in &self.rows {
            assert!(row["state"] == "ok" || row["remedy"].is_string(), "no remedy: {row}");
        }
    }
}

const STAGING: &[&str] = &["--env", "staging", "--output", "json"];

async fn doctor(stage: &Stage, arguments: &[&str]) -> Rows {
    Rows::of(stage.run("doctor", &[STAGING, arguments].concat()).await)
}

#[tokio::test]
async fn everything_is_in_order_on_the_sandbox() {
    let stage = Stage::new().await;
    let rows = doctor(&stage, &[]).await;
    assert_eq!(rows.end.code, 0, "{:?}", rows.end);
    assert!(
        rows.in_state("failed").is_empty()
            && rows.in_state("unknown").is_empty()
            && rows.in_state("warning").is_empty(),
        "{:?}",
        rows.end
    );
    let ok = rows.in_state("ok").join("\n");
    for check in [
        "caller: arn:aws:",
        "clock: as AWS's",
        "role: arn:aws:sts::222222222222:",
        "registry: 222222222222",
        "repository shop/web",
        "ecs staging/shop-web",
        "eks cluster staging",
        "eks shop/deployment/web: runs revision",
    ] {
        assert!(ok.contains(check), "{check}: {ok}");
    }
    assert!(rows.in_state("not-tried").iter().any(|row| row.contains("ecs:UpdateService")), "{ok}");
    assert_eq!(stage.changes(), 0);

    // For people, one table for all environments.
    let text = stage.run("doctor", &[]).await;
    assert_eq!(text.code, 0, "{text:?}");
    for line in [
        "\nok         prod     ecs prod/shop-web",
        "\nnot tried  prod     ",
        "\ndoctor: ",
        "\n    do: compare the policy",
    ] {
        assert!(text.stdout.contains(line), "{line}: {}", text.stdout);
    }
}

#[tokio::test]
async fn what_a_command_would_fail_with_is_found() {
    let stage = Stage::new().await;
    let cluster = stage.world.sandbox.cluster("staging");
    for (set, words) in [
        ("repository=shop/other", &["repository shop/other", "RepositoryNotFoundException"][..]),
        ("ecs.service=other", &["ecs staging/other"]),
        ("ecs.cluster=other", &["ecs other/shop-web"]),
        ("eks.cluster=other", &["eks cluster other", "does not exist"]),
        ("eks.workload=deployment/other", &["eks shop/deployment/other", "does not exist"]),
        ("ecs.secrets.PASSWORD=/shop/none", &["secrets of shop-web", "/shop/none"]),
        ("ecs.schedules=on", &["bp: this build lacks", "ecs.schedules"]),
    ] {
        let rows = doctor(&stage, &["--set", set]).await;
        if set == "ecs.schedules=on" && rows.end.code == 0 {
            continue; // A build with the feature.
        }
        rows.assert_only(5, "failed", words);
    }

    cluster.deny("patch", "deployments");
    doctor(&stage, &[]).await.assert_only(
        5,
        "failed",
        &["eks shop/deployment/web, verbs", "verb patch on deployments.apps"],
    );
    cluster.allow("patch", "deployments");
    cluster.deny("get", "pods/log");
    let rows = doctor(&stage, &[]).await;
    assert_eq!((rows.end.code, rows.in_state("warning").len()), (0, 1), "{:?}", rows.end);
    cluster.allow("get", "pods/log");

    for (action, words) in [
        ("ecr:BatchGetImage", &["repository shop/web", "AccessDenied"][..]),
        ("ecs:DescribeServices", &["ecs staging/shop-web"]),
        ("ecs:ListTasks", &["ecs staging/shop-web, tasks", "ecs:ListTasks"]),
        ("eks:DescribeCluster", &["eks cluster staging", "eks:DescribeCluster"]),
        ("sts:AssumeRole", &["role: ", "arn:aws:iam::222222222222:role/deliver"]),
    ] {
        stage.world.sandbox.aws().deny(action);
        doctor(&stage, &[]).await.assert_only(5, "failed", words);
        stage.world.sandbox.aws().allow(action);
    }
    let mut command = stage.command("doctor", STAGING);
    command.env_remove("AWS_ACCESS_KEY_ID").env_remove("AWS_SECRET_ACCESS_KEY");
    let rows = Rows::of(ended(command).await);
    assert!(
        rows.end.code == 5 && rows.in_state("failed")[0].starts_with("caller: no valid AWS credentials"),
        "{:?}",
        rows.end
    );
}

#[tokio::test]
async fn what_cannot_be_determined_is_unknown_within_the_deadline() {
    let stage = Stage::new().await;
    let faults = stage.world.sandbox.faults();
    faults.inject(Fault::status(503).on("ecs:DescribeServices").times(u32::MAX));
    doctor(&stage, &[]).await.assert_only(7, "unknown", &["ecs staging/shop-web"]);
    faults.clear();

    // A registry that does not respond.
    let stall = Fault::new(Effect::Delay(Duration::from_secs(3600))).on("GET base").times(u32::MAX);
    faults.inject(stall);
    let start = tokio::time::Instant::now();
    let rows = doctor(&stage, &["--timeout", "8s"]).await;
    assert!(start.elapsed() < Duration::from_secs(60), "{:?}", start.elapsed());
    rows.assert_only(7, "unknown", &["registry: ", "not completed within 8 s"]);
    faults.clear();

    let mut command = stage.command("doctor", &[STAGING, &["--timeout", "10s"]].concat());
    command.env("AWS_ENDPOINT_URL", "http://127.0.0.1:1");
    let rows = Rows::of(ended(command).await);
    assert!(rows.end.code == 7 && rows.in_state("unknown")[0].starts_with("caller: "), "{:?}", rows.end);
}

#[tokio::test]
async fn a_clock_that_aws_would_reject_is_found() {
    let stage = Stage::new().await;
    let body = "<GetCallerIdentityResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><GetCallerIdentityResult>\
                <Arn>arn:aws:sts::111111111111:assumed-role/a/b</Arn><UserId>A</UserId><Account>111111111111</Account>\
                </GetCallerIdentityResult></GetCallerIdentityResponse>";
    let headers = vec![
        ("date".to_owned(), "Thu, 01 Jan 2026 12:00:00 GMT".to_owned()),
        ("content-type".to_owned(), "text/xml".to_owned()),
    ];
    let answer = Effect::Answer { status: 200, headers, body: body.to_owned() };
    stage.world.sandbox.faults().inject(Fault::new(answer).on("sts:GetCallerIdentity"));
    doctor(&stage, &[]).await.assert_only(5, "failed", &["clock: ", "ahead of AWS"]);
}

#[tokio::test]
async fn an_invalid_file_ends_before_any_check() {
    let stage = Stage::new().await;
    stage.edit_config("region = \"eu-central-1\"", "region = \"here\"");
    let end = stage.run("doctor", &["--env", "staging"]).await;
    assert!(end.code == 2 && end.stderr.contains("bp.toml:"), "{end:?}");
    let end = stage.run("doctor", &["--set", "region=eu-west-1"]).await;
    assert!(end.code == 2, "{end:?}");
}
