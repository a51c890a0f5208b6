//! A real control plane, with kwok for a node.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result};

use super::super::{
    Stage, http,
    server::{Server, free_port},
    tools::{ETCD, KUBE_APISERVER, KUBE_CONTROLLER_MANAGER, KUBE_SCHEDULER, KUBECTL, KWOK, Tool},
};
use crate::{clock, command};

/// All that a cluster needs.
pub(super) const TOOLS: [Tool; 6] =
    [ETCD, KUBE_APISERVER, KUBE_CONTROLLER_MANAGER, KUBE_SCHEDULER, KUBECTL, KWOK];

/// Who speaks to the API server: everyone's token is in the file that it reads.
const USERS: &[(&str, &str, &str)] = &[
    ("admin-token", "admin", "system:masters"),
    ("deployer-token", "deployer", ""),
    ("reader-token", "reader", ""),
];

const NODE: &str = r#"
apiVersion: v1
kind: Node
metadata:
  name: node-1
  annotations: { kwok.x-k8s.io/node: fake }
  labels: { kubernetes.io/hostname: node-1, kubernetes.io/os: linux, kubernetes.io/arch: amd64 }
"#;

/// A cluster that runs.
pub(super) struct Cluster {
    home: PathBuf,
    kubectl: PathBuf,
}

impl Cluster {
    /// Starts everything, in order, each when the one before is ready.
    pub(super) fn start(stage: &mut Stage) -> Result<Self> {
        stage.tools.require(&TOOLS)?;
        let home = stage.scratch.join("kubernetes");
        fs::create_dir_all(&home)?;
        let cluster = Cluster { home, kubectl: stage.tools.command(KUBECTL)?.get_program().into() };
        let etcd = cluster.start_etcd(stage)?;
        cluster.start_apiserver(stage, &etcd)?;
        cluster.start_controllers(stage)?;
        cluster.start_node(stage)?;
        Ok(cluster)
    }

    /// The kubeconfig of a user.
    pub(super) fn kubeconfig(&self, user: &str) -> PathBuf {
        self.home.join(format!("{user}.kubeconfig"))
    }

    /// kubectl as a user.
    pub(super) fn kubectl(&self, user: &str, arguments: &[&str]) -> Command {
        let mut kubectl = Command::new(&self.kubectl);
        kubectl.env("KUBECONFIG", self.kubeconfig(user)).env("HOME", &self.home).args(arguments);
        kubectl
    }

    /// Runs kubectl as the administrator and returns what it prints.
    pub(super) fn admin(&self, arguments: &[&str]) -> Result<String> {
        command::output_within(Duration::from_secs(60), &mut self.kubectl("admin", arguments))
    }

    /// Applies a manifest.
    pub(super) fn apply(&self, name: &str, manifest: &str) -> Result<()> {
        let file = self.home.join(format!("{name}.yaml"));
        fs::write(&file, manifest)?;
        self.admin(&["apply", "-f", &file.to_string_lossy()]).map(drop)
    }

    fn start_etcd(&self, stage: &mut Stage) -> Result<String> {
        let (client, peer) = (free_port()?, free_port()?);
        let (address, peer) = (format!("127.0.0.1:{client}"), format!("http://127.0.0.1:{peer}"));
        let url = format!("http://{address}");
        let mut etcd = stage.tools.command(ETCD)?;
        etcd.arg("--data-dir").arg(self.home.join("etcd")).args([
            format!("--listen-client-urls={url}"),
            format!("--advertise-client-urls={url}"),
            format!("--listen-peer-urls={peer}"),
            format!("--initial-advertise-peer-urls={peer}"),
            format!("--initial-cluster=default={peer}"),
            // A cluster that lives for minutes survives nothing, so nothing needs to reach the disk.
            "--unsafe-no-fsync".to_owned(),
        ]);
        let server = Server::start("etcd", &address, &stage.scratch, &mut etcd, || {
            http::get(&address, "/health").is_ok_and(|answer| answer.text().contains("true"))
        })?;
        stage.servers.push(server);
        Ok(url)
    }

