//! End-to-end tests of other registries: probes, the conformance suite, and copies.

mod conformance;
mod copies;
mod probe;
mod probes;
mod servers;

use anyhow::Result;

use super::test_run::TestRun;

pub(super) fn run(test_run: &mut TestRun) -> Result<()> {
    let (registries, sandbox) = servers::start(test_run)?;
    for registry in registries.iter().filter(|registry| registry.name != servers::DEBIAN_TOO) {
        for probe in probes::PROBES {
            let known =
                probe.known.iter().find(|(server, _)| *server == registry.name).map(|(_, fault)| *fault);
            test_run
                .table
                .scenario(registry.name, probe.name, || probe::run(probe, known, &registry.address));
        }
    }
    conformance::run(test_run, &registries)?;
    copies::run(test_run, &registries, &sandbox)
}
