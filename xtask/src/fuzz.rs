//! `fuzz`: run the fuzz targets under libFuzzer, each for some time, and extend their corpus.
//!
//! `cargo fuzz` requires a nightly compiler because of its sanitizers. The targets are safe Rust, which reports overflows and
//! violated assertions itself, so libFuzzer's instrumentation of branches and comparisons is sufficient; the stable
//! compiler has it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::{Mutex, PoisonError},
    thread,
    time::Duration,
};

use anyhow::{Context, Result, ensure};

use crate::{clock, command, report};

/// What `cargo fuzz` sets too, without sanitizers.
const FLAGS: &[&str] = &[
    "--cfg=fuzzing",
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Cllvm-args=-simplifycfg-branch-fold-threshold=0",
    "-Ccodegen-units=1",
    "-Cdebug-assertions",
    "-Coverflow-checks",
];

/// Larger inputs are not added to the corpus.
const MAX_INPUT: u64 = 4 << 10;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Targets to run [default: all]
    targets: Vec<String>,
    /// How long each target runs, in seconds
    #[arg(long, default_value_t = 600)]
    seconds: u64,
    /// Number of targets that run at the same time
    #[arg(long, default_value_t = 1)]
    jobs: usize,
    /// Add the smallest inputs that reach new code to the corpus, at most this number per target
    #[arg(long, value_name = "COUNT", default_value_t = 0)]
    keep: usize,
}

/// The end of one target.
struct Ran {
    target: String,
    seconds: f64,
    executions: u64,
    coverage: u64,
    kept: usize,
    /// The end of the output, if it failed.
    failure: Option<String>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<bool> {
    let root = command::root();
    let mut all: Vec<String> = names(&root.join("fuzz/fuzz_targets"))?;
    all.iter_mut().for_each(|name| *name = name.trim_end_matches(".rs").to_owned());
    for name in &arguments.targets {
        ensure!(all.contains(name), "unknown target {name:?}; available targets: {}", all.join(", "));
    }
    let chosen = if arguments.targets.is_empty() { all } else { arguments.targets.clone() };
    let programs = build(&root, &chosen)?;
    report::line("| target | seconds | executions | branches reached | new inputs | |");
    report::line("|---|---|---|---|---|---|");
    let queue = Mutex::new(chosen.into_iter().rev().collect::<Vec<_>>());
    let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).pop();
    let work = || -> Result<Vec<Ran>> {
        let mut done = Vec::new();
        while let Some(target) = next() {
            let ran = fuzz(&root, &programs, target, arguments)?;
            let verdict = if ran.failure.is_some() { "FAILED" } else { "ok" };
            report::line(format_args!(
                "| `{}` | {:.0} | {} | {} | {} | {verdict} |",
                ran.target, ran.seconds, ran.executions, ran.coverage, ran.kept
            ));
            done.push(ran);
        }
        Ok(done)
    };
    let ended: Vec<thread::Result<Result<Vec<Ran>>>> = thread::scope(|scope| {
        let workers: Vec<_> = (0..arguments.jobs.max(1)).map(|_| scope.spawn(work)).collect();
        workers.into_iter().map(thread::ScopedJoinHandle::join).collect()
    });
    let mut passed = true;
    for worker in ended {
        for ran in worker.ok().context("a worker panicked")?? {
            if let Some(output) = ran.failure {
                passed = false;
                report::line(format_args!("\n{} failed:\n{output}", ran.target));
            }
        }
    }
    Ok(passed)
}

/// Builds the targets, and returns the directory of their programs.
fn build(root: &Path, targets: &[String]) -> Result<PathBuf> {
    let version = command::output(Command::new("rustc").arg("-vV"))?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: ")).context("rustc has no host")?;
    let directory = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    let directory = directory.join("fuzz-run");
    let mut cargo = command::cargo();
    // With --target, build scripts and macros are built without these flags.
    cargo.args([
        "build",
        "--quiet",
        "--locked",
        "--release",
        "--manifest-path",
        "fuzz/Cargo.toml",
        "--target",
        host,
    ]);
    for target in targets {
        cargo.args(["--bin", target]);
    }
    cargo.env("CARGO_TARGET_DIR", &directory).env("CARGO_ENCODED_RUSTFLAGS", FLAGS.join("\x1f"));
    command::output(&mut cargo)?;
    Ok(directory.join(host).join("release"))
}

