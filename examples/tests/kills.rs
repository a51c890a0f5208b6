//! Programs that are killed by a signal at a random request, some of them on a full disk: the same command, run again,
//! ends right and leaves nothing behind.
//!
//! `BP_SOAK` is the number of kills, `BP_SEED` the first seed; `cargo xtask soak --kills` sets them.
#![cfg(all(feature = "sandbox", unix))]

mod common;

use std::{
    collections::{BTreeMap, btree_map::Entry},
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use bp_artifact::deploy::Receipt;
use bp_examples::world::{ACCESS_KEY, shop};
use bp_promote::{PromotionOutcome, PromotionRecord};
use bp_sandbox::{Effect, Fault};
use common::{Ended, Stage, ended};
use fastrand::Rng;
use serde_json::json;
use tokio::process::Command;

const DEPLOY: &[&str] = &["--env", "staging", "--take-over"];
const PROMOTE: &[&str] = &["--to", "staging", "--record", "record.jsonl", "--journal", "copy.journal"];
const SWITCH: &[&str] = &["--env", "staging", "--take-over", "--kubernetes-service", "site", "switch"];
const ROLLBACK: &[&str] = &["--env", "staging", "--take-over"];

/// A password in the user's docker configuration, which is for another registry.
const CANARY: &str = "canary-password-7f3a";

/// What no output and no file may contain: the secret key and the password, tokens of EKS, and encoded ECR passwords.
const SECRETS: [&str; 4] = [ACCESS_KEY.1, CANARY, "k8s-aws-v1.", "Basic QVdTO"];

/// A command that is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Killed {
    Promote,
    DualDeploy,
    Rollback,
    SwitchTraffic,
}

impl Killed {
    const ALL: [Killed; 4] = [Killed::Promote, Killed::DualDeploy, Killed::Rollback, Killed::SwitchTraffic];

    fn line(self) -> (&'static str, &'static [&'static str]) {
        match self {
            Killed::Promote => ("promote", PROMOTE),
            Killed::DualDeploy => ("dual-deploy", DEPLOY),
            Killed::Rollback => ("rollback", ROLLBACK),
            Killed::SwitchTraffic => ("switch-traffic", SWITCH),
        }
    }

    /// The files that remain when it has ended.
    fn leaves(self) -> &'static [&'static str] {
        match self {
            Killed::Promote => &[".docker", "artifact.json", "bp.toml", "copy.journal", "record.jsonl"],
            Killed::DualDeploy | Killed::Rollback | Killed::SwitchTraffic => {
                &[".docker", "artifact.json", "bp.toml", "receipt.json"]
            }
        }
    }

    /// Prepares what the command needs.
    async fn prepare(self, stage: &Stage) {
        match self {
            Killed::Promote => {
                // The tag moves from an earlier image.
                let image = shop("2.0.0").build();
                let registry = |environment: usize| {
                    let environment = &stage.world.config.environments()[environment];
                    stage.world.sandbox.registry(environment.registry().as_str())
                };
                registry(0).push(&image, "shop/web", "2.0.0");
                registry(1).push(&shop("1.5.0").build(), "shop/web", "2.0.0");
                stage.write_artifact(&image, "2.0.0");
            }
            Killed::DualDeploy => {}
            Killed::Rollback => {
                let end = stage.run("dual-deploy", DEPLOY).await;
                assert_eq!(end.code, 0, "{end:?}");
            }
            Killed::SwitchTraffic => stage.staged_site().await,
        }
        stage.world.sandbox.ledger().clear();
    }

    /// Asserts that the command, which has ended with success, has completed its work.
    async fn check(self, stage: &Stage, what: &str) {
        let digest = |version: &str| shop(version).build().digest().to_string();
        match self {
            Killed::Promote => {
                let environment = &stage.world.config.environments()[1];
                let registry = stage.world.sandbox.registry(environment.registry().as_str());
                assert_eq!(registry.tags("shop/web")["2.0.0"], digest("2.0.0"), "{what}");
                for blob in shop("2.0.0").build().blobs() {
                    let blob = bp_artifact::Digest::sha256(blob);
                    assert!(registry.blob("shop/web", blob.as_str()).is_some(), "{what}");
                }
                let record: serde_json::Value =
                    serde_json::from_str(stage.read("record.jsonl").trim()).unwrap();
                assert_eq!(record["previous"], digest("1.5.0"), "{what}: {record}");
            }
            Killed::DualDeploy => {
                assert_runs(stage, &digest("1.0.0"), what);
                let receipt = Receipt::read(stage.path("receipt.json")).unwrap();
                for entry in &receipt.targets {
                    let previous = entry.previous.image.to_string();
                    assert!(previous.ends_with(&digest("0.9.0")), "{what}: {}: {previous}", entry.target);
                }
            }
            Killed::Rollback => assert_runs(stage, &digest("0.9.0"), what),
            Killed::SwitchTraffic => assert_eq!(stage.live_slot(), "green", "{what}"),
        }
    }
}

