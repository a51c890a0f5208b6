//! State of one end-to-end run, shared by its parts.

use std::{fs, path::PathBuf, rc::Rc};

use anyhow::{Context, Result};

use super::{
    library::{Environment, Library},
    server::Server,
    table::Table,
    tools::{Cache, Toolbox},
};
use crate::command;

/// State of one end-to-end run.
pub(super) struct TestRun {
    pub(super) tools: Toolbox,
    /// Data and logs of this run.
    pub(super) scratch: PathBuf,
    pub(super) servers: Vec<Server>,
    pub(super) table: Table,
    /// Environment variables for the tests of our packages.
    pub(super) environment: Environment,
    /// The tests of our packages, once they are built.
    pub(super) library: Option<Rc<Library>>,
}

impl TestRun {
    pub(super) fn new(cache: &Cache, scenario: Option<String>) -> Result<Self> {
        let target = command::root().join("target/e2e");
        let scratch = target.join(format!("run-{}", std::process::id()));
        fs::create_dir_all(&scratch).with_context(|| format!("cannot create {}", scratch.display()))?;
        Ok(TestRun {
            tools: cache.open()?,
            scratch,
            servers: Vec::new(),
            table: Table::only(scenario),
            environment: Vec::new(),
            library: None,
        })
    }

    /// Runs the scenarios of a part that are tests in our packages.
    pub(super) fn scenarios(&mut self, part: &str, server: &str) -> Result<()> {
        self.library()?.run_all(part, server, &self.environment, &mut self.table)
    }

    /// The tests of our packages, built once for all parts.
    pub(super) fn library(&mut self) -> Result<Rc<Library>> {
        let library = match self.library.take() {
            Some(built) => built,
            None => Rc::new(Library::build()?),
        };
        Ok(Rc::clone(self.library.insert(library)))
    }
}
