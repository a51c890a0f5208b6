//! Programs from PyPI, each in a separate virtual environment.

use std::{fs, path::PathBuf, process::Command};

use anyhow::{Context, Result};

use super::{MissingProgram, MissingPrograms, Toolbox, in_path, retried};
use crate::command;

impl Toolbox {
    /// The directory of the virtual environment of a requirement.
    pub(super) fn environment(&self, requirement: &str) -> PathBuf {
        self.cache.join(name(requirement))
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
        let mut pip = Command::new(bin.join("python"));
        retried(pip.args(["-m", "pip", "install", "--quiet"]).args(requirement.split(' ')))?;
        fs::write(home.join("done"), home.to_string_lossy().as_bytes())?;
        Ok(bin)
    }

    /// The directory of the unpacked source distribution of a requirement.
    pub(super) fn sources(&self, requirement: &str) -> PathBuf {
        self.cache.join(format!("{}-sources", name(requirement)))
    }

    /// Downloads the source distribution of a package and unpacks it.
    pub(super) fn python_sources(&self, requirement: &str) -> Result<()> {
        let home = self.sources(requirement);
        let downloads = self.cache.join(format!("{}-download", name(requirement)));
        let _ = fs::remove_dir_all(&downloads);
        let unpacked = downloads.join("unpacked");
        fs::create_dir_all(&unpacked)?;
        // A virtual environment has pip, also where Python does not.
        let environment = downloads.join("venv");
        command::output(Command::new("python3").args(["-m", "venv"]).arg(&environment))?;
        let mut pip = Command::new(environment.join("bin/python"));
        pip.args(["-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:", requirement]);
        retried(pip.arg("--dest").arg(&downloads))?;
        let mut files = fs::read_dir(&downloads)?.filter_map(|entry| Some(entry.ok()?.path()));
        let archive = files.find(|path| path.extension().is_some_and(|extension| extension == "gz"));
        let archive = archive.context("pip download left no source distribution")?;
        let mut tar = Command::new("tar");
        command::output(tar.args(["--strip-components=1", "-xzf"]).arg(archive).arg("-C").arg(&unpacked))?;
        let _ = fs::remove_dir_all(&home);
        fs::rename(&unpacked, &home)?;
        fs::remove_dir_all(&downloads)?;
        Ok(())
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

/// The file name of a requirement.
fn name(requirement: &str) -> String {
    requirement.replace(|c: char| !c.is_ascii_alphanumeric() && c != '.', "-")
}

const REMEDY: &str = "install Python 3 with its venv module (`apt-get install python3-venv`)";
