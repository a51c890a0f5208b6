//! Programs from PyPI, each in a separate virtual environment.

use std::{fs, path::PathBuf, process::Command};

use anyhow::Result;

use super::{MissingProgram, MissingPrograms, Toolbox, in_path, retried};
use crate::command;

impl Toolbox {
    /// The directory of the virtual environment of a requirement.
    pub(super) fn environment(&self, requirement: &str) -> PathBuf {
        self.cache.join(requirement.replace(|c: char| !c.is_ascii_alphanumeric() && c != '.', "-"))
    }

    /// Whether the environment was completed at its current path: its scripts contain the absolute path of their
    /// interpreter, so a moved environment is broken.
    pub(super) fn is_complete(&self, requirement: &str) -> bool {
        let home = self.environment(requirement);
        fs::read_to_string(home.join("done")).is_ok_and(|made| made == home.to_string_lossy())
    }

    /// Creates a virtual environment for one Python package; returns its `bin` directory.
    pub(super) fn python(&self, program: &'static str, requirement: &str) -> Result<PathBuf> {
        let home = self.environment(requirement);
        let bin = home.join("bin");
        if self.is_complete(requirement) {
            return Ok(bin);
        }
        if let Some(missing) = Self::missing_python(program) {
            return Err(MissingPrograms::from(missing).into());
        }
        let _ = fs::remove_dir_all(&home);
        let has_venv =
            command::output(Command::new("python3").args(["-c", "import ensurepip, venv"])).is_ok();
        if !has_venv {
            let missing = MissingProgram { program, requires: "python3 -m venv", remedy: REMEDY };
            return Err(MissingPrograms::from(missing).into());
        }
        // Any other failure, for example a full disk, is an error of the installation.
        command::output(Command::new("python3").args(["-m", "venv"]).arg(&home))?;
        retried(Command::new(bin.join("python")).args(["-m", "pip", "install", "--quiet", requirement]))?;
        fs::write(home.join("done"), home.to_string_lossy().as_bytes())?;
        Ok(bin)
    }

    /// Reports a missing Python.
    pub(super) fn missing_python(program: &'static str) -> Option<MissingProgram> {
        in_path("python3").is_none().then_some(MissingProgram {
            program,
            requires: "python3",
            remedy: REMEDY,
        })
    }
}

const REMEDY: &str = "install Python 3 with its venv module (`apt-get install python3-venv`)";
