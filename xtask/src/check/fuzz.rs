//! Check: every fuzz target has a corpus and is replayed by a test, and the targets compile. They are a separate workspace
//! that no other build includes.

use std::collections::BTreeSet;

use anyhow::Result;

use super::{finding::Finding, workspace::Workspace};
use crate::command;

/// The files whose tests run the functions of the targets on the corpus.
const REPLAYED: [&str; 5] = [
    "fuzz/src/artifact.rs",
    "fuzz/src/aws.rs",
    "fuzz/src/registry.rs",
    "fuzz/src/secrets.rs",
    "crates/bp-promote/src/registry/fuzzing.rs",
];

pub(super) fn check(_: &Workspace) -> Result<Vec<Finding>> {
    let root = command::root();
    let names = |directory: &str| -> Result<BTreeSet<String>> {
        let entries = std::fs::read_dir(root.join(directory))?;
        let names =
            entries.map(|entry| Ok(entry?.file_name().to_string_lossy().trim_end_matches(".rs").to_owned()));
        names.collect()
    };
    let (targets, corpora) = (names("fuzz/fuzz_targets")?, names("fuzz/corpus")?);
    let replayed = REPLAYED.map(|file| std::fs::read_to_string(root.join(file)).unwrap_or_default()).concat();
    let mut findings: Vec<Finding> = targets
        .symmetric_difference(&corpora)
        .map(|name| {
            Finding::failure(format!("fuzz target {name} has no corpus, or corpus {name} has no target"))
        })
        .collect();
    let unlisted = targets.iter().filter(|name| !replayed.contains(&format!("(\"{name}\", ")));
    findings.extend(unlisted.map(|name| {
        Finding::failure(format!(
            "fuzz target {name} is in no list of targets, so no test replays its corpus"
        ))
    }));

    let mut cargo = command::cargo();
    // Without the SDKs, whose targets are compiled by the tests that replay their corpus.
    cargo.args(["check", "--quiet", "--locked", "--manifest-path", "fuzz/Cargo.toml"]);
    cargo.args(["--no-default-features", "--features", "yaml"]);
    cargo.env("CARGO_TARGET_DIR", root.join("target/fuzz")).env("RUSTFLAGS", "--cfg fuzzing");
    // `check` does not link, so libFuzzer, which requires a C++ compiler, is not built.
    cargo.env("CUSTOM_LIBFUZZER_PATH", "./libfuzzer.a");
    findings.extend(command::output(&mut cargo).err().map(|error| Finding::failure(format!("{error:#}"))));
    Ok(findings)
}
