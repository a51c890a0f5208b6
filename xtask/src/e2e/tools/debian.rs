//! Programs from Debian packages.

use std::{fs, process::Command};

use anyhow::{Context, Result};

use super::{MissingProgram, Toolbox, in_path, retried};
use crate::command;

impl Toolbox {
    /// Downloads a Debian package and unpacks it into the cache.
    pub(super) fn unpack(&self, package: &str) -> Result<()> {
        update();
        let home = self.cache.join(package);
        let downloads = self.cache.join(format!("{package}.deb"));
        let _ = fs::remove_dir_all(&downloads);
        fs::create_dir_all(&downloads)?;
        retried(apt().current_dir(&downloads).args(["download", package]))?;
        let file = fs::read_dir(&downloads)?.next().context("apt-get download left no file")??.path();
        command::output(Command::new("dpkg-deb").arg("--extract").args([&file, &home]))?;
        fs::remove_dir_all(&downloads)?;
        Ok(())
    }

    /// Installs a package.
    pub(super) fn apt_install(&self, package: &str) -> Result<()> {
        update();
        retried(apt().args(["install", "--yes", "--no-install-recommends", package]))
    }

    /// Reports a missing apt-get.
    pub(super) fn missing_apt(program: &'static str) -> Option<MissingProgram> {
        let remedy = "run on Debian or Ubuntu, or add the program to PATH";
        in_path("apt-get").is_none().then_some(MissingProgram { program, requires: "apt-get", remedy })
    }
}

/// Updates the package lists, once per process.
fn update() {
    static UPDATED: std::sync::Once = std::sync::Once::new();
    UPDATED.call_once(|| {
        // If this fails, the download reports a clearer error.
        let _ = retried(apt().args(["update", "--quiet"]));
    });
}

fn apt() -> Command {
    let mut apt = Command::new("apt-get");
    apt.args(["-o", "Acquire::Retries=3"]).env("DEBIAN_FRONTEND", "noninteractive");
    apt
}
