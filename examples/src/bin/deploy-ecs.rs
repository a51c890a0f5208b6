//! Deploy the artifact's image to an environment's ECS service and watch it to a verdict.

use std::process::ExitCode;

use bp_delivery::{program, verb::DeployEcs};

fn main() -> ExitCode {
    program::run::<DeployEcs>()
}
