//! What comes from Debian's packages.

use std::{fs, process::Command};

use anyhow::{Context, Result};

use super::{Lacking, Toolbox, in_path, retried};
use crate::command;

impl Toolbox {
    /// Downloads a Debian package and unpacks it into the cache.
    pub(super) fn unpack(&self, program: &'static str, package: &str) -> Result<()> {
        apt(program)?;
        let home = self.cache.join(package);
        let downloads = self.cache.join(format!("{package}.deb"));
        let _ = fs::remove_dir_all(&downloads);
        fs::create_dir_all(&downloads)?;
        retried(Command::new("apt-get").current_dir(&downloads).args(["download", package]))?;
        let file = fs::read_dir(&downloads)?.next().context("apt-get download left no file")??.path();
        command::output(Command::new("dpkg-deb").arg("--extract").args([&file, &home]))?;
        fs::remove_dir_all(&downloads)?;
        Ok(())
    }

    /// Installs a package.
    pub(super) fn apt_install(&self, program: &'static str, package: &str) -> Result<()> {
        apt(program)?;
        let mut install = Command::new("apt-get");
        install.env("DEBIAN_FRONTEND", "noninteractive");
        retried(install.args(["install", "--yes", "--no-install-recommends", package]))
    }
}

/// Makes sure that apt-get can be used, with its lists up to date once.
fn apt(program: &'static str) -> Result<()> {
    static UPDATED: std::sync::Once = std::sync::Once::new();
    let remedy = "run on Debian or Ubuntu, or put the program itself into PATH";
    in_path("apt-get").ok_or(Lacking { program, needed: "apt-get", remedy })?;
    UPDATED.call_once(|| {
        // A download says more clearly than this what is wrong.
        let _ = retried(Command::new("apt-get").args(["update", "--quiet"]));
    });
    Ok(())
}
