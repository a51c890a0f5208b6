//! Real clients against the sandbox: whoever wrote them did not have our model in mind.

mod registry;
mod world;

use anyhow::Result;

pub(super) use self::world::World;
use super::Stage;

pub(super) fn run(stage: &mut Stage) -> Result<()> {
    let world = World::start(stage)?;
    registry::run(stage, &world);
    Ok(())
}
