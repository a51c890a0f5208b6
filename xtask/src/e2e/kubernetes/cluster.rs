//! A real Kubernetes control plane on loopback: etcd, API server, controllers, scheduler.

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
    test_run::TestRun,
    tools::{ETCD, KUBE_APISERVER, KUBE_CONTROLLER_MANAGER, KUBE_SCHEDULER, KUBECTL},
};
use super::node;
use crate::{clock, command};

/// Users of the API server: name, token, group. The deployer has the permissions of docs/iam; the stranger has none.
const USERS: [(&str, &str, &str); 3] = [
    ("admin", "admin-token", "system:masters"),
    ("deployer", "deployer-token", "bp-deployers"),
    ("stranger", "stranger-token", "strangers"),
];

/// The user of a separate API server without controllers, where the status of objects stays as written.
const WITHOUT_CONTROLLERS: (&str, &str, &str) = ("still", "still-token", "system:masters");

/// The audit policy: log the requests of the deployer.
const AUDIT: &str = "apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- { level: Metadata, users: [deployer] }
- { level: None }
";

/// The namespace of the scenarios, as in the files of docs/iam.
pub(super) const NAMESPACE: &str = "shop";

/// A running cluster.
pub(super) struct Cluster {
    home: PathBuf,
    kubectl: PathBuf,
}

impl Cluster {
    /// Starts all components in order, each when the previous one is ready.
    pub(super) fn start(test_run: &mut TestRun) -> Result<Self> {
        let home = test_run.scratch.join("kubernetes");
        fs::create_dir_all(&home)?;
        let cluster = Cluster { home, kubectl: test_run.tools.command(KUBECTL)?.get_program().into() };
        let etcd = cluster.start_etcd(test_run)?;
        cluster.start_apiserver(test_run, &etcd, &USERS)?;
        cluster.start_controllers(test_run)?;
        node::start(test_run, &cluster)?;
        cluster.prepare(test_run)?;
        Ok(cluster)
    }

    /// Starts a separate API server without controllers; its user is `still`.
    pub(super) fn start_without_controllers(test_run: &mut TestRun) -> Result<Self> {
        let home = test_run.scratch.join("still");
        fs::create_dir_all(&home)?;
        let cluster = Cluster { home, kubectl: test_run.tools.command(KUBECTL)?.get_program().into() };
        let etcd = cluster.start_etcd(test_run)?;
        cluster.start_apiserver(test_run, &etcd, &[WITHOUT_CONTROLLERS])?;
        Ok(cluster)
    }

    /// The path of the audit log with the deployer's requests.
    pub(super) fn audit(&self) -> PathBuf {
        self.home.join("audit.log")
    }

    /// The directory of the cluster's files.
    pub(super) fn home(&self) -> &Path {
        &self.home
    }

    /// The path of kubectl.
    pub(super) fn kubectl_program(&self) -> &Path {
        &self.kubectl
    }

    /// The path of a user's kubeconfig.
    pub(super) fn kubeconfig(&self, user: &str) -> PathBuf {
        self.home.join(format!("{user}.kubeconfig"))
    }

    /// A kubectl command as a user.
    pub(super) fn kubectl(&self, user: &str, arguments: &[&str]) -> Command {
        let mut kubectl = Command::new(&self.kubectl);
        kubectl.env("KUBECONFIG", self.kubeconfig(user)).env("HOME", &self.home).args(arguments);
        kubectl
    }

    /// Runs kubectl as the administrator and returns its output.
    pub(super) fn admin(&self, arguments: &[&str]) -> Result<String> {
        self.run_kubectl("admin", arguments)
    }

    fn run_kubectl(&self, user: &str, arguments: &[&str]) -> Result<String> {
        command::output_within(Duration::from_secs(180), &mut self.kubectl(user, arguments))
    }

    /// Applies a manifest.
    pub(super) fn apply(&self, name: &str, manifest: &str) -> Result<()> {
        let file = self.home.join(format!("{name}.yaml"));
        fs::write(&file, manifest)?;
        self.admin(&["apply", "-f", &file.to_string_lossy()]).map(drop)
    }

