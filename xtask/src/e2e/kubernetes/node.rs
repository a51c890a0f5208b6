//! kwok in place of kubelets: two nodes whose containers behave as their image digests specify.

use std::fs;

use anyhow::Result;

use super::{
    super::{
        server::{Server, free_port},
        test_run::TestRun,
        tools::KWOK,
    },
    cluster::Cluster,
};
const NODES: [&str; 2] = ["node-1", "node-2"];

/// The log of every container, in the format of a container runtime.
const LOG: &str = "2026-01-01T00:00:01.000000000Z stdout F starting\n\
                   2026-01-01T00:00:02.000000000Z stderr F no database\n";

/// A digest with this prefix, by which the kwok stages decide what a container does.
pub(super) fn digest(prefix: &str) -> String {
    format!("sha256:{prefix:0<64}")
}

/// Starts kwok and waits until its nodes are ready.
pub(super) fn start(test_run: &mut TestRun, cluster: &Cluster) -> Result<()> {
    let logs = cluster.home().join("logs");
    fs::create_dir_all(&logs)?;
    for file in ["now.log", "previous.log"] {
        fs::write(logs.join(file), LOG)?;
    }
    let config = cluster.home().join("stages.yaml");
    fs::write(&config, include_str!("stages.yaml").replace("LOGS/", &format!("{}/", logs.display())))?;
    for node in NODES {
        cluster.apply(node, &manifest(node))?;
    }
    let port = free_port()?;
    let address = format!("127.0.0.1:{port}");
    let certificates = cluster.home().join("certificates");
    let mut kwok = test_run.tools.command(KWOK)?;
    kwok.args([
        format!("--kubeconfig={}", cluster.kubeconfig("admin").display()),
        format!("--config={}", config.display()),
        "--manage-nodes-with-annotation-selector=kwok.x-k8s.io/node=fake".to_owned(),
        "--node-ip=127.0.0.1".to_owned(),
        format!("--node-port={port}"),
        // By default it listens on all addresses.
        format!("--server-address={address}"),
        format!("--tls-cert-file={}", certificates.join("apiserver.crt").display()),
        format!("--tls-private-key-file={}", certificates.join("apiserver.key").display()),
    ]);
    let ready = "jsonpath={.items[*].status.conditions[?(@.type=='Ready')].status}";
    let server = Server::start("kwok", &address, &test_run.scratch, &mut kwok, || {
        cluster.admin(&["get", "nodes", "-o", ready]).is_ok_and(|status| status == "True True")
    })?;
    test_run.servers.push(server);
    Ok(())
}

fn manifest(node: &str) -> String {
    format!(
        r#"
apiVersion: v1
kind: Node
metadata:
  name: {node}
  annotations: {{ kwok.x-k8s.io/node: fake }}
  labels: {{ kubernetes.io/hostname: {node}, kubernetes.io/os: linux, kubernetes.io/arch: amd64 }}
"#
    )
}
