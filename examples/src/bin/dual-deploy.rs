//! Deploy the artifact's images to every target of the selected services; if one fails, roll back all.

use std::process::ExitCode;

use bp_delivery::{program, verb::DualDeploy};

fn main() -> ExitCode {
    program::run::<DualDeploy>()
}
