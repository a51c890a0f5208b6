//! End-to-end tests of the sandbox with real clients, which are independent of our model.

mod client;
mod ecs;
mod kube;
mod registry;
mod server;
mod tour;

use anyhow::Result;

pub(super) use self::server::{SandboxServer, TOOLS};
use super::test_run::TestRun;

pub(super) fn run(test_run: &mut TestRun) -> Result<()> {
    let sandbox = SandboxServer::start(test_run)?;
    registry::run(test_run, &sandbox);
    kube::run(test_run, &sandbox);
    // A faster clock, so that an ECS deployment takes seconds instead of minutes.
    let fast = SandboxServer::start_at(test_run, 30)?;
    kube::run_everyday(test_run, &fast);
    ecs::run(test_run, &fast);
    tour::run(test_run);
    Ok(())
}
