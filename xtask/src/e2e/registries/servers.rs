//! Starting the registries.

use std::{fs, path::Path, process::Command};

use anyhow::Result;

use super::super::{
    http,
    sandbox::SandboxServer,
    server::{Server, free_port},
    test_run::TestRun,
    tools::{DISTRIBUTION, DOCKER_REGISTRY, FERRO},
};

/// Names of the registries, as used by the known deviations of the probes.
pub(super) const DEBIAN: &str = "distribution 2.8";
/// A second instance, for copies between two registries of the same version; it is not probed again.
pub(super) const DEBIAN_TOO: &str = "distribution 2.8 (2)";
pub(super) const CURRENT: &str = "distribution 3.1";
pub(super) const FERRO_OCI: &str = "ferro 1.0";
pub(super) const SANDBOX: &str = "sandbox";

/// A running registry.
pub(super) struct Registry {
    pub(super) name: &'static str,
    pub(super) address: String,
}

pub(super) fn start(test_run: &mut TestRun) -> Result<(Vec<Registry>, SandboxServer)> {
    let mut registries = Vec::new();
    for (name, tool) in [(DEBIAN, DOCKER_REGISTRY), (DEBIAN_TOO, DOCKER_REGISTRY), (CURRENT, DISTRIBUTION)] {
        let address = format!("127.0.0.1:{}", free_port()?);
        let config = test_run.scratch.join(format!("{}.yml", file_name(name)));
        fs::write(&config, distribution(&address, &test_run.scratch.join(file_name(name))))?;
        let mut process = test_run.tools.command(tool)?;
        process.arg("serve").arg(config).env("OTEL_TRACES_EXPORTER", "none");
        registries.push(serve(test_run, name, address, &mut process)?);
    }
    let address = format!("127.0.0.1:{}", free_port()?);
    let mut ferro = test_run.tools.command(FERRO)?;
    // By default it listens on all addresses.
    ferro.env("FERRO_OCI_LISTEN", &address);
    registries.push(serve(test_run, FERRO_OCI, address, &mut ferro)?);
    let sandbox = SandboxServer::start(test_run)?;
    registries.push(Registry { name: SANDBOX, address: sandbox.plain_registry()?.to_owned() });
    Ok((registries, sandbox))
}

fn serve(
    test_run: &mut TestRun,
    name: &'static str,
    address: String,
    process: &mut Command,
) -> Result<Registry> {
    let ready = || http::responds(&address, "/v2/");
    let server = Server::start(&file_name(name), &address, &test_run.scratch, process, ready)?;
    test_run.servers.push(server);
    Ok(Registry { name, address })
}

fn file_name(name: &str) -> String {
    name.replace(' ', "-").replace(['(', ')'], "")
}

/// The configuration of a Distribution registry that stores files below `root` and allows deletion.
fn distribution(address: &str, root: &Path) -> String {
    format!(
        "version: 0.1\nlog: {{ level: warn }}\nstorage:\n  filesystem: {{ rootdirectory: \"{}\" }}\n  \
         delete: {{ enabled: true }}\nhttp: {{ addr: \"{address}\" }}\n",
        root.display()
    )
}
