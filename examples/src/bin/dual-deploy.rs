//! Deploys the artifact's image to every target of an environment; when one fails, all go back.

use std::process::ExitCode;

use bp_delivery::{program, verb::DualDeploy};

fn main() -> ExitCode {
    program::run::<DualDeploy>()
}
