//! `mutants`: break each guarantee on purpose and check that a test of every tier fails.

use std::{fs, path::PathBuf, process::Command, time::Duration};

use anyhow::{Context, Result, ensure};

use crate::{clock, command, report};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Break only guarantees whose name contains TEXT
    #[arg(long, value_name = "TEXT")]
    guarantee: Option<String>,
}

/// A guarantee, the edits that break it, and the tests that must fail.
struct Mutant {
    guarantee: &'static str,
    /// File, text to replace, replacement.
    edits: &'static [(&'static str, &'static str, &'static str)],
    /// Tier and cargo arguments; for the whole workspace, so that only the edited crates are rebuilt.
    tests: &'static [(&'static str, &'static str)],
}

const MUTANTS: [Mutant; 5] = [
    Mutant {
        guarantee: "the digest is the identity",
        edits: &[(
            "crates/bp-artifact/src/reference.rs",
            "        DigestRef { repository: self.clone(), digest }",
            "        let flipped: String = digest.as_str().chars().rev().collect();\n        \
             let flipped: String = flipped.chars().take(64).collect();\n        \
             let digest = format!(\"sha256:{flipped}\").parse().unwrap_or(digest);\n        \
             DigestRef { repository: self.clone(), digest }",
        )],
        tests: &[
            ("unit", "test --workspace --lib"),
            ("sandbox", "test --workspace --test line"),
            ("real servers", "xtask e2e --only registries --scenario emit-artifact"),
        ],
    },
    Mutant {
        guarantee: "a rollback is never a success",
        edits: &[
            (
                "crates/bp-ecs/src/rollout/judge.rs",
                "Some(Status::RollbackSuccessful) => Judgement::RolledBack { reason: reason() },",
                "Some(Status::RollbackSuccessful) => Judgement::Complete { steady: true },",
            ),
            (
                "crates/bp-artifact/src/deploy/run.rs",
                "Ended::RolledBack => Verdict::RolledBack,",
                "Ended::RolledBack => Verdict::Deployed,",
            ),
        ],
        tests: &[
            ("unit", "test --workspace --lib"),
            ("sandbox", "test --workspace --test failure --test causes"),
            ("real servers", "xtask e2e --only kubernetes --scenario cause"),
        ],
    },
    Mutant {
        guarantee: "a status belongs to the current rollout, not the previous one",
        edits: &[(
            "crates/bp-eks/src/workload/deployment.rs",
            "        if status.observed_generation.unwrap_or_default() < generation {",
            "        if status.observed_generation.unwrap_or_default() < generation.min(0) {",
        )],
        tests: &[
            ("unit", "test --workspace --lib"),
            ("sandbox", "test --workspace --test rollout"),
            ("real servers", "xtask e2e --only kubernetes --scenario roll"),
        ],
    },
    // No real server that runs here rolls out ECS services.
    Mutant {
        guarantee: "a task belongs to the deployment that started it: ignores startedBy",
        edits: &[
            (
                "crates/bp-ecs/src/rollout/proof.rs",
                "        Some(by) => Some(by) == deployment.id.as_deref(),",
                "        Some(_) => true,",
            ),
            (
                "crates/bp-ecs/src/rollout/stopped_tasks.rs",
                "        if task.started_by.as_deref() != Some(ours) {",
                "        if task.started_by.is_none() && !ours.is_empty() {",
            ),
        ],
        tests: &[
            ("mocked transport", "test --workspace --test proof --test replayed"),
            ("sandbox", "test --workspace --test schedules"),
        ],
    },
    Mutant {
        guarantee: "a deployment that cannot be observed has not failed: unobserved counted as failed",
        edits: &[(
            "crates/bp-ecs/src/rollout/follow.rs",
            "        End { ended: Some(Ended::Unobserved), detail,",
            "        End { ended: Some(Ended::FailedInPlace), detail,",
        )],
        tests: &[
            ("sandbox", "test --workspace --test unobserved"),
            ("random schedules", "test --workspace --test schedules"),
        ],
    },
];

/// Breaks each guarantee in turn; returns whether a test of every tier failed.
pub(crate) fn run(arguments: &Arguments) -> Result<bool> {
    let changed = command::output(Command::new("git").current_dir(command::root()).args([
        "status",
        "--porcelain",
        "--untracked-files=no",
    ]))?;
    ensure!(changed.is_empty(), "this task edits and restores files: commit these changes first\n{changed}");
    let mut survivors = 0;
    for mutant in MUTANTS {
        if arguments.guarantee.as_ref().is_some_and(|text| !mutant.guarantee.contains(text)) {
            continue;
        }
        report::line(format_args!("::: broken: {}", mutant.guarantee));
        let _broken = mutant.edits.iter().map(Broken::new).collect::<Result<Vec<_>>>()?;
        for &(tier, test) in mutant.tests {
            let (ended, took) = clock::timed(|| {
                let mut cargo = command::cargo();
                cargo.args(test.split(' ')).args((!test.starts_with("xtask")).then_some("--no-fail-fast"));
                command::ended_within(Duration::from_secs(3600), &mut cargo)
            });
            let ended = ended?;
            let output = format!("{}\n{}", ended.stdout, ended.stderr);
            let failures: Vec<&str> = output.lines().filter(|line| is_failure(line)).collect();
            let detected = !ended.status.success() && !failures.is_empty();
            survivors += usize::from(!detected);
            let verdict = if detected { "detected" } else { "NOT DETECTED" };
            report::line(format_args!("{verdict} [{tier}] cargo {test} ({:.0} s)", took.as_secs_f64()));
            let shown = if detected { failures.join("\n     ") } else { command::tail(&output, 20) };
            report::line(format_args!("     {shown}"));
        }
    }
    report::line(format_args!("mutants: {survivors} not detected"));
    Ok(survivors == 0)
}

/// Whether libtest or `cargo xtask e2e` reports a failed test in this line.
fn is_failure(line: &str) -> bool {
    (line.starts_with("test ") && line.ends_with("... FAILED"))
        || (line.starts_with("FAIL [") && !line.contains("the part itself"))
}

/// An edited file, restored on drop.
struct Broken {
    file: PathBuf,
    original: String,
}

impl Broken {
    fn new((file, from, to): &(&str, &str, &str)) -> Result<Self> {
        let file = command::root().join(file);
        let original = fs::read_to_string(&file)?;
        let once = original.matches(from).count() == 1;
        once.then_some(())
            .with_context(|| format!("{} does not contain `{from}` exactly once", file.display()))?;
        fs::write(&file, original.replace(from, to))?;
        Ok(Broken { file, original })
    }
}

impl Drop for Broken {
    fn drop(&mut self) {
        if let Err(error) = fs::write(&self.file, &self.original) {
            report::line(format_args!("cannot restore {}, it stays broken: {error}", self.file.display()));
        }
    }
}
