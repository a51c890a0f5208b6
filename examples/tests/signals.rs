//! Signals: every program stops at a safe point, reports the state, and leaves nothing behind.
#![cfg(all(feature = "sandbox", unix))]

mod common;
#[path = "signals/rollback_on_cancel.rs"]
mod rollback_on_cancel;

use std::{os::unix::fs::PermissionsExt as _, path::Path, process::Stdio, time::Duration};

use bp_artifact::deploy::{Receipt, ReceiptState};
use bp_examples::world::shop;
use common::{Ended, Stage, signalled};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::Command,
};

const DEPLOY: &[&str] = &["--env", "staging", "--take-over"];
/// What a run prints once the deployment to both targets has started.
const STARTED: &str = "started ecs-svc/";

fn last_line(end: &Ended) -> &str {
    end.stderr.lines().last().unwrap_or_default()
}

/// The digest of version 0.9.0, which runs before, and that of 1.0.0.
fn digests() -> (String, String) {
    (shop("0.9.0").build().digest().to_string(), shop("1.0.0").build().digest().to_string())
}

/// Asserts that this digest, and nothing else, runs on both platforms.
fn assert_runs(stage: &Stage, digest: &str) {
    let (ecs, eks) = stage.running("222222222222", "staging");
    let all: Vec<&String> = ecs.iter().chain(&eks).collect();
    assert!(!ecs.is_empty() && !eks.is_empty() && all.iter().all(|found| *found == digest), "{all:?}");
}

#[tokio::test]
async fn every_signal_stops_a_deployment_and_a_rerun_completes_it() {
    let (_, new) = digests();
    for (signal, name, code) in [("-HUP", "SIGHUP", 129), ("-INT", "SIGINT", 130), ("-TERM", "SIGTERM", 143)]
    {
        let stage = Stage::new().await;
        let end = stage.signalled("dual-deploy", DEPLOY, STARTED, &[signal]).await;
        assert_eq!(end.code, code, "{end:?}");
        assert!(end.stderr.contains(&format!("{name}: stopping at the next safe point")), "{end:?}");
        let last = last_line(&end);
        assert!(
            last.starts_with("error: interrupted: ") && last.contains("rerun the same command"),
            "{last}"
        );
        assert_eq!(stage.files(), ["artifact.json", "bp.toml", "receipt.json"], "no lock, no temporary file");
        let receipt = Receipt::read(stage.path("receipt.json")).unwrap();
        assert_eq!(receipt.state, ReceiptState::Started);
        let end = stage.run("dual-deploy", DEPLOY).await;
        assert_eq!(end.code, 0, "{end:?}");
        assert_runs(&stage, &new);
    }
}

#[tokio::test]
async fn rollback_on_cancel_restores_both_targets() {
    let (old, new) = digests();
    let arguments = [DEPLOY, &["--rollback-on-cancel"]].concat();
    let stage = Stage::new().await;
    let end = stage.signalled("dual-deploy", &arguments, STARTED, &["-TERM"]).await;
    assert_eq!(end.code, 3, "{end:?}");
    assert!(end.stderr.contains("interrupted: rolling back all targets"), "{end:?}");
    assert_runs(&stage, &old);
    assert_eq!(Receipt::read(stage.path("receipt.json")).unwrap().state, ReceiptState::Finished);
    assert_eq!(stage.run("dual-deploy", DEPLOY).await.code, 0);
    assert_runs(&stage, &new);
}

#[tokio::test]
async fn rollback_on_cancel_restores_a_kubernetes_workload() {
    let (old, _) = digests();
    let arguments = [DEPLOY, &["--rollback-on-cancel"]].concat();
    let stage = Stage::new().await;
    let end = stage.signalled("deploy-eks", &arguments, "rollback revision", &["-HUP"]).await;
    // The signal may arrive before the first change: then nothing is rolled back.
    assert!([3, 129].contains(&end.code), "{end:?}");
    assert_runs(&stage, &old);
    let end = stage.run("deploy-eks", &[DEPLOY, &["--no-wait", "--rollback-on-cancel"]].concat()).await;
    assert_eq!(end.code, 2, "{end:?}");
    assert!(last_line(&end).contains("--rollback-on-cancel has no effect with --no-wait"), "{end:?}");
}

