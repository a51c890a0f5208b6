//! The sandbox as a server process, and clients configured to use it.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};
use serde::Deserialize;

use super::super::{
    server::Server,
    test_run::TestRun,
    tools::{AWS_CLI, CRANE, HELM, KUBECTL, REGCTL, SKOPEO, Tool},
};
use crate::command;

/// The clients that run against the sandbox.
pub(in crate::e2e) const TOOLS: [Tool; 6] = [CRANE, REGCTL, SKOPEO, AWS_CLI, KUBECTL, HELM];

/// A running sandbox and its clients.
pub(in crate::e2e) struct SandboxServer {
    served: Served,
    home: PathBuf,
    crane: PathBuf,
    regctl: PathBuf,
    skopeo: PathBuf,
    aws: PathBuf,
    kubectl: PathBuf,
    helm: PathBuf,
}

/// The output of the example `serve` when it is ready.
#[derive(Deserialize)]
struct Served {
    endpoints: BTreeMap<String, String>,
    ca: String,
    image: Image,
    broken: String,
}

/// The image that the sandbox contains initially.
#[derive(Deserialize)]
pub(in crate::e2e) struct Image {
    pub(in crate::e2e) repository: String,
    pub(in crate::e2e) tag: String,
    pub(in crate::e2e) digest: String,
}

impl SandboxServer {
    pub(in crate::e2e) fn start(test_run: &mut TestRun) -> Result<Self> {
        Self::start_at(test_run, 1)
    }

    /// Starts a sandbox whose clock runs `rate` times as fast as real time.
    pub(in crate::e2e) fn start_at(test_run: &mut TestRun, rate: u32) -> Result<Self> {
        // The whole workspace, so that features and build artefacts are those of `cargo test --workspace`.
        command::output(command::cargo().args(["build", "--quiet", "--workspace", "--example=serve"]))?;
        let program = command::root().join("target/debug/examples/serve");
        let name = if rate == 1 { "sandbox".to_owned() } else { format!("sandbox-x{rate}") };
        let log = test_run.scratch.join(format!("{name}.log"));
        let printed = || -> Option<Served> {
            let text = fs::read_to_string(&log).ok()?;
            serde_json::from_str(text.lines().next()?).ok()
        };
        let mut process = Command::new(program);
        process.arg(rate.to_string());
        let up = || printed().is_some();
        let server = Server::start(&name, "the addresses in its log", &test_run.scratch, &mut process, up)?;
        test_run.servers.push(server);
        let served = printed().context("the sandbox did not print its addresses")?;
        let home = test_run.scratch.join("clients");
        fs::create_dir_all(&home)?;
        fs::write(home.join("ca.pem"), &served.ca)?;
        let program =
            |tool| Ok::<_, anyhow::Error>(PathBuf::from(test_run.tools.command(tool)?.get_program()));
        Ok(SandboxServer {
            crane: program(CRANE)?,
            regctl: program(REGCTL)?,
            skopeo: program(SKOPEO)?,
            aws: program(AWS_CLI)?,
            kubectl: program(KUBECTL)?,
            helm: program(HELM)?,
            served,
            home,
        })
    }

    /// The image that the sandbox contains initially.
    pub(in crate::e2e) fn image(&self) -> &Image {
        &self.served.image
    }

    /// The digest of an image in the same repository that exits with 3.
    pub(super) fn broken(&self) -> &str {
        &self.served.broken
    }

    /// The working directory of the clients.
    pub(in crate::e2e) fn home(&self) -> &Path {
        &self.home
    }

    /// The address of the registry without authentication.
    pub(in crate::e2e) fn plain_registry(&self) -> Result<&str> {
        self.address("registry.example.com")
    }

    /// The address of an endpoint of the sandbox.
    pub(in crate::e2e) fn address(&self, host: &str) -> Result<&str> {
        let address = self.served.endpoints.get(host);
        address.map(String::as_str).with_context(|| format!("the sandbox does not serve {host}"))
    }

    pub(in crate::e2e) fn crane(&self, arguments: &[&str]) -> Command {
        self.client(&self.crane, arguments)
    }

    pub(in crate::e2e) fn regctl(&self, arguments: &[&str]) -> Command {
        self.client(&self.regctl, arguments)
    }

    pub(in crate::e2e) fn skopeo(&self, arguments: &[&str]) -> Command {
        self.client(&self.skopeo, arguments)
    }

    /// An aws-cli command against the sandbox.
    pub(in crate::e2e) fn aws(&self, arguments: &[&str]) -> Result<Command> {
        Ok(self.aws_at(&format!("http://{}", self.address("aws")?), arguments))
    }

    /// An aws-cli command against any endpoint, with credentials that the sandbox and moto accept.
    pub(in crate::e2e) fn aws_at(&self, endpoint: &str, arguments: &[&str]) -> Command {
        let mut aws = self.client(&self.aws, arguments);
        credentials(&mut aws).env("AWS_ENDPOINT_URL", endpoint);
        aws
    }

    /// A kubectl command, which gets its tokens from aws-cli. No endpoint is set for that, since it would become part
    /// of the token.
    pub(super) fn kubectl(&self, arguments: &[&str]) -> Result<Command> {
        self.with_tokens(&self.kubectl, arguments)
    }

    /// A helm command, which gets its tokens as kubectl does.
    pub(super) fn helm(&self, arguments: &[&str]) -> Result<Command> {
        self.with_tokens(&self.helm, arguments)
    }

    fn with_tokens(&self, program: &PathBuf, arguments: &[&str]) -> Result<Command> {
        let mut client = self.client(program, arguments);
        let directory = self.aws.parent().map(Path::to_owned).into_iter();
        let path = std::env::var_os("PATH").unwrap_or_default();
        let path = std::env::join_paths(directory.chain(std::env::split_paths(&path)))?;
        credentials(&mut client).env("PATH", path).env_remove("AWS_ENDPOINT_URL");
        Ok(client)
    }

    /// A client whose home and configuration belong to this run, isolated from the machine's own configuration.
    fn client(&self, program: &PathBuf, arguments: &[&str]) -> Command {
        let mut client = Command::new(program);
        client.args(arguments).current_dir(&self.home);
        client.env("HOME", &self.home).env("DOCKER_CONFIG", &self.home);
        for name in ["AWS_PROFILE", "AWS_SESSION_TOKEN", "REGISTRY_AUTH_FILE", "HTTP_PROXY", "http_proxy"] {
            client.env_remove(name);
        }
        client
    }
}

/// Sets credentials that the sandbox and moto accept.
fn credentials(command: &mut Command) -> &mut Command {
    command
        .env("AWS_ACCESS_KEY_ID", "AKIASANDBOX")
        .env("AWS_SECRET_ACCESS_KEY", "sandbox-secret")
        .env("AWS_DEFAULT_REGION", "eu-central-1")
        .env("AWS_PAGER", "")
        .env("AWS_MAX_ATTEMPTS", "1")
        .env("AWS_EC2_METADATA_DISABLED", "true")
}
