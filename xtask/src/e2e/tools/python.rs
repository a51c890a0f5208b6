//! What comes from PyPI.

use std::{fs, path::PathBuf, process::Command};

use anyhow::Result;

use super::{Lacking, Toolbox, Want, in_path, retried};
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
        if let Some(want) = lacks_python(program) {
            return Err(Lacking::from(want).into());
        }
        let _ = fs::remove_dir_all(&home);
        let made = command::output(Command::new("python3").args(["-m", "venv"]).arg(&home));
        made.map_err(|_| Lacking::from(Want { program, needed: "python3 -m venv", remedy: REMEDY }))?;
        retried(Command::new(bin.join("python")).args(["-m", "pip", "install", "--quiet", requirement]))?;
        fs::write(home.join("done"), home.to_string_lossy().as_bytes())?;
        Ok(bin)
    }
}

const REMEDY: &str = "install Python 3 with its venv module (`apt-get install python3-venv`)";

/// What a script of Python needs, if that is not there.
pub(super) fn lacks_python(program: &'static str) -> Option<Want> {
    in_path("python3").is_none().then_some(Want { program, needed: "python3", remedy: REMEDY })
}