    fn start_apiserver(&self, stage: &mut Stage, etcd: &str) -> Result<()> {
        let port = free_port()?;
        let certificates = self.home.join("certificates");
        // Made by the server itself when it starts; its key signs service account tokens too, which nobody uses.
        let (certificate, key) = (certificates.join("apiserver.crt"), certificates.join("apiserver.key"));
        let tokens: Vec<String> = USERS
            .iter()
            .map(|(token, user, groups)| format!("{token},{user},{user},\"{groups}\"\n"))
            .collect();
        fs::write(self.home.join("tokens.csv"), tokens.concat())?;
        for (token, user, _) in USERS {
            fs::write(self.kubeconfig(user), kubeconfig(port, &certificate, user, token))?;
        }
        let option = |name: &str, file: &Path| format!("--{name}={}", file.display());
        let mut apiserver = stage.tools.command(KUBE_APISERVER)?;
        apiserver.args([
            format!("--etcd-servers={etcd}"),
            format!("--secure-port={port}"),
            "--bind-address=127.0.0.1".to_owned(),
            option("cert-dir", &certificates),
            option("token-auth-file", &self.home.join("tokens.csv")),
            option("service-account-key-file", &key),
            option("service-account-signing-key-file", &key),
            "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
            "--service-cluster-ip-range=10.0.0.0/24".to_owned(),
            "--authorization-mode=RBAC".to_owned(),
            "--endpoint-reconciler-type=none".to_owned(),
            // Nobody makes service accounts here, and no controller lifts the not-ready taint.
            "--disable-admission-plugins=ServiceAccount,TaintNodesByCondition".to_owned(),
        ]);
        let address = format!("https://127.0.0.1:{port}");
        let server = Server::start("kube-apiserver", &address, &stage.scratch, &mut apiserver, || {
            self.admin(&["get", "--raw", "/readyz"]).is_ok()
        })?;
        stage.servers.push(server);
        Ok(())
    }

    fn start_controllers(&self, stage: &mut Stage) -> Result<()> {
        let kubeconfig = format!("--kubeconfig={}", self.kubeconfig("admin").display());
        let mut manager = stage.tools.command(KUBE_CONTROLLER_MANAGER)?;
        manager.args([
            &kubeconfig,
            "--leader-elect=false",
            "--secure-port=0",
            "--controllers=*,-nodelifecycle",
        ]);
        let mut scheduler = stage.tools.command(KUBE_SCHEDULER)?;
        scheduler.args([&kubeconfig, "--leader-elect=false", "--secure-port=0"]);
        // Neither listens; that they work shows with the first pod that is scheduled.
        for (name, mut process) in [("kube-controller-manager", manager), ("kube-scheduler", scheduler)] {
            let server = Server::start(name, "(no port)", &stage.scratch, &mut process, || true)?;
            stage.servers.push(server);
        }
        Ok(())
    }

    fn start_node(&self, stage: &mut Stage) -> Result<()> {
        let stages = self.home.join("stages.yaml");
        fs::write(&stages, include_str!("stages.yaml"))?;
        let mut kwok = stage.tools.command(KWOK)?;
        kwok.args([
            format!("--kubeconfig={}", self.kubeconfig("admin").display()),
            format!("--config={}", stages.display()),
            "--manage-nodes-with-annotation-selector=kwok.x-k8s.io/node=fake".to_owned(),
        ]);
        self.apply("node", NODE)?;
        let server = Server::start("kwok", "(no port)", &stage.scratch, &mut kwok, || {
            let ready = "jsonpath={.status.conditions[?(@.type=='Ready')].status}";
            self.admin(&["get", "node", "node-1", "-o", ready]).is_ok_and(|status| status == "True")
        })?;
        stage.servers.push(server);
        clock::poll(Duration::from_secs(30), || self.admin(&["get", "serviceaccount", "default"]).ok())
            .context("the controllers made no default service account within 30 s")
            .map(drop)
    }
}

fn kubeconfig(port: u16, authority: &Path, user: &str, token: &str) -> String {
    format!(
        r#"apiVersion: v1
kind: Config
current-context: e2e
clusters:
- name: e2e
  cluster: {{ server: "https://127.0.0.1:{port}", certificate-authority: "{}" }}
users:
- name: {user}
  user: {{ token: {token} }}
contexts:
- name: e2e
  context: {{ cluster: e2e, user: {user}, namespace: default }}
"#,
        authority.display()
    )
}
