//! A CI system on this machine: fresh directories with a checkout, stand-ins for programs, and a sandbox as AWS.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use bp_examples::world::{BP_TOML, World, stable_for, version_of};
use bp_sandbox::Image;
use sha2::{Digest as _, Sha256};
use tokio::process::Command;

use super::programs;

/// Where the pipelines say that they download `bp`.
pub(crate) const RELEASE: &str = "https://example.com/bp/0.1.0";

/// The registry of the build account.
pub(crate) const REGISTRY: &str = "111111111111.dkr.ecr.eu-central-1.amazonaws.com";

/// The CI system and what it keeps between jobs.
pub(crate) struct Site {
    pub(crate) world: World,
    directory: tempfile::TempDir,
}

/// What a script printed, and its exit code.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: i32,
    pub(crate) output: String,
}

impl Site {
    pub(crate) async fn new() -> Self {
        let config = bp_artifact::Config::parse(&stable_for(BP_TOML, "0s"), "bp.toml").unwrap();
        let world = World::of(config, 50).await.unwrap();
        let directory = tempfile::tempdir().unwrap();
        for name in ["programs", "state", "repository"] {
            fs::create_dir(directory.path().join(name)).unwrap();
        }
        programs::install(&directory.path().join("programs"));
        let site = Self { world, directory };
        site.commit("bp.toml", &stable_for(BP_TOML, "0s"));
        for service in ["web", "worker"] {
            site.commit(&format!("{service}/Dockerfile"), "FROM scratch\n");
        }
        site
    }

    /// Adds a file to the repository that jobs check out.
    pub(crate) fn commit(&self, name: &str, text: &str) {
        let path = self.path("repository").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A file that the CI system or a stand-in keeps.
    pub(crate) fn state(&self, name: &str) -> Option<String> {
        fs::read_to_string(self.path("state").join(name)).ok()
    }

    /// Sets what the next builds produce: docker's stand-in pushes these images.
    pub(crate) fn next(&self, version: &str) -> BTreeMap<&'static str, Image> {
        ["web", "worker"]
            .map(|service| (service, self.push(&format!("builds/{service}"), service, version, "next")))
            .into()
    }

    /// Pushes the image of a service's version to a repository of the build account.
    pub(crate) fn push(&self, repository: &str, service: &str, version: &str, tag: &str) -> Image {
        let registry = self.world.sandbox.registry(REGISTRY);
        let image = version_of(service, version).build();
        registry.push(&image, repository, tag);
        image
    }

    /// Sets the commit that a tag or a commit id of the source repository resolves to.
    pub(crate) fn resolve(&self, revision: &str, commit: &str) {
        fs::create_dir_all(self.path("state/commits")).unwrap();
        fs::write(self.path("state/commits").join(revision), commit).unwrap();
    }

    /// The SHA-256 of the program that is downloaded.
    pub(crate) fn checksum(&self) -> String {
        hex(&Sha256::digest(fs::read(self.path("programs").join("bp-download")).unwrap()))
    }

    /// An empty directory, with a checkout of the repository if `checkout`.
    pub(crate) fn workspace(&self, checkout: bool) -> tempfile::TempDir {
        let workspace = tempfile::tempdir_in(self.directory.path()).unwrap();
        if checkout {
            copy(&self.path("repository"), workspace.path());
        }
        workspace
    }

    /// Runs a script with bash and its options, in `workspace`, with these variables and those of the sandbox.
    pub(crate) async fn run(
        &self,
        workspace: &Path,
        options: &[&str],
        script: &str,
        variables: &BTreeMap<String, String>,
        path: &str,
    ) -> Ended {
        let system = std::env::var("PATH").unwrap();
        let mut bash = Command::new("bash");
        bash.args(options)
            .args(["-c", script])
            .current_dir(workspace)
            .env_clear()
            .envs(self.world.variables())
            .envs(variables)
            .env("PATH", format!("{path}:{}:{system}", self.path("programs").display()))
            .env("HOME", self.directory.path())
            .env("STAND_IN_BP", env!("CARGO_BIN_EXE_bp"))
            .env("STAND_IN_PROGRAMS", self.path("programs"))
            .env("STAND_IN_STATE", self.path("state"))
            .env("STAND_IN_URL", format!("{RELEASE}/bp-x86_64-unknown-linux-gnu"))
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .stdin(Stdio::null())
            .kill_on_drop(true);
        let ended = tokio::time::timeout(Duration::from_secs(180), bash.output());
        let output = ended.await.expect("the script did not exit within 180 s").unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ended {
            code: output.status.code().unwrap_or(-1),
            output: text(&output.stdout) + &text(&output.stderr),
        }
    }

    /// The access key of a session of a role of the build account.
    pub(crate) fn key_of(&self, role: &str) -> String {
        let key = format!("AKIA{:0>16}", role.to_uppercase());
        let session = format!("arn:aws:sts::111111111111:assumed-role/{role}/ci");
        self.world.sandbox.aws().access_key_as(&key, "111111111111", &session);
        key
    }

    /// Runs a script as a person would: with `bp` on the `PATH`, outside of a CI system.
    pub(crate) async fn shell(&self, workspace: &Path, script: &str) -> Ended {
        let path = self.path("bin");
        fs::create_dir_all(&path).unwrap();
        fs::copy(self.path("programs/bp-download"), path.join("bp")).unwrap();
        self.run(workspace, &["-e", "-o", "pipefail"], script, &BTreeMap::new(), &path.display().to_string())
            .await
    }

    /// The digests of a service that run in a cluster, on ECS and on EKS.
    pub(crate) fn running(&self, account: &str, cluster: &str, service: &str) -> [Vec<String>; 2] {
        self.world.sandbox.clock().advance(Duration::from_secs(60));
        let ecs = self.world.sandbox.aws().ecs(account, "eu-central-1");
        let ecs = ecs.service(cluster, &format!("shop-{service}")).running();
        let mut ecs: Vec<String> = ecs.into_iter().map(|container| container.digest).collect();
        let mut eks = self.world.sandbox.cluster(cluster).running("shop", service);
        for digests in [&mut ecs, &mut eks] {
            digests.sort();
            digests.dedup();
        }
        [ecs, eks]
    }
}

/// Copies the content of a directory.
pub(crate) fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
