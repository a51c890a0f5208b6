//! Run a command with secrets in its environment.

use std::process::ExitCode;

use bp_delivery::{program, verb::WithSecrets};

fn main() -> ExitCode {
    program::run::<WithSecrets>()
}
