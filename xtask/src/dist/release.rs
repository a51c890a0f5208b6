//! The commit that is released, and the files.

use std::{fs, path::Path, process::Command};

use anyhow::{Context, Result, ensure};
use sha2::{Digest as _, Sha256};

use crate::command;

/// The commit that is released.
pub(super) struct Commit {
    pub(super) id: String,
    /// Seconds since 1970.
    pub(super) epoch: String,
    /// The same time as text.
    pub(super) time: String,
}

/// A file of the release.
pub(super) struct Released {
    pub(super) name: String,
    pub(super) sha256: String,
}

impl Commit {
    /// The last commit; only a trial may have local changes.
    pub(super) fn current(is_trial: bool) -> Result<Self> {
        let git = |arguments: &[&str]| -> Result<String> {
            let mut git = Command::new("git");
            git.current_dir(command::root()).env("TZ", "UTC").args(arguments);
            Ok(command::output(&mut git)?.trim().to_owned())
        };
        let changed = git(&["status", "--porcelain", "--untracked-files=no"])?;
        ensure!(
            changed.is_empty() || is_trial,
            "a release is built from a commit: commit or stash these changes first\n{changed}"
        );
        let show = |format: &str| git(&["log", "-1", "--date=format-local:%Y-%m-%dT%H:%M:%SZ", format]);
        Ok(Commit {
            id: git(&["rev-parse", "HEAD"])?,
            epoch: show("--format=%ct")?,
            time: show("--format=%cd")?,
        })
    }
}

impl Released {
    pub(super) fn of(path: &Path) -> Result<Self> {
        let name = path.file_name().context("a released file has a name")?.to_string_lossy().into_owned();
        Ok(Released { name, sha256: sha256(path)? })
    }
}

/// The SHA-256 of a file.
pub(super) fn sha256(path: &Path) -> Result<String> {
    let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(hex::encode(Sha256::digest(bytes)))
}
