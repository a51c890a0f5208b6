//! The container image: the program and CA certificates, without a shell or a package manager.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};

use super::program::Build;
use crate::command;

/// Writes the image into the OCI layout `image` in `output`, by the example of bp-promote; returns its digest.
pub(super) fn write(build: &Build<'_>, program: &Path, roots: &Path, output: &Path) -> Result<String> {
    let bundle = output.join("ca-certificates.crt");
    fs::write(&bundle, certificates(roots)?).context("cannot write the CA certificates")?;
    let layout = output.join("image");
    let mut cargo = command::cargo();
    cargo
        .args(["run", "--quiet", "--locked", "--package", "bp-promote", "--example", "image", "--"])
        .arg(&layout)
        .args([env!("CARGO_PKG_VERSION"), platform(build.target)?, &build.commit.epoch, &build.commit.id])
        .arg(program)
        .arg(&bundle);
    let digest = command::output(&mut cargo)?.trim().to_owned();
    fs::remove_file(&bundle).context("cannot delete the CA certificates")?;
    Ok(digest)
}

/// The platform of an image with a program for this target.
fn platform(target: &str) -> Result<&'static str> {
    match target.split('-').next() {
        Some("x86_64") => Ok("linux/amd64"),
        Some("aarch64") => Ok("linux/arm64"),
        _ => anyhow::bail!("no image platform is known for target {target}"),
    }
}

/// The certificates in PEM. Those that the administrator of this machine trusts in addition are not among them: they
/// are in another directory than those of the `ca-certificates` package.
fn certificates(roots: &Path) -> Result<String> {
    let missing = || {
        format!("cannot read {}: install the package ca-certificates, or give --roots PATH", roots.display())
    };
    let mut files: Vec<PathBuf> = if roots.is_dir() {
        fs::read_dir(roots).with_context(missing)?.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?
    } else {
        vec![roots.to_owned()]
    };
    files.sort();
    let mut bundle = String::new();
    for file in files {
        let text = fs::read_to_string(&file).with_context(missing)?;
        ensure!(
            text.starts_with("-----BEGIN CERTIFICATE-----") || text.starts_with('#'),
            "{} does not contain PEM certificates",
            file.display()
        );
        bundle.push_str(text.trim_end());
        bundle.push('\n');
    }
    Ok(bundle)
}
