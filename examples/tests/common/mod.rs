//! Test support: run the binaries as a pipeline does, as processes with arguments, variables and files, against a
//! listening sandbox.
#![allow(dead_code, unreachable_pub, reason = "each test uses a part of it")]

pub mod traffic;

use std::{path::Path, process::Stdio, time::Duration};

use bp_artifact::{Artifact, ResolvedImage, Tag};
use bp_examples::world::{BP_TOML, ONE_SERVICE, World, shop, stable_for, version_of};
use bp_sandbox::Image;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
};

/// A sandbox, and the working directory of a pipeline stage, with `bp.toml` and `artifact.json`.
pub struct Stage {
    pub world: World,
    pub directory: tempfile::TempDir,
}

/// The exit code and the output of a binary.
#[derive(Debug)]
pub struct Ended {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Stage {
    /// A sandbox with an accelerated clock, in which shop 1.0.0 has been built and `artifact.json` describes it.
    pub async fn new() -> Self {
        let stage = Self::of(ONE_SERVICE).await;
        stage.built(&shop("1.0.0").build(), "1.0.0");
        stage
    }

    /// As [`new`](Self::new), with version 1.0.0 of the two services of the example.
    pub async fn of_services() -> Self {
        let stage = Self::of(BP_TOML).await;
        stage.built_services(|service| version_of(service, "1.0.0").build(), "1.0.0");
        stage
    }

    /// Does not watch the tasks after a success: these tests run in real time.
    async fn of(text: &str) -> Self {
        let text = stable_for(text, "0s");
        let config = bp_artifact::Config::parse(&text, "bp.toml").unwrap();
        let world = World::of(config, 50).await.unwrap();
        let directory = tempfile::tempdir().unwrap();
        let stage = Stage { world, directory };
        stage.write("bp.toml", &text);
        stage
    }

    /// Pushes an image of each service to every registry, and writes `artifact.json`.
    pub fn built_services(&self, image: impl Fn(&str) -> Image, tag: &str) {
        let mut artifact = Artifact::default();
        for service in self.world.config.environments()[0].services() {
            let name = service.name.clone().unwrap();
            let image = image(name.as_str());
            for environment in self.world.config.environments() {
                let registry = self.world.sandbox.registry(environment.registry().as_str());
                registry.push(&image, service.repository.path(), tag);
            }
            let resolved = resolved(&image, service.repository.at(image.digest().parse().unwrap()));
            artifact.set_image_of(name, &resolved, Some(tag.parse().unwrap()));
        }
        artifact.write(self.path("artifact.json")).unwrap();
    }

    /// Pushes `image` to every registry, and writes `artifact.json`.
    pub fn built(&self, image: &Image, tag: &str) {
        let environments = self.world.config.environments();
        for environment in environments {
            self.world.sandbox.registry(environment.registry().as_str()).push(image, "shop/web", tag);
        }
        self.write_artifact(image, tag);
    }

    /// Writes `artifact.json` for `image`, without pushing it.
    pub fn write_artifact(&self, image: &Image, tag: &str) {
        let repository = &self.world.config.environments()[0].services()[0].repository;
        let resolved = resolved(image, repository.at(image.digest().parse().unwrap()));
        let mut artifact = Artifact::default();
        artifact.set_image(&resolved, Some(tag.parse::<Tag>().unwrap()));
        artifact.write(self.path("artifact.json")).unwrap();
    }

    pub fn path(&self, name: &str) -> std::path::PathBuf {
        self.directory.path().join(name)
    }

    pub fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }

    pub fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap()
    }

    /// Replaces `from` by `to` in `bp.toml`.
    pub fn edit_config(&self, from: &str, to: &str) {
        let config = self.read("bp.toml");
        assert!(config.contains(from));
        self.write("bp.toml", &config.replace(from, to));
    }

    /// The binary `name`, with the sandbox as its only endpoint.
    pub fn command(&self, name: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(binary(name));
        command
            .args(arguments)
            .current_dir(self.directory.path())
            .env_clear()
            .env("CI", "true")
            .env("HOME", self.directory.path())
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .envs(self.world.variables())
            .stdin(Stdio::null())
            .kill_on_drop(true);
        command
    }

    pub async fn run(&self, name: &str, arguments: &[&str]) -> Ended {
        ended(self.command(name, arguments)).await
    }

    /// Starts a binary and kills it after `time`.
    pub async fn kill(&self, name: &str, arguments: &[&str], time: Duration) {
        let mut child: Child =
            self.command(name, arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        tokio::time::sleep(time).await;
        child.kill().await.unwrap();
    }

    /// Runs a binary, and sends it `signals` one after the other when it prints a line that contains `text`.
    pub async fn signalled(&self, name: &str, arguments: &[&str], text: &str, signals: &[&str]) -> Ended {
        signalled(self.command(name, arguments), text, signals).await
    }

    /// The names of the files in the working directory.
    pub fn files(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.directory.path()).unwrap();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// The number of requests that changed state.
    pub fn changes(&self) -> usize {
        let changing =
            ["ecs:RegisterTaskDefinition", "ecs:UpdateService", "PUT manifest", "PUT upload", "POST upload"];
        self.world.sandbox.ledger().count(|entry| {
            changing.contains(&entry.operation.as_str()) || entry.operation.starts_with("patch ")
        })
    }

    /// The digests that run on ECS and on EKS, after the tasks of earlier deployments have stopped.
    pub fn running(&self, account: &str, cluster: &str) -> (Vec<String>, Vec<String>) {
        self.world.sandbox.clock().advance(Duration::from_secs(60));
        let ecs = self.world.sandbox.aws().ecs(account, "eu-central-1");
        let ecs = ecs
            .service(cluster, "shop-web")
            .running()
            .into_iter()
            .map(|container| container.digest)
            .collect();
        (ecs, self.world.sandbox.cluster(cluster).running("shop", "web"))
    }
}

