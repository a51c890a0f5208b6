//! Run the `helm` program: arguments, environment, output and termination.

use std::{fs, io::Write, path::PathBuf, process::Stdio, sync::Arc, time::Duration};

use bp_artifact::process::own_group;
use secrecy::ExposeSecret;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::{
    process::{Child, Command},
    time::timeout,
};

use super::{command_line::CommandLine, error::HelmError, hooks::Hooks, login::ChartLogin, proxy::Proxy};

/// How long helm has after SIGTERM to mark its revision as failed.
const GRACE: Duration = Duration::from_secs(10);

/// The maximum size of helm's output, such as a manifest.
const MAX_OUTPUT: usize = 64 << 20;

/// Variables that select another cluster, identity or storage.
const CONFIGURATION: [&str; 10] = [
    "HELM_DEBUG",
    "HELM_DRIVER",
    "HELM_KUBEASGROUPS",
    "HELM_KUBEASUSER",
    "HELM_KUBECAFILE",
    "HELM_KUBECONTEXT",
    "HELM_KUBEINSECURE_SKIP_TLS_VERIFY",
    "HELM_KUBETLS_SERVER_NAME",
    "HELM_KUBETOKEN",
    "HELM_NAMESPACE",
];

/// `helm` with its environment.
pub(super) struct Program {
    path: PathBuf,
    namespace: String,
    proxy: Proxy,
    /// Values, logins and helm's own files; readable by this user only, deleted on drop.
    directory: tempfile::TempDir,
    /// The file with the login to the registry of the chart.
    registry_config: Option<PathBuf>,
}

/// The result of a run.
pub(super) struct Ended {
    pub(super) success: bool,
    pub(super) stdout: Vec<u8>,
    /// The error line that helm ended with.
    pub(super) message: String,
}

impl Program {
    pub(super) fn new(path: PathBuf, namespace: String, proxy: Proxy) -> Result<Self, HelmError> {
        let directory = private_directory()?;
        fs::write(directory.path().join("kubeconfig"), "")?;
        Ok(Program { path, namespace, proxy, directory, registry_config: None })
    }

    /// Holds back the deletion of a hook that failed until its evidence was collected.
    pub(super) fn watch_hooks(&self, hooks: &Arc<Hooks>) {
        self.proxy.watch_hooks(Arc::clone(hooks));
    }

    /// Creates the login to the registry of `chart`. Until then, helm uses the user's own logins.
    pub(super) async fn log_in(&mut self, login: &ChartLogin, chart: &str) -> Result<(), HelmError> {
        let file = self.directory.path().join("registry.json");
        if login.write(chart, &file).await? {
            self.registry_config = Some(file);
        }
        Ok(())
    }

    /// The field manager of the objects that helm changes: the name of its program.
    pub(super) fn field_manager(&self) -> String {
        let name = self.path.file_name().unwrap_or_default().to_string_lossy();
        if name.is_empty() { "helm".to_owned() } else { name.into_owned() }
    }

    /// The error of the proxy's latest request, if it failed.
    pub(super) fn last_error(&self) -> Option<String> {
        self.proxy.last_error()
    }

    /// Writes values to a file that only this user can read, and returns its path. Values are never arguments.
    pub(super) fn values(&self, values: &Value) -> Result<PathBuf, HelmError> {
        let path = self.directory.path().join("values.json");
        let mut file = fs::File::create(&path)?;
        file.write_all(values.to_string().as_bytes())?;
        Ok(path)
    }

    fn command(&self, line: CommandLine) -> Command {
        let mut helm = Command::new(&self.path);
        helm.args(line.flag("namespace", &self.namespace).into_arguments());
        // Helm reaches the cluster through the proxy; the machine's own configuration must not override that.
        for name in CONFIGURATION {
            helm.env_remove(name);
        }
        helm.env("KUBECONFIG", self.directory.path().join("kubeconfig"))
            .env("HELM_KUBEAPISERVER", self.proxy.address().expose_secret())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        if let Some(file) = &self.registry_config {
            helm.env("HELM_REGISTRY_CONFIG", file);
        }
        own_group(&mut helm);
        helm
    }

    /// Starts helm.
    pub(super) fn start(&self, line: CommandLine) -> Result<Running, HelmError> {
        let spawned = self.command(line).spawn();
        let child = spawned.map_err(|source| HelmError::Program { program: self.path.clone(), source })?;
        Ok(Running { id: child.id(), ending: Box::pin(ended(child)) })
    }

