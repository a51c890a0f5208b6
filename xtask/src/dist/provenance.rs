//! The provenance: an in-toto statement with SLSA's predicate, unsigned.

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::{
    program::Build,
    release::{Released, sha256},
};
use crate::command;

/// Identifies this task and the meaning of its parameters.
const BUILD_TYPE: &str = "urn:bp:build:cargo-xtask-dist:v1";

pub(super) struct Statement<'a> {
    pub(super) build: &'a Build<'a>,
    pub(super) builder: &'a str,
    pub(super) started: &'a str,
    pub(super) finished: &'a str,
    pub(super) files: &'a [Released],
    /// The digest of the image.
    pub(super) image: &'a str,
}

impl Statement<'_> {
    /// The statement, see <https://slsa.dev/spec/v1.1/provenance>.
    pub(super) fn document(&self) -> Result<Value> {
        let mut rustc = command::cargo();
        let version = command::output(rustc.args(["version", "--verbose"]))?;
        let release = version.lines().next().unwrap_or_default();
        let lock = sha256(&command::root().join("Cargo.lock"))?;
        let mut subjects: Vec<Value> = self
            .files
            .iter()
            .map(|file| json!({ "name": file.name, "digest": { "sha256": file.sha256 } }))
            .collect();
        let hex = self.image.strip_prefix("sha256:").context("the digest of the image is not SHA-256")?;
        subjects.push(json!({ "name": "image", "digest": { "sha256": hex } }));
        Ok(json!({
            "_type": "https://in-toto.io/Statement/v1",
            "subject": subjects,
            "predicateType": "https://slsa.dev/provenance/v1",
            "predicate": {
                "buildDefinition": {
                    "buildType": BUILD_TYPE,
                    "externalParameters": {
                        "commit": self.build.commit.id,
                        "target": self.build.target,
                        "flavour": if self.build.full { "full" } else { "default" },
                        "profile": if self.build.debug { "dev" } else { "release" },
                    },
                    "internalParameters": { "cargo": release },
                    "resolvedDependencies": [
                        { "name": "source", "digest": { "gitCommit": self.build.commit.id } },
                        { "name": "Cargo.lock", "digest": { "sha256": lock } },
                    ],
                },
                "runDetails": {
                    "builder": { "id": self.builder },
                    "metadata": { "startedOn": self.started, "finishedOn": self.finished },
                },
            },
        }))
    }
}
