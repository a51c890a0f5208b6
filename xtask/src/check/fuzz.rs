//! The fuzz targets: a workspace of their own, which no other build sees.

use anyhow::Result;

use super::{finding::Finding, workspace::Workspace};
use crate::command;

pub(super) fn check(_: &Workspace) -> Result<Vec<Finding>> {
    let mut cargo = command::cargo();
    cargo.args(["check", "--quiet", "--locked", "--manifest-path", "fuzz/Cargo.toml"]);
    cargo.env("CARGO_TARGET_DIR", command::root().join("target/fuzz")).env("RUSTFLAGS", "--cfg fuzzing");
    // Nothing is linked: libFuzzer itself, which wants a C++ compiler, need not be built.
    cargo.env("CUSTOM_LIBFUZZER_PATH", "./libfuzzer.a");
    Ok(command::output(&mut cargo)
        .err()
        .map(|error| Finding::failure(format!("{error:#}")))
        .into_iter()
        .collect())
}
