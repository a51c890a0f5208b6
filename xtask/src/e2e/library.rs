//! Scenarios through our libraries: tests that are ignored elsewhere, because they need servers.

use std::time::Duration;

use anyhow::{Result, ensure};

use crate::command;

/// Runs the test `name` of some crate's `tests/real_servers.rs`, which finds its servers in the environment.
pub(super) fn run(name: &str, environment: &[(&str, &str)]) -> Result<String> {
    let mut cargo = command::cargo();
    // The whole workspace, so that the features, and with them the build, are those of `cargo test --workspace`.
    cargo.args(["test", "--quiet", "--locked", "--workspace", "--test", "real_servers", "--"]);
    cargo.args(["--ignored", "--exact", name]).envs(environment.iter().copied());
    let said = command::output_within(Duration::from_secs(1200), &mut cargo)?;
    ensure!(said.contains("1 passed"), "no crate has an ignored test {name} in tests/real_servers.rs");
    Ok(String::new())
}
