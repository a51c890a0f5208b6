//! Programs, directories and AWS calls shared by both parts of the benchmark.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Result;

use crate::{
    command,
    e2e::tools::{AWS_CLI, Toolbox},
};

/// The environment of the benchmark.
pub(super) struct Bench {
    pub(super) tools: Toolbox,
    /// The example `once` of bp-ecs.
    pub(super) once: PathBuf,
    /// The example `serve` of bp-sandbox.
    pub(super) serve: PathBuf,
    pub(super) scratch: PathBuf,
    pub(super) optimised: bool,
}

/// Sets credentials for moto and the sandbox, isolated from the machine's own configuration.
pub(super) fn credentials(command: &mut Command, endpoint: &str, home: &Path) {
    command
        .env("AWS_ENDPOINT_URL", endpoint)
        .env("AWS_ACCESS_KEY_ID", "AKIASANDBOX")
        .env("AWS_SECRET_ACCESS_KEY", "sandbox-secret")
        .env("AWS_DEFAULT_REGION", "eu-central-1")
        .env("AWS_PAGER", "")
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .env("HOME", home);
}

impl Bench {
    /// Runs `aws ecs` against an endpoint and returns its output.
    pub(super) fn aws(&self, endpoint: &str, arguments: &[&str]) -> Result<String> {
        let mut aws = self.tools.command(AWS_CLI)?;
        aws.arg("ecs").args(arguments).args(["--output", "text"]).current_dir(&self.scratch);
        credentials(&mut aws, endpoint, &self.scratch);
        Ok(command::output(&mut aws)?.trim().to_owned())
    }

    /// Creates a cluster `bench` with a service `web` of two tasks with this image.
    pub(super) fn create_service(&self, endpoint: &str, image: &str) -> Result<()> {
        let container = format!("name=web,image={image},memory=64,essential=true");
        self.aws(endpoint, &["create-cluster", "--cluster-name", "bench"])?;
        self.aws(
            endpoint,
            &["register-task-definition", "--family", "web", "--container-definitions", &container],
        )?;
        let create =
            ["create-service", "--cluster", "bench", "--service-name", "web", "--task-definition", "web:1"];
        let breaker = "deploymentCircuitBreaker={enable=true,rollback=true}";
        let more = ["--desired-count", "2", "--deployment-configuration", breaker];
        self.aws(endpoint, &[&create[..], &more[..]].concat()).map(drop)
    }
}