    /// Runs helm and waits until it ends.
    pub(super) async fn run(&self, line: CommandLine) -> Result<Ended, HelmError> {
        Ok(self.start(line)?.ending.await?)
    }

    /// Runs helm and parses its JSON output.
    pub(super) async fn json<T: DeserializeOwned>(
        &self,
        verb: &'static str,
        line: CommandLine,
    ) -> Result<T, HelmError> {
        let ended = self.run(line).await?;
        if !ended.success {
            return Err(HelmError::Failed { verb, message: ended.message });
        }
        serde_json::from_slice(json_part(&ended.stdout))
            .map_err(|e| HelmError::Unreadable { verb, source: e.into() })
    }

    /// Checks that helm has version 4; other versions have other flags.
    pub(super) async fn check(&self) -> Result<(), HelmError> {
        let ended = self.run(CommandLine::new(["version"]).flag("template", "{{.Version}}")).await?;
        let found = String::from_utf8_lossy(&ended.stdout).trim().to_owned();
        if found.starts_with("v4.") { Ok(()) } else { Err(HelmError::Version { found }) }
    }
}

/// A running helm process.
pub(super) struct Running {
    id: Option<u32>,
    pub(super) ending: futures_util::future::BoxFuture<'static, std::io::Result<Ended>>,
}

impl Running {
    /// Sends SIGTERM, so that helm marks its revision as failed; kills it after [`GRACE`].
    pub(super) async fn stop(self) {
        let pid = self.id.and_then(|id| rustix::process::Pid::from_raw(id as i32));
        if let Some(pid) = pid {
            // The process may have ended already.
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        // On drop the process is killed.
        let _ = timeout(GRACE, self.ending).await;
    }
}

/// A directory that only this user can read: files in it contain values, which may be secrets.
fn private_directory() -> std::io::Result<tempfile::TempDir> {
    let mut builder = tempfile::Builder::new();
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o700));
    builder.tempdir()
}

async fn ended(child: Child) -> std::io::Result<Ended> {
    let output = bp_artifact::process::ended(child, MAX_OUTPUT).await?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    Ok(Ended { success: output.status.success(), message: last_error_line(&stderr), stdout: output.stdout })
}

/// The JSON in helm's output. Before it, helm prints the chart that it has pulled from a registry.
fn json_part(stdout: &[u8]) -> &[u8] {
    let mut from = 0;
    for line in stdout.split_inclusive(|byte| *byte == b'\n') {
        if matches!(line.first(), Some(b'{' | b'[')) {
            return &stdout[from..];
        }
        from += line.len();
    }
    stdout
}

/// The error line that helm ends with. Earlier log lines may contain a chart's values and are omitted.
fn last_error_line(stderr: &str) -> String {
    let error = stderr.lines().rev().find(|line| line.starts_with("Error: "));
    let said = error
        .or_else(|| stderr.lines().rev().find(|line| !line.trim().is_empty()))
        .unwrap_or("no error message");
    let said = said.trim_start_matches("Error: ");
    said.chars().take(2000).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(unix)]
    #[test]
    fn only_this_user_can_read_the_directory() {
        use std::os::unix::fs::PermissionsExt as _;
        let directory = private_directory().unwrap();
        assert_eq!(fs::metadata(directory.path()).unwrap().permissions().mode() & 0o777, 0o700);
    }

    #[test]
    fn finds_the_json_after_the_pulled_chart() {
        let pulled = b"Pulled: r.example.com/charts/web:0.1.0\nDigest: sha256:ab\n{\"manifest\":\"\"}\n";
        assert_eq!(json_part(pulled), b"{\"manifest\":\"\"}\n");
        assert_eq!(json_part(b"[]"), b"[]");
        for text in ["", "no releases\n"] {
            assert_eq!(json_part(text.as_bytes()), text.as_bytes());
        }
    }

    #[test]
    fn extracts_the_last_error_line() {
        let stderr = "level=WARN msg=\"upgrade failed\" password=x\nError: UPGRADE FAILED: no\n";
        assert_eq!(last_error_line(stderr), "UPGRADE FAILED: no");
        assert_eq!(last_error_line("panic\n\n"), "panic");
        assert_eq!(last_error_line(""), "no error message");
    }
}
