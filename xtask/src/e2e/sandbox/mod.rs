//! Real clients against the sandbox: whoever wrote them did not have our model in mind.

mod client;
mod ecs;
mod kube;
mod registry;
mod world;

use anyhow::Result;

pub(super) use self::world::{TOOLS, World};
use super::stage::Stage;

pub(super) fn run(stage: &mut Stage) -> Result<()> {
    let world = World::start(stage)?;
    registry::run(stage, &world);
    kube::run(stage, &world);
    // Minutes of an ECS deployment in seconds.
    let fast = World::start_at(stage, 30)?;
    ecs::run(stage, &fast);
    Ok(())
}
