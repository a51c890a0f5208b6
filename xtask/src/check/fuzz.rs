//! Check: the fuzz targets compile. They are a separate workspace that no other build includes.

use anyhow::Result;

use super::{finding::Finding, workspace::Workspace};
use crate::command;

pub(super) fn check(_: &Workspace) -> Result<Vec<Finding>> {
    let mut cargo = command::cargo();
    cargo.args(["check", "--quiet", "--locked", "--manifest-path", "fuzz/Cargo.toml"]);
    cargo.env("CARGO_TARGET_DIR", command::root().join("target/fuzz")).env("RUSTFLAGS", "--cfg fuzzing");
    // `check` does not link, so libFuzzer, which requires a C++ compiler, is not built.
    cargo.env("CUSTOM_LIBFUZZER_PATH", "./libfuzzer.a");
    Ok(command::output(&mut cargo)
        .err()
        .map(|error| Finding::failure(format!("{error:#}")))
        .into_iter()
        .collect())
}