fn fuzz(root: &Path, programs: &Path, target: String, arguments: &Arguments) -> Result<Ran> {
    let (program, corpus) = (programs.join(&target), root.join("fuzz/corpus").join(&target));
    let directory = root.join("target/fuzz-run/inputs").join(&target);
    let (found, artifacts) = (directory.join("found"), root.join("fuzz/artifacts").join(&target));
    fs::create_dir_all(&found)?;
    fs::create_dir_all(&artifacts)?;
    let mut run = Command::new(&program);
    run.args([&found, &corpus]).args(["-print_final_stats=1", "-rss_limit_mb=4096", "-timeout=60"]);
    run.arg(format!("-max_total_time={}", arguments.seconds));
    run.arg(format!("-artifact_prefix={}/", artifacts.display()));
    let limit = Duration::from_secs(arguments.seconds.saturating_add(600));
    let (ended, took) = clock::timed(|| command::ended_within(limit, &mut run));
    let ended = ended?;
    let failure = (!ended.status.success()).then(|| command::tail(&ended.stderr, 40));
    let kept = match failure {
        None if arguments.keep > 0 => keep(&program, &corpus, &directory, arguments.keep)?,
        None | Some(_) => 0,
    };
    Ok(Ran {
        target,
        seconds: took.as_secs_f64(),
        executions: last_number(&ended.stderr, "stat::number_of_executed_units:"),
        coverage: last_number(&ended.stderr, " cov:"),
        kept,
        failure,
    })
}

/// Adds the smallest inputs to the corpus that reach what the corpus does not. Returns their number.
fn keep(program: &Path, corpus: &Path, directory: &Path, most: usize) -> Result<usize> {
    let merged = directory.join("merged");
    let _ = fs::remove_dir_all(&merged);
    fs::create_dir_all(&merged)?;
    let known = names(corpus)?;
    for name in &known {
        fs::copy(corpus.join(name), merged.join(name))?;
    }
    let mut merge = Command::new(program);
    command::output(merge.arg("-merge=1").arg(&merged).arg(directory.join("found")))?;
    let mut new = Vec::new();
    for name in names(&merged)?.into_iter().filter(|name| !known.contains(name)) {
        new.push((fs::metadata(merged.join(&name))?.len(), name));
    }
    new.sort();
    let new: Vec<_> = new.into_iter().filter(|(size, _)| *size <= MAX_INPUT).take(most).collect();
    for (_, name) in &new {
        fs::copy(merged.join(name), corpus.join(name))?;
    }
    Ok(new.len())
}

/// The names in a directory, sorted.
fn names(directory: &Path) -> Result<Vec<String>> {
    let entries = fs::read_dir(directory).with_context(|| format!("cannot read {}", directory.display()))?;
    let names = entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
    let mut names = names.collect::<Result<Vec<_>>>()?;
    names.sort();
    Ok(names)
}

/// The number after the last occurrence of `label`; 0 if there is none.
fn last_number(output: &str, label: &str) -> u64 {
    let last = output.rsplit_once(label).and_then(|(_, rest)| rest.split_whitespace().next());
    last.and_then(|number| number.parse().ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_statistics_of_libfuzzer() {
        let output = "#2\tINITED cov: 12 ft: 13 corp: 1/1b\n#900\tDONE   cov: 240 ft: 400 corp: 9/80b\n\
                      stat::number_of_executed_units: 900\nstat::average_exec_per_sec:     90\n";
        assert_eq!(last_number(output, "stat::number_of_executed_units:"), 900);
        assert_eq!(last_number(output, " cov:"), 240);
        assert_eq!(last_number("", " cov:"), 0);
    }
}
