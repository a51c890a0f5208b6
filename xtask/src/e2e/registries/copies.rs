//! Our copies between real registries, read back by crane.

use std::time::Duration;

use anyhow::{Result, ensure};

use super::{
    super::{Stage, library::Library, sandbox::World},
    servers::{CURRENT, DEBIAN, FERRO_OCI, Registry, SANDBOX},
};
use crate::command;

/// From where to where: each server once a source and once a target, ours among them.
const WAYS: [(&str, &str); 4] =
    [(SANDBOX, DEBIAN), (DEBIAN, CURRENT), (CURRENT, FERRO_OCI), (FERRO_OCI, SANDBOX)];

pub(super) fn run(stage: &mut Stage, registries: &[Registry], world: &World) -> Result<()> {
    let library = Library::build()?;
    let address =
        |name: &str| registries.iter().find(|registry| registry.name == name).map(|r| r.address.as_str());
    for (from, to) in WAYS {
        let (Some(source), Some(target)) = (address(from), address(to)) else { continue };
        let server = format!("{from} -> {to}");
        stage.table.scenario(&server, "bp-promote copies an index, crane validates it", || {
            copies(&library, world, source, target)
        });
        stage.table.scenario(&server, "bp-promote names what is missing, and copies nothing", || {
            library.run(
                "registries::what_is_missing_at_the_source_changes_nothing",
                &vec![("BP_E2E_SOURCE", source.into()), ("BP_E2E_TARGET", target.into())],
            )?;
            let listed =
                command::ended_within(LIMIT, &mut world.crane(&["ls", &format!("{target}/missing/web")]))?;
            ensure!(listed.stdout.trim().is_empty(), "a copy of nothing left {:?}", listed.stdout);
            Ok(String::new())
        });
    }
    Ok(())
}

const LIMIT: Duration = Duration::from_secs(30);

fn copies(library: &Library, world: &World, source: &str, target: &str) -> Result<String> {
    let image = world.image();
    let original = format!("{}/{}:{}", world.plain_registry()?, image.repository, image.tag);
    let crane = |arguments: &[&str]| command::output_within(LIMIT, &mut world.crane(arguments));
    crane(&["copy", &original, &format!("{source}/shop/web:1")])?;
    library.run(
        "registries::an_index_is_copied_twice_and_through_a_layout",
        &vec![
            ("BP_E2E_SOURCE", source.into()),
            ("BP_E2E_TARGET", target.into()),
            ("BP_E2E_DIGEST", (&image.digest).into()),
        ],
    )?;
    for repository in ["copied/web", "layout/web"] {
        let copy = format!("{target}/{repository}:1");
        let digest = crane(&["digest", &copy])?;
        ensure!(digest.trim() == image.digest, "{repository} has {digest}");
        crane(&["validate", "--remote", &copy])?;
    }
    Ok(String::new())
}
