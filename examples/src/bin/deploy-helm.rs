//! Upgrade a Helm release on an environment's EKS cluster to the artifact's image, by digest.

use std::process::ExitCode;

use bp_delivery::{program, verb::DeployHelm};

fn main() -> ExitCode {
    program::run::<DeployHelm>()
}
