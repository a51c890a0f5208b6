//! Write the output of the binaries to files: text, JSON and exit codes of representative commands, so that a change of
//! output is visible in review. It asserts nothing: run it before and after a change and compare.
//!
//! `BP_TRANSCRIPTS=DIRECTORY cargo test -p bp-examples --test transcript -- --ignored`
#![cfg(feature = "sandbox")]

mod common;

use std::{fmt::Write as _, path::Path};

use bp_examples::world::shop;
use common::Stage;

/// The commands of one scenario, in order, on one sandbox. `@broken` builds an image that fails at startup.
struct Scenario(&'static str, &'static [&'static str]);

const SCENARIOS: &[Scenario] = &[
    Scenario(
        "line",
        &[
            "emit-artifact --image 111111111111.dkr.ecr.eu-central-1.amazonaws.com/shop/web:1.0.0 --commit \
             1a2b3c4d5e6f708192a3b4c5d6e7f80912345678",
            "promote --to staging --from dev --plan",
            "promote --to staging --from dev --record record.json",
            "promote --to staging --from dev",
            "deploy-ecs --env staging --check",
            "deploy-eks --env staging --check",
            "dual-deploy --env staging --receipt receipt.json",
            "dual-deploy --env staging --receipt receipt.json",
            "verify --env staging",
            "verify --env prod",
            "rollback --env staging --receipt receipt.json",
            "verify --env staging",
        ],
    ),
    Scenario(
        "ecs",
        &["deploy-ecs --env staging", "deploy-ecs --env staging", "deploy-ecs --env staging --force"],
    ),
    Scenario(
        "eks",
        &["deploy-eks --env staging", "deploy-eks --env staging", "deploy-eks --env staging --events"],
    ),
    Scenario(
        "broken-dual",
        &["@broken", "dual-deploy --env staging --receipt receipt.json", "verify --env staging"],
    ),
    Scenario("broken-ecs", &["@broken", "deploy-ecs --env staging"]),
    Scenario("broken-eks", &["@broken", "deploy-eks --env staging"]),
    Scenario(
        "inputs",
        &[
            "deploy-ecs --env nowhere",
            "deploy-ecs --env staging --set ecs.service=absent",
            "deploy-ecs --env staging --set ecs.container=absent",
            "deploy-ecs --env staging --revision absent:7",
            "deploy-eks --env staging --set eks.workload=deployment/absent",
            "deploy-eks --env staging --set eks.namespace=absent",
            "deploy-eks --env staging --image 222222222222.dkr.ecr.eu-central-1.amazonaws.com/shop/web:absent",
            "promote --to staging --from dev --tag absent",
            "rollback --env staging --receipt absent.json",
            "refresh-pull-secret --env staging",
            "switch-traffic --env staging status",
        ],
    ),
    Scenario(
        "config",
        &[
            "config show --env staging",
            "config check",
            "secrets check --env staging",
            "secrets print --form ecs DB=/shop/db",
        ],
    ),
];

#[tokio::test(flavor = "multi_thread")]
#[ignore = "writes files for a comparison: set BP_TRANSCRIPTS"]
async fn transcripts() {
    let directory = std::env::var("BP_TRANSCRIPTS").expect("BP_TRANSCRIPTS is not set");
    std::fs::create_dir_all(&directory).unwrap();
    for Scenario(name, commands) in SCENARIOS {
        for output in ["lines", "json"] {
            let text = transcript(commands, output).await;
            std::fs::write(Path::new(&directory).join(format!("{name}.{output}.txt")), text).unwrap();
        }
    }
}

async fn transcript(commands: &[&str], output: &str) -> String {
    let stage = Stage::new().await;
    let mut text = String::new();
    for command in commands {
        if *command == "@broken" {
            stage.built(&shop("1.1.0").label("dev.bp-sandbox.behaviour", "exit:78").build(), "1.1.0");
            continue;
        }
        let mut parts = command.split_whitespace();
        let binary = parts.next().unwrap_or_default();
        let mut arguments: Vec<&str> = parts.collect();
        arguments.extend(["--output", output]);
        let ended = stage.run(binary, &arguments).await;
        writeln!(text, "$ {command}").unwrap();
        text.push_str(&normalize(&ended.stdout, &stage));
        writeln!(text, "--- stderr").unwrap();
        text.push_str(&normalize(&ended.stderr, &stage));
        writeln!(text, "--- exit code {}\n", ended.code).unwrap();
    }
    text
}

/// Removes what differs between runs: ports, directories, times, and progress lines.
fn normalize(text: &str, stage: &Stage) -> String {
    let directory = stage.directory.path().display().to_string();
    let kept =
        text.lines().filter(|line| !line.contains(" running") && !line.contains("\"event\":\"progress\""));
    kept.fold(String::new(), |mut all, line| {
        let line = line.replace(&directory, "DIRECTORY");
        all.push_str(&times(&ports(&line)));
        all.push('\n');
        all
    })
}

/// Replaces ports of loopback addresses by `PORT`.
fn ports(line: &str) -> String {
    let mut parts = line.split("127.0.0.1:");
    let mut all = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        all.push_str("127.0.0.1:PORT");
        all.push_str(part.trim_start_matches(|c: char| c.is_ascii_digit()));
    }
    all
}

/// Replaces RFC 3339 timestamps by `TIME`.
fn times(line: &str) -> String {
    let mut all = String::new();
    let mut rest = line;
    while let Some(at) = rest.find("T").filter(|_| !rest.is_empty()) {
        let date = at.checked_sub(10).filter(|from| {
            rest.is_char_boundary(*from) && rest[*from..at].chars().all(|c| c.is_ascii_digit() || c == '-')
        });
        let Some(from) = date else {
            all.push_str(&rest[..=at]);
            rest = &rest[at + 1..];
            continue;
        };
        all.push_str(&rest[..from]);
        all.push_str("TIME");
        rest = rest[at + 1..].trim_start_matches(|c: char| c.is_ascii_digit() || ":.Z".contains(c));
    }
    all.push_str(rest);
    all
}
