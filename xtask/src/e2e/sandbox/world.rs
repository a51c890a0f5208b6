//! The sandbox as a process, and clients that are pointed at it.

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
    stage::Stage,
    tools::{AWS_CLI, CRANE, KUBECTL, REGCTL, SKOPEO, Tool},
};
use crate::command;

/// The clients that work on it.
pub(in crate::e2e) const TOOLS: [Tool; 5] = [CRANE, REGCTL, SKOPEO, AWS_CLI, KUBECTL];

/// A served sandbox.
pub(in crate::e2e) struct World {
    served: Served,
    home: PathBuf,
    crane: PathBuf,
    regctl: PathBuf,
    skopeo: PathBuf,
    aws: PathBuf,
    kubectl: PathBuf,
}

/// What the example prints when it is up.
#[derive(Deserialize)]
struct Served {
    endpoints: BTreeMap<String, String>,
    ca: String,
    image: Image,
    broken: String,
}

/// The image that the world begins with.
#[derive(Deserialize)]
pub(in crate::e2e) struct Image {
    pub(in crate::e2e) repository: String,
    pub(in crate::e2e) tag: String,
    pub(in crate::e2e) digest: String,
}

impl World {
    pub(in crate::e2e) fn start(stage: &mut Stage) -> Result<Self> {
        Self::start_at(stage, 1)
    }

    /// Starts a sandbox whose clock runs `rate` times as fast as the wall's.
    pub(in crate::e2e) fn start_at(stage: &mut Stage, rate: u32) -> Result<Self> {
        // The whole workspace, so that the features, and with them the build, are those of `cargo test --workspace`.
        command::output(command::cargo().args(["build", "--quiet", "--workspace", "--example=serve"]))?;
        let program = command::root().join("target/debug/examples/serve");
        let name = if rate == 1 { "sandbox".to_owned() } else { format!("sandbox-x{rate}") };
        let log = stage.scratch.join(format!("{name}.log"));
        let printed = || -> Option<Served> {
            let text = fs::read_to_string(&log).ok()?;
            serde_json::from_str(text.lines().next()?).ok()
        };
        let mut process = Command::new(program);
        process.arg(rate.to_string());
        let up = || printed().is_some();
        let server = Server::start(&name, "the addresses in its log", &stage.scratch, &mut process, up)?;
        stage.servers.push(server);
        let served = printed().context("the sandbox printed no world")?;
        let home = stage.scratch.join("clients");
        fs::create_dir_all(&home)?;
        fs::write(home.join("ca.pem"), &served.ca)?;
        let program = |tool| Ok::<_, anyhow::Error>(PathBuf::from(stage.tools.command(tool)?.get_program()));
        Ok(World {
            crane: program(CRANE)?,
            regctl: program(REGCTL)?,
            skopeo: program(SKOPEO)?,
            aws: program(AWS_CLI)?,
            kubectl: program(KUBECTL)?,
            served,
            home,
        })
    }

    /// The image that the world begins with.
    pub(in crate::e2e) fn image(&self) -> &Image {
        &self.served.image
    }

    /// The digest of an image in the same repository that exits with 3.
    pub(super) fn broken(&self) -> &str {
        &self.served.broken
    }

    /// Where the clients work.
    pub(in crate::e2e) fn home(&self) -> &Path {
        &self.home
    }

    /// The registry that asks nobody who they are.
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

    /// aws-cli against the sandbox.
    pub(in crate::e2e) fn aws(&self, arguments: &[&str]) -> Result<Command> {
        Ok(self.aws_at(&format!("http://{}", self.address("aws")?), arguments))
    }

    /// aws-cli against any endpoint, with credentials that both the sandbox and moto take.
    pub(in crate::e2e) fn aws_at(&self, endpoint: &str, arguments: &[&str]) -> Command {
        let mut aws = self.client(&self.aws, arguments);
        credentials(&mut aws).env("AWS_ENDPOINT_URL", endpoint);
        aws
    }

    /// kubectl, which gets its tokens from aws-cli. No endpoint is set for that: it would stand in the token.
    pub(super) fn kubectl(&self, arguments: &[&str]) -> Result<Command> {
        let mut kubectl = self.client(&self.kubectl, arguments);
        let own = self.aws.parent().map(Path::to_owned).into_iter();
        let path = std::env::var_os("PATH").unwrap_or_default();
        let path = std::env::join_paths(own.chain(std::env::split_paths(&path)))?;
        credentials(&mut kubectl).env("PATH", path).env_remove("AWS_ENDPOINT_URL");
        Ok(kubectl)
    }

    /// A client with a home and a configuration of this run: nothing of the machine's own is read or written.
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

/// Credentials that both the sandbox and moto take.
fn credentials(command: &mut Command) -> &mut Command {
    command
        .env("AWS_ACCESS_KEY_ID", "AKIASANDBOX")
        .env("AWS_SECRET_ACCESS_KEY", "sandbox-secret")
        .env("AWS_DEFAULT_REGION", "eu-central-1")
        .env("AWS_PAGER", "")
        .env("AWS_MAX_ATTEMPTS", "1")
        .env("AWS_EC2_METADATA_DISABLED", "true")
}
