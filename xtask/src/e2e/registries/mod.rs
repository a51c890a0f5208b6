//! Registries that others wrote.

mod conformance;
mod copies;
mod probe;
mod probes;
mod servers;

use anyhow::Result;

use super::stage::Stage;

pub(super) fn run(stage: &mut Stage) -> Result<()> {
    let (registries, world) = servers::start(stage)?;
    for registry in registries.iter().filter(|registry| registry.name != servers::DEBIAN_TOO) {
        for probe in probes::PROBES {
            let known =
                probe.known.iter().find(|(server, _)| *server == registry.name).map(|(_, fault)| *fault);
            stage.table.scenario(registry.name, probe.name, || probe::run(probe, known, &registry.address));
        }
    }
    conformance::run(stage, &registries)?;
    copies::run(stage, &registries, &world)
}
