//! What comes from PyPI.

use std::{fs, path::PathBuf, process::Command};

use anyhow::Result;

use super::{Lacking, Toolbox, in_path, retried};
use crate::command;

impl Toolbox {
    /// The environment of a requirement.
    pub(super) fn environment(&self, requirement: &str) -> PathBuf {
        self.cache.join(requirement.replace(|c: char| !c.is_ascii_alphanumeric() && c != '.', "-"))
    }

    /// Whether the environment was finished, at the place where it is now: its scripts name their interpreter by an
    /// absolute path, so one that was moved is broken.
    pub(super) fn is_whole(&self, requirement: &str) -> bool {
        let home = self.environment(requirement);
        fs::read_to_string(home.join("done")).is_ok_and(|made| made == home.to_string_lossy())
    }

    /// An environment of its own for one Python package; returns its directory of programs.
    pub(super) fn python(&self, program: &'static str, requirement: &str) -> Result<PathBuf> {
        let home = self.environment(requirement);
        let bin = home.join("bin");
        if self.is_whole(requirement) {
            return Ok(bin);
        }
        let remedy = "install Python 3 with its venv module (`apt-get install python3-venv`)";
        let python = in_path("python3").ok_or(Lacking { program, needed: "python3", remedy })?;
        let _ = fs::remove_dir_all(&home);
        command::output(Command::new(python).args(["-m", "venv"]).arg(&home)).map_err(|_| Lacking {
            program,
            needed: "python3 -m venv",
            remedy,
        })?;
        retried(Command::new(bin.join("python")).args(["-m", "pip", "install", "--quiet", requirement]))?;
        fs::write(home.join("done"), home.to_string_lossy().as_bytes())?;
        Ok(bin)
    }
}
