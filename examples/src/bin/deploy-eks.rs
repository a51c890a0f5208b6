//! Deploy the artifact's image to an environment's EKS workload and watch it to a verdict.

use std::process::ExitCode;

use bp_delivery::{program, verb::DeployEks};

fn main() -> ExitCode {
    program::run::<DeployEks>()
}