#[tokio::test]
async fn a_second_signal_stops_at_once() {
    let stage = Stage::new().await;
    let arguments = [DEPLOY, &["--rollback-on-cancel"]].concat();
    let rolling_back = "interrupted: rolling back all targets";
    let command = stage.command("dual-deploy", &arguments);
    let mut script = Command::new("sh");
    // The shell is replaced by the program.
    script.arg("-c").arg("exec \"$@\"").arg("sh").arg(command.as_std().get_program());
    script.args(command.as_std().get_args()).current_dir(stage.directory.path()).env_clear();
    let variables = command.as_std().get_envs().filter_map(|(name, value)| Some((name, value?)));
    script.envs(variables).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = script.spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let kill = |signal: &str| {
        let pid = child.id().unwrap().to_string();
        assert!(std::process::Command::new("kill").args([signal, &pid]).status().unwrap().success());
    };
    let mut all = String::new();
    while let Some(line) = lines.next_line().await.unwrap() {
        if line.contains(STARTED) {
            kill("-TERM");
        } else if line.contains(rolling_back) {
            kill("-INT");
        }
        all.push_str(&line);
        all.push('\n');
    }
    assert_eq!(child.wait().await.unwrap().code(), Some(143), "{all}");
    assert!(all.lines().last().unwrap().contains("changes already applied remain"), "{all}");
    let end = stage.run("rollback", &["--env", "staging"]).await;
    assert_eq!(end.code, 0, "{end:?}");
    assert_runs(&stage, &digests().0);
}

#[tokio::test]
async fn nohup_is_respected() {
    let stage = Stage::new().await;
    let command = stage.command("dual-deploy", DEPLOY);
    let mut script = Command::new("sh");
    script.arg("-c").arg("trap '' HUP; exec \"$@\"").arg("sh").arg(command.as_std().get_program());
    script.args(command.as_std().get_args()).current_dir(stage.directory.path()).env_clear();
    script.envs(command.as_std().get_envs().filter_map(|(name, value)| Some((name, value?))));
    let end = signalled(script, STARTED, &["-HUP"]).await;
    assert_eq!(end.code, 0, "{end:?}");
}

#[tokio::test]
async fn a_gate_ends_with_the_processes_that_it_has_started() {
    let stage = Stage::new().await;
    let pid = stage.path("pid");
    stage.edit_config(
        "[[environment]]\nname = \"prod\"",
        &format!(
            "[environment.gate.smoke]\nafter = \"ecs\"\n\
             command = [\"sh\", \"-c\", \"sleep 600 & echo $! >{}; wait\"]\n\n[[environment]]\nname = \"prod\"",
            pid.display()
        ),
    );
    let end = stage.signalled("dual-deploy", DEPLOY, "smoke", &["-TERM"]).await;
    assert_eq!(end.code, 143, "{end:?}");
    if let Ok(pid) = std::fs::read_to_string(pid) {
        let stat = format!("/proc/{}/stat", pid.trim());
        let gone = async {
            while std::fs::read_to_string(&stat).is_ok_and(|stat| !stat.contains(") Z ")) {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), gone).await.expect("the sleep is killed");
    }
}

#[tokio::test]
async fn the_sandbox_removes_its_private_directory() {
    let stage = Stage::new().await;
    for (signal, code) in [("-HUP", 129), ("-INT", 130), ("-TERM", 143)] {
        let mut command = stage.command("sandbox", &[]);
        let temporary = tempfile::tempdir().unwrap();
        command.env("TMPDIR", temporary.path()).stderr(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut files: Vec<String> = Vec::new();
        while files.len() < 2 {
            let line = lines.next_line().await.unwrap().expect("the sandbox prints its variables");
            let is_file = line.contains("BP_CONFIG=") || line.contains("KUBECONFIG=");
            files
                .extend(is_file.then(|| line.split(['=', ':']).nth(1).unwrap().trim_matches('"').to_owned()));
        }
        let directory = Path::new(&files[0]).parent().unwrap();
        let mode = std::fs::metadata(directory).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700, "{}", directory.display());
        let pid = child.id().unwrap().to_string();
        assert!(std::process::Command::new("kill").args([signal, &pid]).status().unwrap().success());
        assert_eq!(child.wait().await.unwrap().code(), Some(code), "{signal}");
        assert_eq!(std::fs::read_dir(temporary.path()).unwrap().count(), 0, "{signal}");
    }
}

#[tokio::test]
async fn a_second_run_with_the_same_receipt_is_refused() {
    let stage = Stage::new().await;
    let mut first = stage.command("dual-deploy", DEPLOY);
    let mut first = first.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(first.stderr.take().unwrap()).lines();
    while !lines.next_line().await.unwrap().unwrap().contains(STARTED) {}
    // It would take longer than the second one waits.
    let pid = first.id().unwrap().to_string();
    let kill = |signal: &str| std::process::Command::new("kill").args([signal, &pid]).status().unwrap();
    assert!(kill("-STOP").success());
    let receipt = stage.read("receipt.json");
    for (name, arguments) in [("dual-deploy", DEPLOY), ("rollback", &["--env", "staging"][..])] {
        let end = stage.run(name, arguments).await;
        assert_eq!(end.code, 7, "{end:?}");
        let holder = format!("is in use by another run (process {pid} on ");
        assert!(last_line(&end).contains(&holder), "{}", last_line(&end));
    }
    assert_eq!(stage.read("receipt.json"), receipt);
    assert!(kill("-CONT").success());
    while lines.next_line().await.unwrap().is_some() {}
    assert_eq!(first.wait().await.unwrap().code(), Some(0));
    assert_eq!(stage.files(), ["artifact.json", "bp.toml", "receipt.json"]);
}