fn assert_runs(stage: &Stage, digest: &str, what: &str) {
    let (ecs, eks) = stage.running("222222222222", "staging");
    let all: Vec<&String> = ecs.iter().chain(&eks).collect();
    assert!(
        !ecs.is_empty() && !eks.is_empty() && all.iter().all(|found| *found == digest),
        "{what}: {all:?}"
    );
}

/// The command with its own directory for temporary files, and everything logged.
fn command(stage: &Stage, killed: Killed, number: u64, temporary: &Path) -> Command {
    let (name, arguments) = killed.line();
    let mut command = stage.command(name, arguments);
    let output = if (number / 4).is_multiple_of(2) { "lines" } else { "json" };
    command.env("TMPDIR", temporary).env("RUST_LOG", "trace").env("BP_OUTPUT", output);
    command
}

/// A small file system that is full while this exists.
struct FullDisk {
    mounted: PathBuf,
}

impl FullDisk {
    /// Mounts it over the working directory of the stage, whose files are copied into it. `None` if that is not permitted.
    fn over(stage: &Stage) -> Option<Self> {
        let mounted = stage.directory.path().to_owned();
        let names = ["artifact.json", "bp.toml", "receipt.json", ".docker/config.json"];
        let files: Vec<_> =
            names.iter().filter_map(|name| Some((name, fs::read(stage.path(name)).ok()?))).collect();
        let mut mount = std::process::Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=512k", "tmpfs"]).arg(&mounted);
        let done = mount.stdout(Stdio::null()).stderr(Stdio::null()).status();
        if !done.is_ok_and(|status| status.success()) {
            return None;
        }
        for (name, content) in files {
            let path = stage.path(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        Some(FullDisk { mounted })
    }

    fn filler(&self) -> PathBuf {
        self.mounted.join(".filler")
    }

    fn fill(&self) {
        let mut file = fs::File::create(self.filler()).unwrap();
        while file.write_all(&[0; 4096]).is_ok() {}
        while file.write_all(&[0]).is_ok() {}
    }

    fn free(&self) {
        fs::remove_file(self.filler()).unwrap();
    }
}

impl Drop for FullDisk {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg(&self.mounted).status();
    }
}

async fn stage_for(killed: Killed) -> Stage {
    let stage = Stage::new().await;
    fs::create_dir(stage.path(".docker")).unwrap();
    let login = json!({ "auths": { "elsewhere.example.com": { "username": "ci", "password": CANARY } } });
    stage.write(".docker/config.json", &login.to_string());
    killed.prepare(&stage).await;
    stage
}

fn assert_no_secret(end: &Ended, stage: &Stage, what: &str) {
    let mut texts =
        vec![("stdout".to_owned(), end.stdout.clone()), ("stderr".to_owned(), end.stderr.clone())];
    for name in stage.files() {
        // The docker configuration has the password.
        if let Ok(bytes) = fs::read(stage.path(&name)) {
            texts.push((name, String::from_utf8_lossy(&bytes).into_owned()));
        }
    }
    for (name, text) in texts {
        let found = SECRETS.iter().find(|secret| text.contains(**secret));
        assert!(found.is_none(), "{what}: {name} contains {found:?}");
    }
}

/// Runs the command and sends it `signal` when the sandbox has received `requests` requests. Returns how it ended.
async fn kill(
    stage: &Stage,
    mut command: Command,
    requests: usize,
    signal: &str,
    full: Option<&FullDisk>,
) -> Ended {
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let pid = child.id().unwrap().to_string();
    let ledger = stage.world.sandbox.ledger();
    let killing = async {
        while ledger.count(|_| true) < requests {
            tokio::time::sleep(Duration::from_micros(500)).await;
        }
        if let Some(disk) = full {
            disk.fill();
        }
        // It may have ended already.
        let _ = std::process::Command::new("kill").args([signal, &pid]).stderr(Stdio::null()).status();
        std::future::pending::<()>().await;
    };
    let output = tokio::select! {
        output = child.wait_with_output() => output.unwrap(),
        () = killing => unreachable!("it waits for the program"),
        () = tokio::time::sleep(Duration::from_secs(120)) => panic!("it does not end after {signal}"),
    };
    Ended {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// One kill. Returns whether the disk was full; `None` if that was wanted and is not permitted.
async fn run(seed: u64, number: u64, counts: &mut BTreeMap<Killed, usize>) -> Option<bool> {
    let mut random = Rng::with_seed(seed);
    let killed = Killed::ALL[(number % 4) as usize];
    let wants_full = number % 10 == 9;
    let temporary = tempfile::tempdir().unwrap();
    // How many requests a run makes that is not killed.
    if let Entry::Vacant(count) = counts.entry(killed) {
        let stage = stage_for(killed).await;
        let end = ended(command(&stage, killed, number, temporary.path())).await;
        assert_eq!(end.code, 0, "{killed:?}: {}", end.stderr);
        killed.check(&stage, "not killed").await;
        count.insert(stage.world.sandbox.ledger().count(|_| true));
    }
    let stage = stage_for(killed).await;
    let disk = wants_full.then(|| FullDisk::over(&stage));
    let is_permitted = disk.as_ref().is_none_or(Option::is_some);
    let disk = disk.flatten();
    let request = random.usize(1..=counts[&killed]);
    let signals =
        if disk.is_some() { ["-TERM", "-INT"].as_slice() } else { &["-KILL", "-TERM", "-INT", "-HUP"] };
    let signal = signals[random.usize(..signals.len())];
    let full = if disk.is_some() { ", full disk" } else { "" };
    let what = format!("seed {seed}: {killed:?}, {signal} at request {request} of {}{full}", counts[&killed]);

    let before =
        kill(&stage, command(&stage, killed, number, temporary.path()), request, signal, disk.as_ref()).await;
    let allowed: &[i32] = match signal {
        "-KILL" => &[-1, 0],
        "-TERM" => &[143, 0, 7],
        "-INT" => &[130, 0, 7],
        _ => &[129, 0],
    };
    assert!(allowed.contains(&before.code), "{what}: exit code {}: {}", before.code, before.stderr);
    assert_no_secret(&before, &stage, &what);
    if before.code > 128 {
        assert!(before.stderr.lines().any(|line| line.starts_with("error: ")), "{what}: {}", before.stderr);
    }
    if let Some(disk) = &disk {
        disk.free();
    }
    let after = ended(command(&stage, killed, number, temporary.path())).await;
    let text = || after.stderr.lines().filter(|line| !line.contains("bp_")).collect::<Vec<_>>().join("\n");
    assert_eq!(after.code, 0, "{what}: the rerun failed: {}\nbefore: {}", text(), before.code);
    assert_no_secret(&after, &stage, &what);
    killed.check(&stage, &what).await;
    assert_eq!(stage.files(), killed.leaves(), "{what}");
    assert_eq!(fs::read_dir(temporary.path()).unwrap().count(), 0, "{what}: temporary files");
    is_permitted.then_some(disk.is_some())
}

/// Kills `command` when `reached`.
async fn killed_when(mut command: Command, reached: impl Fn() -> bool) {
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let time = tokio::time::Instant::now();
    while !reached() {
        assert!(child.try_wait().unwrap().is_none(), "it ended too early");
        assert!(time.elapsed() < Duration::from_secs(60), "it was never reached");
        tokio::time::sleep(Duration::from_micros(200)).await;
    }
    child.kill().await.unwrap();
}

#[tokio::test]
async fn a_promotion_killed_before_its_record_reports_the_first_previous_digest() {
    let digest = |version: &str| shop(version).build().digest().to_owned();
    for flags in [&[][..], &["--no-referrers"], &["--attach-record"], &["--tag", "2.0.0"]] {
        for has_moved in [true, false] {
            let arguments = [&["--to", "staging", "--record", "record.jsonl"], flags].concat();
            // The tag is written last.
            let stage = stage_for(Killed::Promote).await;
            let host = stage.world.config.environments()[1].registry().as_str().to_owned();
            assert_eq!(stage.run("promote", &arguments).await.code, 0);
            let is_put =
                |entry: &bp_sandbox::Entry| entry.endpoint == host && entry.operation == "PUT manifest";
            let record = usize::from(flags.contains(&"--attach-record"));
            let puts = stage.world.sandbox.ledger().count(is_put) - record;

            let stage = stage_for(Killed::Promote).await;
            let fault = |effect| Fault::new(effect).at(&*host).on("PUT manifest").after(puts as u32 - 1);
            if has_moved {
                stage.world.sandbox.faults().inject(fault(Effect::LoseAnswer));
            }
            let wait = Effect::Delay(Duration::from_secs(600));
            stage.world.sandbox.faults().inject(fault(wait).times(9));
            let registry = stage.world.sandbox.registry(&host);
            let ledger = stage.world.sandbox.ledger();
            killed_when(stage.command("promote", &arguments), || {
                if has_moved {
                    registry.tags("shop/web")["2.0.0"] == digest("2.0.0")
                } else {
                    stage.path("record.jsonl").exists() && !stage.read("record.jsonl").is_empty()
                }
            })
            .await;
            let what = format!("{flags:?} {has_moved} {:?}", ledger.count(is_put));
            let moved = if has_moved { "2.0.0" } else { "1.5.0" };
            assert_eq!(registry.tags("shop/web")["2.0.0"], digest(moved), "{what}");
            let record =
                || serde_json::from_str::<PromotionRecord>(stage.read("record.jsonl").trim()).unwrap();
            let known = |record: &PromotionRecord| record.previous.as_ref().map(ToString::to_string);
            assert_eq!(record().outcome, PromotionOutcome::Pending, "{what}");
            assert_eq!(known(&record()), Some(digest("1.5.0")), "{what}");

            stage.world.sandbox.faults().clear();
            let end = stage.run("promote", &[&arguments[..], &["--output", "json"]].concat()).await;
            assert_eq!(end.code, 0, "{what}: {end:?}");
            assert_eq!(known(&record()), Some(digest("1.5.0")), "{what}");
            assert_eq!(record().outcome == PromotionOutcome::Resumed, has_moved, "{what}: {:?}", record());
            assert!(end.stdout.contains(&digest("1.5.0")), "{what}: the report contains it: {}", end.stdout);
            assert_eq!(stage.files(), [".docker", "artifact.json", "bp.toml", "record.jsonl"], "{what}");
            // Later reruns keep it.
            let first = stage.read("record.jsonl");
            assert_eq!(stage.run("promote", &arguments).await.code, 0);
            assert_eq!(stage.read("record.jsonl"), first, "{what}");
        }
    }
}

#[tokio::test]
async fn a_failed_promotion_keeps_earlier_records() {
    let stage = stage_for(Killed::Promote).await;
    let arguments = ["--to", "staging", "--record", "record.jsonl"];
    assert_eq!(stage.run("promote", &arguments).await.code, 0);
    let first = stage.read("record.jsonl");
    assert!(first.contains(shop("1.5.0").build().digest()), "{first}");
    let host = stage.world.config.environments()[1].registry().as_str().to_owned();
    let fault = Fault::status(403).at(&*host).times(u32::MAX);
    stage.world.sandbox.faults().inject(fault);
    let end = stage.run("promote", &arguments).await;
    assert_ne!(end.code, 0, "{end:?}");
    assert_eq!(stage.read("record.jsonl"), first);
    stage.world.sandbox.faults().clear();
    // One run at a time uses the file.
    let held =
        bp_artifact::file::FileLock::acquire(&stage.path("record.jsonl"), Duration::ZERO).await.unwrap();
    let end = stage.run("promote", &arguments).await;
    let last = end.stderr.lines().last().unwrap();
    let holder = format!("record.jsonl is in use by another run (process {} on ", std::process::id());
    assert!(end.code == 7 && last.contains(&holder), "{end:?}");
    drop(held);
    assert_eq!(stage.run("promote", &arguments).await.code, 0);
    assert_eq!(stage.read("record.jsonl"), first);
}

#[tokio::test]
#[allow(clippy::print_stdout, reason = "what the runs have covered")]
async fn a_program_killed_at_any_request_is_completed_by_a_rerun() {
    let number = |name: &str, default: u64| {
        std::env::var(name).map_or(default, |text| text.parse().expect("a number"))
    };
    let (runs, seed) = (number("BP_SOAK", 4), number("BP_SEED", 0));
    let mut counts = BTreeMap::new();
    let (mut full, mut refused) = (0, 0);
    for run_number in seed..seed + runs {
        match run(run_number, run_number, &mut counts).await {
            Some(true) => full += 1,
            Some(false) => {}
            None => refused += 1,
        }
    }
    println!(
        "met: {runs} kills from seed {seed}, {full} of them on a full disk; requests of a run: {counts:?}"
    );
    if refused > 0 {
        println!("met: SKIPPED {refused} full disks: mounting a tmpfs is not permitted here");
    }
}