    fn start_etcd(&self, test_run: &mut TestRun) -> Result<String> {
        let (client, peer) = (free_port()?, free_port()?);
        let (address, peer) = (format!("127.0.0.1:{client}"), format!("http://127.0.0.1:{peer}"));
        let url = format!("http://{address}");
        let mut etcd = test_run.tools.command(ETCD)?;
        etcd.arg("--data-dir").arg(self.home.join("etcd")).args([
            format!("--listen-client-urls={url}"),
            format!("--advertise-client-urls={url}"),
            format!("--listen-peer-urls={peer}"),
            format!("--initial-advertise-peer-urls={peer}"),
            format!("--initial-cluster=default={peer}"),
            // The cluster lives for minutes and is never restarted, so its data need not be durable.
            "--unsafe-no-fsync".to_owned(),
        ]);
        let server = Server::start("etcd", &address, &test_run.scratch, &mut etcd, || {
            http::get(&address, "/health").is_ok_and(|response| response.text().contains("true"))
        })?;
        test_run.servers.push(server);
        Ok(url)
    }

    fn start_apiserver(
        &self,
        test_run: &mut TestRun,
        etcd: &str,
        users: &[(&str, &str, &str)],
    ) -> Result<()> {
        let port = free_port()?;
        let certificates = self.home.join("certificates");
        // Generated by the server at startup; the key also signs service account tokens.
        let (certificate, key) = (certificates.join("apiserver.crt"), certificates.join("apiserver.key"));
        let line = |(user, token, group): &(&str, &str, &str)| format!("{token},{user},{user},\"{group}\"\n");
        fs::write(self.home.join("tokens.csv"), users.iter().map(line).collect::<String>())?;
        fs::write(self.home.join("audit.yaml"), AUDIT)?;
        for (user, token, _) in users {
            fs::write(self.kubeconfig(user), kubeconfig(port, &certificate, user, token))?;
        }
        let option = |name: &str, file: &Path| format!("--{name}={}", file.display());
        let mut apiserver = test_run.tools.command(KUBE_APISERVER)?;
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
            // This etcd does not support streaming lists; with the feature enabled, clients retry for half a minute.
            "--feature-gates=WatchList=false".to_owned(),
            // No controller removes the not-ready taint.
            "--disable-admission-plugins=TaintNodesByCondition".to_owned(),
        ]);
        let address = format!("https://127.0.0.1:{port}");
        let server = Server::start("kube-apiserver", &address, &test_run.scratch, &mut apiserver, || {
            self.run_kubectl(users[0].0, &["get", "--raw", "/readyz"]).is_ok()
        })?;
        test_run.servers.push(server);
        Ok(())
    }

    fn start_controllers(&self, test_run: &mut TestRun) -> Result<()> {
        let kubeconfig = format!("--kubeconfig={}", self.kubeconfig("admin").display());
        let mut manager = test_run.tools.command(KUBE_CONTROLLER_MANAGER)?;
        manager.args([
            &kubeconfig,
            "--leader-elect=false",
            "--secure-port=0",
            "--controllers=*,-nodelifecycle",
        ]);
        let mut scheduler = test_run.tools.command(KUBE_SCHEDULER)?;
        scheduler.args([&kubeconfig, "--leader-elect=false", "--secure-port=0"]);
        // Neither listens on a port; the first scheduled pod shows that they work.
        for (name, mut process) in [("kube-controller-manager", manager), ("kube-scheduler", scheduler)] {
            let server = Server::start(name, "(no port)", &test_run.scratch, &mut process, || true)?;
            test_run.servers.push(server);
        }
        Ok(())
    }

    /// Creates the namespace, the deployer's permissions, exactly as in docs/iam, and the custom resource definitions.
    fn prepare(&self, test_run: &TestRun) -> Result<()> {
        self.admin(&["create", "namespace", NAMESPACE])?;
        let account = ["get", "serviceaccount", "default", "--namespace", NAMESPACE];
        clock::poll(Duration::from_secs(120), || self.admin(&account).ok())
            .context("the default service account was not created within 120 s")?;
        let policies = command::root().join("docs/iam");
        for policy in files(&policies, "yaml")? {
            self.admin(&["apply", "-f", &policy.to_string_lossy()])?;
        }
        for definition in test_run.tools.custom_resources()? {
            // Larger than the limit of annotations, so server-side apply is required.
            self.admin(&["apply", "--server-side", "-f", &definition.to_string_lossy()])?;
        }
        let established = ["wait", "--for=condition=established", "crd", "--all", "--timeout=60s"];
        self.admin(&established).map(drop)
    }
}

/// The files of a directory with this extension, sorted.
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
