//! Follow the deployment in progress of a service to its end, and prove the running digests.

use std::process::ExitCode;

use bp_delivery::{program, verb::Wait};

fn main() -> ExitCode {
    program::run::<Wait>()
}
