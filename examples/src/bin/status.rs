//! Show what runs in an environment, and the deployments in progress.

use std::process::ExitCode;

use bp_delivery::{program, verb::ShowStatus};

fn main() -> ExitCode {
    program::run::<ShowStatus>()
}
