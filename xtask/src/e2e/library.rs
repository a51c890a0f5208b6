//! Scenarios with our libraries and binaries: ignored tests that require servers.
//!
//! A part runs the `#[ignore]` tests in `tests/real_servers.rs` of any package that are inside a module with the name
//! of the part. Environment variables contain the addresses of the servers: see each part for their names.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Result, bail, ensure};
use serde_json::Value;

use super::table::Table;
use crate::command;

/// The test executables of all `tests/real_servers.rs`.
pub(super) struct Library(Vec<Program>);

struct Program {
    file: PathBuf,
    /// The directory of the package, where cargo would run the test.
    directory: PathBuf,
}

/// Environment variables of a scenario.
pub(super) type Environment = Vec<(&'static str, OsString)>;

impl Library {
    /// Builds the test executables.
    pub(super) fn build() -> Result<Self> {
        let mut cargo = command::cargo();
        // The whole workspace, so that features and build artefacts are those of `cargo test --workspace`.
        cargo.args(["test", "--locked", "--workspace", "--test", "real_servers", "--no-run"]);
        cargo.args(["--quiet", "--message-format=json-render-diagnostics"]);
        let ended = command::ended_within(Duration::from_secs(3600), &mut cargo)?;
        ensure!(ended.status.success(), "tests/real_servers.rs does not build:\n{}", ended.stderr.trim());
        let messages = ended.stdout.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        Ok(Library(messages.filter_map(|message| program(&message)).collect()))
    }

    /// Runs every scenario of a part and adds the results to the table.
    pub(super) fn run_all(
        &self,
        part: &str,
        server: &str,
        environment: &Environment,
        table: &mut Table,
    ) -> Result<()> {
        let prefix = format!("{part}::");
        let mut found = 0;
        for program in &self.0 {
            for name in program.names()?.iter().filter(|name| name.starts_with(&prefix)) {
                found += 1;
                let title = name.rsplit("::").next().unwrap_or(name).replace('_', " ");
                table.scenario(server, &title, || program.run(name, environment));
            }
        }
        ensure!(found > 0, "no ignored test in a module {part} of any tests/real_servers.rs");
        Ok(())
    }

    /// Runs one scenario by its full name.
    pub(super) fn run(&self, name: &str, environment: &Environment) -> Result<()> {
        for program in &self.0 {
            if program.names()?.iter().any(|found| found == name) {
                return program.run(name, environment).map(drop);
            }
        }
        bail!("no ignored test {name} in any tests/real_servers.rs")
    }
}

impl Program {
    /// The names of the ignored tests.
    fn names(&self) -> Result<Vec<String>> {
        let output = command::output(self.command().args(["--ignored", "--list", "--format=terse"]))?;
        Ok(output.lines().filter_map(|line| line.strip_suffix(": test")).map(str::to_owned).collect())
    }

    fn run(&self, name: &str, environment: &Environment) -> Result<String> {
        let mut test = self.command();
        // The panic message is sufficient; a backtrace would push it out of the report.
        test.env("RUST_BACKTRACE", "0");
        test.args(["--ignored", "--exact", name]).envs(environment.iter().map(|(name, value)| (name, value)));
        let output = command::output_within(Duration::from_secs(600), &mut test)?;
        ensure!(output.contains("1 passed"), "{name} was not run:\n{output}");
        Ok(String::new())
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.file);
        command.current_dir(&self.directory).env("CARGO_MANIFEST_DIR", &self.directory);
        command
    }
}

/// The test executable in a message of cargo.
fn program(message: &Value) -> Option<Program> {
    let file = message["executable"].as_str().filter(|_| message["target"]["name"] == "real_servers")?;
    let directory = Path::new(message["manifest_path"].as_str()?).parent()?;
    Some(Program { file: file.into(), directory: directory.to_owned() })
}
