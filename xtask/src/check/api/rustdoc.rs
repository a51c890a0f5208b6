//! The rustdoc JSON of the libraries.
//!
//! The JSON output of rustdoc is unstable, so that it requires `RUSTC_BOOTSTRAP`. Only rustdoc gets it, through a script:
//! in the environment of cargo it would rebuild the dependencies whose build scripts read it, among them proc-macro2.

use std::{collections::BTreeMap, fs, os::unix::fs::PermissionsExt as _, path::PathBuf};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use super::super::workspace::Workspace;
use crate::command;

/// The format that public-api reads, and a toolchain that writes it.
const FORMAT: (u32, &str) = (57, "1.95");

const SCRIPT: &str = "#!/bin/sh\n# Written by `cargo xtask api`.\nRUSTC_BOOTSTRAP=1 exec rustdoc \"$@\"\n";

/// The script that runs rustdoc with `RUSTC_BOOTSTRAP`.
fn script(workspace: &Workspace) -> Result<PathBuf> {
    let script = workspace.target().join("rustdoc-json");
    // Only once: cargo documents everything anew if its rustdoc is newer than the result.
    if fs::read_to_string(&script).is_ok_and(|text| text == SCRIPT) {
        return Ok(script);
    }
    fs::write(&script, SCRIPT)
        .and_then(|()| fs::set_permissions(&script, fs::Permissions::from_mode(0o755)))
        .with_context(|| format!("cannot write {}", script.display()))?;
    Ok(script)
}

/// Documents the libraries with all features; returns the JSON file of each.
pub(super) fn documents(workspace: &Workspace) -> Result<BTreeMap<String, PathBuf>> {
    let script = script(workspace)?;
    let mut cargo = command::cargo();
    // The examples make cargo resolve the features of dev-dependencies, as for clippy and the tests: the dependencies are
    // not checked a second time.
    cargo.args([
        "doc",
        "--quiet",
        "--locked",
        "--workspace",
        "--no-deps",
        "--all-features",
        "--lib",
        "--examples",
    ]);
    cargo.env("RUSTDOC", &script);
    cargo.env("RUSTDOCFLAGS", "-Zunstable-options --output-format=json --cap-lints=allow");
    command::output(&mut cargo)?;
    workspace
        .libraries()
        .map(|library| {
            let name = library.name.replace('-', "_");
            let path = workspace.target().join("doc").join(name).with_extension("json");
            require_format(&fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?)?;
            Ok((library.name.clone(), path))
        })
        .collect()
}

fn require_format(document: &[u8]) -> Result<()> {
    #[derive(Deserialize)]
    struct Document {
        format_version: u32,
    }
    let Document { format_version } =
        serde_json::from_slice(document).context("cannot parse the output of rustdoc")?;
    let (format, rust) = FORMAT;
    ensure!(
        format_version == format,
        "this toolchain writes rustdoc JSON of format {format_version}, the API listings require format {format}: run \
         `rustup run {rust} cargo xtask check api`, or update public-api in xtask/listing"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::require_format;

    #[test]
    fn another_format_is_rejected_with_the_toolchain_to_use() {
        require_format(br#"{"root": 1, "format_version": 57, "index": {}}"#).unwrap();
        let error = require_format(br#"{"format_version": 58}"#).unwrap_err().to_string();
        assert!(
            error.contains("format 58") && error.contains("rustup run 1.95 cargo xtask check api"),
            "{error}"
        );
    }
}
