//! Real clients against the sandbox: whoever wrote them did not have our model in mind.

mod ecs;
mod kube;
mod registry;
mod world;

use std::{process::Command, time::Duration};

use anyhow::{Result, ensure};

pub(super) use self::world::{TOOLS, World};
use super::Stage;
use crate::command;

pub(super) fn run(stage: &mut Stage) -> Result<()> {
    let world = World::start(stage)?;
    registry::run(stage, &world);
    kube::run(stage, &world);
    // Minutes of an ECS deployment in seconds.
    let fast = World::start_at(stage, 30)?;
    ecs::run(stage, &fast);
    Ok(())
}

/// How long a client may take on a busy machine.
const LIMIT: Duration = Duration::from_secs(180);

/// Runs a client that must succeed.
fn done(command: &mut Command) -> Result<String> {
    command::output_within(LIMIT, command)
}

/// Runs a client that must fail, and returns what it says.
fn refused(command: &mut Command) -> Result<String> {
    let ended = command::ended_within(LIMIT, command)?;
    ensure!(!ended.status.success(), "`{}` should have failed", command::show(command));
    Ok(ended.stderr)
}
