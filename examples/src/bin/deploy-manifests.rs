//! Apply Kubernetes manifests to an environment's EKS cluster with the artifact's image, by digest.

use std::process::ExitCode;

use bp_delivery::{program, verb::DeployManifests};

fn main() -> ExitCode {
    program::run::<DeployManifests>()
}
