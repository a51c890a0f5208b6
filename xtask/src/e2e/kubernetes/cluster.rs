//! A real control plane.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result};

use super::super::{
    http,
    server::{Server, free_port},
    stage::Stage,
    tools::{ETCD, KUBE_APISERVER, KUBE_CONTROLLER_MANAGER, KUBE_SCHEDULER, KUBECTL},
};
use super::node;
use crate::{clock, command};

/// Who speaks to the API server, with which token, in which group. The deployer's rights are those of docs/iam; the
/// stranger has none.
const USERS: [(&str, &str, &str); 3] = [
    ("admin", "admin-token", "system:masters"),
    ("deployer", "deployer-token", "bp-deployers"),
    ("stranger", "stranger-token", "strangers"),
];

/// A user of an API server of its own, for whose objects no controller works: what is written there stays as it is.
const STILL: (&str, &str, &str) = ("still", "still-token", "system:masters");

/// What is noted of requests: those of the deployer.
const AUDIT: &str = "apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- { level: Metadata, users: [deployer] }
- { level: None }
";

/// Where the scenarios work: the namespace that the files of docs/iam name.
pub(super) const NAMESPACE: &str = "shop";

/// A cluster that runs.
pub(super) struct Cluster {
    home: PathBuf,
    kubectl: PathBuf,
}

impl Cluster {
    /// Starts everything, in order, each when the one before is ready.
    pub(super) fn start(stage: &mut Stage) -> Result<Self> {
        let home = stage.scratch.join("kubernetes");
        fs::create_dir_all(&home)?;
        let cluster = Cluster { home, kubectl: stage.tools.command(KUBECTL)?.get_program().into() };
        let etcd = cluster.start_etcd(stage)?;
        cluster.start_apiserver(stage, &etcd, &USERS)?;
        cluster.start_controllers(stage)?;
        node::start(stage, &cluster)?;
        cluster.prepare(stage)?;
        Ok(cluster)
    }

    /// Starts an API server of its own without controllers; its user is `still`.
    pub(super) fn start_still(stage: &mut Stage) -> Result<Self> {
        let home = stage.scratch.join("still");
        fs::create_dir_all(&home)?;
        let cluster = Cluster { home, kubectl: stage.tools.command(KUBECTL)?.get_program().into() };
        let etcd = cluster.start_etcd(stage)?;
        cluster.start_apiserver(stage, &etcd, &[STILL])?;
        Ok(cluster)
    }

    /// The audit log: the deployer's requests.
    pub(super) fn audit(&self) -> PathBuf {
        self.home.join("audit.log")
    }

    /// Where its files are.
    pub(super) fn home(&self) -> &Path {
        &self.home
    }

    /// kubectl itself.
    pub(super) fn kubectl_program(&self) -> &Path {
        &self.kubectl
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
        self.asks("admin", arguments)
    }

    fn asks(&self, user: &str, arguments: &[&str]) -> Result<String> {
        command::output_within(Duration::from_secs(180), &mut self.kubectl(user, arguments))
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

    fn start_apiserver(&self, stage: &mut Stage, etcd: &str, users: &[(&str, &str, &str)]) -> Result<()> {
        let port = free_port()?;
        let certificates = self.home.join("certificates");
        // Made by the server itself when it starts; its key signs service account tokens too.
        let (certificate, key) = (certificates.join("apiserver.crt"), certificates.join("apiserver.key"));
        let line = |(user, token, group): &(&str, &str, &str)| format!("{token},{user},{user},\"{group}\"\n");
        fs::write(self.home.join("tokens.csv"), users.iter().map(line).collect::<String>())?;
        fs::write(self.home.join("audit.yaml"), AUDIT)?;
        for (user, token, _) in users {
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
            option("audit-policy-file", &self.home.join("audit.yaml")),
            option("audit-log-path", &self.audit()),
            option("service-account-key-file", &key),
            option("service-account-signing-key-file", &key),
            "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
            "--service-cluster-ip-range=10.0.0.0/24".to_owned(),
            "--authorization-mode=RBAC".to_owned(),
            "--endpoint-reconciler-type=none".to_owned(),
            // This etcd cannot serve lists as streams; a client that is not told so tries for half a minute.
            "--feature-gates=WatchList=false".to_owned(),
            // No controller lifts the not-ready taint.
            "--disable-admission-plugins=TaintNodesByCondition".to_owned(),
        ]);
        let address = format!("https://127.0.0.1:{port}");
        let server = Server::start("kube-apiserver", &address, &stage.scratch, &mut apiserver, || {
            self.asks(users[0].0, &["get", "--raw", "/readyz"]).is_ok()
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

    /// The namespace, what the deployer may do there, to the letter of docs/iam, and the resources of others.
    fn prepare(&self, stage: &Stage) -> Result<()> {
        self.admin(&["create", "namespace", NAMESPACE])?;
        let account = ["get", "serviceaccount", "default", "--namespace", NAMESPACE];
        clock::poll(Duration::from_secs(120), || self.admin(&account).ok())
            .context("the controllers made no default service account within 120 s")?;
        let policies = command::root().join("docs/iam");
        for policy in files(&policies, "yaml")? {
            self.admin(&["apply", "-f", &policy.to_string_lossy()])?;
        }
        for definition in stage.tools.custom_resources()? {
            // Larger than an annotation may be, so the server applies them.
            self.admin(&["apply", "--server-side", "-f", &definition.to_string_lossy()])?;
        }
        let established = ["wait", "--for=condition=established", "crd", "--all", "--timeout=60s"];
        self.admin(&established).map(drop)
    }
}

/// The files of a directory with this extension, in order.
fn files(directory: &Path, extension: &str) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(directory).with_context(|| format!("cannot read {}", directory.display()))?;
    let mut files = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    files.retain(|file| file.extension().is_some_and(|found| found == extension));
    files.sort();
    Ok(files)
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
  context: {{ cluster: e2e, user: {user}, namespace: {NAMESPACE} }}
"#,
        authority.display()
    )
}
