//! Whether the tests can fail: each of the promises is broken on purpose, and a test of every tier must turn red.

use std::{fs, path::PathBuf, process::Command, time::Duration};

use anyhow::{Context, Result, ensure};

use crate::{clock, command, report};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Break only the promise that has this in its name
    #[arg(long, value_name = "TEXT")]
    promise: Option<String>,
}

/// A promise, how it is broken, and who must notice.
struct Mutant {
    promise: &'static str,
    /// A file, what stands there, and what takes its place.
    edits: &'static [(&'static str, &'static str, &'static str)],
    /// A tier, and what cargo is asked to run; of the whole workspace, so that only what is broken is built anew.
    judges: [(&'static str, &'static str); 3],
}

const MUTANTS: [Mutant; 3] = [
    Mutant {
        promise: "the digest is the identity",
        edits: &[(
            "crates/bp-artifact/src/reference.rs",
            "        DigestRef { repository: self.clone(), digest }",
            "        let flipped: String = digest.as_str().chars().rev().collect();\n        \
             let flipped: String = flipped.chars().take(64).collect();\n        \
             let digest = format!(\"sha256:{flipped}\").parse().unwrap_or(digest);\n        \
             DigestRef { repository: self.clone(), digest }",
        )],
        judges: [
            ("unit", "test --workspace --lib"),
            ("sandbox", "test --workspace --test line"),
            ("real servers", "xtask e2e --only registries --scenario emit-artifact"),
        ],
    },
    Mutant {
        promise: "a rollback is never a success",
        edits: &[
            (
                "crates/bp-ecs/src/rollout/judge.rs",
                "Some(Status::RollbackSuccessful) => Standing::RolledBack { reason: reason() },",
                "Some(Status::RollbackSuccessful) => Standing::Done { steady: true },",
            ),
            (
                "crates/bp-artifact/src/deploy/run.rs",
                "Ended::RolledBack => Verdict::RolledBack,",
                "Ended::RolledBack => Verdict::Deployed,",
            ),
        ],
        judges: [
            ("unit", "test --workspace --lib"),
            ("sandbox", "test --workspace --test failure --test causes"),
            ("real servers", "xtask e2e --only kubernetes --scenario cause"),
        ],
    },
    Mutant {
        promise: "a status is of this roll-out, not of the one before",
        edits: &[(
            "crates/bp-eks/src/workload/deployment.rs",
            "        if status.observed_generation.unwrap_or_default() < generation {",
            "        if status.observed_generation.unwrap_or_default() < generation.min(0) {",
        )],
        judges: [
            ("unit", "test --workspace --lib"),
            ("sandbox", "test --workspace --test rollout"),
            ("real servers", "xtask e2e --only kubernetes --scenario roll"),
        ],
    },
];

/// Breaks each promise in turn; whether every tier noticed.
pub(crate) fn run(arguments: &Arguments) -> Result<bool> {
    let changed = command::output(Command::new("git").current_dir(command::root()).args([
        "status",
        "--porcelain",
        "--untracked-files=no",
    ]))?;
    ensure!(changed.is_empty(), "files are changed for this and put back: commit first\n{changed}");
    let mut survivors = 0;
    for mutant in MUTANTS {
        if arguments.promise.as_ref().is_some_and(|text| !mutant.promise.contains(text)) {
            continue;
        }
        report::line(format_args!("::: broken: {}", mutant.promise));
        let _broken = mutant.edits.iter().map(Broken::new).collect::<Result<Vec<_>>>()?;
        for (tier, judge) in mutant.judges {
            let (ended, took) = clock::timed(|| {
                let mut cargo = command::cargo();
                cargo.args(judge.split(' ')).args((!judge.starts_with("xtask")).then_some("--no-fail-fast"));
                command::ended_within(Duration::from_secs(3600), &mut cargo)
            });
            let ended = ended?;
            let said = format!("{}\n{}", ended.stdout, ended.stderr);
            let red: Vec<&str> = said.lines().filter(|line| is_red(line)).collect();
            let noticed = !ended.status.success() && !red.is_empty();
            survivors += usize::from(!noticed);
            let verdict = if noticed { "red" } else { "NOT NOTICED" };
            report::line(format_args!("{verdict} [{tier}] cargo {judge} ({:.0} s)", took.as_secs_f64()));
            let shown = if noticed { red.join("\n     ") } else { command::tail(&said, 20) };
            report::line(format_args!("     {shown}"));
        }
    }
    report::line(format_args!("mutants: {survivors} not noticed"));
    Ok(survivors == 0)
}

/// A line by which libtest or `cargo xtask e2e` names a failed test.
fn is_red(line: &str) -> bool {
    (line.starts_with("test ") && line.ends_with("... FAILED"))
        || (line.starts_with("FAIL [") && !line.contains("the part itself"))
}

/// A file with an edit, which is taken back in the end.
struct Broken {
    file: PathBuf,
    original: String,
}

impl Broken {
    fn new((file, from, to): &(&str, &str, &str)) -> Result<Self> {
        let file = command::root().join(file);
        let original = fs::read_to_string(&file)?;
        let once = original.matches(from).count() == 1;
        once.then_some(()).with_context(|| format!("{} has not `{from}` just once", file.display()))?;
        fs::write(&file, original.replace(from, to))?;
        Ok(Broken { file, original })
    }
}

impl Drop for Broken {
    fn drop(&mut self) {
        if let Err(error) = fs::write(&self.file, &self.original) {
            report::line(format_args!("{} stays broken: {error}", self.file.display()));
        }
    }
}