fn resolved(image: &Image, reference: bp_artifact::DigestRef) -> ResolvedImage {
    let (media_type, bytes) = image
        .manifests()
        .iter()
        .find(|(_, bytes)| bp_artifact::Digest::sha256(bytes).as_str() == image.digest())
        .unwrap();
    ResolvedImage::from_manifest(reference, Some(media_type), bytes).unwrap()
}

pub async fn ended(mut command: Command) -> Ended {
    let output = tokio::time::timeout(Duration::from_secs(180), command.output())
        .await
        .expect("the binary did not exit within 180 s")
        .unwrap();
    Ended {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// Runs a command, and sends it `signals` one after the other when it prints a line that contains `text` to standard error.
pub async fn signalled(mut command: Command, text: &str, signals: &[&str]) -> Ended {
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let mut stderr = String::new();
    let work = async {
        while let Some(line) = lines.next_line().await.unwrap() {
            let found = stderr.is_empty() || !stderr.contains(text);
            stderr.push_str(&line);
            stderr.push('\n');
            if found && line.contains(text) {
                let pid = child.id().unwrap().to_string();
                for signal in signals {
                    let sent = std::process::Command::new("kill").args([*signal, &pid]).status();
                    assert!(sent.unwrap().success());
                }
            }
        }
        child.wait().await.unwrap().code().unwrap_or(-1)
    };
    let ended = tokio::time::timeout(Duration::from_secs(120), work).await;
    let code = ended.unwrap_or_else(|_| panic!("the binary did not exit within 120 s: {stderr}"));
    assert!(stderr.contains(text), "{text}: {stderr}");
    Ended { code, stdout: String::new(), stderr }
}

fn binary(name: &str) -> &'static Path {
    Path::new(match name {
        "refresh-pull-secret" => env!("CARGO_BIN_EXE_refresh-pull-secret"),
        "switch-traffic" => env!("CARGO_BIN_EXE_switch-traffic"),
        "config" => env!("CARGO_BIN_EXE_config"),
        "init" => env!("CARGO_BIN_EXE_init"),
        "doctor" => env!("CARGO_BIN_EXE_doctor"),
        "emit-artifact" => env!("CARGO_BIN_EXE_emit-artifact"),
        "promote" => env!("CARGO_BIN_EXE_promote"),
        "deploy-ecs" => env!("CARGO_BIN_EXE_deploy-ecs"),
        "run-task" => env!("CARGO_BIN_EXE_run-task"),
        "deploy-eks" => env!("CARGO_BIN_EXE_deploy-eks"),
        "deploy-manifests" => env!("CARGO_BIN_EXE_deploy-manifests"),
        #[cfg(feature = "helm")]
        "deploy-helm" => env!("CARGO_BIN_EXE_deploy-helm"),
        "dual-deploy" => env!("CARGO_BIN_EXE_dual-deploy"),
        "record" => env!("CARGO_BIN_EXE_record"),
        "rollback" => env!("CARGO_BIN_EXE_rollback"),
        "secrets" => env!("CARGO_BIN_EXE_secrets"),
        "verify" => env!("CARGO_BIN_EXE_verify"),
        "status" => env!("CARGO_BIN_EXE_status"),
        "wait" => env!("CARGO_BIN_EXE_wait"),
        "with-secrets" => env!("CARGO_BIN_EXE_with-secrets"),
        "quickstart" => env!("CARGO_BIN_EXE_quickstart"),
        "sandbox" => env!("CARGO_BIN_EXE_sandbox"),
        other => panic!("no binary {other}"),
    })
}
