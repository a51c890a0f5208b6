//! Starting them.

use std::{fs, path::Path, process::Command};

use anyhow::Result;

use super::super::{
    http,
    sandbox::World,
    server::{Server, free_port},
    stage::Stage,
    tools::{DISTRIBUTION, DOCKER_REGISTRY, FERRO},
};

/// Names that the probes know their faults by.
pub(super) const DEBIAN: &str = "distribution 2.8";
/// The same program once more, to copy between two that are alike; it is not judged again.
pub(super) const DEBIAN_TOO: &str = "distribution 2.8 (2)";
pub(super) const CURRENT: &str = "distribution 3.1";
pub(super) const FERRO_OCI: &str = "ferro 1.0";
pub(super) const SANDBOX: &str = "sandbox";

/// A registry that runs.
pub(super) struct Registry {
    pub(super) name: &'static str,
    pub(super) address: String,
}

pub(super) fn start(stage: &mut Stage) -> Result<(Vec<Registry>, World)> {
    let mut registries = Vec::new();
    for (name, tool) in [(DEBIAN, DOCKER_REGISTRY), (DEBIAN_TOO, DOCKER_REGISTRY), (CURRENT, DISTRIBUTION)] {
        let address = format!("127.0.0.1:{}", free_port()?);
        let config = stage.scratch.join(format!("{}.yml", file_name(name)));
        fs::write(&config, distribution(&address, &stage.scratch.join(file_name(name))))?;
        let mut process = stage.tools.command(tool)?;
        process.arg("serve").arg(config).env("OTEL_TRACES_EXPORTER", "none");
        registries.push(serve(stage, name, address, &mut process)?);
    }
    let address = format!("127.0.0.1:{}", free_port()?);
    let mut ferro = stage.tools.command(FERRO)?;
    // Without this it listens on every address of the machine.
    ferro.env("FERRO_OCI_LISTEN", &address);
    registries.push(serve(stage, FERRO_OCI, address, &mut ferro)?);
    let world = World::start(stage)?;
    registries.push(Registry { name: SANDBOX, address: world.plain_registry()?.to_owned() });
    Ok((registries, world))
}

fn serve(stage: &mut Stage, name: &'static str, address: String, process: &mut Command) -> Result<Registry> {
    let ready = || http::answers(&address, "/v2/");
    let server = Server::start(&file_name(name), &address, &stage.scratch, process, ready)?;
    stage.servers.push(server);
    Ok(Registry { name, address })
}

fn file_name(name: &str) -> String {
    name.replace(' ', "-").replace(['(', ')'], "")
}

/// The configuration of a Distribution registry that stores files below `root` and lets everyone delete.
fn distribution(address: &str, root: &Path) -> String {
    format!(
        "version: 0.1\nlog: {{ level: warn }}\nstorage:\n  filesystem: {{ rootdirectory: \"{}\" }}\n  \
         delete: {{ enabled: true }}\nhttp: {{ addr: \"{address}\" }}\n",
        root.display()
    )
}
