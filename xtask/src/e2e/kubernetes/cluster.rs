//! A cluster of the end-to-end tests: its files, and kubectl for its users.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::Result;

use crate::command;

/// A running cluster.
pub(super) struct Cluster {
    pub(super) home: PathBuf,
    pub(super) kubectl: PathBuf,
}

impl Cluster {
    /// The path of the audit log with the deployer's requests.
    pub(super) fn audit(&self) -> PathBuf {
        self.home.join("audit.log")
    }

    /// The file with the process id of the API server, which is started again when it was killed.
    pub(super) fn apiserver_pid(&self) -> PathBuf {
        self.home.join("apiserver.pid")
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
        self.client(user, &self.kubectl, arguments)
    }

    /// A command of a client as a user.
    pub(super) fn client(&self, user: &str, program: &Path, arguments: &[&str]) -> Command {
        let mut client = Command::new(program);
        client.env("KUBECONFIG", self.kubeconfig(user)).env("HOME", &self.home).args(arguments);
        client
    }

    /// Runs kubectl as the administrator and returns its output.
    pub(super) fn admin(&self, arguments: &[&str]) -> Result<String> {
        self.run_kubectl("admin", arguments)
    }

    pub(super) fn run_kubectl(&self, user: &str, arguments: &[&str]) -> Result<String> {
        command::output_within(Duration::from_secs(180), &mut self.kubectl(user, arguments))
    }

    /// Applies a manifest.
    pub(super) fn apply(&self, name: &str, manifest: &str) -> Result<()> {
        let file = self.home.join(format!("{name}.yaml"));
        fs::write(&file, manifest)?;
        self.admin(&["apply", "-f", &file.to_string_lossy()]).map(drop)
    }
}
